/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The loop takes connections and has whatever is not a VMM's request: peers, servers, descriptors
 * that unmask INTx, deadlines. Requests are for the VMMs' own threads (vmm.c). Descriptors are
 * watched with uv_poll; nothing has a period, so an idle process does not wake up.
 */
#include "loop.h"

#include "daemon/signals.h"
#include "daemon/watch.h"

#include <uv.h>

struct loop {
	uv_loop_t uv;
	struct signals signals;
	struct slot *slots;
	size_t n;
	struct log *log;
};

static void end_signal(void *data, int number)
{
	struct loop *loop = data;
	log_info(loop->log, "signal %d: ending", number);
	uv_stop(&loop->uv);
}

static int start(struct loop *loop)
{
	int error = 0;
	for (size_t i = 0; i < loop->n && error == 0; i++)
		error = slot_start(&loop->slots[i], &loop->uv, loop->log);
	/* What came during the start ends us the clean way, now. */
	return error < 0 ? error : signals_start(&loop->signals, &loop->uv, end_signal, loop);
}

int loop_serve(struct slot *slots, size_t n, struct startup *startup)
{
	struct loop loop = {
		.slots = slots,
		.n = n,
		.log = &startup->log,
	};
	int error = uv_loop_init(&loop.uv);
	if (error == 0) {
		error = start(&loop);
		if (error == 0) {
			startup_ready(startup);
			uv_run(&loop.uv, UV_RUN_DEFAULT);
		}
		for (size_t i = 0; i < n; i++)
			slot_stop(&slots[i]);
		watch_end(&loop.uv);
	}
	if (error < 0)
		log_error(loop.log, "cannot start serving: %s", uv_strerror(error));
	return error < 0 ? -1 : 0;
}
