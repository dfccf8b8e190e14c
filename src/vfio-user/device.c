/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The direct path. A doorbell for another device of this board could be written to its peer's
 * eventfd, be found readable by our own loop, and be handed to that device's function. Calling the
 * function at once is the same minus a wake-up, if it really is the same: two devices may have the
 * same ID on different servers, and IDs are used again. So what decides is not the ID but the
 * eventfd: if the one that we would write is the one that the other device listens to - the kernel
 * knows, kcmp(2) - the short way is taken. That is one more cheap system call a doorbell and
 * nothing to keep up to date. Where a kernel or a container refuses kcmp(), doorbells go the long
 * way.
 *
 * Nothing here depends on the server's life: when it is lost, the peers known by then stay in
 * ivshmem's table, with their doorbells.
 *
 * A read-only BAR2 is trapped, access by access. Announcing it to the VMM as mappable and not
 * writable is legal, but then the guest's first store ends QEMU 11 by a segmentation fault, and a
 * VMM with a descriptor of a memfd can open it once more for writing. Trapped, a store is dropped.
 */
#include "vfio-user/device.h"

#include "base/clock.h"
#include "base/doorbell.h"
#include "base/parse.h"

#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOG_BURST 20

struct vfu_device {
	struct list node; /* of the board's devices */
	struct vfu_board *board;
	struct vfu_function function;
	enum vfu_device_type type;
	char *name, *uri;
	uint64_t size; /* that was asked for; 0: any */
	unsigned vectors, timeout_ms, max_fds;
	bool read_only;
	struct ivshmem_peer *peer; /* NULL: late, and not there yet */
	bool waiting;
	bool wary;          /* a peer has made one of its doorbells block: see base/doorbell.h */
	int id;             /* -1: none */
	struct vfu_why why; /* there is no server yet, as last logged */
	struct vfu_kept_identity identity;
	void (*watch_resample)(void *data, int fd);
	void *watch_data;
	struct vfu_device_stats stats;
	struct log *log;
	struct log_limit limit;
};

void vfu_board_init(struct vfu_board *board)
{
	list_init(&board->devices);
	board->process = getpid();
}

/* ---- doorbells of the guest ---- */

static bool is_same_file(const struct vfu_board *board, int a, int b)
{
	return b >= 0 &&
		syscall(SYS_kcmp, board->process, board->process, (long)KCMP_FILE, (long)a,
			(long)b) == 0;
}

/* Own vector `vector` has been rung. A server may give more vectors than the device has. */
static void hear(struct vfu_device *device, unsigned vector)
{
	if (vector < device->vectors)
		vfu_function_interrupt(&device->function, vector);
}

/* The device on the same board that listens to `bell`, which is vector `vector` of peer `id`. */
static struct vfu_device *find_neighbour(
	const struct vfu_device *device, unsigned id, unsigned vector, int bell)
{
	list_for_each (node, &device->board->devices) {
		struct vfu_device *other = container_of(node, struct vfu_device, node);
		if (other != device && other->id == (int)id &&
			is_same_file(
				device->board, bell, ivshmem_doorbell_fd(other->peer, id, vector)))
			return other;
	}
	return NULL;
}

static void ring(void *data, unsigned id, unsigned vector)
{
	struct vfu_device *device = data;

	if (device->id < 0)
		return;
	int bell = ivshmem_doorbell_fd(device->peer, id, vector);
	if (bell < 0) /* nobody is there */
		return;
	if ((int)id == device->id) {
		hear(device, vector);
		return;
	}
	struct vfu_device *neighbour = find_neighbour(device, id, vector, bell);
	if (neighbour) {
		device->stats.direct++;
		neighbour->stats.received++;
		hear(neighbour, vector);
	} else if (doorbell_ring_wary(bell, &device->wary) == 0) {
		device->stats.relayed++;
	}
}

/* ---- what peers and server do ---- */

static void heard_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	struct vfu_device *device = data;
	(void)peer;
	(void)count; /* rings merge, as they do for an interrupt that is pending */
	device->stats.received++;
	hear(device, vector);
}

static void lost_server(struct ivshmem_peer *peer, void *data, int error)
{
	const struct vfu_device *device = data;
	(void)peer;
	log_warning(device->log,
		"%s: the server is gone%s%s; memory and the peers known so far keep working, there "
		"will be no new ones",
		device->name, error ? ": " : "", error ? strerror(error) : "");
}

