/* SPDX-License-Identifier: MIT */
/* Watching descriptors with libuv without dying of it, and ending a loop. */
#ifndef TOOLS_DAEMON_WATCH_H
#define TOOLS_DAEMON_WATCH_H

#include <uv.h>

/*
 * uv_poll_start() for a handle that uv_poll_init() has made, so that it fails here and nothing
 * worse happens: libuv aborts the program if it has no memory for it; and hands the descriptor to
 * epoll only when the loop runs, and aborts if that does not work, as when the user's limit of
 * watches is reached. Also to change the events. 0, or a libuv error (negative errno) with the
 * handle stopped and still to be closed.
 */
int watch_start(uv_poll_t *poll, int events, uv_poll_cb callback);

/*
 * Close every handle that is still open, run what is then due, and close the loop. A handle in
 * memory of its own must have been closed before, with the callback that frees it.
 */
void watch_end(uv_loop_t *loop);

#endif
