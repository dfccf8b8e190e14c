/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. When descriptors run out, accept() would fail again and again with the
 * client still waiting. So the listener is not watched for a while; clients wait in the backlog,
 * the others are served, and the next departure or a second's pause opens it again.
 */
#include "daemon/acceptor.h"

#include "daemon/watch.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH    64 /* clients, before others get their turn */
#define PAUSE_MS 1000

/* Log lines, and how long until one comes back. */
#define TROUBLES    5
#define TROUBLES_MS 60000

static int accept_one(const struct acceptor *acceptor)
{
	int sock = accept4(acceptor->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	return sock < 0 ? -errno : sock;
}

static void pause_event(uv_timer_t *timer)
{
	acceptor_resume(timer->data);
}

/* Once for as long as it lasts; and how often it comes again is up to the clients. */
static void say_trouble(struct acceptor *acceptor, int error)
{
	unsigned held_back;

	if (acceptor->in_trouble ||
		!log_allow(&acceptor->troubles, uv_now(acceptor->poll.loop), &held_back))
		return;
	if (held_back > 0)
		log_info(acceptor->log, "(%u times it could not accept held back)", held_back);
	log_warning(acceptor->log, "cannot accept for now, clients wait: %s", strerror(-error));
}

static void take_a_pause(struct acceptor *acceptor, int error)
{
	say_trouble(acceptor, error);
	acceptor->in_trouble = true;
	uv_poll_stop(&acceptor->poll);
	acceptor->accepting = false;
	uv_timer_start(&acceptor->pause, pause_event, PAUSE_MS, 0);
}

static void tell(const struct acceptor *acceptor, bool accepting)
{
	if (acceptor->note)
		acceptor->note(acceptor->data, accepting);
}

static void accept_batch(struct acceptor *acceptor)
{
	for (int i = 0; i < BATCH && acceptor->accepting; i++) {
		tell(acceptor, true);
		int sock = accept_one(acceptor);
		if (sock >= 0) {
			acceptor->in_trouble = false;
			acceptor->accepted(acceptor->data, sock);
		} else if (sock == -EAGAIN) {
			return;
		} else if (sock != -EINTR && sock != -ECONNABORTED) {
			take_a_pause(acceptor, sock);
		}
	}
}

static void accept_event(uv_poll_t *poll, int status, int events)
{
	struct acceptor *acceptor = poll->data;
	(void)status; /* an error shows on accepting, too */
	(void)events;

	accept_batch(acceptor);
	tell(acceptor, false);
}

int acceptor_init(struct acceptor *acceptor, uv_loop_t *loop, int fd,
	void (*accepted)(void *data, int sock), void *data, struct log *log)
{
	*acceptor = (struct acceptor){
		.fd = fd,
		.accepted = accepted,
		.data = data,
		.log = log,
		.troubles = LOG_LIMIT_EVERY(TROUBLES, TROUBLES_MS),
	};
	int error = uv_poll_init(loop, &acceptor->poll, fd);
	if (error < 0)
		return error;
	uv_timer_init(loop, &acceptor->pause);
	acceptor->poll.data = acceptor->pause.data = acceptor;
	return 0;
}

void acceptor_note(struct acceptor *acceptor, void (*note)(void *data, bool accepting))
{
	acceptor->note = note;
}

void acceptor_resume(struct acceptor *acceptor)
{
	if (acceptor->accepting || acceptor->stopped)
		return;
	uv_timer_stop(&acceptor->pause);
	int error = watch_start(&acceptor->poll, UV_READABLE, accept_event);
	if (error < 0)
		take_a_pause(acceptor, error);
	else
		acceptor->accepting = true;
}

void acceptor_stop(struct acceptor *acceptor)
{
	acceptor->stopped = true;
	if (acceptor->accepting)
		uv_poll_stop(&acceptor->poll);
	acceptor->accepting = false;
	uv_timer_stop(&acceptor->pause);
}

void acceptor_drain(struct acceptor *acceptor, bool last)
{
	int sock;
	if (last)
		shutdown(acceptor->fd, SHUT_RD);
	while ((sock = accept_one(acceptor)) >= 0)
		acceptor->accepted(acceptor->data, sock);
}
