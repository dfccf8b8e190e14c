/* SPDX-License-Identifier: MIT */
/* The descriptors that this process may have open, and which region has a claim to how many. */
#ifndef TOOLS_SERVER_HUB_DESCRIPTORS_H
#define TOOLS_SERVER_HUB_DESCRIPTORS_H

#include "hub.h"

struct descriptors {
	uint64_t limit;   /* RLIMIT_NOFILE */
	uint64_t claimed; /* by us and by all regions together */
	bool in_flight_unlimited;
	bool single; /* one region, whose messages name the options of the command line */
};

/* Raise the limit from soft to hard. */
void descriptors_init(struct descriptors *descriptors, bool single);

/*
 * Claim what the peers of a region may need, and settle max_peers and in_flight_limit by it. If
 * max_peers is not given, it is what is left divided by `sharers`. 0, or -EMFILE with `reason`.
 */
int descriptors_claim(
	struct descriptors *descriptors, struct region_spec *spec, unsigned sharers, char *reason);
void descriptors_release(struct descriptors *descriptors, const struct region_spec *spec);

/* The same for a region whose peers are in already: its numbers are what they are. */
void descriptors_claim_again(struct descriptors *descriptors, struct region_spec *spec);

/* Would a claim with this many peers fit in place of that of `spec`? */
bool descriptors_allow(
	const struct descriptors *descriptors, const struct region_spec *spec, unsigned max_peers);

#endif
