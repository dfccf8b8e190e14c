/* SPDX-License-Identifier: MIT */
#include "daemon/signals.h"

#include <signal.h>

static const int numbers[SIGNALS_COUNT] = {SIGTERM, SIGINT, SIGHUP};

/* `how`: SIG_BLOCK or SIG_UNBLOCK. */
static void change_mask(int how)
{
	sigset_t set;
	sigemptyset(&set);
	for (int i = 0; i < SIGNALS_COUNT; i++)
		sigaddset(&set, numbers[i]);
	sigprocmask(how, &set, NULL);
}

void signals_hold(void)
{
	change_mask(SIG_BLOCK);
	signal(SIGPIPE, SIG_IGN);
}

static void signal_event(uv_signal_t *handle, int number)
{
	struct signals *signals = handle->data;
	signals->arrived(signals->data, number);
}

int signals_start(struct signals *signals, uv_loop_t *loop, void (*arrived)(void *data, int number),
	void *data)
{
	signals->arrived = arrived;
	signals->data = data;
	for (int i = 0; i < SIGNALS_COUNT; i++) {
		int error = uv_signal_init(loop, &signals->handles[i]);
		if (error < 0)
			return error;
		signals->handles[i].data = signals;
		error = uv_signal_start(&signals->handles[i], signal_event, numbers[i]);
		if (error < 0)
			return error;
	}
	change_mask(SIG_UNBLOCK);
	return 0;
}
