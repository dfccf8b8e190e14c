/* SPDX-License-Identifier: MIT */
/*
 * Two guests throw a doorbell back and forth.
 *
 * Theory of operation. A doorbell says nothing, so the number of the turn goes through the memory:
 * written before ringing, looked at when the interrupt has come. Each side waits for the other's
 * doorbell before it rings again, so none may merge with another, and the counts must be exact. The
 * vectors are used in turn.
 *
 * The IDs also go through the memory, and may be faster than the server: a device that has not yet
 * heard of a peer drops its doorbells. So before the game each side rings until the other says that
 * it has heard it; only what comes after that counts. With more=1 there may be interrupts besides.
 */
#include "cases.h"
#include "device.h"
#include "machine.h"

#define SAMPLES     65536u
#define HELLO_DOZES 200u        /* of 10 ms at most */
#define LAST_TURN   0x80000000u /* with the number of the turn: seat 0 ends the game */
#define DISMISSED   0x51707453u

static uint32_t samples[SAMPLES];

uint32_t seat_read(uint32_t seat, uint32_t word)
{
	return (uint32_t)bar_read(IVSHMEM_BAR_MEMORY, seat * SEAT_SIZE + word, 4);
}

void seat_write(uint32_t seat, uint32_t word, uint32_t value)
{
	bar_write(IVSHMEM_BAR_MEMORY, seat * SEAT_SIZE + word, 4, value);
}

struct partner meet(void)
{
	struct partner partner = {.seat = parameter("seat", 0) ^ 1};
	uint32_t own = partner.seat ^ 1;

	seat_write(own, SEAT_ID, device.id);
	seat_write(own, SEAT_VECTORS, msix_used());
	seat_write(own, SEAT_MAGIC, SEAT_TAKEN);
	while (seat_read(partner.seat, SEAT_MAGIC) != SEAT_TAKEN)
		doze("the other guest");
	partner.id = seat_read(partner.seat, SEAT_ID);
	partner.vectors = seat_read(partner.seat, SEAT_VECTORS);
	return partner;
}

void meet_at(const struct partner *partner, uint32_t step)
{
	seat_write(partner->seat ^ 1, SEAT_STEP, step);
	while (seat_read(partner->seat, SEAT_STEP) < step)
		doze("the other guest's step");
}

static uint32_t all_taken(void)
{
	uint32_t sum = 0;

	for (uint32_t vector = 0; vector < msix_used(); vector++)
		sum += *msix_taken(vector);
	return sum;
}

/* Ring until the other has heard it, and hear the other. A doorbell takes microseconds: one that
 * has not arrived after HELLO_DOZES will not. */
static void say_hello(const struct partner *partner)
{
	unsigned rung = 0;
	uint32_t dozes = 0;

	while (all_taken() == 0 || seat_read(partner->seat, SEAT_STEP) < 2) {
		if (dozes++ % HELLO_DOZES == 0) {
			ring(partner->id, 0);
			rung++;
		}
		doze("the other's hello");
		if (all_taken() > 0)
			seat_write(partner->seat ^ 1, SEAT_STEP, 2);
	}
	settle();
	print("hello=%u\n", rung);
}

struct game {
	struct partner partner;
	uint32_t own, vectors;     /* seat; that both use */
	uint32_t taken[MSIX_USED]; /* of each vector so far */
};

static void send_turn(const struct game *game, uint32_t turn)
{
	seat_write(game->own, SEAT_TURN, turn);
	ring(game->partner.id, (turn & ~LAST_TURN) % game->vectors);
}

/* A device whose process is killed may interrupt more often than it was rung: then the turn is what
 * the memory says, but without an interrupt nobody looks there. */
static uint32_t await_turn_or_more(struct game *game, uint32_t turn)
{
	uint32_t vector = turn % game->vectors, word;

	do {
		while (*msix_taken(vector) == game->taken[vector])
			doze("the other's doorbell");
		game->taken[vector] = *msix_taken(vector);
		word = seat_read(game->partner.seat, SEAT_TURN);
	} while ((word & ~LAST_TURN) != turn);
	return word;
}

/* Wait for the doorbell of `turn`; returns what the other has written. */
static uint32_t await_turn(struct game *game, uint32_t turn)
{
	uint32_t vector = turn % game->vectors;

	if (parameter("more", 0) != 0)
		return await_turn_or_more(game, turn);
	wait_count("the other's doorbell", msix_taken(vector), ++game->taken[vector]);
	uint32_t word = seat_read(game->partner.seat, SEAT_TURN);
	expect("turn", word & ~LAST_TURN, turn);
	return word;
}

static bool is_last(uint32_t turn, uint32_t rounds)
{
	if (parameter("linger", 0) == 0)
		return turn == rounds;
	return turn >= rounds && seat_read(0, SEAT_DISMISS) == DISMISSED;
}

static uint32_t serve(struct game *game, uint32_t rounds)
{
	for (uint32_t turn = 1;; turn++) {
		bool last = is_last(turn, rounds);
		uint64_t start = cycles();
		send_turn(game, last ? turn | LAST_TURN : turn);
		await_turn(game, turn);
		samples[(turn - 1) % SAMPLES] = (uint32_t)(cycles() - start);
		if (last)
			return turn;
	}
}

static uint32_t answer(struct game *game)
{
	for (uint32_t turn = 1;; turn++) {
		uint32_t word = await_turn(game, turn);
		send_turn(game, word);
		if ((word & LAST_TURN) != 0)
			return turn;
	}
}

void case_pair(void)
{
	msix_start();
	struct game game = {.partner = meet()};
	uint32_t rounds = parameter("rounds", 2000);

	meet_at(&game.partner, 1);
	say_hello(&game.partner);
	game.own = game.partner.seat ^ 1;
	game.vectors = game.partner.vectors < msix_used() ? game.partner.vectors : msix_used();
	for (uint32_t vector = 0; vector < msix_used(); vector++)
		game.taken[vector] = *msix_taken(vector);
	uint32_t before = all_taken();
	meet_at(&game.partner, 3);

	rounds = game.own == 0 ? serve(&game, rounds) : answer(&game);
	settle();
	uint32_t taken = all_taken() - before;
	if (parameter("more", 0) == 0 || taken < rounds)
		expect("doorbells in all", taken, rounds);
	print("id=%u\nother=%u\nrounds=%u\n", device.id, game.partner.id, rounds);
	if (game.own == 0) {
		uint32_t middle = median(samples, rounds < SAMPLES ? rounds : SAMPLES);
		print("rtt_min_ns=%u\nrtt_median_ns=%u\n", nanoseconds(samples[0]),
			nanoseconds(middle));
	}
}
