/* SPDX-License-Identifier: MIT */
/* Takes the clients of a listening socket, on a libuv loop. */
#ifndef TOOLS_DAEMON_ACCEPTOR_H
#define TOOLS_DAEMON_ACCEPTOR_H

#include "base/log.h"

#include <stdbool.h>
#include <uv.h>

struct acceptor {
	uv_poll_t poll;
	uv_timer_t pause;
	int fd; /* the listener's, borrowed */
	bool accepting, stopped;
	bool in_trouble; /* accept() failed and has not worked since */
	struct log_limit troubles;
	void (*accepted)(void *data, int sock);
	void (*note)(void *data, bool accepting); /* see acceptor_note() */
	void *data;
	struct log *log;
};

/*
 * Prepare to accept on `fd`, a non-blocking listener, which must outlive the loop's handles or be
 * stopped before. `accepted` owns the socket it gets: non-blocking, close-on-exec. Nothing happens
 * until acceptor_resume(). 0 or a libuv error; the handles are the loop's to close.
 */
int acceptor_init(struct acceptor *acceptor, uv_loop_t *loop, int fd,
	void (*accepted)(void *data, int sock), void *data, struct log *log);

/* Have `note` called: before each accept(), and (false) once nobody is being accepted any more. */
void acceptor_note(struct acceptor *acceptor, void (*note)(void *data, bool accepting));

/* Start; or end a pause early, because a descriptor has become free. Not after the stop. */
void acceptor_resume(struct acceptor *acceptor);

/* Accept no more. Clients wait in the backlog until they are drained or the listener closes. Fine
 * twice, and on an acceptor that is all zeros. */
void acceptor_stop(struct acceptor *acceptor);

/* After the stop: accept who has queued up. `last`: nobody can queue up any more, whoever else has
 * the listener open. */
void acceptor_drain(struct acceptor *acceptor, bool last);

#endif
