/* SPDX-License-Identifier: MIT */
/* The receiving side of a join, the same code against the bare kernel and against a server. */
#ifndef ANCHORS_RECEIVE_H
#define ANCHORS_RECEIVE_H

#include <stdint.h>

/* How often the last join is repeated for a median, and the rest before each. */
#define LAST_JOINS    41
#define LAST_PAUSE_US 2000

/* Watch `sock` (made non-blocking) in `epoll`. */
void receive_add(int epoll, int sock);

/*
 * Wait up to `timeout_ms` for something to read (negative: without limit), read what is there, at
 * most 64 messages a socket, and close every descriptor at once. Returns the number of messages.
 */
uint64_t receive_ready(int epoll, int timeout_ms);

#endif
