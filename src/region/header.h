/* SPDX-License-Identifier: MIT */
/*
 * header - name, UUID and generation in the first page of a region, where guests find them:
 * enum ivshmem_header in <ivshmem/abi.h>, docs/region.md. The server writes it; everybody else
 * reads it from memory that others can write, and takes it for a hint.
 */
#ifndef REGION_HEADER_H
#define REGION_HEADER_H

#include "base/uuid.h"
#include "region/region.h"

#include <ivshmem/abi.h>

#include <stdint.h>

struct region_identity {
	char name[IVSHMEM_HEADER_NAME_SIZE]; /* legal (base/parse.h), with its zero */
	uint8_t uuid[UUID_SIZE];             /* all zero: none yet */
	uint32_t generation;                 /* 0: not known */
};

/*
 * Write the header of a region that nobody uses yet, or that has just been zeroed.
 *
 * A generation of 0 says that the region is new to this process. If the memory is an object that
 * was there before and has a header, then that one's UUID is taken over and its generation counted
 * up; a UUID or name that differs is an error that names both. Else the UUID is made if there is
 * none, and the generation drawn by lot. Any other generation is that of the last header written:
 * this one gets the next, and nothing in the memory is looked at.
 *
 * On return `identity` is what was written. 0, or -errno with error->text filled and the memory as
 * it was:
 *   -EINVAL  name not legal, or no room for more than the header
 *   -EEXIST  it is another region's header, or something else is there
 *   -EIO     the memory is gone
 *   others   from mmap() and getrandom()
 *
 * An unsealed object can be cut off meanwhile: programs call region_guard_install() before.
 */
int region_write_header(
	const struct region *region, struct region_identity *identity, struct region_error *error);

/*
 * What a copy of the first page says; pure. 0 and *identity, or
 *   -ENODATA          there is no header        -EPROTONOSUPPORT  one of a later version
 *   -EBADMSG          it is damaged, or was being written while it was copied
 */
int region_header_read(const uint8_t page[IVSHMEM_HEADER_SIZE], struct region_identity *identity);

/* The same for a region that is mapped at `memory`, aligned to a page, and has `size` bytes. Copies
 * it by whole words; looks again a few times, for some milliseconds, if it is being written. */
int region_header_find(const void *memory, uint64_t size, struct region_identity *identity);

#endif
