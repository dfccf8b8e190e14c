/* SPDX-License-Identifier: MIT */
/*
 * function - a PCI function as a VMM sees it over vfio-user: the device core, the VMM's eventfds
 * and the memory behind BAR2. It knows no socket and no server; doorbells leave through a callback.
 */
#ifndef VFIO_USER_FUNCTION_H
#define VFIO_USER_FUNCTION_H

#include "vfio-user/irqs.h"

#include <ivshmem/device.h>

#include <stdbool.h>
#include <stdint.h>

/* BAR2's memory. All borrowed. */
struct vfu_memory {
	void *address; /* of `size` bytes; NULL: nothing there yet, reads 0 */
	uint64_t size; /* may be larger than the BAR: the BAR shows its start */
	int fd;        /* to give to the VMM for mapping; -1: every access is trapped */
	bool read_only;
};

struct vfu_function_config {
	unsigned revision, vectors; /* as in struct ivshmem_pci_config */
	uint64_t bar_size;          /* of BAR2 */
	uint32_t position, subsystem_id;
	struct vfu_memory memory;
	void (*ring)(void *data, unsigned peer, unsigned vector); /* the guest rings a doorbell */
	void (*watch_resample)(void *data, int fd);               /* see irqs.h */
	void *data;
};

struct vfu_function {
	struct ivshmem_pci *pci; /* owned storage */
	struct vfu_irqs irqs;
	struct vfu_memory memory;
	struct vfu_kept *kept; /* what outlives the process (kept.h), borrowed; NULL: nothing */
	bool trapped; /* this VMM was told that it can't map the memory, and won't ask again */
	void (*ring)(void *data, unsigned peer, unsigned vector);
	void *data;
	uint64_t accesses; /* by the guest, of registers and trapped memory */
};

/* 0, -EINVAL (no such device) or -ENOMEM. `function` must not move afterwards. */
int vfu_function_init(struct vfu_function *function, const struct vfu_function_config *config);
void vfu_function_fini(struct vfu_function *function);

/* A peer has rung vector `vector` of this device. */
void vfu_function_interrupt(struct vfu_function *function, unsigned vector);

/* The memory has come late, and the position with it. For a VMM that is there it stays trapped. */
void vfu_function_attach(
	struct vfu_function *function, const struct vfu_memory *memory, uint32_t position);

/* The VMM is gone: forget its eventfds and reset. Identity and memory stay. */
void vfu_function_release(struct vfu_function *function);

/* Regions by vfio's numbers: BARs 0..5, VFU_REGION_CONFIG; others are empty. */
uint64_t vfu_function_region_size(const struct vfu_function *function, unsigned region);
void vfu_function_read(
	struct vfu_function *function, unsigned region, uint64_t offset, void *bytes, size_t size);
void vfu_function_write(struct vfu_function *function, unsigned region, uint64_t offset,
	const void *bytes, size_t size);

#endif
