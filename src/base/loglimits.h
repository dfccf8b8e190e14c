/* SPDX-License-Identifier: MIT */
/*
 * loglimits - what users can make us log, limited for each of them and for all together. Nobody can
 * use up the lines that are about others, nor, with however many users, fill the disk.
 */
#ifndef BASE_LOGLIMITS_H
#define BASE_LOGLIMITS_H

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

/* Users that are known at a time: who has been silent for the longest time makes room. */
#define LOG_LIMITS_USERS 64

/* Lines at once, and how many milliseconds it takes for one to come back: 20 in a minute. */
#define LOG_LIMITS_BURST     20
#define LOG_LIMITS_EVERY_MS  3000
#define LOG_LIMITS_ALL_BURST 200
#define LOG_LIMITS_ALL_MS    200

struct log_limits_user {
	uint32_t uid;
	uint64_t used; /* when it was here last; 0: nobody */
	struct log_limit limit;
};

struct log_limits {
	struct log_limit all;
	struct log_limits_user users[LOG_LIMITS_USERS];
	uint64_t calls;
	unsigned held_back;
};

void log_limits_init(struct log_limits *limits);

/* May this user cause a line now? *held_back: how many have been left out, of whomever, since this
 * was last allowed. The clock never goes back. */
bool log_allow_user(struct log_limits *limits, uint32_t uid, uint64_t now_ms, unsigned *held_back);

#endif
