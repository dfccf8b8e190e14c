/* SPDX-License-Identifier: MIT */
/*
 * device - an ivshmem device: the function that the VMM sees and the peer that the others see.
 *
 * Devices on one board know each other: where a doorbell is meant for another device of the board,
 * its VMM's eventfd is written at once, without the hop through the peer's eventfd and our loop.
 */
#ifndef VFIO_USER_DEVICE_H
#define VFIO_USER_DEVICE_H

#include "base/list.h"
#include "base/log.h"
#include "vfio-user/function.h"
#include "vfio-user/kept.h"

#include <ivshmem/peer.h>

#include <stdbool.h>
#include <stdint.h>

enum vfu_device_type { VFU_DOORBELL, VFU_PLAIN, VFU_LEGACY };

struct vfu_device_config {
	const char *name; /* for the log */
	enum vfu_device_type type;
	const char *uri;       /* of the server or region, as ivshmem_open() takes it */
	unsigned vectors;      /* interrupt vectors */
	bool msi;              /* MSI-X; false with VFU_LEGACY only: INTx */
	bool late;             /* VFU_LEGACY: the server may come later; needs `size` */
	uint64_t size;         /* of BAR2; 0: all of the region (not with `late`) */
	bool read_only;        /* the VMM can't write to the memory */
	uint32_t subsystem_id; /* as in struct ivshmem_pci_config */
	unsigned timeout_ms;   /* for joining; 0: ivshmem_open()'s default */
	unsigned max_fds;      /* most descriptors for it and its server to hold; 0: no limit */
};

/* All devices of a process. */
struct vfu_board {
	struct list devices;
	long process; /* this one */
};

void vfu_board_init(struct vfu_board *board);

/* Has such a device MSI-X? */
static inline bool vfu_device_has_msix(enum vfu_device_type type, bool msi)
{
	return type == VFU_DOORBELL || (type == VFU_LEGACY && msi);
}

struct vfu_device;

/*
 * Join the server or map the region (blocks for up to timeout_ms; not with `late`), and make the
 * device. 0, or -errno after having said on `log` what is wrong and what to do.
 */
int vfu_device_create(struct vfu_device **device, struct vfu_board *board,
	const struct vfu_device_config *config, struct log *log);
void vfu_device_destroy(struct vfu_device *device);

struct vfu_function *vfu_device_function(struct vfu_device *device);

/* The ID that the server gave; -1: none (no server, or not yet). */
int vfu_device_id(const struct vfu_device *device);

/* Descriptor to poll for reading, then call vfu_device_dispatch(). -1: none (plain, or late still).
 * Handles what peers and server have sent; never blocks. */
int vfu_device_fd(const struct vfu_device *device);
void vfu_device_dispatch(struct vfu_device *device);

/*
 * `late` only. The loop tries from time to time, in a thread of its own since it can block:
 *   vfu_device_join(device, &attempt)     any thread; touches nothing of the device that changes
 *   vfu_device_joined(device, &attempt)   the loop's thread; true: done, no further attempts needed
 */
struct vfu_why {
	char text[256];
};
struct vfu_attempt {
	const char *uri;           /* for join(); NULL: the device's */
	struct ivshmem_peer *peer; /* joined() takes it over. NULL: there was no server.. */
	struct vfu_why why;        /* ..and this is what to do about it */
};
bool vfu_device_is_waiting(const struct vfu_device *device);
void vfu_device_join(const struct vfu_device *device, struct vfu_attempt *attempt);
bool vfu_device_joined(struct vfu_device *device, struct vfu_attempt *attempt);

/* The loop's own data, e.g. to watch the resample descriptor (see irqs.h). */
void vfu_device_set_watch(
	struct vfu_device *device, void (*watch_resample)(void *data, int fd), void *data);

/* What vfu_kept_create() and vfu_kept_resume() are to know of it; and from now on its VMM's part is
 * kept (kept.h; borrowed). Before anybody is attached, and before vfu_device_dispatch(). */
void vfu_device_identity(const struct vfu_device *device, struct vfu_kept_identity *identity);
void vfu_device_keep(struct vfu_device *device, struct vfu_kept *kept);

struct vfu_device_stats {
	uint64_t direct, relayed;      /* doorbells to devices of this board, and to others */
	uint64_t received, interrupts; /* rung by others; eventfd writes to the VMM */
};
void vfu_device_get_stats(const struct vfu_device *device, struct vfu_device_stats *stats);

#endif
