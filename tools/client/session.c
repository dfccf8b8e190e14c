/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Everything that waits goes through session_step(): one ppoll() on the
 * library's descriptor and, in the outermost loop, on standard input. The library's callbacks print
 * the events, keep `rung` for a later `wait`, and answer pings.
 *
 * Rings are remembered and not dropped, because between two commands of a script a doorbell may
 * come at any time, and `wait` must then return at once.
 */
#include "tool.h"

#include "base/clock.h"
#include "common/jsontext.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define DIALOGUE_RETRY_MS 1000 /* QEMU's client says so */
#define RETRY_MS          100
/* A server tells a newcomer about others first and about its own vectors last, so once those come
 * the end is near. A server with zero vectors never sends any. */
#define QUIET_MS                  100
#define QUIET_NO_VECTORS_MS       500
#define LONGEST_WAIT_FOR_QUIET_MS 5000

/* ---- what the user sees ---- */

void say_verbose(const struct client *c, const char *format, ...)
{
	if (!c->verbose)
		return;
	va_list args;
	va_start(args, format);
	vfprintf(c->dialogue ? stdout : stderr, format, args);
	va_end(args);
}

static void say_event(const struct client *c, const char *event, const char *format, ...)
{
	if (!c->json)
		return;
	va_list args;
	va_start(args, format);
	json_t *members = json_vpack_ex(NULL, 0, format, args);
	va_end(args);
	json_t *object = json_pack("{s:s}", "event", event);
	json_object_update(object, members);
	json_decref(members);
	json_print_line(object, stdout);
}

void answer_rings(struct client *c)
{
	int asker = c->answer_to == ANSWER_LAST ? c->last_joined : c->answer_to;
	for (int vector = 0; asker >= 0 && vector < c->own_vectors; vector++) {
		if (c->rung[vector] > 0 &&
			ivshmem_notify(c->peer, (unsigned)asker, (unsigned)vector) == 0) {
			c->rung[vector] = 0;
			c->answered++;
		}
	}
}

static void on_joined(struct ivshmem_peer *peer, void *data, unsigned id)
{
	struct client *c = data;
	(void)peer;
	c->news_ms = clock_ms();
	c->last_joined = (int)id;
	say_verbose(c, "new peer id = %u\n", id);
	say_event(c, "joined", "{s:i}", "peer", (int)id);
	if (c->watching && !c->json)
		printf("peer_id = %u joined\n", id);
}

static void on_vector(struct ivshmem_peer *peer, void *data, unsigned id, unsigned vectors)
{
	struct client *c = data;
	c->news_ms = clock_ms();
	if ((int)id == ivshmem_id(peer))
		c->own_vectors = (int)vectors;
	say_verbose(c, "  new vector %u (fd=%d) for peer id %u\n", vectors - 1,
		ivshmem_doorbell_fd(peer, id, vectors - 1), id);
	answer_rings(c); /* a ring may be seen before the news of who can have rung */
}

/*
 * The last one to join has left: the next best is the highest ID, since IDs rotate. If nobody is
 * left, neither is anybody to whom `answer` could answer the rings so far; a `wait` still wants
 * them.
 */
static void forget_last_joined(struct client *c)
{
	static unsigned ids[IVSHMEM_MAX_ID + 1];
	int n = ivshmem_peers(c->peer, ids, IVSHMEM_MAX_ID + 1);
	c->last_joined = n > 0 ? (int)ids[n - 1] : -1;
	if (n <= 0 && c->answer_to != ANSWER_NOBODY)
		memset(c->rung, 0, sizeof(c->rung));
}

