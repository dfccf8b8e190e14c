/* SPDX-License-Identifier: MIT */
/* bellset - eventfds that others write to and read, looked at without doing either: when has one
 * been rung? */
#ifndef TOOLS_SERVER_HUB_BELLSET_H
#define TOOLS_SERVER_HUB_BELLSET_H

#include <stdbool.h>
#include <stdint.h>

struct bell {
	void *owner; /* of whoever watches it, as vector */
	unsigned vector;
	int fd;        /* borrowed */
	uint64_t seen; /* so often it was rung, as far as that was seen */
	unsigned char credit;
	bool ready; /* what the watch itself has caused is over */
};

typedef void bell_rung(void *data, struct bell *bell);

struct bell_set {
	int unread, taken; /* epoll sets: there may be something to be seen if one is readable */
	bell_rung *rung;
	void *data;
	uint64_t n;
};

/* 0 or -errno, with nothing left. */
int bell_set_open(struct bell_set *set, bell_rung *rung, void *data);
void bell_set_close(struct bell_set *set);

/* Watch as many of `n` as can be; what was rung before does not count. How many those are, the
 * first ones: less than `n` if the kernel has no room for more. */
unsigned bell_set_watch(struct bell_set *set, struct bell *bells, unsigned n);
void bell_set_unwatch(struct bell_set *set, const struct bell *bells, unsigned n);

/* Look, and call `rung` for each that was. A bounded number of them: could there be more? */
bool bell_set_look(struct bell_set *set);

#endif
