/* SPDX-License-Identifier: MIT */
/* A region_spec as text, for the next process: see keeping.h. */
#ifndef TOOLS_SERVER_HUB_SAVED_H
#define TOOLS_SERVER_HUB_SAVED_H

#include "hub.h"

/* What the next process must know of a region besides its spec. */
struct region_life {
	uint64_t created_ms; /* wall clock */
	uint32_t generation;
	unsigned state_peers; /* that the kept state has room for; 0: there is none */
	bool draining;
	bool region_created; /* struct region's `created` */
	dev_t device;        /* struct listener's */
	ino_t inode;
};

/* Malloc'ed; NULL without memory. */
char *saved_write(const struct region_spec *spec, const struct region_life *life);

/*
 * Back. All is checked as if an enemy had written it. 0, or with `reason`: -EPROTO (no such text),
 * -EOPNOTSUPP (of a later version of this program), -ENOMEM.
 */
int saved_read(const char *text, size_t size, struct region_spec *spec, struct region_life *life,
	char *reason);

#endif
