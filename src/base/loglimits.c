/* SPDX-License-Identifier: MIT */
#include "base/loglimits.h"

#include <stddef.h>

void log_limits_init(struct log_limits *limits)
{
	*limits = (struct log_limits){
		.all = LOG_LIMIT_EVERY(LOG_LIMITS_ALL_BURST, LOG_LIMITS_ALL_MS)};
}

/* Its entry, or a new one in the place of who has been silent for the longest time. */
static struct log_limit *find(struct log_limits *limits, uint32_t uid)
{
	struct log_limits_user *oldest = &limits->users[0], *found = NULL;

	for (unsigned i = 0; i < LOG_LIMITS_USERS && !found; i++) {
		struct log_limits_user *user = &limits->users[i];
		if (user->used != 0 && user->uid == uid)
			found = user;
		else if (user->used < oldest->used)
			oldest = user;
	}
	if (!found) {
		found = oldest;
		found->uid = uid;
		found->limit =
			(struct log_limit)LOG_LIMIT_EVERY(LOG_LIMITS_BURST, LOG_LIMITS_EVERY_MS);
	}
	found->used = ++limits->calls;
	return &found->limit;
}

bool log_allow_user(struct log_limits *limits, uint32_t uid, uint64_t now_ms, unsigned *held_back)
{
	unsigned of_one; /* counted here for all of them */

	*held_back = 0;
	if (!log_allow(find(limits, uid), now_ms, &of_one) ||
		!log_allow(&limits->all, now_ms, &of_one)) {
		limits->held_back++;
		return false;
	}
	*held_back = limits->held_back;
	limits->held_back = 0;
	return true;
}
