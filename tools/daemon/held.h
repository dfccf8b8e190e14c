/* SPDX-License-Identifier: MIT */
/* Descriptors under unique names: what ivshmem-keeper and the programs that it keeps for share. */
#ifndef TOOLS_DAEMON_HELD_H
#define TOOLS_DAEMON_HELD_H

#include "base/list.h"

#include <stdint.h>

#define HELD_NAME_SIZE 128

/* Room for a prefix, so that no PREFIX.NUMBER is too long. */
#define HELD_PREFIX_SIZE (HELD_NAME_SIZE - 20 - 1)

struct held {
	char name[HELD_NAME_SIZE];
	struct list link;
	int fd;                        /* -1: somebody has taken it */
	unsigned n;                    /* how many descriptors that is: see base/fdset.h */
	struct list accepting;         /* for whoever accepts on it: in a list of listeners; */
	char prefix[HELD_PREFIX_SIZE]; /* its connections become PREFIX.NUMBER */
	uint64_t number;
};

struct held_names {
	void *tree; /* of tsearch() */
	struct list list;
	unsigned count;
};

void held_init(struct held_names *names);
void held_fini(struct held_names *names); /* closes what nobody has taken */

struct held *held_find(const struct held_names *names, const char *name); /* NULL: none */

/* Put a descriptor (-1: none) into the list before `next`; &names->list stands for its end. The
 * descriptor is the list's now, unless this returns NULL: no memory, or the name is taken. */
struct held *held_add(struct held_names *names, const char *name, int fd, struct list *next);

void held_drop(struct held_names *names, struct held *held);

#endif
