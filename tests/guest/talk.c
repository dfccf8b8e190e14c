/* SPDX-License-Identifier: MIT */
/*
 * The conversation; talk.h has the theory of operation. Layout of the region, all little-endian as
 * both kinds of participants run on the same machine:
 *
 *     0     seats, a word each: TALK_SEATED, TALK_HAS_DOORBELL, ID
 *     64    signs of life, a word a seat
 *     128   dismissal, one word
 *     4096  letters, 64 bytes each, indexed by sender * TALK_MAX_SEATS + receiver
 */
#include "talk.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ivshmem/abi.h"

#define TALK_SEATED       0x80000000u
#define TALK_HAS_DOORBELL 0x40000000u
#define TALK_LETTERS      4096u
#define LETTER_WORDS      15
#define REPEAT_US         200000

struct letter {
	uint32_t number; /* written last, read first */
	uint32_t words[LETTER_WORDS];
};

struct pair {
	unsigned id;       /* the other's */
	uint32_t expected; /* number of the next letter from the other; 0: finished */
	uint64_t rung_at;  /* when we last rang the other */
	uint64_t sent_at;  /* when we wrote our last letter */
	uint32_t *trips;   /* us, of letters from 2 on, if we lead; else NULL */
	bool doorbell;
};

struct conversation {
	struct talk_port *port;
	const struct talk_plan *plan;
	struct talk_result *result;
	FILE *log;
	struct pair pairs[TALK_MAX_SEATS];
	bool watched; /* some pair does without doorbells */
};

