/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Time is counted in ticks of the timer's clock since the zero of the nanoseconds that are handed
 * in. A running counter is not counted down: it is known at which tick it will be 0, and its value
 * is the distance to that. A period is reload + 1 ticks.
 *
 * Zeros that nobody has looked at in between are one: as in hardware, a pending exception cannot
 * become more pending.
 */
#include "systick.h"

#define SECOND 1000000000u
#define NEVER  UINT64_MAX

/* Bits of CSR, CALIB. */
#define CSR_ENABLE    0x1u
#define CSR_TICKINT   0x2u
#define CSR_CLKSOURCE 0x4u
#define CSR_COUNTFLAG 0x10000u
#define CALIB_NOREF   0x80000000u
#define CALIB_SKEW    0x40000000u

#define COUNTER_MASK 0xffffffu

static uint64_t tick_at(const struct systick *systick, uint64_t ns)
{
	return ns / SECOND * systick->clock_hz + ns % SECOND * systick->clock_hz / SECOND;
}

/* The first nanosecond of a tick. */
static uint64_t time_of(const struct systick *systick, uint64_t tick)
{
	uint64_t hz = systick->clock_hz;

	return tick / hz * SECOND + (tick % hz * SECOND + hz - 1) / hz;
}

void systick_init(struct systick *systick, uint32_t clock_hz)
{
	*systick = (struct systick){.clock_hz = clock_hz, .zero_at = NEVER};
}

bool systick_advance(struct systick *systick, uint64_t now)
{
	uint64_t tick = tick_at(systick, now);
	uint64_t period = (uint64_t)systick->reload + 1;

	if (!systick->enabled || tick < systick->zero_at)
		return false;
	systick->passed_zero = true;
	if (systick->reload == 0)
		systick->zero_at = NEVER; /* it stays at 0 */
	else
		systick->zero_at += ((tick - systick->zero_at) / period + 1) * period;
	return systick->interrupt;
}

static uint32_t value_at(const struct systick *systick, uint64_t now)
{
	if (!systick->enabled)
		return systick->stopped_at;
	if (systick->zero_at == NEVER)
		return 0;
	/* A whole period before the next zero it is still at the last. */
	uint64_t left = systick->zero_at - tick_at(systick, now);
	return left == (uint64_t)systick->reload + 1 ? 0 : (uint32_t)left;
}

/* Go on from `value`. */
static void run_from(struct systick *systick, uint32_t value, uint64_t now)
{
	systick->zero_at = tick_at(systick, now) + value;
	if (value == 0)
		systick->zero_at += (uint64_t)systick->reload + 1;
	if (value == 0 && systick->reload == 0)
		systick->zero_at = NEVER;
}

static uint32_t read_csr(struct systick *systick)
{
	uint32_t value = CSR_CLKSOURCE;

	if (systick->enabled)
		value |= CSR_ENABLE;
	if (systick->interrupt)
		value |= CSR_TICKINT;
	if (systick->passed_zero)
		value |= CSR_COUNTFLAG;
	systick->passed_zero = false;
	return value;
}

/* There is no other clock than the processor's: CLKSOURCE stays 1 and CALIB says so. */
static uint32_t read_calib(const struct systick *systick)
{
	uint32_t per_10ms = systick->clock_hz / 100;
	uint32_t value = CALIB_NOREF | ((per_10ms - 1) & COUNTER_MASK);

	if (systick->clock_hz % 100 != 0 || per_10ms > COUNTER_MASK)
		value |= CALIB_SKEW;
	return value;
}

uint32_t systick_read(struct systick *systick, uint32_t offset, uint64_t now)
{
	switch (offset) {
	case SYSTICK_CSR:
		return read_csr(systick);
	case SYSTICK_RVR:
		return systick->reload;
	case SYSTICK_CVR:
		return value_at(systick, now);
	case SYSTICK_CALIB:
		return read_calib(systick);
	}
	return 0;
}

void systick_write(struct systick *systick, uint32_t offset, uint32_t value, uint64_t now)
{
	uint32_t counter = value_at(systick, now);
	bool enable = systick->enabled;

	switch (offset) {
	case SYSTICK_CSR:
		systick->interrupt = value & CSR_TICKINT;
		enable = value & CSR_ENABLE;
		break;
	case SYSTICK_RVR: /* counts from the next zero on */
		systick->reload = value & COUNTER_MASK;
		break;
	case SYSTICK_CVR: /* any value clears it */
		counter = 0;
		systick->passed_zero = false;
		break;
	}
	systick->stopped_at = counter;
	systick->enabled = enable;
	if (enable)
		run_from(systick, counter, now);
}

uint64_t systick_deadline(const struct systick *systick)
{
	if (!systick->enabled || !systick->interrupt || systick->zero_at == NEVER)
		return NEVER;
	return time_of(systick, systick->zero_at);
}
