/* SPDX-License-Identifier: MIT */
/*
 * Roles that need nobody: doorbells to oneself and to nobody.
 */
#include "firmware.h"

#define TIMES 20u

/* All vectors have been rung `expected` times so far. */
static void check_counts(const uint32_t *expected)
{
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		expect("interrupts", iv.rung[vector], expected[vector]);
}

void meet_myself(void)
{
	for (unsigned vector = 0; vector < parameter("vectors", 1); vector++) {
		while (iv.rung[vector] == 0) {
			ivshmem_mmio_ring(&iv, (unsigned)ivshmem_mmio_id(&iv), vector);
			settle();
		}
	}
}

void check_own_doorbells(void)
{
	unsigned vectors = parameter("vectors", 1);
	unsigned id = (unsigned)ivshmem_mmio_id(&iv);
	uint32_t expected[IVSHMEM_MMIO_VECTORS];

	if (vectors > IVSHMEM_MMIO_VECTORS)
		fail("vectors");
	meet_myself();
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		expected[vector] = iv.rung[vector];
	for (unsigned i = 0; i < TIMES * vectors; i++) {
		unsigned vector = i % vectors;
		expected[vector]++;
		ivshmem_mmio_ring(&iv, id, vector);
		sleep_until(iv.rung[vector] == expected[vector]);
		check_counts(expected);
	}
	settle();
	check_counts(expected);
}

void role_self(void)
{
	clock_start();
	check_own_doorbells();
}

/* Peers and vectors that do not exist. "highest" is the highest vector of one that does. */
void role_unknown(void)
{
	static const uint16_t strangers[] = {1000, 0x7fff, 0x8000, 0xfffe, 0xffff};
	static const uint16_t vectors[] = {1, 2, 63, 64, 255, 256, 0x7fff, 0x8000, 0xffff};
	unsigned id = (unsigned)ivshmem_mmio_id(&iv), other = parameter("other", id);
	unsigned first = parameter("vectors", 1), highest = parameter("highest", 0xffff);

	clock_start();
	meet_myself();
	uint32_t before = iv.rung[0];
	for (unsigned v = 0; v < sizeof(vectors) / sizeof(vectors[0]); v++) {
		for (unsigned s = 0; s < sizeof(strangers) / sizeof(strangers[0]); s++) {
			ivshmem_mmio_ring(&iv, strangers[s], 0);
			ivshmem_mmio_ring(&iv, strangers[s], vectors[v]);
		}
		if (vectors[v] < first || vectors[v] > highest)
			continue;
		ivshmem_mmio_ring(&iv, id, vectors[v]);
		ivshmem_mmio_ring(&iv, other, vectors[v]);
	}
	settle();
	expect("interrupts", iv.rung[0], before);
	check_own_doorbells();
}
