/* SPDX-License-Identifier: MIT */
/*
 * The partner of the bare-metal guest in its case_pair(); tests/bare/pair.c has the theory of
 * operation, tests/bare/cases.h the memory that both meet in. "seat", "vectors" and "rounds".
 */
#include "firmware.h"

#include "../bare/cases.h"

#define LAST_TURN   0x80000000u
#define HELLO_TICKS 4u

static struct partner other;
static uint32_t own, vectors, taken[IVSHMEM_MMIO_VECTORS];

uint32_t seat_read(uint32_t seat, uint32_t word)
{
	return load(seat * SEAT_SIZE + word);
}

void seat_write(uint32_t seat, uint32_t word, uint32_t value)
{
	store(seat * SEAT_SIZE + word, value);
}

struct partner meet(void)
{
	struct partner partner = {.seat = own ^ 1};

	seat_write(own, SEAT_ID, (uint32_t)ivshmem_mmio_id(&iv));
	seat_write(own, SEAT_VECTORS, vectors);
	seat_write(own, SEAT_MAGIC, SEAT_TAKEN);
	sleep_until(seat_read(partner.seat, SEAT_MAGIC) == SEAT_TAKEN);
	partner.id = seat_read(partner.seat, SEAT_ID);
	partner.vectors = seat_read(partner.seat, SEAT_VECTORS);
	return partner;
}

void meet_at(const struct partner *partner, uint32_t step)
{
	seat_write(partner->seat ^ 1, SEAT_STEP, step);
	sleep_until(seat_read(partner->seat, SEAT_STEP) >= step);
}

static uint32_t all_taken(void)
{
	uint32_t sum = 0;

	for (uint32_t vector = 0; vector < vectors; vector++)
		sum += iv.rung[vector];
	return sum;
}

/* Whether both have heard the other; else ring now and then. */
static bool have_met(uint32_t *rung_at)
{
	if (all_taken() > 0) {
		seat_write(own, SEAT_STEP, 2);
		if (seat_read(other.seat, SEAT_STEP) >= 2)
			return true;
	}
	if (ticks - *rung_at >= HELLO_TICKS) {
		*rung_at = ticks;
		ivshmem_mmio_ring(&iv, other.id, 0);
	}
	return false;
}

static void say_hello(void)
{
	uint32_t rung_at = ticks - HELLO_TICKS;

	sleep_until(have_met(&rung_at));
	settle();
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		taken[vector] = iv.rung[vector];
}

static void send_turn(uint32_t turn)
{
	seat_write(own, SEAT_TURN, turn);
	ivshmem_mmio_ring(&iv, other.id, (turn & ~LAST_TURN) % vectors);
}

/* Wait for the doorbell of `turn`; returns what the other has written. */
static uint32_t await_turn(uint32_t turn)
{
	uint32_t vector = turn % vectors;

	taken[vector]++;
	sleep_until(iv.rung[vector] == taken[vector]);
	ivshmem_mmio_barrier();
	uint32_t word = seat_read(other.seat, SEAT_TURN);
	expect("turn", word & ~LAST_TURN, turn);
	return word;
}

void role_pair(void)
{
	uint32_t rounds = parameter("rounds", 2000), turn = 0, word = 0;

	own = parameter("seat", 0) & 1;
	vectors = parameter("vectors", 1);
	clock_start();
	other = meet();
	if (other.vectors < vectors)
		vectors = other.vectors;
	if (vectors == 0 || vectors > IVSHMEM_MMIO_VECTORS)
		fail("vectors");
	meet_at(&other, 1);
	say_hello();
	uint32_t before = all_taken();
	meet_at(&other, 3);

	while ((word & LAST_TURN) == 0) {
		turn++;
		if (own == 0)
			send_turn(turn == rounds ? turn | LAST_TURN : turn);
		word = await_turn(turn);
		if (own == 1)
			send_turn(word);
	}
	settle();
	expect("doorbells in all", all_taken() - before, turn);
	print("rounds=%u\n", turn);
}
