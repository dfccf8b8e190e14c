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

#include "base/clock.h"
#include "vfio-user/connection.h"

#include <errno.h>
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
	int sock;          /* the connection's */
	uint64_t number;   /* by which it is held */
	uint64_t since_ms; /* it has connected, of 1970; 0: to an earlier process */
	struct log *log;   /* NULL: somebody connects too often to be logged */
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

/* Whatever is held for the VMM. */
static void forget(const struct slot *slot, uint64_t number)
{
	if (slot->kept)
		vfu_kept_detach(slot->kept);
	slot_let_go(slot, number);
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
	forget(slot, vmm->number);
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

/* The VMM's connection is there: serve it. */
static int start(struct vmm *vmm)
{
	struct slot *slot = vmm->slot;

	int error = uv_async_init(slot->loop, &vmm->over, over_event);
	if (error < 0)
		return error;
	uv_timer_init(slot->loop, &vmm->deadline);
	vmm->over.data = vmm->deadline.data = vmm;
	vmm->handles = 2;
	error = start_thread(vmm);
	if (error != 0) {
		uv_close((uv_handle_t *)&vmm->over, handle_closed);
		uv_close((uv_handle_t *)&vmm->deadline, handle_closed);
		return -error;
	}
	slot->attached = vmm;
	uv_timer_start(&vmm->deadline, deadline_event, SLOT_DEADLINE_MS, 0);
	return 0;
}

static int make_blocking(int sock)
{
	int flags = fcntl(sock, F_GETFL);
	return flags < 0 || fcntl(sock, F_SETFL, flags & ~O_NONBLOCK) < 0 ? -errno : 0;
}

/* In a turn. */
static int connect_function(struct vmm *vmm, bool resumes, struct vfu_why *why)
{
	struct slot *slot = vmm->slot;
	struct vfu_function *function = vfu_device_function(slot->device);

	int error = make_blocking(vmm->sock);
	if (error < 0)
		return error;
	if (resumes)
		return vfu_connection_resume(
			&vmm->connection, vmm->sock, function, slot->name, vmm->log, why);
	if (slot->kept)
		vfu_kept_attach(slot->kept, vmm->number);
	return vfu_connection_create(&vmm->connection, vmm->sock, function, slot->name, vmm->log);
}

/* It is not to be served after all, or cannot be: let go of it. */
static void give_up(struct vmm *vmm)
{
	struct slot *slot = vmm->slot;

	turn_begin();
	vfu_function_release(vfu_device_function(slot->device));
	if (vmm->connection)
		vfu_connection_destroy(vmm->connection);
	else if (vmm->sock >= 0)
		close(vmm->sock);
	forget(slot, vmm->number);
	turn_end();
	if (vmm->handles == 0)
		free(vmm);
}

/* Takes `sock` over. NULL if that is the end of it. */
static struct vmm *make(struct slot *slot, int sock, uint64_t number, struct log *log, bool resumes)
{
	struct vmm *vmm = malloc(sizeof(*vmm));
	struct vfu_why why = {""};

	if (!vmm) {
		log_warning(log, "%s: cannot serve the VMM: no memory", slot->name);
		if (sock >= 0)
			close(sock);
		return NULL;
	}
	*vmm = (struct vmm){.slot = slot, .sock = sock, .number = number, .log = log};
	vmm->since_ms = resumes ? 0 : clock_wall_ms();
	turn_begin();
	int error = connect_function(vmm, resumes, &why);
	turn_end();
	if (error == 0)
		return vmm;
	log_warning(log, "%s: cannot serve the VMM: %s", slot->name,
		why.text[0] ? why.text : strerror(-error));
	give_up(vmm);
	return NULL;
}

static void start_or_give_up(struct vmm *vmm)
{
	int error = start(vmm);

	if (error == 0)
		return;
	log_warning(vmm->log, "%s: cannot serve the VMM: %s", vmm->slot->name, strerror(-error));
	give_up(vmm);
}

static void attach(struct slot *slot, int sock, uint64_t number, struct log *log)
{
	struct vmm *vmm = make(slot, sock, number, log, false);
	if (vmm)
		start_or_give_up(vmm);
}

void vmm_resume(struct slot *slot, int sock, uint64_t number)
{
	slot->resumed = make(slot, sock, number, slot->log, true);
	if (slot->resumed)
		log_info(slot->log, "%s: going on with its VMM", slot->name);
}

void vmm_go_on(struct slot *slot)
{
	if (slot->resumed)
		start_or_give_up(slot->resumed);
	slot->resumed = NULL;
}

bool vmm_get_info(const struct slot *slot, struct vmm_info *info)
{
	struct ucred who;
	socklen_t size = sizeof(who);

	if (!slot->attached ||
		getsockopt(slot->attached->sock, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return false;
	*info = (struct vmm_info){
		.uid = who.uid, .pid = who.pid, .since_ms = slot->attached->since_ms};
	return true;
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

void vmm_accepted(struct slot *slot, int sock, uint64_t number)
{
	if (slot->attached && has_hung_up(slot->attached))
		end(slot->attached);
	struct log *log = log_connected(slot, sock);
	if (slot->attached)
		refuse(slot, sock, number, log);
	else
		attach(slot, sock, number, log);
}

void vmm_detach(struct slot *slot)
{
	if (slot->resumed)
		give_up(slot->resumed);
	slot->resumed = NULL;
	if (!slot->attached)
		return;
	if (!has_hung_up(slot->attached))
		log_warning(slot->log,
			"%s: a VMM is attached: its guest loses the device's registers",
			slot->name);
	end(slot->attached);
}
