/* SPDX-License-Identifier: MIT */
/*
 * How long one access takes, seen from the guest: the median of many. Nothing is asserted; these
 * are numbers for the benchmarks.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#define SAMPLES 65536u
#define NOBODY  60000u /* an ID that no peer has */

static uint32_t samples[SAMPLES];

static void measure(const char *name, void (*access)(void), uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint64_t start = cycles();
		access();
		samples[i] = (uint32_t)(cycles() - start);
	}
	uint32_t middle = median(samples, count);
	print("%s_cycles=%u\n%s_ns=%u\n", name, middle, name, nanoseconds(middle));
}

static void write_doorbell(void)
{
	ring(NOBODY, 0);
}

static void read_position(void)
{
	register_read(IVSHMEM_REG_IVPOSITION);
}

static void store_memory(void)
{
	bar_write(IVSHMEM_BAR_MEMORY, 0x800, 4, 1);
}

void case_latency(void)
{
	uint32_t count = parameter("accesses", 10000);

	expect("not more than there is room for", count > 0 && count <= SAMPLES, true);
	measure("doorbell", write_doorbell, count);
	measure("ivposition", read_position, count);
	measure("memory", store_memory, count);
}
