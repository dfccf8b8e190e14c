/* SPDX-License-Identifier: MIT */
/* commit - a change of meaning in memory that outlives its process (docs/restart.md). */
#ifndef BASE_COMMIT_H
#define BASE_COMMIT_H

#include <stdint.h>

/* One store that a kill cannot part, behind all stores before it and before all behind it. */
/* NOLINTNEXTLINE(readability-non-const-parameter): the store is a builtin's */
static inline void kept_commit(uint64_t *word, uint64_t value)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

#endif
