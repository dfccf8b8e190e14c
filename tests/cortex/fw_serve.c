/* SPDX-License-Identifier: MIT */
/*
 * Roles that a test drives from outside, through words of the shared memory (tests/e2e/flat.py has
 * the same layout):
 *
 *     0x8000  how often each vector was rung, a word each; stored by the interrupt
 *     0x8040  a number that the test changes before it rings...
 *     0x8044  ...and what the last interrupt has seen of it
 *     0x8048  ticks
 *     0x804c  READY
 *     0x8080  command: another value than before starts one; DISMISS ends the run
 *     0x8084  its peer, vector, and how often that is to be rung
 *     0x8090  the last command that is done
 */
#include "firmware.h"

#define COUNTS  0x8000u
#define CHANGED 0x8040u
#define SEEN    0x8044u
#define LIFE    0x8048u
#define READY   0x804cu
#define COMMAND 0x8080u
#define PEER    0x8084u
#define VECTOR  0x8088u
#define TIMES   0x808cu
#define DONE    0x8090u

#define IS_READY 0x69767368u
#define DISMISS  0xffffffffu

static void report(unsigned vector)
{
	store(SEEN, load(CHANGED));
	store(COUNTS + 4 * vector, iv.rung[vector]);
}

static void serve(void)
{
	uint32_t command = 0, last;

	on_doorbell = report;
	store(READY, IS_READY);
	do {
		last = command;
		sleep_until((store(LIFE, ticks), command = load(COMMAND)) != last);
		if (command == DISMISS)
			return;
		unsigned peer = load(PEER), vector = load(VECTOR);
		for (uint32_t times = load(TIMES); times > 0; times--)
			ivshmem_mmio_ring(&iv, peer, vector);
		store(DONE, command);
	} while (true);
}

/* Nothing but doorbells wakes it. */
void role_vectors(void)
{
	serve();
}

/* Time goes on, and is seen to. */
void role_storm(void)
{
	clock_start();
	serve();
}
