/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Server messages. Each one is read alone, exactly the bytes that it lacks, because a larger read
 * could bring its successor under its descriptor (docs/protocol.md, section 1.2). Whatever makes a
 * message useless - nonsense, a descriptor that found no free slot, no memory to remember it - ends
 * the connection: a vector's number is its place in the order, so after one gap all that follows
 * would be wrong. Region, peers and doorbells stay as they are (section 2.5).
 *
 * The loop. An epoll instance holds the server's socket and, if the application listens to
 * interrupts, the own vectors. The vectors stay out of it otherwise: every ring would call into it,
 * which costs the sender and a waiter 5 to 8 % of a round trip, and nobody would look. An eventfd
 * that we close would stay in the set as long as any other process holds it, so it is taken out by
 * hand.
 */
#include "client/client.h"
#include "base/doorbell.h"
#include "base/fdpass.h"
#include "client/internal.h"
#include "region/region.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

/* Messages in one client_dispatch(), so that a flood cannot hold the application. */
#define DISPATCH_LIMIT 1024

#define call(client, callback, ...)                                                                \
	do {                                                                                       \
		if ((client)->listener.callback)                                                   \
			(client)->listener.callback(                                               \
				(client)->handle, (client)->data, __VA_ARGS__);                    \
	} while (0)

int client_poll(int fd, uint64_t deadline)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	int n = poll(&entry, 1, deadline_left(deadline));
	return n < 0 ? -errno : n;
}

int client_next(struct client *client, struct wire_event *event)
{
	for (;;) {
		uint8_t bytes[WIRE_WIDTH_MAX];
		int fds[FDPASS_RECV_MAX];
		size_t n_fds;
		struct wire_message message;
		ssize_t got = fdpass_recv(
			client->sock, bytes, wire_decoder_want(&client->decoder), fds, &n_fds);

		if (got == -EAGAIN)
			return 0;
		if (got == 0)
			return client->decoder.have > 0 ? -ECONNRESET : CLIENT_EOF;
		if (got < 0)
			return got == -EMSGSIZE ? -EPROTO : (int)got;

		enum wire_push push = WIRE_PUSH_SURPLUS_FD;
		if (n_fds <= 1)
			push = wire_decoder_push(&client->decoder, bytes, (size_t)got,
				n_fds == 1 ? fds[0] : -1, &message);
		switch (push) {
		case WIRE_PUSH_MORE:
			break;
		case WIRE_PUSH_MESSAGE:
			*event = wire_session_feed(&client->session, &message);
			return 1;
		case WIRE_PUSH_SURPLUS_FD:
			while (n_fds > 0)
				close(fds[--n_fds]);
			return -EPROTO;
		}
	}
}

static struct peer_entry *entry_of(const struct client *client, unsigned id)
{
	if (id > WIRE_MAX_ID)
		return NULL;
	if (id == client->session.own_id)
		return (struct peer_entry *)&client->own;
	struct peer_entry *entry = peer_table_find(&client->peers, id);
	return entry && entry->state == ENTRY_KNOWN ? entry : NULL;
}

/* Let the loop see own vector `vector`, the newest one. */
static int watch_vector(struct client *client, uint32_t vector, int bell)
{
	if (!client->listener.interrupt)
		return 0;
	if (vector + 2 > client->max_events) {
		unsigned room = 2 * client->max_events;
		struct epoll_event *events =
			realloc(client->events, room * sizeof(*client->events));
		if (!events)
			return -ENOMEM;
		client->events = events;
		client->max_events = room;
	}
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = vector};
	return epoll_ctl(client->epoll, EPOLL_CTL_ADD, bell, &event) < 0 ? -errno : 0;
}

