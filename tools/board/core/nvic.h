/* SPDX-License-Identifier: MIT */
/*
 * nvic - which exceptions are pending and active, and which is the next to be taken. Pure: neither
 * instructions nor registers nor stacks are known here.
 */
#ifndef CORE_NVIC_H
#define CORE_NVIC_H

#include <stdbool.h>
#include <stdint.h>

/* Exceptions by their numbers. */
enum {
	EXC_RESET = 1,
	EXC_NMI = 2,
	EXC_HARD = 3, /* HardFault */
	EXC_MEM = 4,
	EXC_BUS = 5,
	EXC_USAGE = 6,
	EXC_SVC = 11,
	EXC_PENDSV = 14,
	EXC_SYSTICK = 15,
	EXC_LINE0 = 16, /* the first external line */
};

enum { NVIC_LINES_MAX = 240, NVIC_WORDS = 8 };

/*
 * A bit for each exception: that of number n is bit n + 16, so that word 1 + i is register i of the
 * NVIC's own, and word 0 has the system's exceptions.
 */
struct nvic_bits {
	uint32_t word[1 + NVIC_WORDS];
};

struct nvic {
	unsigned lines;
	unsigned priority_bits;
	unsigned prigroup; /* of AIRCR */
	unsigned current;  /* the exception that is being handled, 0: none (IPSR) */
	struct nvic_bits enabled, pending, active, level;
	uint8_t priority[EXC_LINE0 + NVIC_LINES_MAX];
};

/* What the processor's mask registers hold. */
struct nvic_masks {
	bool primask, faultmask;
	uint8_t basepri;
};

void nvic_init(struct nvic *nvic, unsigned lines, unsigned priority_bits);

/* As after power-on, but that lines which are up stay up. */
void nvic_reset(struct nvic *nvic);

/* ---- one exception ---- */

static inline bool nvic_bit(const struct nvic_bits *bits, unsigned number)
{
	return bits->word[(number + 16) / 32] >> (number + 16) % 32 & 1;
}

static inline void nvic_bit_put(struct nvic_bits *bits, unsigned number, bool value)
{
	uint32_t bit = 1u << (number + 16) % 32;
	uint32_t *word = &bits->word[(number + 16) / 32];

	*word = value ? *word | bit : *word & ~bit;
}

void nvic_line(struct nvic *nvic, unsigned line, bool level);
void nvic_pend(struct nvic *nvic, unsigned number);

/* Only the bits that there are stay; a fixed priority does not change. */
void nvic_set_priority(struct nvic *nvic, unsigned number, uint8_t priority);

/* ---- 32 lines at a time, as the registers have them ---- */

void nvic_enable(struct nvic *nvic, unsigned word, uint32_t bits);
void nvic_disable(struct nvic *nvic, unsigned word, uint32_t bits);
void nvic_pend_lines(struct nvic *nvic, unsigned word, uint32_t bits);
void nvic_unpend_lines(struct nvic *nvic, unsigned word, uint32_t bits); /* but those still up */

/* ---- what is next ---- */

/* The most urgent that is pending and enabled, masked or not; 0: none. */
unsigned nvic_candidate(const struct nvic *nvic);

/* The exception to take now, 0: none. */
unsigned nvic_next(const struct nvic *nvic, const struct nvic_masks *masks);

/* Urgency of what is being executed: -3 the most, 256 the least. */
int nvic_execution_priority(const struct nvic *nvic, const struct nvic_masks *masks);

/*
 * A synchronous exception: make it pending or, where it may not be taken now, HardFault. Returns
 * which, or 0 where not even that is possible.
 */
unsigned nvic_raise(struct nvic *nvic, unsigned number, const struct nvic_masks *masks);

/* The handler begins, or has returned (false: that exception was not active). */
void nvic_activate(struct nvic *nvic, unsigned number);
bool nvic_complete(struct nvic *nvic, unsigned number);

/* How many are active. */
unsigned nvic_active_count(const struct nvic *nvic);

#endif
