/* SPDX-License-Identifier: MIT */
/* ck_ring - Concurrency Kit's ring for one writer and one reader, entries of a line, 64 KiB. */
#include "common.h"
#include "timing.h"

#include <ck_ring.h>

#define ENTRIES 1024

struct entry {
	unsigned char bytes[64];
};

CK_RING_PROTOTYPE(entry, entry)

struct ring {
	ck_ring_t BENCH_ALIGNED ring;
	struct entry BENCH_ALIGNED entries[ENTRIES];
};

struct pair {
	struct ring *there, *back;
};

static struct ring *make_ring(void)
{
	struct ring *ring = shared_alloc(sizeof(*ring));

	ck_ring_init(&ring->ring, ENTRIES);
	return ring;
}

static void put(struct ring *ring, struct entry *entry)
{
	while (!ck_ring_enqueue_spsc_entry(&ring->ring, ring->entries, entry))
		;
	__asm__ volatile("" ::: "memory");
}

static void take(struct ring *ring, struct entry *entry)
{
	while (!ck_ring_dequeue_spsc_entry(&ring->ring, ring->entries, entry))
		;
	__asm__ volatile("" ::"r"(entry) : "memory");
}

static void produce(void *data)
{
	const struct pair *pair = data;
	struct entry entry = {{1}};

	for (;;)
		put(pair->there, &entry);
}

static unsigned consume(void *data)
{
	const struct pair *pair = data;
	struct entry entry;

	take(pair->there, &entry);
	return 1;
}

static void answer(void *data)
{
	const struct pair *pair = data;
	struct entry entry;

	for (;;) {
		take(pair->there, &entry);
		put(pair->back, &entry);
	}
}

static void trip(void *data)
{
	const struct pair *pair = data;
	struct entry entry = {{1}};

	put(pair->there, &entry);
	take(pair->back, &entry);
}

int main(void)
{
	struct pair pair = {make_ring(), make_ring()};

	pin(cpu_a());
	print_trip("ck_ring.trip", answer, trip, &pair, 16);

	pair.there = make_ring();
	print_rate("ck_ring.rate.1", produce, consume, &pair, 512);
	return 0;
}