static void on_left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	struct client *c = data;
	(void)peer;
	c->news_ms = clock_ms();
	if (c->last_joined == (int)id)
		forget_last_joined(c);
	say_verbose(c, "delete peer id = %u\n", id);
	say_event(c, "left", "{s:i}", "peer", (int)id);
	if (c->watching && !c->json)
		printf("peer_id = %u left\n", id);
}

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	struct client *c = data;
	say_verbose(c, "received event on fd %d vector %u: %llu\n",
		ivshmem_doorbell_fd(peer, (unsigned)ivshmem_id(peer), vector), vector,
		(unsigned long long)count);
	if (vector < IVSHMEM_MAX_VECTORS)
		c->rung[vector] += count;

	answer_rings(c);
	say_event(c, "interrupt", "{s:i, s:I}", "vector", (int)vector, "count", (json_int_t)count);
	/* The doorbell does not say who rang; QEMU's client prints its own ID here, so we do. */
	if (!c->json && (c->dialogue || c->watching))
		printf("receive notification from peer_id=%d vector=%u\n", ivshmem_id(peer),
			vector);
}

static void on_server_lost(struct ivshmem_peer *peer, void *data, int error)
{
	struct client *c = data;
	(void)peer;
	c->lost = c->ever_lost = true;
	say_verbose(c, "lost connection to server\n");
	say_event(c, "server-lost", "{s:s?}", "error", error ? strerror(error) : NULL);
	if (!c->json && !c->dialogue)
		fprintf(stderr, "%s: lost the server%s%s; the region and known peers still work\n",
			c->program, error ? ": " : "", error ? strerror(error) : "");
}

/* In a guest: the driver has been unbound, or the device unplugged. */
static void lose_device(struct client *c)
{
	c->lost = c->ever_lost = true;
	say_event(c, "device-lost", "{}");
	if (!c->json)
		fprintf(stderr, "%s: lost the device\n", c->program);
}

/* ---- connecting ---- */

int time_left(uint64_t start, int limit)
{
	if (limit < 0)
		return FOREVER;
	uint64_t gone = clock_ms() - start;
	return gone >= (uint64_t)limit ? 0 : (int)((uint64_t)limit - gone);
}

static struct ivshmem_peer *open_peer(struct client *c, int timeout_ms, char *error)
{
	static const struct ivshmem_listener listener = {
		.peer_joined = on_joined,
		.vector_added = on_vector,
		.peer_left = on_left,
		.interrupt = on_interrupt,
		.server_lost = on_server_lost,
	};
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.listener = &listener;
	params.data = c;
	params.protocol = c->protocol;
	params.timeout_ms = timeout_ms;
	params.error_text = error;
	params.error_size = SESSION_ERROR_SIZE;
	error[0] = '\0';

	say_verbose(c, "connect to client %s\n", c->where);
	struct ivshmem_peer *peer = ivshmem_open(c->uri, &params);
	int saved = errno;
	if (!peer && error[0] == '\0')
		snprintf(error, SESSION_ERROR_SIZE, "%s: %s", c->where, strerror(saved));
	if (!peer)
		say_verbose(c, "cannot connect to %s: %s\n", c->where, error);
	errno = saved;
	return peer;
}

static void say_connected(struct client *c)
{
	int id = ivshmem_id(c->peer);
	uint64_t size;
	ivshmem_region(c->peer, &size);
	say_verbose(c, "our_id=%d\nshm_fd=%d\n", id, ivshmem_region_fd(c->peer));
	if (c->json) /* what json_integer() makes is only released if it is printed */
		say_event(c, "connected", "{s:o, s:I}", "id",
			id < 0 ? json_null() : json_integer(id), "region_size", (json_int_t)size);
}

int session_try(struct client *c, int timeout_ms, char error[SESSION_ERROR_SIZE])
{
	c->peer = open_peer(c, timeout_ms, error);
	if (!c->peer)
		return -errno;

	int id = ivshmem_id(c->peer);
	int vectors = id < 0 ? 0 : ivshmem_vectors(c->peer, (unsigned)id);
	c->lost = false;
	c->opened_ms = c->news_ms = clock_ms();
	c->own_vectors = vectors > 0 ? vectors : 0; /* a guest's are there at once */
	c->last_joined = -1;
	c->answer_to = ANSWER_NOBODY;
	memset(c->rung, 0, sizeof(c->rung));
	say_connected(c);
	return 0;
}

static void pause_ms(int ms)
{
	struct timespec pause = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&pause, NULL);
}

