/* SPDX-License-Identifier: MIT */
/*
 * budget - does a region fit? Asked before and while it is allocated. The functions that read
 * /proc and /sys take a prefix for their paths ("" on a real machine), so that tests can show them
 * another machine.
 */
#ifndef REGION_BUDGET_H
#define REGION_BUDGET_H

#include "region/region.h"

#define BUDGET_UNLIMITED UINT64_MAX

struct budget {
	uint64_t available; /* bytes, the least that anything allows */
	char source[128];   /* who says so */
	char remedy[128];   /* what to do but to choose a smaller size */
};

#define BUDGET_INIT                                                                                \
	{                                                                                          \
		.available = BUDGET_UNLIMITED                                                      \
	}

/*
 * The number after the word `key` in the text of a file like meminfo or memory.stat, in bytes
 * ("kB" is understood). False if there is no such word.
 */
bool budget_field(const char *text, const char *key, uint64_t *value);

/* What /proc/meminfo calls available, on node `node` only unless REGION_NUMA_ANY. */
void budget_memory(struct budget *budget, const char *root, int node);

/* What the memory limits of the own control group and all above it leave, version 1 and 2. */
void budget_cgroups(struct budget *budget, const char *root);

/* Huge pages of `page` bytes that nobody has or has reserved, on node `node` only unless
 * REGION_NUMA_ANY, counted in bytes. `need` is for the remedy. */
void budget_huge_pages(
	struct budget *budget, const char *root, uint64_t page, int node, uint64_t need);

/*
 * Refuse with -ENOMEM and both numbers if `need` more bytes for the object behind `fd`, of whatever
 * file system that is, do not fit while `reserve` bytes of memory stay free.
 */
int budget_check(int fd, uint64_t need, uint64_t reserve, int node, struct region_error *error);

#endif
