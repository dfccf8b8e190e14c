/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An attached VMM has a thread. A guest's processor stands still from its access until our reply,
 * so what counts is how soon we wake up and how many system calls it takes: a thread that sleeps in
 * recvmsg() itself wakes up sooner than one that sleeps in epoll_wait() and reads then, and needs
 * two system calls a request where a loop needs three. With --poll-us it looks for a while before
 * it sleeps. Everything else happens on the loop; both take turns (turn.h).
 *
 * The end. The thread finds the connection closed, tells the loop, and ends; the loop joins it and
 * cleans up. To end it from the loop the socket is shut down, which the thread finds closed. A VMM
 * that reconnects may be seen before its old connection's end is: so who comes while the device is
 * taken makes us look whether it still is.
 *
 * Whoever connects has SLOT_DEADLINE_MS to say its first message, or it would block the device for
 * nothing. The same moment, once for each VMM, is the time to look whether a guest has found the
 * device: a guest that was migrated here has not, and cannot by itself, for nothing of the device's
 * state came with it.
 */
#include "vmm.h"

#include "daemon/signals.h"
#include "refusal.h"
#include "turn.h"

#include "vfio-user/connection.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)256 << 10) /* touched are some pages of it */

struct vmm {
	struct slot *slot;
	struct vfu_connection *connection;
	int sock;        /* the connection's */
	struct log *log; /* NULL: somebody connects too often to be logged */
	pthread_t thread;
	uv_async_t over; /* from the thread, at its end */
	uv_timer_t deadline;
	unsigned handles;
};

/* ---- the thread ---- */

static void *serve(void *data)
{
	struct vmm *vmm = data;

	signals_hold(); /* they are the loop's */
	while (vfu_connection_await(vmm->connection, vmm->slot->spin_ns) != VFU_WAIT_OVER) {
		turn_begin();
		enum vfu_wait wait = vfu_connection_handle(vmm->connection);
		turn_end();
		if (wait == VFU_WAIT_OVER)
			break;
	}
	uv_async_send(&vmm->over);
	return NULL;
}

static int start_thread(struct vmm *vmm)
{
	pthread_attr_t attributes;
	int error = pthread_attr_init(&attributes);
	if (error != 0)
		return error;
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	error = pthread_create(&vmm->thread, &attributes, serve, vmm);
	pthread_attr_destroy(&attributes);
	return error;
}

/* ---- the loop's side ---- */

static void handle_closed(uv_handle_t *handle)
{
	struct vmm *vmm = handle->data;
	if (--vmm->handles == 0)
		free(vmm);
}

static void log_detached(const struct vmm *vmm)
{
	const struct slot *slot = vmm->slot;
	const struct vfu_function *function = vfu_device_function(slot->device);
	struct vfu_device_stats stats;

	vfu_device_get_stats(slot->device, &stats);
	log_info(vmm->log,
		"%s: the VMM is gone; so far %llu accesses, doorbells: %llu to neighbours, %llu to "
		"others, %llu received; %llu interrupts; %u restarts of this guest",
		slot->name, (unsigned long long)function->accesses,
		(unsigned long long)stats.direct, (unsigned long long)stats.relayed,
		(unsigned long long)stats.received, (unsigned long long)stats.interrupts,
		vfu_connection_session(vmm->connection)->restarts);
}

/* End the connection, if it has not ended yet. */
static void end(struct vmm *vmm)
{
	struct slot *slot = vmm->slot;

	shutdown(vmm->sock, SHUT_RDWR);
	pthread_join(vmm->thread, NULL);
	turn_begin();
	vfu_function_release(vfu_device_function(slot->device));
	log_detached(vmm);
	vfu_connection_destroy(vmm->connection);
	turn_end();
	slot->attached = NULL;
	uv_close((uv_handle_t *)&vmm->over, handle_closed);
	uv_close((uv_handle_t *)&vmm->deadline, handle_closed);
	acceptor_resume(&slot->acceptor);
}

