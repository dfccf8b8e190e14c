/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A process that rings and waits for the answer spends nearly all of the round trip on falling
 * asleep and being woken. Two processes of a virtual machine with two processors ringing each
 * other, medians of interleaved runs, as multiples of the same with bare blocking read() and
 * write():
 *
 *                                               two CPUs   one CPU   two CPUs, others busy on both
 *   read; if nothing, poll(), read                1.11       1.40        1.11
 *   poll(), read                                  1.12       1.40        1.11
 *   epoll_wait(), read                            1.10       1.44        1.17
 *   poll(), read; vector also in an epoll set     1.18       1.44        1.17
 *   read, sched_yield(), read, poll(), read       1.05       1.08       95
 *   8 times read and sched_yield(), poll()        0.11       1.09      433
 *   read for 5 / 20 / 50 us, then poll()          0.11     6 / 19 / 45   0.12
 *   this file, through the whole library          0.12       1.31        0.13
 *
 * A bare blocking read() is not to be had: the eventfd is non-blocking, for all who share it, and
 * must stay so. Yielding looks best until somebody else wants the processor: then each call gives
 * away a whole time slice, 4 ms here. Reading for a while is best wherever the other side runs
 * elsewhere, and never helps where it cannot.
 *
 * So we try, and learn: a wait first reads for up to SPIN_NS. If that did not help, the next one
 * sleeps at once, then the next 3, 7, .. SPIN_BACKOFF_MAX, until one try helps again. Peers that
 * answer quickly are met in an eighth of the time; one that waits for rare rings, or shares a
 * processor with its counterpart, sleeps, and pays 50 us once in a thousand waits to look again.
 * What has been learned is the handle's; threads that wait for different vectors of it may mix it
 * up, which costs one of them a try too many or too few.
 */
#include "base/doorbell.h"
#include "client/client.h"
#include "client/internal.h"

#include <errno.h>

#define SPIN_NS          50000
#define SPIN_BACKOFF_MAX 1023

/* As doorbell_take(), but does not give up at once. */
static int spin(struct client *client, int bell, uint64_t *count)
{
	unsigned skip = __atomic_load_n(&client->spin_skip, __ATOMIC_RELAXED);
	if (skip > 0) {
		__atomic_store_n(&client->spin_skip, skip - 1, __ATOMIC_RELAXED);
		return 0;
	}
	uint64_t end = clock_ns() + SPIN_NS;
	do {
		int taken = doorbell_take(bell, count);
		if (taken != 0) {
			__atomic_store_n(&client->spin_backoff, 0, __ATOMIC_RELAXED);
			return taken;
		}
	} while (clock_ns() < end);

	unsigned backoff = __atomic_load_n(&client->spin_backoff, __ATOMIC_RELAXED);
	if (backoff < SPIN_BACKOFF_MAX)
		backoff = 2 * backoff + 1;
	__atomic_store_n(&client->spin_backoff, backoff, __ATOMIC_RELAXED);
	__atomic_store_n(&client->spin_skip, backoff, __ATOMIC_RELAXED);
	return 0;
}

int client_wait(struct client *client, unsigned vector, int timeout_ms, uint64_t *count)
{
	uint64_t deadline = deadline_after(timeout_ms);
	uint64_t rings;
	int ready = client_await_vector(client, vector, deadline);
	if (ready <= 0)
		return ready;

	int bell = client->own.bells[vector];
	int taken = doorbell_take(bell, &rings);
	if (taken == 0 && timeout_ms != 0)
		taken = spin(client, bell, &rings);
	/* Somebody else may read what woke us. */
	while (taken == 0) {
		ready = client_poll(bell, deadline);
		if (ready <= 0)
			return ready;
		taken = doorbell_take(bell, &rings);
	}
	if (taken > 0 && count)
		*count = rings;
	return taken;
}
