/* SPDX-License-Identifier: MIT */
/* A region that an earlier process has made, and that somebody has held since. */
#include "region/internal.h"

#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int region_adopt(struct region *region, int fd, const struct region_config *config, bool created,
	struct region_error *error)
{
	struct stat st;

	*region = (struct region)REGION_INIT;
	if (fstat(fd, &st) < 0)
		return region_fail(error, -errno, "the region that was left: %m");
	uint64_t size = (uint64_t)st.st_size;
	char has[24], wanted[24];
	if (!S_ISREG(st.st_mode) || size < REGION_MIN_SIZE || size < config->size)
		return region_fail(error, -EINVAL,
			"the region that was left has %s and should have %s",
			format_size(size, has), format_size(config->size, wanted));
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR)
		return region_fail(error, -EINVAL, "the region that was left is not writable");
	if (created && config->kind == REGION_SHM) {
		char path[SHM_NAME_SIZE];
		region->name = shm_name(config->name, path) ? strdup(path) : NULL;
		if (!region->name)
			return region_fail(error, -EINVAL, "-M/--shm: no legal name");
		region->created = true;
	}
	int seals = fcntl(fd, F_GET_SEALS);
	region->kind = config->kind;
	region->fd = fd;
	region->size = size;
	region->granule = backing_granule(fd);
	region->sealed = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
	return 0;
}

int region_open_read_only(const struct region *region)
{
	char path[40];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", region->fd);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	/* What is handed out as read-only must be it. */
	int flags = fcntl(fd, F_GETFL);
	struct stat ours, theirs;
	if (flags >= 0 && (flags & O_ACCMODE) == O_RDONLY && fstat(region->fd, &ours) == 0 &&
		fstat(fd, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
		ours.st_ino == theirs.st_ino)
		return fd;
	close(fd);
	return -EACCES;
}
