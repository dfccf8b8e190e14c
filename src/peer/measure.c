/* SPDX-License-Identifier: MIT */
/* ivshmem_measure(): the region's memory next to ordinary memory. */
#include "peer/transport.h"
#include "region/bandwidth.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_SIZE (1u << 20)
#define LIMIT_MS    250 /* for each of the four */

/*
 * Atomic operations are for cached memory: elsewhere they stop all processors of an x86 machine,
 * and may fault on others.
 */
static bool can_write(const struct ivshmem_peer *peer, enum ivshmem_cache cache)
{
	return peer->capabilities & IVSHMEM_CAP_WRITE && cache != IVSHMEM_CACHE_UNCACHED &&
		cache != IVSHMEM_CACHE_WRITE_COMBINING;
}

int ivshmem_measure(const struct ivshmem_peer *peer, struct ivshmem_memory *memory)
{
	size_t size = peer->size < SAMPLE_SIZE ? (size_t)peer->size : SAMPLE_SIZE;

	if (memory->struct_size != sizeof(*memory)) {
		errno = EINVAL;
		return -1;
	}
	void *ordinary = malloc(size);
	if (!ordinary)
		return -1;
	memset(ordinary, 1, size);
	enum ivshmem_cache cache =
		peer->ops->cache ? peer->ops->cache(peer) : IVSHMEM_CACHE_WRITE_BACK;
	*memory = (struct ivshmem_memory){
		.struct_size = sizeof(*memory),
		.cache = cache,
		.read_bandwidth = bandwidth_of_reading(peer->region, size, LIMIT_MS),
		.write_bandwidth = can_write(peer, cache)
			? bandwidth_of_writing(peer->region, size, LIMIT_MS)
			: 0,
		.ram_read_bandwidth = bandwidth_of_reading(ordinary, size, LIMIT_MS),
		.ram_write_bandwidth = bandwidth_of_writing(ordinary, size, LIMIT_MS),
	};
	free(ordinary);
	return 0;
}