/* The next vector of `id` has arrived. Takes `bell` over. */
static int take_vector(struct client *client, unsigned id, int bell)
{
	bool own = id == client->session.own_id;
	bool joined = false;
	struct peer_entry *entry = own ? &client->own : peer_table_find(&client->peers, id);

	if (!entry) {
		joined = client->peers.known < client->max_peers;
		entry = peer_table_add(&client->peers, id, joined ? ENTRY_KNOWN : ENTRY_IGNORED);
		if (!entry) {
			close(bell);
			return -ENOMEM;
		}
	}
	if (entry->count >= client->max_vectors || (!own && client->n_bells >= client->max_fds))
		entry->closed = true;

	bool added = !entry->closed && (own || entry->state == ENTRY_KNOWN);
	int err = 0;
	if (added) {
		err = doorbell_prepare(bell);
		if (err == 0)
			err = peer_entry_append(entry, bell);
	}
	if (!added || err < 0) {
		close(bell);
	} else if (own) {
		err = watch_vector(client, entry->count - 1, bell);
	} else {
		client->n_bells++;
	}

	/* Callbacks come last: they may look at everything. */
	uint32_t count = entry->count;
	if (!client->region) {
		client->backlog = true;
		return err;
	}
	if (joined)
		call(client, peer_joined, id);
	if (added && err == 0)
		call(client, vector_added, id, count);
	return err;
}

static void drop_peer(struct client *client, unsigned id)
{
	struct peer_entry *entry = peer_table_find(&client->peers, id);
	if (!entry)
		return;
	bool known = entry->state == ENTRY_KNOWN;
	client->n_bells -= entry->count;
	peer_table_remove(&client->peers, id);
	if (known && client->region)
		call(client, peer_left, id);
}

int client_handle(struct client *client, const struct wire_event *event)
{
	switch (event->type) {
	case WIRE_EVENT_VERSION:
	case WIRE_EVENT_OWN_ID:
		return 0;
	case WIRE_EVENT_REGION:
		client->region_fd = event->fd;
		return region_map(event->fd, client->map_limit, client->read_only, &client->region,
			&client->size, &client->sealed);
	case WIRE_EVENT_OWN_VECTOR:
	case WIRE_EVENT_PEER_VECTOR:
		return take_vector(client, event->peer, event->fd);
	case WIRE_EVENT_PEER_LEFT:
		drop_peer(client, event->peer);
		return 0;
	case WIRE_EVENT_ERROR:
		if (event->fd >= 0)
			close(event->fd);
		return -EPROTO;
	}
	return 0;
}

static void disconnect(struct client *client)
{
	int fd = wire_decoder_abandon(&client->decoder);
	if (fd >= 0)
		close(fd);
	if (client->sock < 0)
		return;
	epoll_ctl(client->epoll, EPOLL_CTL_DEL, client->sock, NULL);
	close(client->sock);
	client->sock = -1;
}

/* Tell the application about the peers that came before the region. */
static int announce(struct client *client)
{
	int announced = 0;
	if (!client->backlog)
		return 0;
	client->backlog = false;
	if (client->sock >= 0) {
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = SERVER_EVENT};
		epoll_ctl(client->epoll, EPOLL_CTL_MOD, client->sock, &event);
	}
	for (unsigned n = 1; n <= client->own.count; n++, announced++)
		call(client, vector_added, client->session.own_id, n);
	for (int id = -1; (id = peer_table_next(&client->peers, (unsigned)(id + 1))) >= 0;
		announced++) {
		call(client, peer_joined, (unsigned)id);
		for (unsigned n = 1; n <= entry_of(client, (unsigned)id)->count; n++)
			call(client, vector_added, (unsigned)id, n);
	}
	return announced;
}

/* Handle what the server has sent, up to the limit. Returns how many messages; losing the server
 * counts as one. */
static int receive(struct client *client)
{
	int handled = 0;
	while (handled < DISPATCH_LIMIT) {
		struct wire_event event;
		int got = client_next(client, &event);
		if (got == 0)
			return handled;
		handled++;
		if (got > 0)
			got = client_handle(client, &event);
		if (got < 0) {
			disconnect(client);
			client->lost_error = got == CLIENT_EOF ? 0 : -got;
			call(client, server_lost, client->lost_error);
			return handled;
		}
	}
	return handled;
}

