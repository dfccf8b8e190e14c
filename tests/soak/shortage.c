/* SPDX-License-Identifier: MIT */
#include "shortage.h"

#include "../fault/fault.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static enum shortage present;
static struct chance *how_short;

void shortage_set(enum shortage shortage, struct chance *chance)
{
	present = shortage;
	how_short = chance;
}

bool something_is_short(void)
{
	return present != SHORT_OF_NOTHING;
}

/* As many descriptors more as `left`; those that are open stay. */
static void limit_descriptors(struct rlimit *before, unsigned left)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, before) < 0)
		abort();
	int lowest = fcntl(0, F_DUPFD_CLOEXEC, 0);
	if (lowest < 0)
		abort();
	close(lowest);
	limit = *before;
	limit.rlim_cur = (rlim_t)lowest + left;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		abort();
}

void shortage_around(bool entering)
{
	static struct rlimit before;

	switch (present) {
	case SHORT_OF_NOTHING:
		break;
	case SHORT_OF_ANYTHING:
		if (entering)
			fault_arm(1 + chance_below(how_short, 1u << chance_below(how_short, 12)));
		else
			(void)fault_disarm();
		break;
	case SHORT_OF_DESCRIPTORS:
		if (entering)
			limit_descriptors(&before, chance_below(how_short, 12));
		else if (setrlimit(RLIMIT_NOFILE, &before) < 0)
			abort();
		break;
	}
}
