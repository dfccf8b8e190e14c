/* SPDX-License-Identifier: MIT */
/* systick - the processor's 24-bit timer, pure: the time is handed in, in nanoseconds. */
#ifndef CORE_SYSTICK_H
#define CORE_SYSTICK_H

#include <stdbool.h>
#include <stdint.h>

struct systick {
	uint32_t clock_hz;
	uint32_t reload;
	uint32_t stopped_at; /* the counter, while it does not run */
	uint64_t zero_at;    /* when it runs: the tick of the clock at which it is 0 next */
	bool enabled, interrupt;
	bool passed_zero; /* COUNTFLAG */
};

/* Offsets of the registers. */
enum { SYSTICK_CSR = 0, SYSTICK_RVR = 4, SYSTICK_CVR = 8, SYSTICK_CALIB = 12, SYSTICK_END = 16 };

void systick_init(struct systick *systick, uint32_t clock_hz);

/* Let it count up to `now`. True: it has got to zero, once or more often, and wants its exception
 * for it. */
bool systick_advance(struct systick *systick, uint64_t now);

/* To be preceded by systick_advance() to the same time. */
uint32_t systick_read(struct systick *systick, uint32_t offset, uint64_t now);
void systick_write(struct systick *systick, uint32_t offset, uint32_t value, uint64_t now);

/* When it will next want its exception; UINT64_MAX: never. */
uint64_t systick_deadline(const struct systick *systick);

#endif
