/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * mbind() on a shared mapping of a memfd, of tmpfs or of hugetlbfs stores the policy in the object,
 * not in the mapping: it outlives the munmap, holds for fallocate() and for every page that any
 * peer faults in later (after a hole was punched). Hence bind first, then allocate.
 *
 * The system call alone does it. libnuma would add a run-time dependency to every user of the peer
 * library, and functions that print and exit by themselves.
 */
#include "region/internal.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_NODES 1024
#define WORD_BITS (sizeof(unsigned long) * CHAR_BIT)

int numa_check(int node, struct region_error *error)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d", node);
	if (node < 0 || node >= MAX_NODES || access(path, F_OK) < 0)
		return region_fail(error, -EINVAL,
			"--numa-node: this machine has no node %d, see /sys/devices/system/node",
			node);
	return 0;
}

int numa_bind(void *address, uint64_t size, int node)
{
	unsigned long nodes[MAX_NODES / WORD_BITS] = {0};
	nodes[(size_t)node / WORD_BITS] = 1UL << ((size_t)node % WORD_BITS);
	/* The kernel takes one bit less than it is told. */
	if (syscall(SYS_mbind, address, (unsigned long)size, MPOL_BIND, nodes, MAX_NODES + 1UL,
		    0U) < 0)
		return -errno;
	return 0;
}
