/* SPDX-License-Identifier: MIT */
#include "slot.h"

#include "daemon/watch.h"
#include "opening.h"
#include "turn.h"
#include "vmm.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RETRY_MS  1000
#define LOG_BURST 20

/* ---- the VMM's descriptor that unmasks INTx; comes and goes ---- */

struct resample_watch {
	uv_poll_t poll;
	int fd; /* owned */
	struct slot *slot;
};

static void resample_event(uv_poll_t *poll, int status, int events)
{
	const struct resample_watch *watch = poll->data;
	(void)status;
	(void)events;

	turn_begin();
	vfu_irqs_resampled(&vfu_device_function(watch->slot->device)->irqs);
	turn_end();
}

static void resample_closed(uv_handle_t *handle)
{
	struct resample_watch *watch = handle->data;
	close(watch->fd);
	free(watch);
}

static void end_resample(struct slot *slot)
{
	if (slot->resample)
		uv_close((uv_handle_t *)&slot->resample->poll, resample_closed);
	slot->resample = NULL;
}

/* Watch slot->resample_fd in place of the one before. */
static void change_resample(uv_async_t *async)
{
	struct slot *slot = async->data;
	struct resample_watch *watch;

	turn_begin();
	int fd = slot->resample_fd;
	slot->resample_fd = -1;
	turn_end();

	end_resample(slot);
	if (fd < 0)
		return;
	watch = malloc(sizeof(*watch));
	if (!watch || uv_poll_init(slot->loop, &watch->poll, fd) < 0) {
		close(fd);
		free(watch);
		return;
	}
	watch->fd = fd;
	watch->slot = slot;
	watch->poll.data = watch;
	slot->resample = watch;
	if (watch_start(&watch->poll, UV_READABLE, resample_event) < 0)
		end_resample(slot);
}

/* Called in a turn, by a thread that can't touch the loop and will close `fd` when it likes. So the
 * loop watches a duplicate, and hears of it in a moment. */
static void watch_resample(void *data, int fd)
{
	struct slot *slot = data;

	if (slot->resample_fd >= 0)
		close(slot->resample_fd);
	slot->resample_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	uv_async_send(&slot->resample_changed);
}

/* ---- peers and server ---- */

static void dispatch(void *data)
{
	const struct slot *slot = data;

	turn_begin();
	vfu_device_dispatch(slot->device);
	turn_end();
}

static void peer_event(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	dispatch(poll->data);
}

static int watch_peer(struct slot *slot)
{
	int fd = vfu_device_fd(slot->device);
	if (fd < 0)
		return 0;
	int error = uv_poll_init(slot->loop, &slot->peer, fd);
	slot->peer.data = slot;
	return error < 0 ? error : watch_start(&slot->peer, UV_READABLE, peer_event);
}

/* ---- a server that comes late: a thread knocks once a second ---- */

/* Through a relay, where somebody holds. */
static void attempt_relayed(struct slot *slot)
{
	const struct relay_config config = slot_relay_config(slot);
	struct relay_error why;
	char uri[24];

	if (relay_join(&slot->attempted, &config, &why) < 0) {
		snprintf(
			slot->attempt.why.text, sizeof(slot->attempt.why.text), "%.255s", why.text);
		return;
	}
	snprintf(uri, sizeof(uri), "fd:%d", relay_peer_fd(slot->attempted));
	slot->attempt.uri = uri;
	vfu_device_join(slot->device, &slot->attempt);
	slot->attempt.uri = NULL;
	if (!slot->attempt.peer) {
		relay_forget(slot->attempted);
		slot->attempted = NULL;
	}
}

static void attempt(uv_work_t *work)
{
	struct slot *slot = work->data;

	slot->attempt = (struct vfu_attempt){0};
	slot->attempted = NULL;
	if (holding_holder(slot->holding) != KEEP_NOBODY)
		attempt_relayed(slot);
	else
		vfu_device_join(slot->device, &slot->attempt);
}

static int start_relay(struct slot *slot)
{
	int error = slot->relay ? relay_start(slot->relay) : 0;
	if (error < 0)
		log_error(slot->log, "%s: cannot start a thread: %s", slot->name, strerror(-error));
	return error;
}

static void retry_event(uv_timer_t *timer);

static void attempted(uv_work_t *work, int status)
{
	struct slot *slot = work->data;
	(void)status;

	turn_begin();
	bool joined = vfu_device_joined(slot->device, &slot->attempt);
	turn_end();
	slot->relay = slot->attempted;
	slot->attempted = NULL;
	if (joined) {
		int error = slot->ending ? 0 : watch_peer(slot);
		if (!slot->ending)
			start_relay(slot);
		if (error < 0)
			log_error(slot->log, "%s: cannot watch the server: %s", slot->name,
				uv_strerror(error));
	} else if (!slot->ending) {
		uv_timer_start(&slot->retry, retry_event, RETRY_MS, 0);
	}
}

