/* SPDX-License-Identifier: MIT */
/*
 * cases - what the guest can be told to do, by "role=NAME" on its command line.
 *
 * A case that returns has passed; one that finds something wrong says "failed=..." and ends the
 * run. Results are printed as lines of key=value, for the test that has started the guest.
 */
#ifndef BARE_CASES_H
#define BARE_CASES_H

#include <stdint.h>

void case_probe(void);
void case_self(void);
void case_late(void);
void case_intx(void);
void case_pair(void);
void case_memory(void);
void case_reboot(void);
void case_storm(void);
void case_latency(void);
void case_record(void);
void case_mmio(void);

/* Pieces of cases that others need too. */

/* Each vector, rung by ourselves, arrives exactly once each time. */
void check_own_doorbells(void);

/* The first `size` bytes of the shared memory keep what is stored, in accesses of all sizes. */
void check_memory(uint32_t size);

/* ---- two guests, seat=0 and seat=1, and the shared memory they meet in ---- */

/* One line of the shared memory for each, at its start; written by its owner only. */
enum {
	SEAT_SIZE = 64,
	SEAT_MAGIC = 0,    /* SEAT_TAKEN once the rest is there */
	SEAT_ID = 4,       /* IVPosition */
	SEAT_VECTORS = 8,  /* how many it uses */
	SEAT_STEP = 12,    /* steps that both must have reached before one goes on */
	SEAT_TURN = 16,    /* of the game of case_pair() */
	SEAT_DISMISS = 20, /* seat 0: written by the test, ends a game with "linger=1" */
	SEAT_TAKEN = 0x69767368,
};

struct partner {
	uint32_t seat, id, vectors;
};

/* Take the own seat ("seat=N") and wait for the other's. */
struct partner meet(void);

/* Wait until both have come to step `step`, 1, 2, ... */
void meet_at(const struct partner *partner, uint32_t step);

/* Words of a seat. */
uint32_t seat_read(uint32_t seat, uint32_t word);
void seat_write(uint32_t seat, uint32_t word, uint32_t value);

#endif
