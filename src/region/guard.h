/* SPDX-License-Identifier: MIT */
/*
 * guard - loads and stores on shared memory that somebody else may truncate at any time. The kernel
 * answers those with SIGBUS; here they fail instead.
 */
#ifndef REGION_GUARD_H
#define REGION_GUARD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Install the SIGBUS handler: once, process-wide. For programs only, a library has no say in
 * signals. Without it the functions below work until the memory goes away. A SIGBUS from anywhere
 * else does what it would have done before. 0 or -errno.
 */
int region_guard_install(void);

/*
 * Copy `size` bytes from or to shared memory. With an aligned `address` and 1, 2, 4 or 8 bytes it
 * is one load or store (8 bytes: on 64-bit hosts); else byte by byte. False if the memory is gone:
 * then `out` is all zeros, and of `in` some bytes may have been written.
 */
bool region_guarded_read(const void *address, void *out, size_t size);
bool region_guarded_write(void *address, const void *in, size_t size);

#endif