static void log_peer(struct vfu_device *device, unsigned id, const char *what)
{
	unsigned suppressed;
	if (log_allow(&device->limit, clock_ms(), &suppressed))
		log_debug(device->log, "%s: peer %u %s", device->name, id, what);
}

static void peer_joined(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer;
	log_peer(data, id, "joined");
}

static void peer_left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer;
	log_peer(data, id, "left");
}

static const struct ivshmem_listener listener = {
	.peer_joined = peer_joined,
	.peer_left = peer_left,
	.interrupt = heard_interrupt,
	.server_lost = lost_server,
};

/* ---- joining ---- */

static struct ivshmem_peer *open_peer(
	const struct vfu_device *device, const char *uri, struct vfu_why *why)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.listener = &listener;
	params.data = (void *)device;
	params.timeout_ms = (int)device->timeout_ms;
	params.read_only = device->read_only;
	/* A server can send any number of descriptors, and all devices of the process share one
	 * limit: half of our part for other peers, a quarter for the own vectors. */
	params.max_fds = device->max_fds / 2;
	params.max_vectors = device->max_fds / 4;
	params.error_text = why->text;
	params.error_size = sizeof(why->text);
	return ivshmem_open(uri, &params);
}

static bool is_bar_size(uint64_t size)
{
	return size >= 4096 && (size & (size - 1)) == 0;
}

/* What BAR2 is to show of a region of `region_size` bytes; 0 if that can't be. */
static uint64_t bar_size(const struct vfu_device *device, uint64_t region_size, struct vfu_why *why)
{
	char have[24], want[24];
	uint64_t size = device->size ? device->size : region_size;

	format_size(region_size, have);
	format_size(size, want);
	if (size > region_size) {
		snprintf(why->text, sizeof(why->text),
			"the region has %s and the device's size is %s: lower that, or create a "
			"larger region",
			have, want);
		return 0;
	}
	if (!is_bar_size(size)) {
		format_size(size < 4096 ? 4096 : next_power_of_two(size), have);
		snprintf(why->text, sizeof(why->text),
			"%s of memory: a BAR's size is a power of two from 4 KiB on: create a "
			"region of %s",
			want, have);
		return 0;
	}
	return size;
}

/* Take `peer` over, if it fits the device. *size is that of BAR2. */
static int adopt(
	struct vfu_device *device, struct ivshmem_peer *peer, uint64_t *size, struct vfu_why *why)
{
	bool has_server = ivshmem_capabilities(peer) & IVSHMEM_CAP_ID;
	uint64_t region_size;

	if (device->type == VFU_DOORBELL && !has_server)
		snprintf(why->text, sizeof(why->text), "a doorbell device needs a server");
	else if (device->type == VFU_PLAIN && has_server)
		snprintf(why->text, sizeof(why->text), "a plain device has no server");
	else {
		ivshmem_region(peer, &region_size);
		*size = bar_size(device, region_size, why);
		if (*size) {
			device->peer = peer;
			device->id = has_server ? ivshmem_id(peer) : -1;
			return 0;
		}
	}
	ivshmem_close(peer);
	return -EINVAL;
}

static struct vfu_memory memory_of(const struct vfu_device *device)
{
	struct vfu_memory memory = {.fd = -1, .read_only = device->read_only};

	if (device->peer) {
		memory.address = ivshmem_region(device->peer, &memory.size);
		if (!device->read_only)
			memory.fd = ivshmem_region_fd(device->peer);
	}
	return memory;
}

/* ---- a server that comes late ---- */

bool vfu_device_is_waiting(const struct vfu_device *device)
{
	return device->waiting;
}

void vfu_device_join(const struct vfu_device *device, struct vfu_attempt *attempt)
{
	attempt->peer = open_peer(device, attempt->uri ? attempt->uri : device->uri, &attempt->why);
}

bool vfu_device_joined(struct vfu_device *device, struct vfu_attempt *attempt)
{
	uint64_t size;
	struct vfu_why why;

	if (!attempt->peer) {
		if (strcmp(device->why.text, attempt->why.text) != 0)
			log_info(device->log, "%s: waits for its server: %s", device->name,
				attempt->why.text);
		device->why = attempt->why;
		return false;
	}
	device->waiting = false;
	if (adopt(device, attempt->peer, &size, &why) < 0) {
		log_error(device->log,
			"%s: the server has come, but %s; the device stays without it",
			device->name, why.text);
		return true;
	}
	const struct vfu_memory memory = memory_of(device);
	vfu_function_attach(&device->function, &memory, (uint32_t)device->id);
	log_info(device->log, "%s: the server has come: ID %d", device->name, device->id);
	return true;
}

