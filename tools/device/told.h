/* SPDX-License-Identifier: MIT */
/*
 * told - what a server has told a device, in memory that outlives the process: the words of the
 * opening, and for each doorbell of a peer that is there its owner and the number by which the
 * descriptor is held. Also the word that is being read, so that none is lost or taken twice,
 * whenever the process is killed. docs/restart.md has the format and the argument.
 *
 * No descriptors here but the connection: who holds them is the caller's business.
 */
#ifndef TOOLS_DEVICE_TOLD_H
#define TOOLS_DEVICE_TOLD_H

#include "wire/wire.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TOLD_UNKEPT (UINT64_MAX >> 9) /* in place of a number: nobody could hold the descriptor */

struct told_entry {
	int64_t value;   /* WIRE_REGION, or a peer's ID */
	uint64_t number; /* of the descriptor that came with it; 0: the entry is free */
};

struct told {
	struct told_header *header;
	uint64_t *
		cut; /* bits: peers of whom a doorbell is missing, so that later ones don't count */
	struct told_entry *entries;
	uint32_t hint; /* no entry below it is free */
};

/* Bytes of memory for `slots` descriptors; a multiple of the page. */
size_t told_size(unsigned slots);

/* Begin anew in `memory`, which is zero and has told_size() bytes. `path` is the server's. */
void told_begin(struct told *told, void *memory, unsigned slots, const char *path);

/* The server's socket. */
const char *told_path(const struct told *told);

/*
 * Take over what is in memory of `size` bytes, or less. 0; or -EINVAL, -ENOTSUP (of a newer
 * version), and *field says what is wrong. What was going on when the process was killed is brought
 * to its end: `drop` is called with the numbers of descriptors that are of no use any more.
 */
int told_resume(struct told *told, void *memory, size_t size,
	void (*drop)(void *data, uint64_t number), void *data, const char **field);

/* The server has said so far what makes `session`. */
void told_session(const struct told *told, struct wire_session *session);

/* The words of the opening, version and own ID: how many there are. */
unsigned told_opening(const struct told *told, int64_t words[2]);

/* Nothing more will come from the server. */
bool told_lost(const struct told *told);
void told_set_lost(struct told *told);

/* The table, in no order. Returns how many entries it has, free ones among them. */
uint32_t told_entries(const struct told *told, const struct told_entry **entries);

/* The word that is being read: how many of its bytes are there; the number of its descriptor, 0: it
 * has none so far. */
unsigned told_have(const struct told *told);
uint64_t told_descriptor(const struct told *told);

/* A number that no descriptor has had before. */
uint64_t told_new_number(struct told *told);

/*
 * Read exactly `n` bytes, which are there and no more than the word lacks, off the connection, and
 * throw their descriptor away: it is held as `number` (0: none has come so far). Bytes or -errno;
 * -EPROTO: there was one that is not held, because it was sent with more than one word.
 */
ssize_t told_take(struct told *told, int sock, size_t n, uint64_t number);

/* The word is whole, this is what it says. */
int64_t told_word(const struct told *told);

/* Remember it, and begin the next one. To be called once the session has found nothing wrong with
 * it. False: it says something of a peer that is cut, and is not to be passed on. */
bool told_act(struct told *told, void (*drop)(void *data, uint64_t number), void *data);

#endif