/* QEMU's client says nothing but "retry"; a server that is there and refuses deserves a reason. */
static bool worth_saying(int reason)
{
	return reason == -EUSERS || reason == -EACCES || reason == -EPROTO;
}

int session_open(struct client *c)
{
	uint64_t start = clock_ms();
	char error[SESSION_ERROR_SIZE];
	int left = c->connect_ms;
	int reason, last_reason = 0;
	while ((reason = session_try(c, left > 0 ? left : 0, error)) < 0) {
		bool hopeless = reason == -EINVAL || reason == -ENOTSUP || reason == -ENAMETOOLONG;
		left = time_left(start, c->connect_ms);
		if (hopeless || left == 0) {
			fprintf(stderr, "%s: %s\n", c->program, error);
			return hopeless ? -EINVAL : reason;
		}
		if (c->dialogue && reason != last_reason && worth_saying(reason))
			fprintf(stderr, "%s: %s\n", c->program, error);
		last_reason = reason;
		if (c->dialogue)
			fprintf(stderr, "cannot connect to server, retry in 1 second\n");
		pause_ms(c->dialogue ? DIALOGUE_RETRY_MS : RETRY_MS);
	}
	return 0;
}

void session_close(struct client *c)
{
	say_verbose(c, "close client\n");
	ivshmem_close(c->peer);
	c->peer = NULL;
}

/* ---- waiting ---- */

static volatile sig_atomic_t interrupted;
static sigset_t outside; /* signal mask outside of ppoll() while Ctrl-C is caught */
static bool catching;

static void on_sigint(int number)
{
	(void)number;
	interrupted = 1;
}

void session_catch_signal(void)
{
	/* Blocked but for the wait itself, so that none is lost just before it. */
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGINT);
	sigprocmask(SIG_BLOCK, &block, &outside);
	struct sigaction action = {.sa_handler = on_sigint};
	sigaction(SIGINT, &action, NULL);
	interrupted = 0;
	catching = true;
}

void session_release_signal(void)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	catching = false;
	sigaction(SIGINT, &action, NULL);
	sigprocmask(SIG_SETMASK, &outside, NULL);
}

enum session_wake session_step(struct client *c, int input, int timeout_ms)
{
	struct pollfd fds[] = {
		{.fd = ivshmem_get_fd(c->peer), .events = POLLIN},
		{.fd = input, .events = POLLIN},
	};
	struct timespec limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
	int n = ppoll(fds, 2, timeout_ms < 0 ? NULL : &limit, catching ? &outside : NULL);
	if (interrupted && catching)
		return WAKE_SIGNAL;
	if (n < 0)
		return WAKE_EVENTS; /* some other signal; nothing to handle is fine */
	if (n == 0)
		return WAKE_TIMEOUT;
	if (!fds[0].revents)
		return WAKE_INPUT;
	if (ivshmem_dispatch(c->peer, 0) < 0 && errno == ENODEV) {
		lose_device(c);
		return WAKE_GONE;
	}
	return WAKE_EVENTS; /* what else can fail here, it reports as a lost server */
}

bool session_await(struct client *c, long id, long vector)
{
	for (;;) {
		if (is_id(id) && ivshmem_vectors(c->peer, (unsigned)id) > vector)
			return true;

		bool tells = ivshmem_capabilities(c->peer) & IVSHMEM_CAP_PEER_LIST;
		uint64_t now = clock_ms();
		uint64_t quiet = now - c->news_ms;
		uint64_t enough = c->own_vectors > 0 ? QUIET_MS : QUIET_NO_VECTORS_MS;
		bool late = now - c->opened_ms >= LONGEST_WAIT_FOR_QUIET_MS;
		if (!tells || c->lost)
			return false;
		/* Who was busy for so long has heard nothing: it is quiet if nothing is there. */
		int left = quiet >= enough || late ? 0 : (int)(enough - quiet);
		enum session_wake wake = session_step(c, -1, left);
		if (left == 0 && (wake == WAKE_TIMEOUT || late))
			return is_id(id) && ivshmem_vectors(c->peer, (unsigned)id) > vector;
	}
}