static void retry_event(uv_timer_t *timer)
{
	struct slot *slot = timer->data;
	slot->attempt_work.data = slot;
	uv_queue_work(slot->loop, &slot->attempt_work, attempt, attempted);
}

/* ---- the slot ---- */

void slot_connected(struct slot *slot, int sock, uint64_t number)
{
	if (slot->next_number <= number)
		slot->next_number = number + 1;
	vmm_accepted(slot, sock, number);
}

void slot_let_go(const struct slot *slot, uint64_t number)
{
	holding_drop(slot->holding, "c", slot->name, number);
}

/* By ourselves: until it is held, it is lost if we are killed. */
static void accepted(void *data, int sock)
{
	struct slot *slot = data;
	uint64_t number = slot->next_number;

	int error = holding_put(slot->holding, "c", slot->name, number, &sock, 1);
	if (error < 0) {
		log_warning(slot->log, "%s: cannot have a connection held: %s", slot->name,
			strerror(-error));
		close(sock);
		return;
	}
	slot_connected(slot, sock, number);
}

static int prepare_acceptor(struct slot *slot)
{
	if (holding_holder(slot->holding) != KEEP_KEEPER)
		return acceptor_init(
			&slot->acceptor, slot->loop, slot->listener.fd, accepted, slot, slot->log);
	acceptor_stop(&slot->acceptor); /* it is not ours to resume */
	return 0;
}

void slot_accept_itself(struct slot *slot)
{
	int error = prepare_acceptor(slot);
	if (error < 0)
		log_error(slot->log, "%s: cannot listen: %s", slot->name, uv_strerror(error));
	else
		acceptor_resume(&slot->acceptor);
}

/* The VMM that an earlier process has served. */
static void resume_vmm(struct slot *slot)
{
	uint64_t number = slot->kept ? vfu_kept_attached(slot->kept) : 0;
	int sock;

	if (number == 0)
		return;
	int taken = holding_take(slot->holding, "c", slot->name, number, &sock, 1);
	vmm_resume(slot, taken == 1 ? sock : -1, number);
}

/* Who has connected since. */
static void take_connections(struct slot *slot)
{
	uint64_t number = 0;
	int sock;

	while ((number = holding_next(slot->holding, "c", slot->name, number)) != 0) {
		if (holding_take(slot->holding, "c", slot->name, number, &sock, 1) == 1)
			slot_connected(slot, sock, number);
		else
			slot_let_go(slot, number);
	}
}

static int start_accepting(struct slot *slot)
{
	if (holding_holder(slot->holding) != KEEP_KEEPER) {
		acceptor_resume(&slot->acceptor);
		return 0;
	}
	int error = holding_accept(slot->holding, slot->name, slot->next_number);
	if (error < 0)
		log_error(slot->log, "%s: the keeper does not accept: %s", slot->name,
			strerror(-error));
	return error;
}

int slot_prepare(struct slot *slot, uv_loop_t *loop)
{
	slot->loop = loop;
	slot->connections = (struct log_limit)LOG_LIMIT_INIT(LOG_BURST);
	slot->resample_changed.data = slot;

	int error = uv_async_init(loop, &slot->resample_changed, change_resample);
	if (error < 0)
		return error;
	vfu_device_set_watch(slot->device, watch_resample, slot);
	error = prepare_acceptor(slot);
	if (error < 0)
		return error;
	resume_vmm(slot);
	if (slot->relay)
		relay_catch_up(slot->relay, dispatch, slot);
	error = start_relay(slot);
	if (error == 0)
		error = watch_peer(slot);
	if (error < 0)
		return error;
	if (vfu_device_is_waiting(slot->device)) {
		uv_timer_init(loop, &slot->retry);
		slot->retry.data = slot;
		retry_event(&slot->retry);
	}
	return 0;
}

int slot_start(struct slot *slot)
{
	vmm_go_on(slot);
	take_connections(slot);
	return start_accepting(slot);
}

void slot_stop(struct slot *slot)
{
	slot->ending = true;
	acceptor_stop(&slot->acceptor);
	vmm_detach(slot);
	vfu_device_set_watch(slot->device, NULL, NULL);
	if (slot->resample_fd >= 0)
		close(slot->resample_fd);
	slot->resample_fd = -1;
	end_resample(slot);
	slot_forget(slot);
}
