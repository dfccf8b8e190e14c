/* SPDX-License-Identifier: MIT */
/*
 * Accesses for <ivshmem/channel.h> that can be the last: whoever includes this before can let a
 * party die at any store to the shared memory: mortal_run() does not come back from it.
 * A payload is stored by words, each of them a store of its own.
 */
#ifndef TESTS_MORTAL_H
#define TESTS_MORTAL_H

#define IVSHMEM_CHANNEL_ACCESS

#include <endian.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static struct {
	jmp_buf death;
	bool running;
	unsigned long left; /* stores until it dies */
} mortal;

/* Run `work`, which dies after so many stores. True if it did. */
__attribute__((unused)) static bool mortal_run(
	unsigned long stores, void (*work)(void *data), void *data)
{
	mortal.left = stores;
	mortal.running = true;
	if (setjmp(mortal.death) == 0) {
		work(data);
		mortal.running = false;
		return false;
	}
	mortal.running = false;
	return true;
}

static void mortal_store(volatile uint32_t *word, uint32_t value)
{
	if (mortal.running && mortal.left-- == 0)
		longjmp(mortal.death, 1);
	*word = value;
}

static inline uint32_t ivshmem_channel_get(const volatile uint32_t *word)
{
	return le32toh(*word);
}

static inline void ivshmem_channel_set(volatile uint32_t *word, uint32_t value)
{
	mortal_store(word, htole32(value));
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
}

static inline void ivshmem_channel_fence(void)
{
}

static inline void ivshmem_channel_put(volatile void *to, const void *from, uint32_t size)
{
	uint32_t word;

	for (uint32_t at = 0; at < size; at += 4) {
		word = 0;
		memcpy(&word, (const char *)from + at, size - at < 4 ? size - at : 4);
		mortal_store((volatile uint32_t *)to + at / 4, word);
	}
}

static inline void ivshmem_channel_take(void *to, const volatile void *from, uint32_t size)
{
	uint32_t word;

	for (uint32_t at = 0; at < size; at += 4) {
		word = ((const volatile uint32_t *)from)[at / 4];
		memcpy((char *)to + at, &word, size - at < 4 ? size - at : 4);
	}
}

#endif
