/* SPDX-License-Identifier: MIT */
/*
 * rte_ring - DPDK's ring for one writer and one reader, entries of a line, 64 KiB, one at a time
 * and 32. It lies in anonymous shared memory, so there is neither EAL nor huge pages.
 */
#include "common.h"
#include "timing.h"

#include <rte_ring.h>
#include <rte_ring_elem.h>

#define ENTRIES 1024u
#define LINE    64u
#define BULK    32u

static unsigned char BENCH_ALIGNED lines[BULK * LINE];

struct pair {
	struct rte_ring *there, *back;
};

static struct rte_ring *make_ring(void)
{
	struct rte_ring *ring = shared_alloc((size_t)rte_ring_get_memsize_elem(LINE, ENTRIES));

	if (rte_ring_init(ring, "ring", ENTRIES, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0)
		die("rte_ring_init");
	return ring;
}

__attribute__((always_inline)) static inline void put(struct rte_ring *ring, unsigned n)
{
	unsigned done = 0;

	while (done < n)
		done += rte_ring_sp_enqueue_burst_elem(
			ring, lines + (size_t)done * LINE, LINE, n - done, NULL);
	__asm__ volatile("" ::"r"(lines) : "memory");
}

__attribute__((always_inline)) static inline unsigned take(struct rte_ring *ring, unsigned n)
{
	unsigned done = rte_ring_sc_dequeue_burst_elem(ring, lines, LINE, n, NULL);

	__asm__ volatile("" ::"r"(lines) : "memory");
	return done;
}

static void produce_1(void *data)
{
	const struct pair *pair = data;
	for (;;)
		put(pair->there, 1);
}

static void produce_bulk(void *data)
{
	const struct pair *pair = data;
	for (;;)
		put(pair->there, BULK);
}

static unsigned consume_1(void *data)
{
	const struct pair *pair = data;
	return take(pair->there, 1);
}

static unsigned consume_bulk(void *data)
{
	const struct pair *pair = data;
	return take(pair->there, BULK);
}

static void answer(void *data)
{
	const struct pair *pair = data;

	for (;;) {
		while (take(pair->there, 1) == 0)
			;
		put(pair->back, 1);
	}
}

static void trip(void *data)
{
	const struct pair *pair = data;

	put(pair->there, 1);
	while (take(pair->back, 1) == 0)
		;
}

int main(void)
{
	struct pair pair = {make_ring(), make_ring()};

	pin(cpu_a());
	print_trip("rte_ring.trip", answer, trip, &pair, 16);

	pair.there = make_ring();
	print_rate("rte_ring.rate.1", produce_1, consume_1, &pair, 512);

	pair.there = make_ring();
	print_rate("rte_ring.rate.32", produce_bulk, consume_bulk, &pair, 128);
	return 0;
}
