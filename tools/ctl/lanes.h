/* SPDX-License-Identifier: MIT */
/*
 * lanes - what the channels of a region look like from outside (docs/channel.md), from a mapping
 * that is only read. Whoever is in the region may change it at any time, or cut it off: each word
 * is loaded once, and what does not add up is left out. No I/O.
 */
#ifndef TOOLS_CTL_LANES_H
#define TOOLS_CTL_LANES_H

#include <ivshmem/channel.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LANES_MAX 1024u /* that are looked at, of all channels of a region together */

/* A copy of what an end says of itself. */
struct lane_end {
	uint32_t position, messages, lost, generation, id, vector, want;
	enum ivshmem_slot_state state; /* NOBODY, too, if it says nothing about this directory */
};

struct lane {
	unsigned channel, number; /* in the directory; in the channel */
	struct lane_end writer, reader;
};

struct lanes_channel {
	char name[64];
	struct ivshmem_channel layout;
	bool sound; /* else its lanes are left out */
};

struct lanes {
	const void *memory;
	uint64_t size;
	unsigned n_channels, n;
	bool more; /* than LANES_MAX */
	struct lanes_channel *channels;
	struct lane *lanes; /* owned, like the channels */
};

/* Read the directory and make room: 0, -ENODATA (there is none that adds up) or -ENOMEM. Whoever
 * gets 0 calls lanes_fini() in the end. */
int lanes_init(struct lanes *lanes, const void *memory, uint64_t size);
void lanes_fini(struct lanes *lanes);

/* Look at all of them now. */
void lanes_look(struct lanes *lanes);

/* Lines between writer and reader: at most those of the ring. -1: what they say cannot be. */
int64_t lane_fill(const struct lanes_channel *channel, const struct lane *lane);

/* Has it asked to be rung, so that it sleeps, probably? */
bool lane_waits(const struct lane_end *end, const struct lane_end *partner);

#endif
