/* SPDX-License-Identifier: MIT */
/* The signals that end a daemon the clean way: SIGTERM, SIGINT and SIGHUP. */
#ifndef TOOLS_DAEMON_SIGNALS_H
#define TOOLS_DAEMON_SIGNALS_H

#include <uv.h>

enum { SIGNALS_COUNT = 3 };

struct signals {
	uv_signal_t handles[SIGNALS_COUNT];
	void (*arrived)(void *data, int number);
	void *data;
};

/*
 * Hold them back until signals_start(): a daemon that is killed while it starts would leave what it
 * has made behind, and so would one that is told once more while it ends. Call before anything is
 * created, and when the loop has ended. Also ignores SIGPIPE.
 */
void signals_hold(void);

/*
 * From now on `arrived` is called on the loop for each of them, those that were held back included.
 * 0, or a libuv error; the handles are the loop's to close either way.
 */
int signals_start(struct signals *signals, uv_loop_t *loop, void (*arrived)(void *data, int number),
	void *data);

#endif
