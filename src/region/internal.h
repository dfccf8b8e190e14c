/* SPDX-License-Identifier: MIT */
/* What the files of src/region share among themselves. */
#ifndef REGION_INTERNAL_H
#define REGION_INTERNAL_H

#include "region/region.h"

/* Fill error->text (with %m for `err`, a negative errno) and return `err`. */
int region_fail(struct region_error *error, int err, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Make a new object of size 0, with its final mode and no name, or open an existing one. Fills
 * region->fd, kind, granule, created and name; on failure what it filled is for region_fini().
 */
int backing_open(
	struct region *region, const struct region_config *config, struct region_error *error);

/* Page size of the memory behind `fd`. */
uint64_t backing_granule(int fd);

/* "/name" for shm_open(), or false if it cannot be one. */
#define SHM_NAME_SIZE 256
bool shm_name(const char *name, char out[SHM_NAME_SIZE]);

/* Does the machine have node `node`? */
int numa_check(int node, struct region_error *error);
/* All pages of the mapped object, now and later, come from this node. 0 or -errno. */
int numa_bind(void *address, uint64_t size, int node);

#endif
