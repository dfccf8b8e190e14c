/* SPDX-License-Identifier: MIT */
/*
 * How rates and round trips are timed: the same code for ours and for everybody else's. Between a
 * test_begin() and a test_end(); functions are inlined, so what is measured is not a call.
 */
#ifndef ANCHORS_TIMING_H
#define ANCHORS_TIMING_H

#include "common.h"

#define TEST_NS   UINT64_C(40000000)
#define TRIPS_MAX (1u << 16)

/*
 * A large ring whose reader is far behind moves lines that have left the writer's cache, several
 * times faster than one whose reader is at the writer's heels. Whoever takes begins with a full
 * one.
 */
#define HEAD_START_NS 3000000

/* take(data) says how many messages it has taken. Messages in a second; looks at the clock once in
 * `each` calls. The first time is for warming up. */
__attribute__((always_inline)) static inline double rate_of(
	unsigned (*take)(void *data), void *data, unsigned each)
{
	uint64_t messages = 0, start = 0, now = 0;

	nanosleep(&(struct timespec){.tv_nsec = HEAD_START_NS}, NULL);
	for (int round = 0; round < 2; round++) {
		messages = 0;
		start = now = now_ns();
		for (; now - start < TEST_NS / (round == 0 ? 3 : 1); now = now_ns())
			for (unsigned i = 0; i < each; i++)
				messages += take(data);
	}
	return (double)messages / (double)(now - start) * 1e9;
}

/* The median time of trip(data), ns. `each`: so many for each look at the clock. */
__attribute__((always_inline)) static inline double trip_of(
	void (*trip)(void *data), void *data, unsigned each)
{
	static uint64_t times[TRIPS_MAX];
	size_t n = 0;

	for (unsigned i = 0; i < 20; i++)
		trip(data);
	for (uint64_t start = now_ns(), now = start; now - start < TEST_NS && n < TRIPS_MAX; n++) {
		const uint64_t before = now;
		for (unsigned i = 0; i < each; i++)
			trip(data);
		now = now_ns();
		times[n] = (now - before) / each;
	}
	return (double)quantile(times, n, 0.5);
}

/* The round trip, or the rate, between other(data) on the other CPU and us. Prints it by `name`. */
__attribute__((always_inline)) static inline void print_trip(const char *name,
	void (*other)(void *data), void (*trip)(void *data), void *data, unsigned each)
{
	test_begin();
	pid_t pid = spawn(cpu_b(), other, data);
	const double time = trip_of(trip, data, each);
	reap(pid);
	test_end();
	emit(name, time, "ns");
}

__attribute__((always_inline)) static inline void print_rate(const char *name,
	void (*other)(void *data), unsigned (*take)(void *data), void *data, unsigned each)
{
	test_begin();
	pid_t pid = spawn(cpu_b(), other, data);
	const double rate = rate_of(take, data, each);
	reap(pid);
	test_end();
	emit(name, rate, "messages/s");
}

#endif
