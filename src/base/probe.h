/* SPDX-License-Identifier: MIT */
/*
 * Places where bpftrace, SystemTap and perf can look at what happens while nobody restarts
 * anything: PROBE(name, arguments...), numbers and pointers to texts. One costs a no-op while
 * nobody looks, and nothing at all in a build without them. docs/observability.md lists those that
 * there are.
 */
#ifndef BASE_PROBE_H
#define BASE_PROBE_H

#ifdef IVSHMEM_PROBES
#define SDT_USE_VARIADIC 1
#include <sys/sdt.h>

#define PROBE(name, ...) STAP_PROBEV(ivshmem, name, __VA_ARGS__)
#else

/* The arguments are looked at by the compiler only. */
static inline void probe_nothing(int first, ...)
{
	(void)first;
}

#define PROBE(name, ...)                                                                           \
	do {                                                                                       \
		if (0)                                                                             \
			probe_nothing(0, __VA_ARGS__);                                             \
	} while (0)
#endif

#endif
