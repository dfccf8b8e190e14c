/* SPDX-License-Identifier: MIT */
/*
 * guest/cache - how the processor's cache takes part in access to the device's memory.
 *
 * A driver asks the kernel for a type of mapping; on x86 firmware can have declared the addresses
 * uncachable in the MTRRs, which wins. What the hypervisor makes of it nobody can tell: that is
 * measured (region/bandwidth.h).
 */
#ifndef GUEST_CACHE_H
#define GUEST_CACHE_H

#include "guest/guest.h"

#include <ivshmem/peer.h>

/*
 * The file of sysfs that maps the memory. On x86 it has to be uncached: gathered writes would reach
 * the others in another order than they were made. On aarch64 that would be a device's memory,
 * where memcpy() faults on what is not aligned, and atomic operations may; there, barriers order
 * gathered writes too.
 */
#if defined(__i386__) || defined(__x86_64__)
#define SYSFS_MEMORY "resource2"
#define SYSFS_CACHE  IVSHMEM_CACHE_UNCACHED
#else
#define SYSFS_MEMORY "resource2_wc"
#define SYSFS_CACHE  IVSHMEM_CACHE_WRITE_COMBINING
#endif

/* What the mapping of `function`'s memory in this way gets. */
enum ivshmem_cache cache_type(
	const struct guest_system *system, const struct pci_function *function, enum guest_way way);

/*
 * The entry of /proc/mtrr that makes these addresses uncachable: its number, to disable it by;
 * -ENOENT if there is none, or no such file (not x86); or -errno (-EPERM: only root may look).
 */
int cache_mtrr(const struct guest_system *system, uint64_t address, uint64_t size);

#endif
