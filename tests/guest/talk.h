/* SPDX-License-Identifier: MIT */
/*
 * A conversation over shared memory and doorbells, held by the test guest and by host processes in
 * the end-to-end tests and in scripts/demo.
 *
 * Theory of operation. Every participant has a seat, 0..seats-1. It writes its ID to its seat's
 * word, waits until all seats are taken, and then exchanges `rounds` letters each way with every
 * other participant: the lower seat writes letter 1 and rings, the higher one checks it, answers
 * letter 1 and rings back, and so on. A pair uses doorbells when both sides have them; then a
 * letter is looked at only after the doorbell has rung, so that one lost doorbell stops the
 * conversation and fails it at the deadline. Otherwise (ivshmem-plain) both watch the memory.
 *
 * Each sender has a vector of its own at the receiver (its rank among the others), so `seats` - 1
 * vectors are needed and a doorbell tells who rang. Letter 1 alone may be rung several times: the
 * server's word about a new peer and the peer itself travel on different sockets, so the first
 * doorbells can come before the other side's device knows whom they are for.
 *
 * Who has nothing to do sleeps: until a doorbell rings, a tenth of a second at most, because nobody
 * rings to say that a seat has been taken. The processor time that waiting costs is measured, and
 * so is each trip of a letter to the other and back, by the lower seat, from letter 2 on.
 *
 * The memory belongs to everyone: each word is copied out once and the copy is checked.
 */
#ifndef TALK_H
#define TALK_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define TALK_MAX_SEATS 8u

/* What a participant can do; a guest and a host process differ in nothing else. */
struct talk_port {
	void *region; /* at least TALK_SIZE bytes */
	unsigned id;
	bool doorbell;  /* can ring and be rung */
	uint64_t taken; /* doorbells that rung() has taken so far, on whichever vector */
	/* Ring; 0 or -errno (-ENOENT: no such peer yet). */
	int (*ring)(struct talk_port *port, unsigned id, unsigned vector);
	/* How often own vector `vector` was rung since the last call, or 1 where only "at least
	 * once" is known. */
	uint64_t (*rung)(struct talk_port *port, unsigned vector);
	/* Nothing to do: sleep until a doorbell rings, 100 ms at most, or only for some
	 * microseconds where the memory has to be `watched`. */
	void (*idle)(struct talk_port *port, bool watched);
};

struct talk_plan {
	unsigned seat, seats, rounds;
	unsigned deadline; /* seconds */
};

struct talk_result {
	uint32_t sent, received;      /* letters */
	uint32_t rings, doorbells;    /* doorbells rung, and received */
	uint32_t repeats;             /* times that letter 1 was rung again */
	unsigned ids[TALK_MAX_SEATS]; /* who sat where */
	uint64_t microseconds;        /* of the exchange, all seated */
	uint64_t waited_us;           /* until all were seated... */
	uint64_t waited_cpu_us;       /* ...and the processor time that it took */
	/* Letters' trips to each higher seat and back; 0 where there are none. */
	struct talk_trips {
		uint32_t median_us, longest_us;
	} trips[TALK_MAX_SEATS];
};

/* Bytes at the start of the region that the conversation uses. */
#define TALK_SIZE 16384u

/* Hold the conversation. 0 or -errno: -ETIMEDOUT (deadline), -EBADMSG (a letter was not the
 * expected one), -EINVAL (the plan), -ENOMEM, or what ring() returned. A line about the reason goes
 * to `log`. */
int talk(struct talk_port *port, const struct talk_plan *plan, struct talk_result *result,
	FILE *log);

/* A line with the result, and one about the trips to each higher seat; the same for all
 * participants, for scripts and tests to parse. */
void talk_print(
	const struct talk_plan *plan, const struct talk_result *result, int error, FILE *out);

/* After the conversation: show signs of life, by counting in the own seat's word of the second
 * row, until somebody writes TALK_DISMISS to the word behind the row or the deadline passes.
 * True if dismissed. */
#define TALK_LIFE_OFFSET    64u
#define TALK_DISMISS_OFFSET 128u
#define TALK_DISMISS        0x51707453u
bool talk_linger(struct talk_port *port, const struct talk_plan *plan);

#endif
