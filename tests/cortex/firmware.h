/* SPDX-License-Identifier: MIT */
/*
 * firmware - the test firmware for ivshmem: one image, which runs unchanged on our board and on a
 * board of QEMU's with its ivshmem-flat, and does what "role=NAME" tells it. A role that returns
 * has passed; one that finds something wrong says "failed=..." and ends the run with status 1.
 * Results are printed as lines of key=value. Vector 0 is on interrupt "irq" (40) and the others on
 * the following ones, or with "level=1" all on that one.
 *
 * Everybody with whom it talks is a host process, a guest on another machine or the same image once
 * more, so what is in the shared memory is checked before it is used.
 */
#ifndef CORTEX_FIRMWARE_H
#define CORTEX_FIRMWARE_H

#include "machine.h"

#include <ivshmem/mmio.h>

#define REGISTERS 0x400ff000u
#define MEMORY    0x40100000u

void role_talk(void);
void role_pair(void);
void role_order(void);
void role_self(void);
void role_vectors(void);
void role_storm(void);
void role_unknown(void);
void role_garbage(void);
void role_record(void);
void role_echo(void);
void role_image(void);
void role_chain(void);

extern struct ivshmem_mmio iv;

/* Doorbells and ticks so far: who has looked at everything sleeps until this changes. */
extern volatile uint32_t events;

/* What a doorbell's interrupt does besides counting; NULL: nothing. */
extern void (*volatile on_doorbell)(unsigned vector);

/* From now on time passes: TICKS events a second, and the run fails after "deadline" seconds. */
#define TICKS 20u
void clock_start(void);
extern volatile uint32_t ticks;

/* Sleep until `condition` holds: it is looked at again after each event. */
#define sleep_until(condition)                                                                     \
	for (uint32_t seen_; seen_ = events, !(condition);)                                        \
	ivshmem_mmio_sleep_while(&events, seen_)

/* Sleep for some ticks, whatever else happens. */
void settle(void);

/* The device hears of its own vectors as it hears of others', from the server: ring each of the
 * "vectors" until it arrives. */
void meet_myself(void);

/* Ring every vector of "vectors" ourselves: it arrives once, and no other does. */
void check_own_doorbells(void);

/* Words of the shared memory, in no order: what is between them and a doorbell is a barrier. */
static inline uint32_t load(uint32_t offset)
{
	return *ivshmem_mmio_word(&iv, offset);
}

static inline void store(uint32_t offset, uint32_t value)
{
	*ivshmem_mmio_word(&iv, offset) = value;
}

#endif