static int take_interrupt(struct client *client, uint32_t vector)
{
	uint64_t count;
	int bell = client->own.bells[vector];
	int taken = doorbell_take(bell, &count);

	if (taken > 0)
		call(client, interrupt, vector, count);
	else if (taken < 0) /* it would be readable for ever */
		epoll_ctl(client->epoll, EPOLL_CTL_DEL, bell, NULL);
	return taken > 0;
}

/* One round of the loop: the number of messages and interrupts, or -errno. */
static int dispatch_once(struct client *client, int timeout_ms)
{
	int handled = announce(client);
	int n = epoll_wait(client->epoll, client->events, (int)client->max_events,
		handled > 0 ? 0 : timeout_ms);
	if (n < 0)
		return handled > 0 ? handled : -errno;

	/* Callbacks may hand a vector to the application (client_vector_fd()), and messages may
	 * make the array larger: look at it anew each time. */
	client->n_events = (unsigned)n;
	for (unsigned i = 0; i < client->n_events; i++) {
		uint32_t source = client->events[i].data.u32;
		if (source == SERVER_EVENT)
			handled += receive(client);
		else if (source != HANDLED_EVENT)
			handled += take_interrupt(client, source);
	}
	client->n_events = 0;
	return handled;
}

int client_dispatch(struct client *client, int timeout_ms)
{
	uint64_t deadline = timeout_ms > 0 ? deadline_after(timeout_ms) : UINT64_MAX;
	bool connected = client->sock >= 0;
	int left = timeout_ms;
	int handled;

	/* A half message or a doorbell that somebody else has read wakes us for nothing. */
	while ((handled = dispatch_once(client, left)) == 0 && left != 0)
		left = timeout_ms < 0 ? -1 : deadline_left(deadline);

	if (connected && client->sock < 0 && client->lost_error == EMFILE)
		return -EMFILE;
	return handled;
}

int client_peers(const struct client *client, unsigned *ids, size_t n)
{
	size_t i = 0;
	for (int id = -1; i < n && (id = peer_table_next(&client->peers, (unsigned)(id + 1))) >= 0;
		i++)
		ids[i] = (unsigned)id;
	return (int)client->peers.known;
}

int client_vectors(const struct client *client, unsigned id)
{
	const struct peer_entry *entry = entry_of(client, id);
	return entry ? (int)entry->count : -ENOENT;
}

int client_doorbell_fd(const struct client *client, unsigned id, unsigned vector)
{
	const struct peer_entry *entry = entry_of(client, id);
	if (!entry)
		return -ENOENT;
	return vector < entry->count ? entry->bells[vector] : -EINVAL;
}

int client_notify(const struct client *client, unsigned id, unsigned vector)
{
	int bell = client_doorbell_fd(client, id, vector);
	return bell < 0 ? bell : doorbell_ring(bell);
}

int client_await_vector(struct client *client, unsigned vector, uint64_t deadline)
{
	while (vector >= client->own.count) {
		if (vector >= client->max_vectors || client->own.closed)
			return -EINVAL;
		if (client->sock < 0)
			return -ENOENT;
		announce(client);
		int ready = client_poll(client->sock, deadline);
		if (ready <= 0)
			return ready;
		receive(client);
	}
	return 1;
}

int client_vector_fd(struct client *client, unsigned vector)
{
	if (vector >= client->own.count)
		return -EAGAIN;
	int bell = client->own.bells[vector];
	if (client->listener.interrupt)
		epoll_ctl(client->epoll, EPOLL_CTL_DEL, bell, NULL);
	for (unsigned i = 0; i < client->n_events; i++)
		if (client->events[i].data.u32 == vector)
			client->events[i].data.u32 = HANDLED_EVENT;
	return bell;
}

void client_close(struct client *client)
{
	disconnect(client);
	if (client->epoll >= 0)
		close(client->epoll);
	free(client->events);
	peer_table_fini(&client->peers);
	peer_entry_clear(&client->own);
	if (client->region)
		region_unmap(client->region, client->size);
	if (client->region_fd >= 0)
		close(client->region_fd);
}