/* ---- the device ---- */

static void watch_resample(void *data, int fd)
{
	const struct vfu_device *device = data;
	if (device->watch_resample)
		device->watch_resample(device->watch_data, fd);
}

static int make_function(
	struct vfu_device *device, const struct vfu_device_config *config, uint64_t size)
{
	bool has_msix = vfu_device_has_msix(device->type, config->msi);
	struct vfu_function_config function = {
		.revision = device->type == VFU_LEGACY ? 0 : 1,
		.vectors = has_msix ? config->vectors : 0,
		.bar_size = size,
		.position = device->id >= 0 ? (uint32_t)device->id : 0,
		.subsystem_id = config->subsystem_id,
		.memory = memory_of(device),
		.ring = ring,
		.watch_resample = watch_resample,
		.data = device,
	};
	if (device->waiting)
		function.position = IVSHMEM_POSITION_NONE;
	device->identity = (struct vfu_kept_identity){
		.type = config->type,
		.vectors = config->vectors,
		.msi = config->msi,
		.subsystem_id = config->subsystem_id,
		.bar_size = size,
	};
	return vfu_function_init(&device->function, &function);
}

static struct vfu_device *allocate(
	struct vfu_board *board, const struct vfu_device_config *config, struct log *log)
{
	struct vfu_device *device = malloc(sizeof(*device));
	if (!device)
		return NULL;
	*device = (struct vfu_device){
		.board = board,
		.type = config->type,
		.name = strdup(config->name),
		.uri = strdup(config->uri),
		.size = config->size,
		.vectors = config->vectors,
		.timeout_ms = config->timeout_ms,
		.max_fds = config->max_fds,
		.read_only = config->read_only,
		.waiting = config->late,
		.id = -1,
		.log = log,
		.limit = LOG_LIMIT_INIT(LOG_BURST),
	};
	return device;
}

static void release(struct vfu_device *device)
{
	ivshmem_close(device->peer);
	free(device->name);
	free(device->uri);
	free(device);
}

int vfu_device_create(struct vfu_device **device, struct vfu_board *board,
	const struct vfu_device_config *config, struct log *log)
{
	struct vfu_why why = {"no memory"};
	uint64_t size = config->size;
	int err = -ENOMEM;

	struct vfu_device *made = allocate(board, config, log);
	if (!made)
		goto fail;
	if (!made->name || !made->uri)
		goto fail_release;
	if (!config->late) {
		struct ivshmem_peer *peer = open_peer(made, made->uri, &why);
		err = peer ? adopt(made, peer, &size, &why) : -errno;
		if (err < 0)
			goto fail_release;
	}
	err = make_function(made, config, size);
	if (err < 0) {
		snprintf(why.text, sizeof(why.text), "cannot make such a device: %s",
			strerror(-err));
		goto fail_release;
	}
	list_append(&board->devices, &made->node);
	*device = made;
	return 0;

fail_release:
	release(made);
fail:
	log_error(log, "%s: %s", config->name, why.text);
	return err;
}

void vfu_device_destroy(struct vfu_device *device)
{
	if (!device)
		return;
	list_remove(&device->node);
	vfu_function_fini(&device->function);
	release(device);
}

struct vfu_function *vfu_device_function(struct vfu_device *device)
{
	return &device->function;
}

int vfu_device_id(const struct vfu_device *device)
{
	return device->id;
}

int vfu_device_fd(const struct vfu_device *device)
{
	return device->id >= 0 ? ivshmem_get_fd(device->peer) : -1;
}

void vfu_device_dispatch(struct vfu_device *device)
{
	struct vfu_kept *kept = device->function.kept;

	if (!device->peer)
		return;
	if (kept)
		vfu_kept_hearing(kept, true);
	/* Whatever fails has been said by then, to lost_server(). */
	(void)ivshmem_dispatch(device->peer, 0);
	if (kept)
		vfu_kept_hearing(kept, false);
}

void vfu_device_identity(const struct vfu_device *device, struct vfu_kept_identity *identity)
{
	*identity = device->identity;
}

void vfu_device_keep(struct vfu_device *device, struct vfu_kept *kept)
{
	device->function.kept = kept;
}

void vfu_device_set_watch(struct vfu_device *device, void (*watch)(void *data, int fd), void *data)
{
	device->watch_resample = watch;
	device->watch_data = data;
}

void vfu_device_get_stats(const struct vfu_device *device, struct vfu_device_stats *stats)
{
	*stats = device->stats;
	stats->interrupts = device->function.irqs.sent;
}
