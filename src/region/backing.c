/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Four ways to get a memory object, none of which ever truncates or resizes what was there:
 *
 *   memfd  anonymous, the only one that can be sealed
 *   shm    created exclusively, or an existing one adopted if the operator said so
 *   dir    a file without a name, so there is nothing to clean up and nothing to guess
 *   file   opened, nothing else
 *
 * The mode is set before the object has a size: a memfd is born 0777, and whoever holds a read-only
 * descriptor of it could open it for writing through /proc.
 *
 * A shared memory object is removed by name, and the name may belong to somebody else by the time
 * we leave (removed by hand, second server). So the inode is compared first. Linux has no call that
 * removes by descriptor, so a window of a few microseconds remains.
 */
#include "region/internal.h"

#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL /* Linux 6.3 */
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define DEFAULT_MODE 0600

static int set_mode(int fd, const struct region_config *config, struct region_error *error)
{
	mode_t mode = config->mode ? config->mode : DEFAULT_MODE;
	if (fchmod(fd, mode) < 0)
		return region_fail(error, -errno, "--region-mode: cannot set mode %04o: %m", mode);
	return 0;
}

static int open_memfd(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
	if (config->huge_page) {
		char path[80], size[24];
		snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB",
			config->huge_page / 1024);
		if (access(path, F_OK) < 0)
			return region_fail(error, -EINVAL,
				"--huge-pages: this machine has no huge pages of %s, see "
				"/sys/kernel/mm/hugepages",
				format_size(config->huge_page, size));
		unsigned log2 = (unsigned)__builtin_ctzll(config->huge_page);
		flags |= MFD_HUGETLB | log2 << MFD_HUGE_SHIFT;
	}
	/* Some machines demand that memory files say they are not programs (vm.memfd_noexec);
	 * kernels before 6.3 do not know the flag. */
	region->fd = memfd_create("ivshmem", flags | MFD_NOEXEC_SEAL);
	if (region->fd < 0 && errno == EINVAL)
		region->fd = memfd_create("ivshmem", flags);
	if (region->fd < 0)
		return region_fail(error, -errno,
			"cannot create a memfd: %m (-M/--shm works on "
			"kernels that have none)");
	return set_mode(region->fd, config, error);
}

static int open_shm(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	char path[SHM_NAME_SIZE];
	if (!shm_name(config->name, path))
		return region_fail(error, -EINVAL,
			"-M/--shm: '%.60s' is no name for a shared "
			"memory object: 1 to %d characters, no slash but a leading one",
			config->name, SHM_NAME_SIZE - 3);
	region->fd = shm_open(path, O_RDWR | O_CREAT | O_EXCL, DEFAULT_MODE);
	if (region->fd >= 0) {
		region->created = true;
		region->name = strdup(path);
		if (!region->name) {
			shm_unlink(path);
			return region_fail(error, -ENOMEM, "-M/--shm: %m");
		}
		return set_mode(region->fd, config, error);
	}
	if (errno != EEXIST)
		return region_fail(
			error, -errno, "-M/--shm: cannot create '%.100s': %m", config->name);
	if (!config->reuse)
		return region_fail(error, -EEXIST,
			"-M/--shm: '%.60s' exists, another server may be "
			"using it: choose another name, --reuse it, or remove /dev/shm%.60s",
			config->name, path);
	region->fd = shm_open(path, O_RDWR, 0);
	if (region->fd < 0)
		return region_fail(
			error, -errno, "--reuse: cannot open '%.100s': %m", config->name);
	return 0;
}

static int open_dir(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	const int flags = O_RDWR | O_CLOEXEC | O_EXCL;
	region->fd = open(config->name, O_TMPFILE | flags, DEFAULT_MODE);
	/* EISDIR: a kernel or file system that takes O_TMPFILE for plain O_DIRECTORY. */
	if (region->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		char path[PATH_MAX];
		int length = snprintf(path, sizeof(path), "%s/ivshmem-XXXXXX", config->name);
		errno = ENAMETOOLONG;
		if (length > 0 && (size_t)length < sizeof(path)) {
			region->fd = mkostemp(path, O_CLOEXEC);
			if (region->fd >= 0)
				unlink(path);
		}
	}
	if (region->fd < 0)
		return region_fail(error, -errno,
			"-m/--dir: cannot create a file in '%.100s': %m (give an existing "
			"directory "
			"that you may write to)",
			config->name);
	return set_mode(region->fd, config, error);
}

static int open_file(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	int fd = region_open_file(config->name, false);
	if (fd < 0)
		return region_fail(error, fd,
			"--file: cannot open '%.100s' for reading and "
			"writing: %m",
			config->name);
	region->fd = fd;
	return 0;
}

uint64_t backing_granule(int fd)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) == 0 && (uint32_t)fs.f_type == HUGETLBFS_MAGIC)
		return (uint64_t)fs.f_bsize;
	return (uint64_t)sysconf(_SC_PAGESIZE);
}

int backing_open(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	int err = -EINVAL;
	region->kind = config->kind;
	switch (config->kind) {
	case REGION_MEMFD:
		err = open_memfd(region, config, error);
		break;
	case REGION_SHM:
		err = open_shm(region, config, error);
		break;
	case REGION_DIR:
		err = open_dir(region, config, error);
		break;
	case REGION_FILE:
		err = open_file(region, config, error);
		break;
	}
	if (err == 0)
		region->granule = backing_granule(region->fd);
	return err;
}

void backing_unlink(const struct region *region)
{
	struct stat ours, named;
	int fd = shm_open(region->name, O_RDONLY, 0);
	if (fd < 0)
		return;
	if (fstat(region->fd, &ours) == 0 && fstat(fd, &named) == 0 &&
		ours.st_dev == named.st_dev && ours.st_ino == named.st_ino)
		shm_unlink(region->name);
	close(fd);
}
