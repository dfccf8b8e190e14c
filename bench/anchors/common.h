/* SPDX-License-Identifier: MIT */
/*
 * What the measuring programs share: clock, pinning, the placement probe, how results are printed.
 *
 * Each program is one repetition and prints one line a value,
 *
 *     NAME VALUE UNIT PLACE [disturbed]
 *
 * where PLACE is the cache-line round trip (ns) between the two CPUs, probed just before and just
 * after that test (the larger of both; 0: a test on one CPU). In a virtual machine the two CPUs may
 * share a core, a last-level cache or neither, and may be moved at any time, so values are only
 * comparable at equal place. "disturbed": somebody else had one of the CPUs meanwhile. bench/run
 * interleaves repetitions and takes medians.
 *
 * Environment: CPU_A, CPU_B (default 0 and 1).
 */
#ifndef ANCHORS_COMMON_H
#define ANCHORS_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

/* Enough to keep two words out of each other's lines, whatever the prefetcher does. */
#define BENCH_ALIGNED __attribute__((aligned(128)))

static inline uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* Time on a CPU so far, user and system, of a process (0: this one). */
uint64_t cpu_time_ns(pid_t pid);

int cpu_a(void);
int cpu_b(void);
void pin(int cpu);

/* Print what failed, with errno, and exit. */
_Noreturn void die(const char *what);

/* As many descriptors as the hard limit allows. */
void raise_descriptor_limit(void);

/* Zeroed memory that children share. */
void *shared_alloc(size_t size);

/* Fork a process that runs work(data) on `cpu` and exits when that returns. It dies with us. */
pid_t spawn(int cpu, void (*work)(void *data), void *data);
void reap(pid_t pid);

/* Changes the order of `values`. */
uint64_t quantile(uint64_t *values, size_t n, double q);

/* Between these two the test runs; both probe the place. */
void test_begin(void);
void test_end(void);
/* The same for a test that uses one CPU. */
void test_one_cpu(void);

void emit(const char *name, double value, const char *unit);

#endif
