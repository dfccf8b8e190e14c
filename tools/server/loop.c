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
 *
 * When descriptors run out, accept() would fail again and again with the client still waiting. So
 * the listener is not watched for a while; clients wait in the backlog, the others are served, and
 * the next departure or a second's pause opens it again.
 */
#include "loop.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define ACCEPT_BATCH    64
#define ACCEPT_PAUSE_MS 1000
#define QUIET_MS        100
#define WORTH_TRIMMING  500 /* messages */

struct loop {
	uv_loop_t uv;
	uv_poll_t accept;
	uv_prepare_t before_sleep;
	uv_timer_t due, resume, deadline, quiet;
	uv_signal_t signals[3];
	struct server *server;
	struct listener *listener;
	struct log *log;
	unsigned exit_timeout_ms;
	uint64_t messages_at_quiet;
	bool accepting, ending;
	bool in_trouble; /* accept() failed and has not worked since */
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

	/* libuv adds the socket to its epoll set only later, and aborts if that fails, as it does
	 * when the user's limit of watches is reached. So add it here, where failing is harmless;
	 * libuv finds it there and goes on. */
	struct epoll_event nothing = {.data.fd = sock};
	if (epoll_ctl(uv_backend_fd(&loop->uv), EPOLL_CTL_ADD, sock, &nothing) < 0) {
		uv_close((uv_handle_t *)&watch->poll, free_watch);
		return false;
	}
	uv_poll_start(&watch->poll, UV_READABLE | UV_DISCONNECT, peer_event);
	return true;
}

static void peer_want_write(void *data, struct server_peer *peer, bool on)
{
	struct watch *watch = server_peer_data(peer);
	(void)data;
	uv_poll_start(
		&watch->poll, UV_READABLE | UV_DISCONNECT | (on ? UV_WRITABLE : 0), peer_event);
}

static void accept_again(struct loop *loop);

static void peer_left(void *data, struct server_peer *peer)
{
	struct watch *watch = server_peer_data(peer);
	uv_close((uv_handle_t *)&watch->poll, free_watch);
	accept_again(data);
}

static const struct server_ops peer_ops = {
	.joined = peer_joined,
	.want_write = peer_want_write,
	.left = peer_left,
};

/* ---- accepting ---- */

static void pause_accepting(struct loop *loop);

static void accept_event(uv_poll_t *poll, int status, int events)
{
	struct loop *loop = poll->data;
	(void)status;
	(void)events;

	for (int i = 0; i < ACCEPT_BATCH; i++) {
		int sock = accept4(loop->listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (sock >= 0) {
			loop->in_trouble = false;
			(void)server_admit(loop->server, sock);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			pause_accepting(loop);
			return;
		}
	}
}

static void resume_event(uv_timer_t *timer)
{
	accept_again(timer->data);
}

static void pause_accepting(struct loop *loop)
{
	/* Once for as long as it lasts: what a client can make us log is limited. */
	if (!loop->in_trouble)
		log_warning(loop->log, "cannot accept for now, clients wait: %m");
	loop->in_trouble = true;
	uv_poll_stop(&loop->accept);
	loop->accepting = false;
	uv_timer_start(&loop->resume, resume_event, ACCEPT_PAUSE_MS, 0);
}

static void accept_again(struct loop *loop)
{
	if (loop->accepting || loop->ending)
		return;
	uv_timer_stop(&loop->resume);
	uv_poll_start(&loop->accept, UV_READABLE, accept_event);
	loop->accepting = true;
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

static const int ends[] = {SIGTERM, SIGINT, SIGHUP};

static void ends_set(sigset_t *set)
{
	sigemptyset(set);
	for (int i = 0; i < 3; i++)
		sigaddset(set, ends[i]);
}

void loop_hold_signals(void)
{
	sigset_t held;
	ends_set(&held);
	sigprocmask(SIG_BLOCK, &held, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void deadline_event(uv_timer_t *timer)
{
	struct loop *loop = timer->data;
	(void)server_run(loop->server, uv_now(&loop->uv));
	if (!server_flushed(loop->server))
		log_warning(loop->log, "some peers have not read that the others left");
	uv_stop(&loop->uv);
}

/* Who is in the backlog gets an answer: QEMU hangs on a socket that merely closes. */
static void refuse_backlog(struct loop *loop)
{
	int sock;
	shutdown(loop->listener->fd, SHUT_RD); /* nobody can queue up any more */
	while ((sock = accept4(loop->listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		(void)server_admit(loop->server, sock);
}

static void signal_event(uv_signal_t *handle, int number)
{
	struct loop *loop = handle->data;

	if (loop->ending)
		return;
	log_info(loop->log, "signal %d: telling the peers, ending", number);
	uv_poll_stop(&loop->accept);
	uv_timer_stop(&loop->resume);
	loop->accepting = false;
	loop->ending = true;
	server_farewell(loop->server);
	refuse_backlog(loop);
	listener_close(loop->listener);
	uv_timer_start(&loop->deadline, deadline_event, loop->exit_timeout_ms, 0);
}

static void close_handle(uv_handle_t *handle, void *data)
{
	(void)data;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

static int start(struct loop *loop)
{
	int error = uv_poll_init(&loop->uv, &loop->accept, loop->listener->fd);
	if (error < 0)
		return error;
	uv_prepare_init(&loop->uv, &loop->before_sleep);
	uv_timer_init(&loop->uv, &loop->due);
	uv_timer_init(&loop->uv, &loop->resume);
	uv_timer_init(&loop->uv, &loop->deadline);
	uv_timer_init(&loop->uv, &loop->quiet);
	loop->accept.data = loop->before_sleep.data = loop->resume.data = loop->deadline.data =
		loop;
	for (int i = 0; i < 3; i++) {
		uv_signal_init(&loop->uv, &loop->signals[i]);
		loop->signals[i].data = loop;
		error = uv_signal_start(&loop->signals[i], signal_event, ends[i]);
		if (error < 0)
			return error;
	}
	/* main() has held them back: what came during the start ends us the clean way, now. */
	sigset_t held;
	ends_set(&held);
	sigprocmask(SIG_UNBLOCK, &held, NULL);
	uv_prepare_start(&loop->before_sleep, run_server);
	accept_again(loop);
	return 0;
}

int loop_serve(const struct config *config, int region_fd, struct listener *listener,
	void (*ready)(void *data), void *data, struct log *log)
{
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
		ready(data);
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
	loop.ending = true;
	server_destroy(loop.server);
	uv_walk(&loop.uv, close_handle, NULL);
	uv_run(&loop.uv, UV_RUN_DEFAULT);
	uv_loop_close(&loop.uv);
	return error == 0 ? 0 : -1;
}
