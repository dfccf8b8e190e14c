/* SPDX-License-Identifier: MIT */
/*
 * The full barrier, where the processor is one that QEMU emulates. The compiler makes a locked
 * instruction of it, and QEMU makes an ordinary one of that if the machine has one processor:
 * nobody in the machine could tell. But the other end is not in the machine, and runs of
 * ivshmem-bench between two such guests slept for ever, one in some fifty. QEMU 7 drops mfence,
 * too, as libunicorn does. What it cannot leave out is the lock that it takes itself to tell the
 * time: with rdtsc none of 3600 runs slept. Include this before <ivshmem/channel.h>.
 *
 * Rejected: to look again 1 ms after falling asleep, which needs no barriers at all. Setting a
 * timer makes each sleep a fifth longer, everywhere.
 */
#ifndef CHANNEL_FENCE_H
#define CHANNEL_FENCE_H

#if defined(__x86_64__) || defined(__i386__)

#include <stdbool.h>

/* Set by channel_fence_init(), the same each time. */
extern bool channel_emulated;

/* Before the first channel is opened; as often as one likes. */
void channel_fence_init(void);

static inline void channel_fence(void)
{
	if (__builtin_expect(__atomic_load_n(&channel_emulated, __ATOMIC_RELAXED), 0))
		__asm__ volatile("mfence; rdtsc" ::: "eax", "edx", "memory");
	else
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

#define IVSHMEM_CHANNEL_FENCE channel_fence

#else

static inline void channel_fence_init(void)
{
}

#endif
#endif