static void over_event(uv_async_t *async)
{
	end(async->data);
}

static void deadline_event(uv_timer_t *timer)
{
	struct vmm *vmm = timer->data;
	const char *name = vmm->slot->name;

	turn_begin();
	const struct vfu_session *session = vfu_connection_session(vmm->connection);
	bool agreed = session->agreed, configured = session->configured;
	turn_end();
	if (!agreed) {
		log_warning(vmm->log, "%s: whoever connected says nothing: closing", name);
		end(vmm);
	} else if (!configured) {
		log_warning(vmm->log,
			"%s: the guest has not configured its device for %d s: it is paused, or it "
			"was migrated here, and the state of the device was not: then reload the "
			"guest's driver",
			name, SLOT_DEADLINE_MS / 1000);
	}
}

/* Takes `sock` over. */
static void attach(struct slot *slot, int sock, struct log *log)
{
	struct vfu_function *function = vfu_device_function(slot->device);
	struct vmm *vmm = malloc(sizeof(*vmm));

	if (!vmm)
		goto fail;
	*vmm = (struct vmm){.slot = slot, .sock = sock, .log = log, .handles = 2};
	int flags = fcntl(sock, F_GETFL);
	if (flags < 0 || fcntl(sock, F_SETFL, flags & ~O_NONBLOCK) < 0)
		goto fail;
	if (vfu_connection_create(&vmm->connection, sock, function, slot->name, log) < 0)
		goto fail;
	if (uv_async_init(slot->loop, &vmm->over, over_event) < 0)
		goto fail_connection;
	uv_timer_init(slot->loop, &vmm->deadline);
	vmm->over.data = vmm->deadline.data = vmm;
	int error = start_thread(vmm);
	if (error != 0) {
		log_warning(log, "%s: cannot start a thread: %s", slot->name, strerror(error));
		vfu_connection_destroy(vmm->connection);
		uv_close((uv_handle_t *)&vmm->over, handle_closed);
		uv_close((uv_handle_t *)&vmm->deadline, handle_closed);
		return;
	}
	slot->attached = vmm;
	uv_timer_start(&vmm->deadline, deadline_event, SLOT_DEADLINE_MS, 0);
	return;

fail_connection:
	vfu_connection_destroy(vmm->connection);
	sock = -1;
fail:
	if (sock >= 0)
		close(sock);
	free(vmm);
}

static bool has_hung_up(const struct vmm *vmm)
{
	struct pollfd entry = {.fd = vmm->sock};
	return poll(&entry, 1, 0) == 1 && entry.revents & POLLHUP;
}

/* The log for a new connection, after having said that it has come; or NULL. */
static struct log *log_connected(struct slot *slot, int sock)
{
	struct ucred who = {0};
	socklen_t size = sizeof(who);
	unsigned not_logged;

	if (!log_allow(&slot->connections, uv_now(slot->loop), &not_logged))
		return NULL;
	getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &who, &size);
	if (not_logged > 0)
		log_info(slot->log, "%s: %u connections were not logged", slot->name, not_logged);
	log_info(slot->log, "%s: %s has connected: process %d of user %u", slot->name,
		slot->attached ? "another VMM" : "a VMM", (int)who.pid, who.uid);
	return slot->log;
}

void vmm_accepted(struct slot *slot, int sock)
{
	if (slot->attached && has_hung_up(slot->attached))
		end(slot->attached);
	struct log *log = log_connected(slot, sock);
	if (slot->attached)
		refuse(slot, sock, log);
	else
		attach(slot, sock, log);
}

void vmm_detach(struct slot *slot)
{
	if (!slot->attached)
		return;
	if (!has_hung_up(slot->attached))
		log_warning(slot->log,
			"%s: a VMM is attached: its guest loses the device's registers",
			slot->name);
	end(slot->attached);
}
