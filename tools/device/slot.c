/* SPDX-License-Identifier: MIT */
#include "slot.h"

#include "daemon/watch.h"
#include "turn.h"
#include "vmm.h"

#include <fcntl.h>
#include <stdlib.h>
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

static void peer_event(uv_poll_t *poll, int status, int events)
{
	const struct slot *slot = poll->data;
	(void)status;
	(void)events;

	turn_begin();
	vfu_device_dispatch(slot->device);
	turn_end();
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

static void attempt(uv_work_t *work)
{
	struct slot *slot = work->data;
	vfu_device_join(slot->device, &slot->attempt);
}

static void retry_event(uv_timer_t *timer);

static void attempted(uv_work_t *work, int status)
{
	struct slot *slot = work->data;
	(void)status;

	turn_begin();
	bool joined = vfu_device_joined(slot->device, &slot->attempt);
	turn_end();
	if (joined) {
		int error = slot->ending ? 0 : watch_peer(slot);
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

static void accepted(void *data, int sock)
{
	vmm_accepted(data, sock);
}

int slot_start(struct slot *slot, uv_loop_t *loop, struct log *log)
{
	slot->loop = loop;
	slot->log = log;
	slot->connections = (struct log_limit)LOG_LIMIT_INIT(LOG_BURST);
	slot->resample_changed.data = slot;

	int error = uv_async_init(loop, &slot->resample_changed, change_resample);
	if (error < 0)
		return error;
	vfu_device_set_watch(slot->device, watch_resample, slot);
	error = acceptor_init(&slot->acceptor, loop, slot->listener.fd, accepted, slot, log);
	if (error == 0)
		error = watch_peer(slot);
	if (error < 0)
		return error;
	if (vfu_device_is_waiting(slot->device)) {
		uv_timer_init(loop, &slot->retry);
		slot->retry.data = slot;
		retry_event(&slot->retry);
	}
	acceptor_resume(&slot->acceptor);
	return 0;
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
	listener_close(&slot->listener);
}
