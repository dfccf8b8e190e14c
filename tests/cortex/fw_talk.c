/* SPDX-License-Identifier: MIT */
/*
 * A seat in the conversation of tests/guest/talk.h, which has its theory of operation, for
 * firmware: "seat", "seats" and "rounds". The layout of the memory is that of tests/guest/talk.c,
 * written down a second time, so that the two check each other.
 */
#include "firmware.h"

#define MAX_SEATS    8u
#define SEATED       0x80000000u
#define HAS_DOORBELL 0x40000000u
#define LETTERS      4096u
#define LETTER_SIZE  64u
#define LETTER_WORDS 15u
#define REPEAT_TICKS 4u

struct pair {
	unsigned id;       /* the other's */
	uint32_t expected; /* number of the next letter from the other; 0: finished */
	uint32_t rung_at;  /* the tick in which we last rang the other */
};

static struct pair pairs[MAX_SEATS];
static unsigned self, seats, rounds;
static uint32_t sent, received, rings, doorbells, repeats;

static uint32_t letter_at(unsigned from, unsigned to)
{
	return LETTERS + (from * MAX_SEATS + to) * LETTER_SIZE;
}

static uint32_t content(unsigned from, unsigned to, uint32_t number, unsigned word)
{
	uint32_t x = number * 2654435761u ^ (from << 24 | to << 16 | word << 8 | 1);

	x ^= x >> 15;
	x *= 2246822519u;
	return x ^ x >> 13;
}

static unsigned vector_of(unsigned from, unsigned to)
{
	return from < to ? from : from - 1;
}

static void ring(unsigned other)
{
	pairs[other].rung_at = ticks;
	rings++;
	ivshmem_mmio_ring(&iv, pairs[other].id, vector_of(self, other));
}

static void send_letter(unsigned other, uint32_t number)
{
	uint32_t letter = letter_at(self, other);

	for (unsigned i = 0; i < LETTER_WORDS; i++)
		store(letter + 4 + 4 * i, content(self, other, number, i));
	ivshmem_mmio_barrier();
	store(letter, number);
	sent++;
	ring(other);
}

static void check_words(unsigned other, uint32_t number)
{
	uint32_t letter = letter_at(other, self);

	ivshmem_mmio_barrier();
	for (unsigned i = 0; i < LETTER_WORDS; i++)
		expect("a letter's word", load(letter + 4 + 4 * i),
			content(other, self, number, i));
	received++;
}

static void repeat(unsigned other)
{
	repeats++;
	ring(other);
}

/* Look for a letter from `other`; whether there was one. */
static bool hear(unsigned other)
{
	struct pair *pair = &pairs[other];
	uint32_t rung = ivshmem_mmio_take(&iv, vector_of(other, self));
	bool leader = self < other;

	if (rung == 0) {
		if (leader && pair->expected == 1 && ticks - pair->rung_at > REPEAT_TICKS)
			repeat(other);
		return false;
	}
	doorbells += rung;
	uint32_t number = load(letter_at(other, self));
	if (number == pair->expected - 1) { /* a doorbell of a letter that we already had */
		if (number == 1 && !leader)
			repeat(other);
		return false;
	}
	expect("a letter's number", number, pair->expected);
	check_words(other, number);
	pair->expected = number == rounds ? 0 : number + 1;
	if (!leader)
		send_letter(other, number);
	else if (number < rounds)
		send_letter(other, number + 1);
	return true;
}

static void sit_down(void)
{
	store(self * 4, SEATED | HAS_DOORBELL | (uint32_t)ivshmem_mmio_id(&iv));
	for (unsigned i = 0; i < seats; i++) {
		uint32_t seat;
		sleep_until((seat = load(i * 4)) & SEATED);
		if ((seat & HAS_DOORBELL) == 0)
			fail("no doorbell");
		pairs[i].id = seat & IVSHMEM_MAX_ID;
		pairs[i].expected = i != self;
	}
}

static void exchange(void)
{
	for (unsigned i = self + 1; i < seats; i++)
		send_letter(i, 1);
	for (bool open = true; open;) {
		uint32_t seen = events;
		bool moved = false;
		open = false;
		for (unsigned i = 0; i < seats; i++) {
			if (pairs[i].expected == 0)
				continue;
			moved |= hear(i);
			open |= pairs[i].expected != 0;
		}
		if (open && !moved)
			ivshmem_mmio_sleep_while(&events, seen);
	}
}

void role_talk(void)
{
	self = parameter("seat", 0);
	seats = parameter("seats", 2);
	rounds = parameter("rounds", 2000);
	if (seats > MAX_SEATS || self >= seats)
		fail("seat");
	clock_start();
	sit_down();
	exchange();
	print("talk: passed seat=%u id=%u sent=%u received=%u rings=%u doorbells=%u repeats=%u\n",
		self, (uint32_t)ivshmem_mmio_id(&iv), sent, received, rings, doorbells, repeats);
}
