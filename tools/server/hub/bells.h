/* SPDX-License-Identifier: MIT */
/*
 * bells - see doorbells being rung. They go from peer to peer without the server, which has copies
 * of the eventfds all the same, for it has made them. Looking costs a wake-up for each ring, and
 * each ring a little more; so it is done only while somebody asks.
 *
 * What is seen is never more than what was rung. What goes into the kernel (KVM's irqfd) is not
 * seen at all: docs/observability.md says what can be known.
 */
#ifndef TOOLS_SERVER_HUB_BELLS_H
#define TOOLS_SERVER_HUB_BELLS_H

#include "hub.h"

#define BELLS_SESSIONS    8     /* at a time */
#define BELLS_DESCRIPTORS 2     /* of one of them */
#define BELLS_MAX_VECTORS 32768 /* of one of them */

struct bells; /* one session: who asks, about what */

/* A doorbell: its receiver, which vector, and how often it has been seen rung in this session. */
struct bell_info {
	const char *region;
	int id;
	uint64_t serial;
	unsigned vector;
	uint64_t seen;
};

/* It has just been seen rung. May not call back. */
typedef void bells_watcher(void *data, const struct bell_info *bell);

/*
 * Look at the doorbells of all peers of `region`, NULL: of all regions; those who are in already
 * are looked at bit by bit, those who join before anybody can ring them. `watcher` may be NULL.
 * 0, -EUSERS: BELLS_SESSIONS are there, or -errno.
 */
int bells_start(struct bells **out, struct hub *hub, const char *region, bells_watcher *watcher,
	void *data);
void bells_stop(struct bells *bells);

/* Those at the end of a hub, at once. */
void bells_stop_all(struct hub *hub);

/* The region of the session; "": all. */
const char *bells_region(const struct bells *bells);

/* Where a visit has come to; {0}: at the beginning. */
struct bells_cursor {
	uint64_t number;
	unsigned vector;
};

/* Those that have been seen rung, until `visit` returns false; that one will not come again. */
void bells_visit(const struct bells *bells, struct bells_cursor *cursor,
	bool (*visit)(void *data, const struct bell_info *bell), void *data);

/* How many vectors are looked at, and how many are not (yet). */
void bells_count(const struct bells *bells, uint64_t *watched, uint64_t *unwatched);

/* Is it more than can be looked at? */
bool bells_full(const struct bells *bells);

#endif
