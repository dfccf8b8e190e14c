/* SPDX-License-Identifier: MIT */
/*
 * Accesses for <ivshmem/channel.h> by Relacy: the algorithms of the product's own headers run in
 * its C++ memory model, where a load may return any value that the model allows, and every
 * interleaving is one that may be tried.
 *
 * The shared memory is an array of atomics; payloads are plain variables, so that a race on one is
 * an error, or atomics as well, where being overtaken is part of the game. One kind of access can
 * be weakened, everywhere or in one place, to see that the model notices.
 */
#ifndef MODEL_RELAXED_HPP
#define MODEL_RELAXED_HPP

#define IVSHMEM_CHANNEL_ACCESS // before channel.h

#include <cstddef>
#include <cstdint>

enum weakness { NOTHING, RELEASE, ACQUIRE, FENCE, ORDER };

struct shared {
	enum { WORDS = (256 + 8 * 64) / 4 };
	rl::atomic<unsigned> words[WORDS];
	rl::var<unsigned> payload[WORDS];
	/* Where payloads are racy, the reader stands still in the middle of one, once, until it may
	 * go on: random turns alone would hardly ever let it be overtaken. */
	rl::atomic<unsigned> may_go_on;
	bool has_stood;
	uint32_t place[WORDS] __attribute__((aligned(128))); /* addresses, and nothing else */

	static shared *current;
	static bool racy; /* payloads are read while they are overwritten, and then thrown away */
	static weakness weak;
	enum : size_t { EVERYWHERE = WORDS };
	static size_t where; /* the index of a word, or for ORDER of a thread */
};

shared *shared::current;
bool shared::racy;
weakness shared::weak;
size_t shared::where = shared::EVERYWHERE;

static size_t shared_index(const volatile void *word)
{
	return static_cast<size_t>(
		static_cast<const volatile uint32_t *>(word) - shared::current->place);
}

static bool is_weak(weakness kind, size_t where)
{
	return shared::weak == kind &&
		(shared::where == shared::EVERYWHERE || shared::where == where);
}

static inline uint32_t ivshmem_channel_get(const volatile uint32_t *word)
{
	return shared::current->words[shared_index(word)].load(rl::mo_relaxed, $);
}

static inline void ivshmem_channel_set(volatile uint32_t *word, uint32_t value)
{
	shared::current->words[shared_index(word)].store(value, rl::mo_relaxed, $);
}

static inline uint32_t ivshmem_channel_acquire(const volatile uint32_t *word)
{
	const size_t at = shared_index(word);
	return shared::current->words[at].load(
		is_weak(ACQUIRE, at) ? rl::mo_relaxed : rl::mo_acquire, $);
}

static inline void ivshmem_channel_release(volatile uint32_t *word, uint32_t value)
{
	const size_t at = shared_index(word);
	shared::current->words[at].store(
		value, is_weak(RELEASE, at) ? rl::mo_relaxed : rl::mo_release, $);
}

static inline void ivshmem_channel_fence(void)
{
	if (shared::weak != FENCE)
		rl::atomic_thread_fence(rl::mo_seq_cst, $);
}

static inline void ivshmem_channel_order(void)
{
	if (!is_weak(ORDER, rl::thread_index()))
		rl::atomic_thread_fence(rl::mo_acq_rel, $);
}

/* Whole words are enough here. */
static inline void ivshmem_channel_put(volatile void *to, const void *from, uint32_t size)
{
	for (size_t i = 0; i < size / 4; i++) {
		const unsigned value = static_cast<const uint32_t *>(from)[i];
		const size_t at = shared_index(to) + i;
		if (shared::racy)
			shared::current->words[at].store(value, rl::mo_relaxed, $);
		else
			shared::current->payload[at]($) = value;
	}
}

static void stand_still()
{
	if (!shared::racy || shared::current->has_stood || rl::rand(8) != 0)
		return;
	shared::current->has_stood = true;
	while (shared::current->may_go_on.load(rl::mo_relaxed, $) == 0)
		rl::yield(1, $);
}

static inline void ivshmem_channel_take(void *to, const volatile void *from, uint32_t size)
{
	for (size_t i = 0; i < size / 4; i++) {
		const size_t at = shared_index(from) + i;
		stand_still();
		static_cast<uint32_t *>(to)[i] = shared::racy
			? shared::current->words[at].load(rl::mo_relaxed, $)
			: static_cast<unsigned>(shared::current->payload[at]($));
	}
}

#endif
