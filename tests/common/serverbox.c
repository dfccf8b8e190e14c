/* SPDX-License-Identifier: MIT */
#include "serverbox.h"

#include "base/fdpass.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the loop that the server asks to watch its sockets ---- */

struct box_watch {
	struct server_peer *peer;
	int sock;
	bool write;
	struct box_watch *next;
};

static struct box_watch *watches;

static bool joined(void *data, struct server_peer *peer, int sock)
{
	struct box *box = data;
	struct box_watch *watch = box->watch_fails ? NULL : calloc(1, sizeof(*watch));
	if (!watch)
		return false;
	*watch = (struct box_watch){.peer = peer, .sock = sock, .next = watches};
	watches = watch;
	server_peer_set_data(peer, watch);
	box->joined++;
	return true;
}

static void want_write(void *data, struct server_peer *peer, bool on)
{
	(void)data;
	((struct box_watch *)server_peer_data(peer))->write = on;
}

static void left(void *data, struct server_peer *peer)
{
	struct box *box = data;
	struct box_watch *gone = server_peer_data(peer);
	for (struct box_watch **at = &watches; *at; at = &(*at)->next) {
		if (*at == gone) {
			*at = gone->next;
			break;
		}
	}
	free(gone);
	box->left++;
}

static const struct server_ops ops = {.joined = joined, .want_write = want_write, .left = left};

static void remember(struct log *log, enum log_level level, const char *line)
{
	struct box *box = (struct box *)(void *)((char *)log - offsetof(struct box, log));
	box->log_lines++;
	strcpy(box->last_log, line);
	if (level <= LOG_LEVEL_WARNING)
		strcpy(box->last_warning, line);
}

struct box *box_create(const struct server_config *config)
{
	struct box *box = calloc(1, sizeof(*box));
	if (!box)
		return NULL;
	box->config = *config;
	if (!box->config.format)
		box->config.format = &wire_current;
	if (box->config.max_peers == 0)
		box->config.max_peers = BOX_IDS;
	if (box->config.in_flight_limit == 0)
		box->config.in_flight_limit = UINT64_MAX;
	box->log = (struct log){.level = LOG_LEVEL_DEBUG, .sink = remember};
	box->now = 1000000;
	for (unsigned c = 0; c < BOX_MAX_CLIENTS; c++)
		box->clients[c].sock = -1;
	box->region_fd = memfd_create("box", MFD_CLOEXEC);
	if (box->region_fd < 0 ||
		server_create(&box->server, &box->config, box->region_fd, &ops, box, &box->log) <
			0) {
		if (box->region_fd >= 0)
			close(box->region_fd);
		free(box);
		return NULL;
	}
	return box;
}

/* Into the server and out again: the fault tests arm here, so that only its own calls fail. */
static void around(const struct box *box, bool entering)
{
	if (box->around)
		box->around(entering);
}

static void run_server(struct box *box)
{
	around(box, true);
	box->due = server_run(box->server, box->now);
	around(box, false);
}

/* ---- clients ---- */

static void forget_peer(struct box_client *client, int id)
{
	client->vectors[id] = 0;
	if (client->first_vector[id] >= 0)
		close(client->first_vector[id]);
	client->first_vector[id] = -1;
}

void box_disconnect(struct box *box, unsigned c)
{
	struct box_client *client = &box->clients[c];
	if (client->sock < 0)
		return;
	close(client->sock);
	client->sock = -1;
	for (int id = 0; id < BOX_IDS; id++)
		forget_peer(client, id);
	for (unsigned v = 0; v < BOX_MAX_VECTORS; v++) {
		if (client->own[v] >= 0)
			close(client->own[v]);
	}
	free(client->vectors);
	free(client->first_vector);
	client->vectors = NULL;
	client->first_vector = NULL;
}

void box_destroy(struct box *box)
{
	for (unsigned c = 0; c < BOX_MAX_CLIENTS; c++)
		box_disconnect(box, c);
	server_destroy(box->server);
	close(box->region_fd);
	free(box);
}

int box_connect(struct box *box, unsigned c)
{
	struct box_client *client = &box->clients[c];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	*client = (struct box_client){.sock = pair[0], .id = -1};
	client->vectors = calloc(BOX_IDS, sizeof(*client->vectors));
	client->first_vector = malloc(BOX_IDS * sizeof(*client->first_vector));
	if (!client->vectors || !client->first_vector)
		abort();
	memset(client->first_vector, 0xff, BOX_IDS * sizeof(*client->first_vector));
	memset(client->own, 0xff, sizeof(client->own));
	around(box, true);
	int result = server_admit(box->server, pair[1]);
	around(box, false);
	return result;
}

static void blame(struct box_client *client, const char *violation)
{
	if (!client->violation)
		client->violation = violation;
}

static void greet(struct box *box, struct box_client *client, int64_t number, int fd)
{
	unsigned step = client->greeted++ + (box->config.format->has_version ? 0 : 1);

	if (step == 0 && number != 0)
		client->refusal = number;
	else if (step == 1)
		client->id = (int)number;
	if (step < 2 && fd >= 0)
		blame(client, "descriptor with version or ID");
	if (step == 1 && (number < 0 || number > 65535))
		blame(client, "own ID out of range");
	if (step == 2) {
		if (number != -1 || fd < 0)
			blame(client, "third message is not the region");
		client->region_seen = true;
	}
	if (fd >= 0)
		close(fd);
}

