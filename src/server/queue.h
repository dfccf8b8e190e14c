/* SPDX-License-Identifier: MIT */
/*
 * The output queue of one peer: announcements, not messages.
 *
 * An announcement ("peer 7 is here, with these vectors") is one entry of 16 bytes and expands to
 * its messages only when they are sent, so the queue of a thousandth peer is 16 KiB and not 16 MiB.
 * Entries point to members (struct member below); how often a member is mentioned decides how long
 * its descriptors stay open and its ID stays in quarantine.
 *
 * Pure bookkeeping: no system call but memory allocation; flush.c does the sending.
 */
#ifndef SERVER_QUEUE_H
#define SERVER_QUEUE_H

#include "base/list.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * What is announced of a peer: its ID and the eventfds of its vectors. Lives on after the peer has
 * left until no queue mentions it.
 */
struct member {
	uint64_t serial;  /* of its peer's connection */
	uint64_t left_at; /* sequence number of its leave; 0: nobody has been told yet */
	unsigned slot;    /* with kept state: of its record */
	uint16_t id;
	uint16_t vectors;
	bool gone;         /* the peer has left */
	bool fds_open;     /* fds[] are open */
	uint32_t mentions; /* entries that point here: the ID is taken while > 0 */
	uint32_t connects; /* of these, connects: fds[] are needed while > 0 */
	uint64_t pass;     /* the last queue_cancel_gone() that withdrew it */
	struct list link;  /* server.departed, until everybody's queue knows */
	int fds[];         /* eventfds, owned */
};

enum entry_kind {
	ENTRY_CANCELLED, /* nothing: was withdrawn before its first byte went out */
	ENTRY_HELLO,     /* version, own ID, region */
	ENTRY_CONNECT,   /* the member's ID with each of its descriptors */
	ENTRY_LEAVE,     /* the member's ID alone */
	ENTRY_FAREWELL,  /* at server exit: the ID of every other live peer, alone */
};

struct entry {
	struct member *member;
	enum entry_kind kind;
	uint32_t messages; /* that it expands to */
};

struct queue {
	struct entry *ring; /* NULL while empty: an idle peer has no queue memory */
	uint32_t capacity;  /* a power of two, or 0 */
	uint32_t head, count;
	uint32_t done;     /* messages of the head entry that are gone whole */
	uint32_t offset;   /* bytes of its next message that are gone (its descriptor with them) */
	uint64_t messages; /* still to send */
	uint64_t *meter;   /* bytes of all rings that share it; NULL: nobody counts */
};

/* From now on count its memory there. */
void queue_set_meter(struct queue *queue, uint64_t *meter);

/* Make room for `entries` more, so that the next that many pushes cannot fail. 0 or -ENOMEM. */
int queue_reserve(struct queue *queue, uint32_t entries);

/* Append; the room must have been reserved. */
void queue_push(
	struct queue *queue, enum entry_kind kind, struct member *member, uint32_t messages);

/* Entry number `i` from the head. i < queue->count. */
struct entry *queue_at(const struct queue *queue, uint32_t i);

/*
 * Withdraw every connect that is queued and not begun and whose member is gone, and mark these
 * members with `pass`: this reader has never heard of them and must not hear that they left. One
 * pass for all, however many have gone at once.
 */
void queue_cancel_gone(struct queue *queue, uint64_t pass);

/*
 * `messages` more have gone out whole, and then `offset` bytes of the next. Calls `release` for
 * each member that an entry stops mentioning.
 */
typedef void queue_release(void *data, struct member *member);
void queue_advance(struct queue *queue, uint32_t messages, uint32_t offset, queue_release *release,
	void *data);

/* Drop everything and free the memory. */
void queue_clear(struct queue *queue, queue_release *release, void *data);

/* The same without a word to the members. */
void queue_free(struct queue *queue);

#endif