static uint64_t clock_us(clockid_t clock)
{
	struct timespec ts;
	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t now_us(void)
{
	return clock_us(CLOCK_MONOTONIC);
}

static uint32_t *word_at(const struct talk_port *port, unsigned offset)
{
	return (uint32_t *)((char *)port->region + offset);
}

static struct letter *letter_at(const struct talk_port *port, unsigned from, unsigned to)
{
	return (struct letter *)((char *)port->region + TALK_LETTERS) +
		(size_t)from * TALK_MAX_SEATS + to;
}

/* What letter `number` says: differs in every word, so that a torn or stale letter shows. */
static uint32_t content(unsigned from, unsigned to, uint32_t number, unsigned word)
{
	uint32_t x = number * 2654435761u ^ (from << 24 | to << 16 | word << 8 | 1);
	x ^= x >> 15;
	x *= 2246822519u;
	return x ^ x >> 13;
}

/* The vector of `to` that belongs to `from`: its rank among the others. */
static unsigned vector_of(unsigned from, unsigned to)
{
	return from < to ? from : from - 1;
}

static int ring(struct conversation *c, unsigned other)
{
	struct pair *pair = &c->pairs[other];
	if (!pair->doorbell)
		return 0;
	pair->rung_at = now_us();
	c->result->rings++;
	int err = c->port->ring(c->port, pair->id, vector_of(c->plan->seat, other));
	/* Not announced to us yet: letter 1 is rung again, nothing later can meet this. */
	return err == -ENOENT && pair->expected <= 2 ? 0 : err;
}

static int send_letter(struct conversation *c, unsigned other, uint32_t number)
{
	unsigned self = c->plan->seat;
	struct letter *letter = letter_at(c->port, self, other);

	c->pairs[other].sent_at = now_us();
	for (unsigned i = 0; i < LETTER_WORDS; i++)
		__atomic_store_n(
			&letter->words[i], content(self, other, number, i), __ATOMIC_RELAXED);
	__atomic_store_n(&letter->number, number, __ATOMIC_RELEASE);
	c->result->sent++;
	return ring(c, other);
}

/* Letter 1 again, or the answer to it. */
static int repeat(struct conversation *c, unsigned other)
{
	c->result->repeats++;
	return ring(c, other);
}

/* Look for a letter from `other`. 1 if there was one, 0 if not, or -errno. */
static int hear(struct conversation *c, unsigned other)
{
	struct pair *pair = &c->pairs[other];
	unsigned self = c->plan->seat;
	bool leader = self < other;

	if (pair->doorbell) {
		uint64_t rung = c->port->rung(c->port, vector_of(other, self));
		if (rung == 0) {
			bool silent = pair->expected == 1 && leader;
			if (silent && now_us() - pair->rung_at > REPEAT_US)
				return repeat(c, other);
			return 0;
		}
		c->result->doorbells += (uint32_t)rung;
	}

	const struct letter *letter = letter_at(c->port, other, self);
	uint32_t number = __atomic_load_n(&letter->number, __ATOMIC_ACQUIRE);
	if (number == pair->expected - 1) { /* a doorbell of a letter that we already had */
		if (pair->doorbell && number == 1 && !leader)
			return repeat(c, other);
		return 0;
	}
	if (number != pair->expected) {
		fprintf(c->log, "seat %u: letter %u from seat %u, expected %u\n", self, number,
			other, pair->expected);
		return -EBADMSG;
	}
	for (unsigned i = 0; i < LETTER_WORDS; i++) {
		uint32_t word = __atomic_load_n(&letter->words[i], __ATOMIC_RELAXED);
		if (word == content(other, self, number, i))
			continue;
		fprintf(c->log, "seat %u: letter %u from seat %u: word %u is wrong\n", self, number,
			other, i);
		return -EBADMSG;
	}
	c->result->received++;
	if (pair->trips != NULL && number > 1)
		pair->trips[number - 2] = (uint32_t)(now_us() - pair->sent_at);

	bool last = number == c->plan->rounds;
	pair->expected = number + 1;
	int err = 0;
	if (!leader)
		err = send_letter(c, other, number);
	else if (!last)
		err = send_letter(c, other, number + 1);
	if (last)
		pair->expected = 0;
	return err < 0 ? err : 1;
}

static bool late(const struct conversation *c, uint64_t start)
{
	if (now_us() - start < (uint64_t)c->plan->deadline * 1000000)
		return false;
	fprintf(c->log, "seat %u: nothing more came within %u s\n", c->plan->seat,
		c->plan->deadline);
	for (unsigned i = 0; i < c->plan->seats; i++)
		if (i != c->plan->seat && c->pairs[i].expected != 0)
			fprintf(c->log, "seat %u: waited for letter %u from seat %u\n",
				c->plan->seat, c->pairs[i].expected, i);
	return true;
}

static int sit_down(struct conversation *c, uint64_t start)
{
	struct talk_port *port = c->port;
	uint32_t own = TALK_SEATED | (port->doorbell ? TALK_HAS_DOORBELL : 0) | port->id;
	uint64_t cpu = clock_us(CLOCK_PROCESS_CPUTIME_ID);

	__atomic_store_n(word_at(port, c->plan->seat * 4), own, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < c->plan->seats; i++) {
		uint32_t seat;
		while (seat = __atomic_load_n(word_at(port, i * 4), __ATOMIC_ACQUIRE),
			!(seat & TALK_SEATED)) {
			if (late(c, start))
				return -ETIMEDOUT;
			port->idle(port, !port->doorbell);
		}
		c->pairs[i].id = seat & IVSHMEM_MAX_ID;
		c->pairs[i].expected = i == c->plan->seat ? 0 : 1;
		c->pairs[i].doorbell = port->doorbell && seat & TALK_HAS_DOORBELL;
		c->watched |= i != c->plan->seat && !c->pairs[i].doorbell;
		c->result->ids[i] = seat & IVSHMEM_MAX_ID;
	}
	c->result->waited_us = now_us() - start;
	c->result->waited_cpu_us = clock_us(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	return 0;
}

static int exchange(struct conversation *c, uint64_t start)
{
	const struct talk_plan *plan = c->plan;
	int err = 0;

	for (unsigned i = plan->seat + 1; i < plan->seats && err >= 0; i++)
		err = send_letter(c, i, 1);
	for (bool open = true; open && err >= 0;) {
		bool moved = false;
		open = false;
		for (unsigned i = 0; i < plan->seats && err >= 0; i++) {
			if (c->pairs[i].expected == 0)
				continue;
			err = hear(c, i);
			moved |= err == 1;
			open |= c->pairs[i].expected != 0;
		}
		if (moved || !open || err < 0)
			continue;
		if (late(c, start))
			err = -ETIMEDOUT;
		else
			c->port->idle(c->port, c->watched);
	}
	return err < 0 ? err : 0;
}

static int by_value(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static void sum_up(struct conversation *c)
{
	size_t n = c->plan->rounds - 1;

	for (unsigned i = c->plan->seat + 1; i < c->plan->seats && n > 0; i++) {
		uint32_t *trips = c->pairs[i].trips;
		qsort(trips, n, sizeof(*trips), by_value);
		c->result->trips[i] = (struct talk_trips){trips[n / 2], trips[n - 1]};
	}
}

int talk(
	struct talk_port *port, const struct talk_plan *plan, struct talk_result *result, FILE *log)
{
	struct conversation c = {.port = port, .plan = plan, .result = result, .log = log};
	uint64_t start = now_us();
	int err = 0;

	memset(result, 0, sizeof(*result));
	if (plan->seats < 2 || plan->seats > TALK_MAX_SEATS || plan->seat >= plan->seats ||
		plan->rounds == 0)
		return -EINVAL;
	for (unsigned i = plan->seat + 1; i < plan->seats; i++) {
		c.pairs[i].trips = calloc(plan->rounds, sizeof(*c.pairs[i].trips));
		err = c.pairs[i].trips == NULL ? -ENOMEM : err;
	}
	if (err == 0)
		err = sit_down(&c, start);
	uint64_t seated = now_us();
	if (err == 0)
		err = exchange(&c, start);
	result->microseconds = now_us() - seated;
	if (err == 0)
		sum_up(&c);
	for (unsigned i = 0; i < plan->seats; i++)
		free(c.pairs[i].trips);
	return err;
}

void talk_print(
	const struct talk_plan *plan, const struct talk_result *result, int error, FILE *out)
{
	fprintf(out,
		"talk: %s seat=%u id=%u sent=%u received=%u rings=%u doorbells=%u repeats=%u "
		"us=%llu waited_us=%llu waited_cpu_us=%llu\n",
		error ? "failed" : "passed", plan->seat, result->ids[plan->seat], result->sent,
		result->received, result->rings, result->doorbells, result->repeats,
		(unsigned long long)result->microseconds, (unsigned long long)result->waited_us,
		(unsigned long long)result->waited_cpu_us);
	for (unsigned i = plan->seat + 1; i < plan->seats && !error; i++)
		fprintf(out, "trips: seat=%u other=%u median_us=%u longest_us=%u\n", plan->seat, i,
			result->trips[i].median_us, result->trips[i].longest_us);
	fflush(out);
}

bool talk_linger(struct talk_port *port, const struct talk_plan *plan)
{
	uint64_t start = now_us();
	uint32_t *life = word_at(port, TALK_LIFE_OFFSET + plan->seat * 4);

	while (now_us() - start < (uint64_t)plan->deadline * 1000000) {
		uint32_t order =
			__atomic_load_n(word_at(port, TALK_DISMISS_OFFSET), __ATOMIC_ACQUIRE);
		if (order == TALK_DISMISS)
			return true;
		__atomic_fetch_add(life, 1, __ATOMIC_RELAXED);
		port->idle(port, true);
	}
	return false;
}
