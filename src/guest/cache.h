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

/* What the mapping of `function`'s memory in this way gets. */
enum ivshmem_cache cache_type(
	const struct guest_system *system, const struct pci_function *function, enum guest_way way);

/*
 * The entry of /proc/mtrr that makes these addresses uncachable; its number, to disable it by, or
 * -ENOENT, or -errno (not x86: no such file).
 */
int cache_mtrr(const struct guest_system *system, uint64_t address, uint64_t size);

#endif
