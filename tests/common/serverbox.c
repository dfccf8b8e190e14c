/* SPDX-License-Identifier: MIT */
#include "serverbox.h"

#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
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

static bool joined(void *data, struct server_peer *peer, int sock)
{
	struct box *box = data;
	struct box_watch *watch = box->watch_fails ? NULL : calloc(1, sizeof(*watch));
	if (!watch)
		return false;
	*watch = (struct box_watch){.peer = peer, .sock = sock, .next = box->watches};
	box->watches = watch;
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
	for (struct box_watch **at = &box->watches; *at; at = &(*at)->next) {
		if (*at == gone) {
			*at = gone->next;
			break;
		}
	}
	free(gone);
	box->left++;
}

/* ---- the keeper ---- */

/* What goes to a keeper in another process, with the descriptors. */
struct keeping {
	enum server_kept kind;
	bool forget;
	uint64_t serial;
	unsigned n;
};

static void let_go(struct kept_descriptors *set)
{
	for (unsigned i = 0; i < set->n; i++)
		close(set->fds[i]);
	free(set->fds);
}

static int hold(struct box *box, enum server_kept kind, uint64_t serial, const int *fds, unsigned n)
{
	struct kept_descriptors set = {
		.kind = kind, .serial = serial, .fds = calloc(n, sizeof(int))};

	if (box->n_held == BOX_MAX_HELD)
		abort();
	for (; set.fds && set.n < n; set.n++) {
		set.fds[set.n] = fcntl(fds[set.n], F_DUPFD_CLOEXEC, 0);
		if (set.fds[set.n] < 0)
			break;
	}
	if (set.n < n) {
		let_go(&set);
		return -ENOMEM;
	}
	box->held[box->n_held++] = set;
	return 0;
}

static void unhold(struct box *box, enum server_kept kind, uint64_t serial)
{
	for (unsigned i = 0; i < box->n_held; i++) {
		if (box->held[i].kind != kind || box->held[i].serial != serial)
			continue;
		let_go(&box->held[i]);
		box->held[i] = box->held[--box->n_held];
		return;
	}
}

void box_hold_socket(struct box *box, uint64_t serial, int sock)
{
	if (hold(box, SERVER_KEPT_SOCKET, serial, &sock, 1) < 0)
		abort();
}

/* The descriptors of one message; the whole test may use SCM_RIGHTS as it likes. */
union rights {
	struct cmsghdr header;
	char space[CMSG_SPACE(BOX_MAX_VECTORS * sizeof(int))];
};

