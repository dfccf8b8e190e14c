/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Between two parts regions and peers come and go, so a listing holds neither:
 * it has the names of the regions as they were at its start, and of the region that it is in the
 * serial number up to which its peers have been listed. Peers stand in the order of these numbers.
 */
#include "listing.h"

#include "describe.h"

#include <stdlib.h>
#include <string.h>

struct listing {
	struct hub *hub;
	enum listing_kind kind;
	char (*names)[HUB_NAME_SIZE];
	unsigned n, at;
	uint64_t serial; /* of the last peer listed of names[at]; 0: none yet */

	const struct bells *bells; /* borrowed; only of LISTING_DOORBELLS */
	struct bells_cursor cursor;
};

static bool note_name(void *data, struct hosted *hosted)
{
	struct listing *listing = data;
	memcpy(listing->names[listing->n++], hosted_spec(hosted)->name, HUB_NAME_SIZE);
	return true;
}

struct listing *listing_create(struct hub *hub, enum listing_kind kind, const char *region)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	if (!listing)
		return NULL;
	listing->hub = hub;
	listing->kind = kind;
	listing->names = calloc(region ? 1 : hub_count(hub) + 1, HUB_NAME_SIZE);
	if (!listing->names) {
		free(listing);
		return NULL;
	}
	if (region)
		note_name(listing, hub_find(hub, region));
	else
		hub_visit(hub, note_name, listing);
	return listing;
}

struct listing *listing_create_doorbells(struct hub *hub, const struct bells *bells)
{
	struct listing *listing = calloc(1, sizeof(*listing));
	if (listing)
		*listing = (struct listing){.hub = hub, .kind = LISTING_DOORBELLS, .bells = bells};
	return listing;
}

void listing_destroy(struct listing *listing)
{
	if (listing)
		free(listing->names);
	free(listing);
}

/* One reply in the making. */
struct part {
	struct listing *listing;
	struct hosted *hosted;
	json_t *entries;
	unsigned cost; /* entries, and regions that were looked into */
	bool full;
};

static bool add_peer(void *data, const struct server_peer_info *info)
{
	struct part *part = data;
	struct listing *listing = part->listing;

	if (part->cost >= LISTING_PART) {
		part->full = true;
		return false;
	}
	json_array_append_new(part->entries, describe_peer(part->hosted, info));
	listing->serial = info->serial;
	part->cost++;
	return true;
}

static void add_region(struct part *part)
{
	switch (part->listing->kind) {
	case LISTING_REGIONS:
		json_array_append_new(part->entries, describe_region(part->hosted));
		break;
	case LISTING_PEERS:
		server_visit_after(
			hosted_server(part->hosted), part->listing->serial, add_peer, part);
		break;
	case LISTING_DOORBELLS: /* next_doorbells() */
		break;
	}
}

static bool add_doorbell(void *data, const struct bell_info *bell)
{
	struct part *part = data;
	json_array_append_new(part->entries, describe_doorbell(bell));
	part->full = ++part->cost == LISTING_PART;
	return !part->full;
}

static json_t *next_doorbells(struct part *part, bool *more)
{
	uint64_t watched, unwatched;

	bells_visit(part->listing->bells, &part->listing->cursor, add_doorbell, part);
	*more = part->full;
	bells_count(part->listing->bells, &watched, &unwatched);
	return json_pack("{s:o, s:I, s:I}", "doorbells", part->entries, "watched",
		(json_int_t)watched, "unwatched", (json_int_t)unwatched);
}

json_t *listing_next(struct listing *listing, bool *more)
{
	struct part part = {.listing = listing, .entries = json_array()};

	if (listing->kind == LISTING_DOORBELLS)
		return next_doorbells(&part, more);
	while (listing->at < listing->n && part.cost < LISTING_PART) {
		part.hosted = hub_find(listing->hub, listing->names[listing->at]);
		if (part.hosted)
			add_region(&part);
		if (part.full)
			break;
		listing->at++;
		listing->serial = 0;
		part.cost++;
	}
	*more = listing->at < listing->n;
	return json_pack(
		"{s:o}", listing->kind == LISTING_REGIONS ? "regions" : "peers", part.entries);
}
