/* SPDX-License-Identifier: MIT */
/*
 * users - what each user takes of a process, over all of its servers: descriptors, and bytes of
 * output queues; and which lines of the log he may cause. Nothing of it is kept over a restart: it
 * follows from who is in.
 */
#ifndef SERVER_USERS_H
#define SERVER_USERS_H

#include <stdint.h>

struct users;

/* 0: no limit. */
struct users_limits {
	uint64_t descriptors; /* as in server_peer_info, of all his peers */
	uint64_t queue_bytes; /* memory of their output queues */
};

struct users *users_create(void); /* NULL without memory */

/* Once no server counts with it any more. NULL is allowed. */
void users_destroy(struct users *users);

/* For those who come, and for queues at once. */
void users_set_limits(struct users *users, const struct users_limits *limits);
const struct users_limits *users_limits(const struct users *users);

/* What a user takes now. */
void users_get(const struct users *users, uint32_t uid, struct users_limits *taken);

/* The time, for the log: before peers are looked at whose events have come. Never goes back. */
void users_set_time(struct users *users, uint64_t now_ms);

/*
 * Of whoever takes too much for his queues, evict the peer that has read nothing for the longest
 * time, if that is as long as --max-queue gives it. One of each user; its server has to be run
 * then. Returns in how many milliseconds this must be called again at the latest, or -1: only after
 * the next event.
 */
int users_run(struct users *users, uint64_t now_ms);

#endif