static int send_keeping(const struct box *box, const struct keeping *keeping, const int *fds)
{
	union rights control = {0};
	struct iovec iov = {.iov_base = (void *)keeping, .iov_len = sizeof(*keeping)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (keeping->n > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = (unsigned)CMSG_SPACE(keeping->n * sizeof(int));
		control.header = (struct cmsghdr){.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = (unsigned)CMSG_LEN(keeping->n * sizeof(int))};
		memcpy(CMSG_DATA(&control.header), fds, keeping->n * sizeof(int));
	}
	return sendmsg(box->keeper, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void box_hold_for(struct box *box, int keeper)
{
	for (;;) {
		struct keeping keeping;
		union rights control;
		int fds[BOX_MAX_VECTORS];
		struct iovec iov = {.iov_base = &keeping, .iov_len = sizeof(keeping)};
		struct msghdr msg = {.msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control.space,
			.msg_controllen = sizeof(control.space)};
		if (recvmsg(keeper, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
			return;
		if (keeping.forget) {
			unhold(box, keeping.kind, keeping.serial);
			continue;
		}
		memcpy(fds, CMSG_DATA(&control.header), keeping.n * sizeof(int));
		if (hold(box, keeping.kind, keeping.serial, fds, keeping.n) < 0)
			abort();
		for (unsigned i = 0; i < keeping.n; i++)
			close(fds[i]);
	}
}

static int keep(void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n)
{
	struct box *box = data;
	const struct keeping keeping = {.kind = kind, .serial = serial, .n = n};

	if (box->keep_fails)
		return -ENOSPC;
	if (box->keeper >= 0)
		return send_keeping(box, &keeping, fds);
	return hold(box, kind, serial, fds, n);
}

static void forget(void *data, enum server_kept kind, uint64_t serial)
{
	struct box *box = data;
	const struct keeping keeping = {.kind = kind, .forget = true, .serial = serial};

	if (box->forget_fails)
		return;
	if (box->keeper >= 0)
		(void)send_keeping(box, &keeping, NULL);
	else
		unhold(box, kind, serial);
}

unsigned box_held_copies(const struct box *box, struct kept_descriptors *copies)
{
	for (unsigned i = 0; i < box->n_held; i++) {
		const struct kept_descriptors *set = &box->held[i];
		copies[i] = *set;
		copies[i].fds = calloc(set->n, sizeof(int));
		for (unsigned j = 0; j < set->n; j++)
			copies[i].fds[j] = fcntl(set->fds[j], F_DUPFD_CLOEXEC, 0);
	}
	return box->n_held;
}

void box_free_copies(struct kept_descriptors *copies, unsigned n)
{
	while (n > 0)
		free(copies[--n].fds);
}

static const struct server_ops ops = {
	.joined = joined, .want_write = want_write, .left = left, .keep = keep, .forget = forget};

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
	box->keeper = -1;
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

int box_keep(struct box *box)
{
	box->kept_size = kept_size(&box->config);
	box->kept = mmap(
		NULL, box->kept_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (box->kept == MAP_FAILED)
		abort();
	return kept_begin(box->server, box->kept, box->kept_size);
}

void box_halt(struct box *box)
{
	server_destroy(box->server);
	box->server = NULL;
}

/* Into the server and out again: the fault tests arm here, so that only its own calls fail. */
static void around(const struct box *box, bool entering)
{
	if (box->around)
		box->around(entering);
}

int box_resume(struct box *box, char reason[160])
{
	struct kept_descriptors copies[BOX_MAX_HELD];
	unsigned n = box_held_copies(box, copies);

	if (server_create(&box->server, &box->config, box->region_fd, &ops, box, &box->log) < 0)
		abort();
	around(box, true);
	int error = kept_resume(box->server, box->kept, box->kept_size, copies, n, reason);
	around(box, false);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < copies[i].n && error < 0; j++)
			close(copies[i].fds[j]);
	}
	box_free_copies(copies, n);
	return error;
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
	if (client->first_vector[id] < 0)
		return;
	close(client->first_vector[id]);
	client->first_vector[id] = -1;
	client->n_first--;
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
	box_halt(box);
	while (box->n_held > 0)
		let_go(&box->held[--box->n_held]);
	if (box->kept)
		munmap(box->kept, box->kept_size);
	close(box->region_fd);
	free(box);
}

int box_new_client(struct box *box, unsigned c)
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
	return pair[1];
}

int box_connect(struct box *box, unsigned c)
{
	int sock = box_new_client(box, c);
	if (sock < 0)
		return sock;
	around(box, true);
	int result = server_admit(box->server, sock, 0);
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

static void remember_event(struct box_client *client, int id, bool gone)
{
	if (client->n_events < BOX_MAX_EVENTS)
		client->events[client->n_events++] = (struct box_event){.id = id, .left = gone};
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
		else if (client->vectors[id] == box->config.vectors)
			client->others--;
		forget_peer(client, id);
		remember_event(client, id, true);
		return;
	}
	unsigned vector = client->vectors[id]++;
	if (vector >= box->config.vectors)
		blame(client, "more vectors than there are: an ID came back too early");
	if (vector + 1 == box->config.vectors) {
		client->others += id != client->id;
		remember_event(client, id, false);
	}
	if (id == client->id && vector < BOX_MAX_VECTORS)
		client->own[vector] = fd;
	else if (vector == 0) {
		client->first_vector[id] = fd;
		client->n_first++;
	} else
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

	for (struct box_watch *watch = box->watches; watch; watch = watch->next, n++) {
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
	return box->clients[c].others;
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

/* Is what both have heard in the same order? Each event happens once: IDs come back late. */
static bool same_order(const struct box_client *a, const struct box_client *b)
{
	unsigned after = 0;

	for (unsigned i = 0; i < a->n_events; i++) {
		for (unsigned j = 0; j < b->n_events; j++) {
			if (a->events[i].id != b->events[j].id ||
				a->events[i].left != b->events[j].left)
				continue;
			if (j < after)
				return false;
			after = j;
			break;
		}
	}
	return true;
}

bool box_same_order(const struct box *box)
{
	for (unsigned a = 0; a < BOX_MAX_CLIENTS; a++) {
		for (unsigned b = a + 1; b < BOX_MAX_CLIENTS; b++) {
			if (!same_order(&box->clients[a], &box->clients[b]))
				return false;
		}
	}
	return true;
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
