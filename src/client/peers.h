/* SPDX-License-Identifier: MIT */
/*
 * The peer table: which peers there are and the doorbells that we hold of each.
 *
 * IDs are 0..65535 and mostly close together, so the table has two levels: a lookup is two array
 * accesses, an empty table is 2 KiB, and a thousand peers take four pages of 4 KiB and what their
 * doorbells need. Rejected: a sorted array (a join in the middle moves the rest) and a hash table
 * (more code, and ivshmem_peers() would have to sort).
 */
#ifndef CLIENT_PEERS_H
#define CLIENT_PEERS_H

#include <ivshmem/abi.h>

#include <stddef.h>
#include <stdint.h>

enum entry_state {
	ENTRY_ABSENT,
	ENTRY_KNOWN,
	ENTRY_IGNORED, /* came when the table was full; only remembered so that its later vectors
			  are not taken for its first ones when there is room again */
};

struct peer_entry {
	int *bells; /* eventfds of vectors 0 .. count - 1, owned */
	uint32_t count;
	uint8_t state;  /* enum entry_state */
	uint8_t closed; /* a vector was turned away: later ones must be too, or their index is off
			 */
};

#define PEER_PAGE_SIZE 256
#define PEER_PAGES     ((IVSHMEM_MAX_ID + 1) / PEER_PAGE_SIZE)

struct peer_page {
	unsigned used; /* entries that are not ENTRY_ABSENT */
	struct peer_entry entries[PEER_PAGE_SIZE];
};

/* All zero is an empty table. */
struct peer_table {
	struct peer_page *pages[PEER_PAGES];
	unsigned known;
};

/* The entry of `id` (at most 65535), or NULL if it is ENTRY_ABSENT. Valid until it is removed. */
struct peer_entry *peer_table_find(const struct peer_table *table, unsigned id);

/* A new entry for `id`, which must be absent. NULL: out of memory. */
struct peer_entry *peer_table_add(struct peer_table *table, unsigned id, enum entry_state state);

/* Remove `id`, which must be there, and close its doorbells. */
void peer_table_remove(struct peer_table *table, unsigned id);

void peer_table_fini(struct peer_table *table);

/* The lowest known ID that is at least `id`, or -1. */
int peer_table_next(const struct peer_table *table, unsigned id);

/* Append a doorbell; on success the entry owns it. 0 or -ENOMEM. */
int peer_entry_append(struct peer_entry *entry, int bell);

/* Close the doorbells and make the entry ENTRY_ABSENT. */
void peer_entry_clear(struct peer_entry *entry);

#endif
