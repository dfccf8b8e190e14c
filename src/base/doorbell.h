/* SPDX-License-Identifier: MIT */
/*
 * doorbell - what is done to an eventfd that somebody else has given us, be it a peer's
 * (docs/protocol.md, section 3) or a VMM's.
 */
#ifndef BASE_DOORBELL_H
#define BASE_DOORBELL_H

#include <stdbool.h>
#include <stdint.h>

/* Make a received eventfd fit for use: non-blocking. 0 or -errno. */
int doorbell_prepare(int fd);

/* Ring. 0 or -errno; a counter that is full already is a success. A signal ends it if a hostile
 * owner of the descriptor has made it block. */
int doorbell_ring(int fd);

/* The same for whoever has a timer that sends such a signal, and rings often. `wary` starts as
 * false and stands for all doorbells of one origin: once one of them has blocked, each is looked at
 * first. */
int doorbell_ring_wary(int fd, bool *wary);

/* Take the rings since the last time: 1 and *count, 0 if there are none, or -errno if this is no
 * doorbell at all. Never blocks, whatever the others do to the shared descriptor. */
int doorbell_take(int fd, uint64_t *count);

#endif
