/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Clearing must not touch the memory through a mapping: whoever can truncate
 * the object, or punches holes while huge pages are short, would kill us with SIGBUS. System calls
 * on the descriptor give an error instead. Three ways, since what was allocated must stay so:
 *
 *   write zeros    ordinary pages: those that are there stay there
 *   punch a hole   a region that was not allocated at the start: as it was then, and for nothing
 *   both           huge pages, which cannot be written to: give them back, and take zeroed ones
 *
 * Sealing against shrinking and growing forbids none of it.
 */
#include "region/region.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define PIECE (UINT64_C(64) << 10)

static int punch(int fd, uint64_t offset, uint64_t size)
{
	int result;
	do
		result = fallocate(
			fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static int allocate(int fd, uint64_t offset, uint64_t size)
{
	int result;
	do
		result = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
	while (result < 0 && errno == EINTR);
	return result < 0 ? -errno : 0;
}

static int write_zeros(int fd, uint64_t offset, uint64_t size)
{
	static const char zeros[PIECE];

	while (size > 0) {
		size_t piece = size < PIECE ? (size_t)size : PIECE;
		ssize_t written = pwrite(fd, zeros, piece, (off_t)offset);
		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return written < 0 ? -errno : -EIO;
		offset += (uint64_t)written;
		size -= (uint64_t)written;
	}
	return 0;
}

int region_clear(const struct region *region, bool allocated, uint64_t offset, uint64_t size)
{
	if (offset >= region->size)
		return 0;
	if (size > region->size - offset)
		size = region->size - offset;
	if (allocated && region->granule <= (uint64_t)sysconf(_SC_PAGESIZE))
		return write_zeros(region->fd, offset, size);
	int error = punch(region->fd, offset, size);
	return error == 0 && allocated ? allocate(region->fd, offset, size) : error;
}
