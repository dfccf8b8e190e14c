/* SPDX-License-Identifier: MIT */
#include "library.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define WAIT_MS 100

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	struct library *self = data;

	(void)peer;
	self->port.taken += count;
	if (vector < TALK_MAX_SEATS)
		self->rung[vector] += count;
}

static int library_ring(struct talk_port *port, unsigned id, unsigned vector)
{
	struct library *self = (struct library *)port;

	return ivshmem_notify(self->peer, id, vector) < 0 ? -errno : 0;
}

static uint64_t library_rung(struct talk_port *port, unsigned vector)
{
	struct library *self = (struct library *)port;
	uint64_t count = self->rung[vector];

	self->rung[vector] = 0;
	return count;
}

static void library_idle(struct talk_port *port, bool watched)
{
	struct library *self = (struct library *)port;

	if (watched)
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	ivshmem_dispatch(self->peer, watched ? 0 : WAIT_MS);
}

int library_open(struct library *self, const char *uri, struct ivshmem_listener listener,
	char *reason, size_t size)
{
	const unsigned doorbell = IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_INTERRUPT;
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;

	listener.interrupt = on_interrupt;
	params.listener = &listener;
	params.data = self;
	params.error_text = reason;
	params.error_size = size;
	self->peer = ivshmem_open(uri, &params);
	if (self->peer == NULL)
		return -errno;

	int id = ivshmem_id(self->peer);
	self->port = (struct talk_port){
		.region = ivshmem_region(self->peer, &self->size),
		.id = id < 0 ? 0 : (unsigned)id,
		.doorbell = (ivshmem_capabilities(self->peer) & doorbell) == doorbell,
		.ring = library_ring,
		.rung = library_rung,
		.idle = library_idle,
	};
	if (self->size >= TALK_SIZE)
		return 0;
	snprintf(reason, size, "the region has less than %u bytes", TALK_SIZE);
	ivshmem_close(self->peer);
	return -ENOSPC;
}
