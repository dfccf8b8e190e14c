/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A connection that nobody accepts makes a VMM wait for seconds, while an error in reply to its
 * first message says at once what is wrong. So those that come while the device is taken are
 * accepted too, a few at a time, and live on the loop until they have had their answer.
 *
 * A connection that is held is shut down before it is let go of: so the process that comes behind a
 * kill finds its end, and does not take who was refused for a new VMM. (Between the answer and the
 * shutdown it would, until that VMM hangs up, or for SLOT_DEADLINE_MS.)
 */
#include "refusal.h"

#include "daemon/watch.h"

#include "vfio-user/connection.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define REFUSED_MAX 4

struct refusal {
	uv_poll_t poll;
	uv_timer_t deadline;
	struct slot *slot;
	struct vfu_connection *connection;
	int sock;        /* the connection's */
	uint64_t number; /* by which it is held */
	unsigned handles;
};

static void handle_closed(uv_handle_t *handle)
{
	struct refusal *refusal = handle->data;
	if (--refusal->handles == 0)
		free(refusal);
}

static void end(struct refusal *refusal)
{
	uv_close((uv_handle_t *)&refusal->poll, handle_closed);
	uv_close((uv_handle_t *)&refusal->deadline, handle_closed);
	shutdown(refusal->sock, SHUT_RDWR);
	vfu_connection_destroy(refusal->connection);
	slot_let_go(refusal->slot, refusal->number);
	refusal->slot->n_refused--;
	acceptor_resume(&refusal->slot->acceptor);
}

static void ready_event(uv_poll_t *poll, int status, int events)
{
	struct refusal *refusal = poll->data;
	(void)status; /* an error shows on reading, too */
	(void)events;

	/* Its answer is a few bytes: a socket without room for them will not be waited for. */
	if (vfu_connection_ready(refusal->connection, NULL) != VFU_WAIT_READ)
		end(refusal);
}

static void deadline_event(uv_timer_t *timer)
{
	end(timer->data);
}

void refuse(struct slot *slot, int sock, uint64_t number, struct log *log)
{
	struct refusal *refusal = NULL;

	if (slot->n_refused < REFUSED_MAX)
		refusal = malloc(sizeof(*refusal));
	if (!refusal)
		goto fail;
	*refusal = (struct refusal){.slot = slot, .sock = sock, .number = number, .handles = 2};
	if (vfu_connection_create(&refusal->connection, sock, NULL, slot->name, log) < 0)
		goto fail;
	if (uv_poll_init(slot->loop, &refusal->poll, sock) < 0) {
		shutdown(sock, SHUT_RDWR);
		vfu_connection_destroy(refusal->connection);
		slot_let_go(slot, number);
		free(refusal);
		return;
	}
	uv_timer_init(slot->loop, &refusal->deadline);
	refusal->poll.data = refusal->deadline.data = refusal;
	slot->n_refused++;
	uv_timer_start(&refusal->deadline, deadline_event, SLOT_DEADLINE_MS, 0);
	if (watch_start(&refusal->poll, UV_READABLE, ready_event) < 0)
		end(refusal);
	return;

fail:
	shutdown(sock, SHUT_RDWR);
	close(sock);
	slot_let_go(slot, number);
	free(refusal);
}
