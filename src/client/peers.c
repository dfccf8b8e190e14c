/* SPDX-License-Identifier: MIT */
#include "client/peers.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct peer_entry *peer_table_find(const struct peer_table *table, unsigned id)
{
	struct peer_page *page = table->pages[id / PEER_PAGE_SIZE];
	if (!page || page->entries[id % PEER_PAGE_SIZE].state == ENTRY_ABSENT)
		return NULL;
	return &page->entries[id % PEER_PAGE_SIZE];
}

struct peer_entry *peer_table_add(struct peer_table *table, unsigned id, enum entry_state state)
{
	struct peer_page **page = &table->pages[id / PEER_PAGE_SIZE];
	if (!*page)
		*page = calloc(1, sizeof(**page));
	if (!*page)
		return NULL;

	struct peer_entry *entry = &(*page)->entries[id % PEER_PAGE_SIZE];
	entry->state = (uint8_t)state;
	(*page)->used++;
	table->known += state == ENTRY_KNOWN;
	return entry;
}

/* IDs rotate through all 65536, so pages that ran empty are given back. */
void peer_table_remove(struct peer_table *table, unsigned id)
{
	struct peer_page **page = &table->pages[id / PEER_PAGE_SIZE];
	struct peer_entry *entry = &(*page)->entries[id % PEER_PAGE_SIZE];

	table->known -= entry->state == ENTRY_KNOWN;
	peer_entry_clear(entry);
	if (--(*page)->used == 0) {
		free(*page);
		*page = NULL;
	}
}

void peer_table_fini(struct peer_table *table)
{
	for (unsigned i = 0; i < PEER_PAGES; i++) {
		if (!table->pages[i])
			continue;
		for (unsigned j = 0; j < PEER_PAGE_SIZE; j++)
			peer_entry_clear(&table->pages[i]->entries[j]);
		free(table->pages[i]);
		table->pages[i] = NULL;
	}
	table->known = 0;
}

int peer_table_next(const struct peer_table *table, unsigned id)
{
	for (; id < PEER_PAGES * PEER_PAGE_SIZE; id++) {
		const struct peer_page *page = table->pages[id / PEER_PAGE_SIZE];
		if (!page)
			id |= PEER_PAGE_SIZE - 1; /* on to the next page */
		else if (page->entries[id % PEER_PAGE_SIZE].state == ENTRY_KNOWN)
			return (int)id;
	}
	return -1;
}

int peer_entry_append(struct peer_entry *entry, int bell)
{
	/* The room is the next power of two, at least four: it need not be stored. */
	uint32_t n = entry->count;
	if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
		uint32_t room = n == 0 ? 4 : 2 * n;
		int *bells = realloc(entry->bells, room * sizeof(*bells));
		if (!bells)
			return -ENOMEM;
		entry->bells = bells;
	}
	entry->bells[entry->count++] = bell;
	return 0;
}

void peer_entry_clear(struct peer_entry *entry)
{
	for (uint32_t i = 0; i < entry->count; i++)
		close(entry->bells[i]);
	free(entry->bells);
	*entry = (struct peer_entry){.state = ENTRY_ABSENT};
}
