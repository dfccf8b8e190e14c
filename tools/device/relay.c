/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A word of the server's is looked at first (MSG_PEEK): the kernel duplicates its descriptor, which
 * is given to the holder under a new number. Only then the word is taken off the connection, in the
 * way of told.c. So at any moment a word is either still in the connection, or all of it is safe.
 *
 * Joining is done by the caller's thread, up to the region: that fits into the socket pair, where
 * the peer finds it at once. So no thread is needed before the process has given up its privileges.
 *
 * The peer gets words in the order in which it would have got them. What it does not read waits:
 * the thread stops, and the server's words stay in the connection, as they would without us. What
 * passes is in flight twice, so the pair's buffer is small.
 *
 * The peer's end of the pair being closed means that it wants no more of this server, as when what
 * it says is wrong. Then the server sees us leave, now and after a restart.
 */
#include "relay.h"

#include "holding.h"
#include "relay_internal.h"

#include "daemon/signals.h"

#include "base/fdpass.h"
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAUSE_MS   5    /* when the kernel or the process is short of something */
#define CATCH_UP   4096 /* words of the server's, so that it cannot keep us from starting */
#define STACK_SIZE ((size_t)128 << 10)
#define WORD_SIZE  8u

void relay_drop(void *data, uint64_t number)
{
	const struct relay *relay = data;
	holding_drop(relay->config.holding, "w", relay->config.name, number);
}

static bool is_shortage(ssize_t error)
{
	return error == -ETOOMANYREFS || error == -EMFILE || error == -ENFILE ||
		error == -ENOBUFS || error == -ENOMEM;
}

/* ---- to the peer ---- */

/* False: it is gone, or we are to end. */
static bool wait_for_peer(const struct relay *relay, ssize_t error)
{
	struct pollfd entry = {.fd = relay->pair, .events = error == -EAGAIN ? POLLOUT : 0};

	if (error == -EAGAIN && !relay->started) {
		if (relay->dispatch)
			relay->dispatch(relay->data);
		return relay->dispatch; /* or nobody reads yet */
	}
	if (poll(&entry, 1, error == -EAGAIN ? -1 : PAUSE_MS) < 0 && errno != EINTR)
		return false;
	return !(entry.revents & (POLLHUP | POLLERR));
}

bool relay_tell(const struct relay *relay, int64_t value, int fd)
{
	uint8_t bytes[WIRE_WIDTH_MAX];
	size_t size = wire_encode(&wire_current, value, bytes), done = 0;

	while (done < size) {
		ssize_t sent =
			fdpass_send(relay->pair, bytes + done, size - done, done == 0 ? fd : -1);
		if (sent > 0)
			done += (size_t)sent;
		else if ((sent != -EAGAIN && !is_shortage(sent)) || !wait_for_peer(relay, sent))
			return false;
	}
	return true;
}

/* ---- from the server ---- */

void relay_close_word(struct relay *relay)
{
	if (relay->fd >= 0)
		close(relay->fd);
	relay->fd = -1;
}

/* A descriptor has come. The number under which it is held. */
static uint64_t hold(struct relay *relay, int fd)
{
	const struct relay_config *config = &relay->config;
	uint64_t number = told_new_number(&relay->told);

	int error = holding_put(config->holding, "w", config->name, number, &fd, 1);
	if (error == 0)
		return number;
	if (!relay->has_cut)
		log_warning(config->log,
			"%s: cannot have all descriptors of the server's held: some peers cannot "
			"be rung: %s",
			config->name, strerror(-error));
	relay->has_cut = true;
	return TOLD_UNKEPT;
}

/* Take `n` bytes, with which a descriptor came, or none (-1). */
static ssize_t take(struct relay *relay, size_t n, int fd)
{
	uint64_t number = fd >= 0 ? hold(relay, fd) : told_descriptor(&relay->told);

	ssize_t taken = told_take(&relay->told, relay->server, n, number);
	if (fd < 0)
		return taken;
	if (taken > 0) {
		relay->fd = fd;
	} else {
		relay_drop(relay, number);
		close(fd);
	}
	return taken;
}

static void close_all(const int *fds, size_t n)
{
	while (n > 0)
		close(fds[--n]);
}

/* Up to `want` bytes, and what comes with them. A look that ends with a message brings the next
 * one's descriptors, too; so it goes one byte further, and then they are not ours. */
static ssize_t look(const struct relay *relay, size_t want, int fds[FDPASS_RECV_MAX], size_t *n_fds)
{
	uint8_t bytes[WORD_SIZE + 1];

	ssize_t got = fdpass_look_at_fds(relay->server, bytes, want + 1, fds, n_fds);
	if (got <= (ssize_t)want)
		return got;
	close_all(fds, *n_fds);
	*n_fds = 0;
	return (ssize_t)want;
}

/*
 * Read the next word, or a piece of it. 1: it is whole; 0: not yet; -errno. CLIENT_EOF: the server
 * has closed the connection.
 */
int relay_read(struct relay *relay)
{
	int fds[FDPASS_RECV_MAX];
	size_t n_fds;
	unsigned have = told_have(&relay->told);

	ssize_t got = look(relay, WORD_SIZE - have, fds, &n_fds);
	if (got == 0)
		return have ? -ECONNRESET : CLIENT_EOF;
	if (got < 0)
		return got == -EMSGSIZE ? -EPROTO : (int)got;
	if (n_fds + (told_descriptor(&relay->told) != 0) > 1) {
		close_all(fds, n_fds);
		return -EPROTO;
	}
	got = take(relay, (size_t)got, n_fds ? fds[0] : -1);
	return got < 0 ? (int)got : told_have(&relay->told) == WORD_SIZE;
}

