/* SPDX-License-Identifier: MIT */
/*
 * listing - all regions, or the peers of one or all of them, or their doorbells that were seen,
 * some at a time, so that nobody waits for the making of a long list. Who comes or goes meanwhile
 * may be in it or not; who stays is in it once.
 */
#ifndef TOOLS_SERVER_CONTROL_LISTING_H
#define TOOLS_SERVER_CONTROL_LISTING_H

#include "hub/bells.h"
#include "hub/hub.h"

#include <jansson.h>
#include <stdbool.h>

enum listing_kind { LISTING_REGIONS, LISTING_PEERS, LISTING_DOORBELLS };

#define LISTING_PART 32 /* entries of one reply at most */

struct listing;

/* `region` NULL: all; else it must exist. NULL without memory. */
struct listing *listing_create(struct hub *hub, enum listing_kind kind, const char *region);

/* Of a session that lives longer. */
struct listing *listing_create_doorbells(struct hub *hub, const struct bells *bells);
void listing_destroy(struct listing *listing);

/* The parameters of the next reply; *more: it is not the last. NULL without memory. */
json_t *listing_next(struct listing *listing, bool *more);

#endif
