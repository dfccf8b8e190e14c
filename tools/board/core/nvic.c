/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Nothing is cached: what is next is worked out from the bits each time. At any time few
 * exceptions are pending and few active, so this visits a handful of bits, and there is no state
 * that could contradict another.
 */
#include "nvic.h"

#include <string.h>

enum { LEAST_URGENT = 256 }; /* less than any priority: what thread mode has */

/* Bits of `word` (of the NVIC, so of 32 lines) that stand for a line. */
static uint32_t lines_of(const struct nvic *nvic, unsigned word)
{
	if (nvic->lines >= 32 * (word + 1))
		return UINT32_MAX;
	if (nvic->lines <= 32 * word)
		return 0;
	return (1u << nvic->lines % 32) - 1;
}

void nvic_init(struct nvic *nvic, unsigned lines, unsigned priority_bits)
{
	memset(nvic, 0, sizeof(*nvic));
	nvic->lines = lines;
	nvic->priority_bits = priority_bits;
	nvic_reset(nvic);
}

void nvic_reset(struct nvic *nvic)
{
	static const unsigned always[] = {EXC_NMI, EXC_HARD, EXC_SVC, EXC_PENDSV, EXC_SYSTICK};
	struct nvic_bits level = nvic->level;
	unsigned lines = nvic->lines, priority_bits = nvic->priority_bits;

	*nvic = (struct nvic){.lines = lines, .priority_bits = priority_bits};
	nvic->level = nvic->pending = level;
	for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]); i++)
		nvic_bit_put(&nvic->enabled, always[i], true);
}

/* ---- one exception ---- */

void nvic_line(struct nvic *nvic, unsigned line, bool level)
{
	unsigned number = EXC_LINE0 + line;

	if (line >= nvic->lines)
		return;
	if (level && !nvic_bit(&nvic->level, number))
		nvic_bit_put(&nvic->pending, number, true);
	nvic_bit_put(&nvic->level, number, level);
}

void nvic_pend(struct nvic *nvic, unsigned number)
{
	if (number < EXC_LINE0 + nvic->lines)
		nvic_bit_put(&nvic->pending, number, true);
}

/* Those below it are fixed. */
static bool has_priority(const struct nvic *nvic, unsigned number)
{
	return number >= EXC_MEM && number < EXC_LINE0 + nvic->lines;
}

void nvic_set_priority(struct nvic *nvic, unsigned number, uint8_t priority)
{
	if (has_priority(nvic, number))
		nvic->priority[number] = (uint8_t)(priority & 0xff00u >> nvic->priority_bits);
}

/* ---- 32 lines ---- */

void nvic_enable(struct nvic *nvic, unsigned word, uint32_t bits)
{
	nvic->enabled.word[1 + word] |= bits & lines_of(nvic, word);
}

void nvic_disable(struct nvic *nvic, unsigned word, uint32_t bits)
{
	nvic->enabled.word[1 + word] &= ~bits;
}

void nvic_pend_lines(struct nvic *nvic, unsigned word, uint32_t bits)
{
	nvic->pending.word[1 + word] |= bits & lines_of(nvic, word);
}

void nvic_unpend_lines(struct nvic *nvic, unsigned word, uint32_t bits)
{
	/* A line that is up pends again at once, unless it is just being served. */
	uint32_t kept = nvic->level.word[1 + word] & ~nvic->active.word[1 + word];

	nvic->pending.word[1 + word] &= ~bits | kept;
}

/* ---- what is next ---- */

static int priority_of(const struct nvic *nvic, unsigned number)
{
	switch (number) {
	case EXC_RESET:
		return -3;
	case EXC_NMI:
		return -2;
	case EXC_HARD:
		return -1;
	default: /* a number, not a name */
		return nvic->priority[number];
	}
}

/* What of a priority decides whether it preempts: its part above PRIGROUP. */
static int group_of(const struct nvic *nvic, int priority)
{
	if (priority < 0 || priority == LEAST_URGENT)
		return priority;
	return priority & 0xff & (int)(~0u << (nvic->prigroup + 1));
}

/* Most urgent of those in both sets, the lowest number of equals; 0: none. */
static unsigned most_urgent(
	const struct nvic *nvic, const struct nvic_bits *set, const struct nvic_bits *and)
{
	unsigned best = 0;

	for (unsigned i = 0; i < 1 + NVIC_WORDS; i++) {
		uint32_t left = set->word[i] & and->word[i];

		for (; left != 0; left &= left - 1) {
			unsigned number = 32 * i + (unsigned)__builtin_ctz(left) - 16;

			if (best == 0 || priority_of(nvic, number) < priority_of(nvic, best))
				best = number;
		}
	}
	return best;
}

unsigned nvic_candidate(const struct nvic *nvic)
{
	return most_urgent(nvic, &nvic->pending, &nvic->enabled);
}

int nvic_execution_priority(const struct nvic *nvic, const struct nvic_masks *masks)
{
	unsigned handled = most_urgent(nvic, &nvic->active, &nvic->active);
	int priority = handled == 0 ? LEAST_URGENT : group_of(nvic, priority_of(nvic, handled));
	int basepri = masks->basepri & (int)(0xff00u >> nvic->priority_bits);
	int boosted = LEAST_URGENT;

	if (basepri != 0)
		boosted = group_of(nvic, basepri);
	if (masks->primask)
		boosted = 0;
	if (masks->faultmask)
		boosted = -1;
	return boosted < priority ? boosted : priority;
}

unsigned nvic_next(const struct nvic *nvic, const struct nvic_masks *masks)
{
	unsigned number = nvic_candidate(nvic);

	if (number == 0)
		return 0;
	int priority = group_of(nvic, priority_of(nvic, number));
	return priority < nvic_execution_priority(nvic, masks) ? number : 0;
}

unsigned nvic_raise(struct nvic *nvic, unsigned number, const struct nvic_masks *masks)
{
	int now = nvic_execution_priority(nvic, masks);

	if (!nvic_bit(&nvic->enabled, number) || group_of(nvic, priority_of(nvic, number)) >= now)
		number = EXC_HARD;
	if (number == EXC_HARD && now <= priority_of(nvic, EXC_HARD))
		return 0;
	nvic_bit_put(&nvic->pending, number, true);
	return number;
}

void nvic_activate(struct nvic *nvic, unsigned number)
{
	nvic_bit_put(&nvic->pending, number, false);
	nvic_bit_put(&nvic->active, number, true);
	nvic->current = number;
}

bool nvic_complete(struct nvic *nvic, unsigned number)
{
	/* The number comes from a stack frame: it can be any. */
	if (number >= EXC_LINE0 + nvic->lines || !nvic_bit(&nvic->active, number))
		return false;
	nvic_bit_put(&nvic->active, number, false);
	if (nvic_bit(&nvic->level, number))
		nvic_bit_put(&nvic->pending, number, true);
	return true;
}

unsigned nvic_active_count(const struct nvic *nvic)
{
	unsigned count = 0;

	for (unsigned i = 0; i < 1 + NVIC_WORDS; i++)
		count += (unsigned)__builtin_popcount(nvic->active.word[i]);
	return count;
}
