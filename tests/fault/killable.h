/* SPDX-License-Identifier: MIT */
/*
 * Accesses for <ivshmem/channel.h> of a process that is killed at a store to the shared memory: its
 * sources are compiled with this in front. Others use the memory at the same time, so the accesses
 * are true ones; a payload is stored by words, each of them a store of its own.
 */
#ifndef TESTS_KILLABLE_H
#define TESTS_KILLABLE_H

#define IVSHMEM_CHANNEL_ACCESS

#include <endian.h>
#include <stdint.h>
#include <string.h>

/* The test's: before each store. */
void killable_store(void);

static inline uint32_t ivshmem_channel_get(const volatile uint32_t *word)
{
	return le32toh(__atomic_load_n(word, __ATOMIC_SEQ_CST));
}

static inline void ivshmem_channel_set(volatile uint32_t *word, uint32_t value)
{
	killable_store();
	__atomic_store_n(word, htole32(value), __ATOMIC_SEQ_CST);
}

static inline uint32_t ivshmem_channel_acquire(const volatile uint32_t *word)
{
	return ivshmem_channel_get(word);
}

static inline void ivshmem_channel_release(volatile uint32_t *word, uint32_t value)
{
	ivshmem_channel_set(word, value);
}

static inline void ivshmem_channel_order(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void ivshmem_channel_fence(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static inline void ivshmem_channel_put(volatile void *to, const void *from, uint32_t size)
{
	for (uint32_t at = 0; at < size; at += 4) {
		uint32_t word = 0;
		memcpy(&word, (const char *)from + at, size - at < 4 ? size - at : 4);
		ivshmem_channel_set((volatile uint32_t *)to + at / 4, le32toh(word));
	}
}

static inline void ivshmem_channel_take(void *to, const volatile void *from, uint32_t size)
{
	for (uint32_t at = 0; at < size; at += 4) {
		uint32_t word =
			htole32(ivshmem_channel_get((const volatile uint32_t *)from + at / 4));
		memcpy((char *)to + at, &word, size - at < 4 ? size - at : 4);
	}
}

#endif
