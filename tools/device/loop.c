/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The loop takes connections and has whatever is not a VMM's request: peers, servers, descriptors
 * that unmask INTx, deadlines. Requests are for the VMMs' own threads (vmm.c). Descriptors are
 * watched with uv_poll; nothing has a period, so an idle process does not wake up.
 */
#include "loop.h"

#include "control.h"
#include "turn.h"

#include "daemon/signals.h"
#include "daemon/watch.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#define BATCH 64 /* connections, before others get their turn */

struct loop {
	uv_loop_t uv;
	struct signals signals;
	uv_poll_t from_keeper;
	struct holding *holding;
	struct slot *slots;
	size_t n;
	struct log *log;
};

/* ---- the keeper accepts ---- */

static void accept_by_ourselves(struct loop *loop)
{
	holding_orphaned(loop->holding);
	uv_poll_stop(&loop->from_keeper);
	for (size_t i = 0; i < loop->n; i++)
		slot_accept_itself(&loop->slots[i]);
}

static struct slot *find_slot(const struct loop *loop, const char *device)
{
	for (size_t i = 0; i < loop->n; i++) {
		if (strcmp(loop->slots[i].name, device) == 0)
			return &loop->slots[i];
	}
	return NULL;
}

static void keeper_event(uv_poll_t *poll, int status, int events)
{
	struct loop *loop = poll->data;
	char device[HOLDING_DEVICE_SIZE];
	uint64_t number;
	int sock;
	(void)status; /* an error shows on reading, too */
	(void)events;

	for (int i = 0; i < BATCH; i++) {
		int result = holding_accepted(loop->holding, device, &number, &sock);
		if (result < 0)
			accept_by_ourselves(loop);
		if (result <= 0)
			return;
		slot_connected(find_slot(loop, device), sock, number);
	}
}

static int listen_to_keeper(struct loop *loop)
{
	if (holding_holder(loop->holding) != KEEP_KEEPER)
		return 0;
	int error = uv_poll_init(&loop->uv, &loop->from_keeper, holding_fd(loop->holding));
	loop->from_keeper.data = loop;
	return error < 0 ? error : watch_start(&loop->from_keeper, UV_READABLE, keeper_event);
}

/* ---- the loop ---- */

static void end_signal(void *data, int number)
{
	struct loop *loop = data;
	log_info(loop->log, "signal %d: ending", number);
	uv_stop(&loop->uv);
}

static int start(struct loop *loop)
{
	int error = listen_to_keeper(loop);
	for (size_t i = 0; i < loop->n && error == 0; i++)
		error = slot_prepare(&loop->slots[i], &loop->uv);
	for (size_t i = 0; i < loop->n && error == 0; i++)
		error = slot_start(&loop->slots[i]);
	if (error == 0)
		holding_settle(loop->holding);
	/* What came during the start ends us the clean way, now. */
	return error < 0 ? error : signals_start(&loop->signals, &loop->uv, end_signal, loop);
}

/* Guests do not have to do without their devices because nobody can look at them. */
static void start_control(struct loop *loop, struct control *control)
{
	int error = control_start(control, loop->slots, loop->n, &loop->uv, loop->log);
	if (error < 0)
		log_error(loop->log, "cannot serve the control socket: %s", uv_strerror(error));
}

/*
 * systemd says the same before a restart and before an end, and lets go by itself at an end. So
 * what we would do now could be the end of devices that are to live on: leave everything as it is,
 * in a turn, so that no request is answered that the next process does not know of.
 */
static _Noreturn void leave_it_held(int status)
{
	turn_begin();
	_exit(status);
}

static void serve(struct loop *loop, struct startup *startup)
{
	startup_ready(startup);
	holding_ready(loop->holding);
	uv_run(&loop->uv, UV_RUN_DEFAULT);
	signals_hold(); /* another one changes nothing */
	if (holding_holder(loop->holding) == KEEP_SYSTEMD)
		leave_it_held(EXIT_SUCCESS);
}

/* What has been taken over must not end because we are short of something. */
static void give_up(const struct loop *loop, int error)
{
	log_error(loop->log, "cannot start serving: %s", uv_strerror(error));
	if (holding_holder(loop->holding) != KEEP_NOBODY)
		leave_it_held(EXIT_STARTUP);
}

int loop_serve(struct slot *slots, size_t n, struct holding *holding, struct control *control,
	struct startup *startup)
{
	struct loop loop = {
		.holding = holding,
		.slots = slots,
		.n = n,
		.log = &startup->log,
	};
	int error = uv_loop_init(&loop.uv);
	if (error == 0) {
		error = start(&loop);
		if (error == 0)
			start_control(&loop, control);
		if (error == 0)
			serve(&loop, startup);
		else
			give_up(&loop, error);
		control_stop(control);
		for (size_t i = 0; i < n; i++)
			slot_stop(&slots[i]);
		watch_end(&loop.uv);
	}
	return error < 0 ? -1 : 0;
}