/* The whole word is there. 1: the peer is to be told of it; 0: it need not; -EPROTO and *event;
 * -ENOSPC: the region cannot be held. */
int relay_take(struct relay *relay, struct wire_event *event, struct wire_message *message)
{
	*message = (struct wire_message){
		.number = told_word(&relay->told),
		.fd = told_descriptor(&relay->told) ? relay->fd : -1,
	};
	*event = wire_session_feed(&relay->session, message);
	if (event->type == WIRE_EVENT_ERROR)
		return -EPROTO;
	if (event->type == WIRE_EVENT_REGION && told_descriptor(&relay->told) == TOLD_UNKEPT)
		return -ENOSPC;
	return told_act(&relay->told, relay_drop, relay);
}

/* ---- the thread ---- */

static void say_why(const struct relay *relay, int error, const struct wire_event *event)
{
	struct client_error why;

	if (error == CLIENT_EOF || error == -ECONNRESET || error == -EPIPE)
		return; /* the peer sees that, and says it */
	if (event)
		client_explain_event(&why, relay->config.path, true, WIRE_STATE_RUN, event);
	else
		client_explain_loss(&why, relay->config.path, error);
	log_warning(relay->config.log, "%s: %s", relay->config.name, why.text);
}

/* One thing that the server has said. False: that was the last. */
static bool pass_on(struct relay *relay)
{
	struct wire_event event;
	struct wire_message message;

	int result = relay_read(relay);
	if (is_shortage(result)) {
		poll(NULL, 0, PAUSE_MS);
		return true;
	}
	if (result < 0 && result != -EAGAIN) {
		say_why(relay, result, NULL);
		return false;
	}
	if (result <= 0)
		return true;
	result = relay_take(relay, &event, &message);
	if (result < 0)
		say_why(relay, result, &event);
	bool going_on = result >= 0;
	if (result > 0)
		going_on = relay_tell(relay, message.number, message.fd);
	relay_close_word(relay);
	return going_on;
}

static bool replay(struct relay *relay)
{
	bool going_on = true;

	while (going_on && relay->said < relay->n_words) {
		const struct kept_word *word = &relay->words[relay->said++];
		going_on = relay_tell(relay, word->entry.value, word->fd);
		close(word->fd);
	}
	return going_on;
}

static void *serve(void *data)
{
	struct relay *relay = data;
	struct pollfd entries[2] = {
		{.fd = relay->server, .events = POLLIN},
		{.fd = relay->pair},
	};

	signals_hold(); /* they are the loop's */
	bool going_on = !relay->is_over && !told_lost(&relay->told);
	while (going_on && !relay->closing) {
		if (poll(entries, 2, -1) < 0)
			continue;
		if (entries[1].revents)
			break;
		going_on = pass_on(relay);
	}
	if (!relay->closing) {
		/* The one because of the other: the server's end or the peer's. */
		told_set_lost(&relay->told);
		shutdown(relay->server, SHUT_RDWR);
		shutdown(relay->pair, SHUT_RDWR);
	}
	return NULL;
}

void relay_catch_up(struct relay *relay, void (*dispatch)(void *data), void *data)
{
	struct pollfd entry = {.fd = relay->server, .events = POLLIN};

	relay->dispatch = dispatch;
	relay->data = data;
	relay->is_over = !replay(relay);
	for (unsigned i = 0; i < CATCH_UP && !relay->is_over && !told_lost(&relay->told) &&
		poll(&entry, 1, 0) == 1;
		i++)
		relay->is_over = !pass_on(relay);
	dispatch(data);
	relay->dispatch = NULL;
}

int relay_start(struct relay *relay)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);

	if (error != 0)
		return -error;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	relay->started = true; /* as the thread looks at it */
	error = pthread_create(&relay->thread, &attributes, serve, relay);
	pthread_attr_destroy(&attributes);
	if (error != 0)
		relay->started = false;
	return -error;
}

/* ---- the rest ---- */

int relay_peer_fd(struct relay *relay)
{
	int fd = relay->peer;
	relay->peer = -1;
	return fd;
}

uint64_t relay_region_size(const struct relay *relay)
{
	return relay->region_size;
}

static void end_thread(struct relay *relay)
{
	if (!relay->started)
		return;
	relay->closing = true;
	shutdown(relay->pair, SHUT_RDWR);
	pthread_join(relay->thread, NULL);
	relay->started = false;
}

static void close_if_open(int fd)
{
	if (fd >= 0)
		close(fd);
}

void relay_close(struct relay *relay)
{
	if (!relay)
		return;
	end_thread(relay);
	for (; relay->said < relay->n_words; relay->said++)
		close_if_open(relay->words[relay->said].fd);
	free(relay->words);
	relay_close_word(relay);
	close_if_open(relay->server);
	close_if_open(relay->pair);
	close_if_open(relay->peer);
	holding_unmap(relay->memory, relay->memory_size);
	free(relay);
}

void relay_forget(struct relay *relay)
{
	if (!relay)
		return;
	end_thread(relay);
	const struct relay_config *config = &relay->config;
	const struct told_entry *entries;
	uint32_t n = relay->memory ? told_entries(&relay->told, &entries) : 0;
	holding_drop(config->holding, "told", config->name, 0);
	holding_drop(config->holding, "server", config->name, 0);
	for (uint32_t i = 0; i < n; i++) {
		if (entries[i].number)
			relay_drop(relay, entries[i].number);
	}
	relay_close(relay);
}