static void hear_of_peer(struct box *box, struct box_client *client, int64_t number, int fd)
{
	if (number < 0 || number > 65535) {
		blame(client, "ID out of range");
		if (fd >= 0)
			close(fd);
		return;
	}
	int id = (int)number;
	if (fd < 0) {
		if (client->vectors[id] == 0)
			blame(client, "disconnect of an ID that was never announced");
		if (client->vectors[id] < box->config.vectors)
			blame(client, "disconnect in the middle of a connect");
		if (id == client->id)
			blame(client, "told that it has left itself");
		forget_peer(client, id);
		return;
	}
	unsigned vector = client->vectors[id]++;
	if (vector >= box->config.vectors)
		blame(client, "more vectors than there are: an ID came back too early");
	if (id == client->id && vector < BOX_MAX_VECTORS)
		client->own[vector] = fd;
	else if (vector == 0)
		client->first_vector[id] = fd;
	else
		close(fd);
}

unsigned box_read(struct box *box, unsigned c, unsigned limit)
{
	struct box_client *client = &box->clients[c];
	struct wire_decoder decoder;
	unsigned n = 0;

	if (client->sock < 0)
		return 0;
	wire_decoder_init(&decoder, box->config.format);
	while (n < limit) {
		uint8_t bytes[WIRE_WIDTH_MAX];
		int fds[FDPASS_RECV_MAX];
		size_t n_fds;
		ssize_t got =
			fdpass_recv(client->sock, bytes, wire_decoder_want(&decoder), fds, &n_fds);
		if (got == 0)
			client->ended = true;
		if (got <= 0)
			break;
		struct wire_message message;
		if (wire_decoder_push(&decoder, bytes, (size_t)got, n_fds > 0 ? fds[0] : -1,
			    &message) != WIRE_PUSH_MESSAGE) {
			blame(client, "message in pieces");
			break;
		}
		if (client->greeted < (box->config.format->has_version ? 3 : 2))
			greet(box, client, message.number, message.fd);
		else
			hear_of_peer(box, client, message.number, message.fd);
		client->messages++;
		n++;
	}
	return n;
}

/* ---- time ---- */

static bool handle_events(struct box *box)
{
	struct pollfd polled[BOX_MAX_CLIENTS];
	struct box_watch *watched[BOX_MAX_CLIENTS];
	unsigned n = 0;
	bool moved = false;

	for (struct box_watch *watch = watches; watch; watch = watch->next, n++) {
		polled[n] = (struct pollfd){.fd = watch->sock,
			.events = (short)(POLLIN | (watch->write ? POLLOUT : 0))};
		watched[n] = watch;
	}
	if (poll(polled, n, 0) <= 0)
		return false;
	for (unsigned i = 0; i < n; i++) {
		if (polled[i].revents == 0)
			continue;
		around(box, true);
		if (polled[i].revents & POLLOUT && watched[i]->write)
			server_peer_writable(box->server, watched[i]->peer);
		if (polled[i].revents & (POLLIN | POLLHUP | POLLERR))
			server_peer_readable(box->server, watched[i]->peer);
		around(box, false);
		moved = true;
	}
	return moved;
}

void box_run(struct box *box)
{
	int rounds = 0;
	do {
		run_server(box);
	} while (handle_events(box) && ++rounds < 1000);
	run_server(box);
}

void box_wait(struct box *box, uint64_t ms)
{
	box->now += ms;
	box_run(box);
}

void box_settle(struct box *box)
{
	unsigned moved;
	do {
		moved = 0;
		box_run(box);
		for (unsigned c = 0; c < BOX_MAX_CLIENTS; c++)
			moved += box_read(box, c, UINT32_MAX);
	} while (moved > 0);
}

/* ---- what clients know ---- */

unsigned box_sees(const struct box *box, unsigned c)
{
	const struct box_client *client = &box->clients[c];
	unsigned n = 0;
	for (int id = 0; id < BOX_IDS; id++)
		n += client->vectors[id] == box->config.vectors && id != client->id;
	return n;
}

bool box_sees_everyone(const struct box *box, unsigned c)
{
	unsigned others = 0;
	for (unsigned other = 0; other < BOX_MAX_CLIENTS; other++) {
		const struct box_client *client = &box->clients[other];
		if (client->sock < 0 || client->ended || client->id < 0)
			continue;
		if (box->clients[c].vectors[client->id] != box->config.vectors)
			return false;
		others += other != c;
	}
	return box_sees(box, c) == others;
}

bool box_rings(struct box *box, unsigned from, unsigned to)
{
	const struct box_client *client = &box->clients[to];
	uint64_t one = 1, count = 0;
	int fd = box->clients[from].first_vector[client->id];

	return fd >= 0 && write(fd, &one, sizeof(one)) == sizeof(one) &&
		read(client->own[0], &count, sizeof(count)) == sizeof(count) && count == 1 &&
		read(client->own[0], &count, sizeof(count)) < 0;
}
