/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Sockets are watched with uv_poll and handled by our own code: libuv's pipes would hide the
 * descriptor passing that is all this server does. Events only change state; a prepare handle,
 * which libuv runs once before it sleeps, calls server_run(), so that what one batch of events
 * announces leaves in as few system calls as possible. The timer runs only while something is due:
 * an idle server does not wake up. Nor does it keep what a storm of joins has needed: queues come
 * and go in small pieces between longer-lived ones, which an allocator does not give back by
 * itself.
 */
#include "loop.h"

#include "daemon/acceptor.h"
#include "daemon/signals.h"
#include "daemon/watch.h"

#include <malloc.h>
#include <stdlib.h>
#include <uv.h>

#define QUIET_MS       100
#define WORTH_TRIMMING 500 /* messages */

struct loop {
	uv_loop_t uv;
	struct acceptor acceptor;
	struct signals signals;
	uv_prepare_t before_sleep;
	uv_timer_t due, deadline, quiet;
	struct server *server;
	struct listener *listener;
	struct log *log;
	unsigned exit_timeout_ms;
	uint64_t messages_at_quiet;
	bool ending;
};

struct watch {
	uv_poll_t poll;
	struct loop *loop;
	struct server_peer *peer;
};

/* ---- peers ---- */

static void peer_event(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	struct server_peer *peer = watch->peer;
	struct server *server = watch->loop->server;

	if (status == 0 && events & UV_WRITABLE)
		server_peer_writable(server, peer);
	/* An error shows on reading, too. */
	if (status < 0 || events & (UV_READABLE | UV_DISCONNECT))
		server_peer_readable(server, peer);
}

static void free_watch(uv_handle_t *handle)
{
	free(handle->data);
}

static bool peer_joined(void *data, struct server_peer *peer, int sock)
{
	struct loop *loop = data;
	struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return false;
	watch->loop = loop;
	watch->peer = peer;
	if (uv_poll_init(&loop->uv, &watch->poll, sock) < 0) {
		free(watch);
		return false;
	}
	watch->poll.data = watch;
	server_peer_set_data(peer, watch);

	if (watch_start(&watch->poll, UV_READABLE | UV_DISCONNECT, peer_event) < 0) {
		uv_close((uv_handle_t *)&watch->poll, free_watch);
		return false;
	}
	return true;
}

static void peer_want_write(void *data, struct server_peer *peer, bool on)
{
	struct watch *watch = server_peer_data(peer);
	(void)data;
	/* Not watch_start(): libuv takes it out and puts it back, in the place that this frees. */
	uv_poll_start(
		&watch->poll, UV_READABLE | UV_DISCONNECT | (on ? UV_WRITABLE : 0), peer_event);
}

static void peer_left(void *data, struct server_peer *peer)
{
	struct watch *watch = server_peer_data(peer);
	struct loop *loop = data;
	uv_close((uv_handle_t *)&watch->poll, free_watch);
	acceptor_resume(&loop->acceptor);
}

static const struct server_ops peer_ops = {
	.joined = peer_joined,
	.want_write = peer_want_write,
	.left = peer_left,
};

static void accepted(void *data, int sock)
{
	struct loop *loop = data;
	(void)server_admit(loop->server, sock);
}

/* ---- time ---- */

static void due_event(uv_timer_t *timer)
{
	(void)timer; /* waking up is all it is for: run_server() comes next */
}

static void quiet_event(uv_timer_t *timer)
{
	(void)timer;
#ifdef __GLIBC__
	malloc_trim(0);
#endif
}

/* Once nothing has been sent for a moment; an idle server wakes up for this once. */
static void return_memory_later(struct loop *loop)
{
	struct server_stats stats;

	server_get_stats(loop->server, &stats);
	if (stats.messages - loop->messages_at_quiet < WORTH_TRIMMING)
		return;
	loop->messages_at_quiet = stats.messages;
	uv_timer_start(&loop->quiet, quiet_event, QUIET_MS, 0);
}

static void run_server(uv_prepare_t *prepare)
{
	struct loop *loop = prepare->data;
	int wait = server_run(loop->server, uv_now(&loop->uv));

	if (loop->ending && server_flushed(loop->server))
		uv_stop(&loop->uv);
	else if (wait >= 0)
		uv_timer_start(&loop->due, due_event, (uint64_t)wait, 0);
	else
		uv_timer_stop(&loop->due);
	return_memory_later(loop);
}

/* ---- the end ---- */

static void deadline_event(uv_timer_t *timer)
{
	struct loop *loop = timer->data;
	(void)server_run(loop->server, uv_now(&loop->uv));
	if (!server_flushed(loop->server))
		log_warning(loop->log, "some peers have not read that the others left");
	uv_stop(&loop->uv);
}

static void end_signal(void *data, int number)
{
	struct loop *loop = data;

	if (loop->ending)
		return;
	log_info(loop->log, "signal %d: telling the peers, ending", number);
	acceptor_stop(&loop->acceptor);
	loop->ending = true;
	server_farewell(loop->server);
	/* Who is in the backlog gets an answer: QEMU hangs on a socket that merely closes. */
	acceptor_drain(&loop->acceptor);
	listener_close(loop->listener);
	uv_timer_start(&loop->deadline, deadline_event, loop->exit_timeout_ms, 0);
}

static int start(struct loop *loop)
{
	int error = acceptor_init(
		&loop->acceptor, &loop->uv, loop->listener->fd, accepted, loop, loop->log);
	if (error < 0)
		return error;
	uv_prepare_init(&loop->uv, &loop->before_sleep);
	uv_timer_init(&loop->uv, &loop->due);
	uv_timer_init(&loop->uv, &loop->deadline);
	uv_timer_init(&loop->uv, &loop->quiet);
	loop->before_sleep.data = loop->deadline.data = loop;
	/* What came during the start ends us the clean way, now. */
	error = signals_start(&loop->signals, &loop->uv, end_signal, loop);
	if (error < 0)
		return error;
	uv_prepare_start(&loop->before_sleep, run_server);
	acceptor_resume(&loop->acceptor);
	return 0;
}

int loop_serve(const struct config *config, int region_fd, struct listener *listener,
	struct startup *startup)
{
	struct log *log = &startup->log;
	struct loop loop = {
		.listener = listener,
		.log = log,
		.exit_timeout_ms = config->exit_timeout_ms,
	};
	int error = uv_loop_init(&loop.uv);
	if (error < 0) {
		log_error(log, "cannot start the event loop: %s", uv_strerror(error));
		return -1;
	}
	error = server_create(&loop.server, &config->server, region_fd, &peer_ops, &loop, log);
	if (error == 0)
		error = start(&loop);
	if (error == 0) {
		startup_ready(startup);
		uv_run(&loop.uv, UV_RUN_DEFAULT);

		struct server_stats stats;
		server_get_stats(loop.server, &stats);
		log_info(log,
			"ended: %llu peers joined, %llu evicted, %llu refused, %llu messages sent",
			(unsigned long long)stats.joins, (unsigned long long)stats.evictions,
			(unsigned long long)stats.refusals, (unsigned long long)stats.messages);
	} else {
		log_error(log, "cannot start serving: %s", uv_strerror(error));
	}
	acceptor_stop(&loop.acceptor);
	server_destroy(loop.server);
	watch_end(&loop.uv);
	return error == 0 ? 0 : -1;
}
