/* SPDX-License-Identifier: MIT */
/* The descriptors that a keeper still holds, next to the state that says whose they are. */
#ifndef SERVER_KEPT_HELD_H
#define SERVER_KEPT_HELD_H

#include "server/kept_state.h"

/* What becomes of a set. */
enum kept_fate {
	KEPT_UNKNOWN, /* nobody in the state needs it */
	KEPT_USED,
	KEPT_OVER, /* it belongs to somebody who has left */
};

struct kept_held {
	const struct kept_descriptors *set;
	enum kept_fate fate;
};

/* By serial number and kind. */
struct kept_holdings {
	struct kept_held *held;
	size_t n;
};

/* Fill in `held`, for which there is room. 0, or -EPROTO with the reason. */
int kept_sort_held(struct kept_holdings *holdings, const struct kept_descriptors *sets,
	char reason[KEPT_REASON_SIZE]);

struct kept_held *kept_find_held(
	const struct kept_holdings *holdings, enum server_kept kind, uint64_t serial);

/*
 * Is everything there that somebody needs? That is the vectors of all who are in, and of those who
 * have gone while somebody is in the middle of hearing of them: bits in `half_told`, to be filled
 * in. 0, or -EPROTO with the reason.
 */
int kept_check_held(const struct kept_state *state, const struct kept_holdings *holdings,
	uint64_t *half_told, char reason[KEPT_REASON_SIZE]);

#endif
