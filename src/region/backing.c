/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Four ways to get a memory object, none of which ever truncates or resizes what was there:
 *
 *   memfd  anonymous, the only one that can be sealed
 *   shm    created, or an existing one adopted if the operator said so
 *   dir    a file without a name, so there is nothing to clean up and nothing to guess
 *   file   opened, nothing else
 *
 * The mode is set before the object has a size: a memfd is born 0777, and whoever holds a read-only
 * descriptor of it could open it for writing through /proc.
 *
 * A shared memory object is made without its name, which it gets in one step when all of it is
 * there (region_publish()): nobody ever opens a half of it, and a process that is killed before
 * leaves nothing. shm_open() cannot do that, so /dev/shm is used as the directory that it is, for
 * glibc and musl alike.
 *
 * It is removed by name, and the name may belong to somebody else by the time we leave (removed by
 * hand, second server). So the inode is compared first. Linux has no call that removes by
 * descriptor, so a window of a few microseconds remains.
 */
#include "region/internal.h"

#include "base/parse.h"

#include <dirent.h>
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

#define DEFAULT_MODE  0600
#define SHM_DIRECTORY "/dev/shm"
#define SHM_PATH_SIZE (sizeof(SHM_DIRECTORY) + SHM_NAME_SIZE)

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

static void shm_path(const char *name, char path[SHM_PATH_SIZE])
{
	snprintf(path, SHM_PATH_SIZE, "%s%s", SHM_DIRECTORY, name);
}

static bool shm_exists(const char *name)
{
	char path[SHM_PATH_SIZE];
	struct stat st;

	shm_path(name, path);
	return lstat(path, &st) == 0;
}

static int refuse_shm(struct region_error *error, const char *name)
{
	return region_fail(error, -EEXIST,
		"-M/--shm: '%.60s' exists, another server may be "
		"using it: choose another name, --reuse it, or remove /dev/shm%.60s",
		name + 1, name);
}

static int make_shm(struct region *region, const char *name, const struct region_config *config,
	struct region_error *error)
{
	region->fd = open(SHM_DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, DEFAULT_MODE);
	if (region->fd < 0)
		return region_fail(error, -errno,
			"-M/--shm: cannot create '%.60s' in " SHM_DIRECTORY
			": %m (mount a tmpfs there that you may write to)",
			config->name);
	region->created = true;
	region->name = strdup(name);
	if (!region->name)
		return region_fail(error, -ENOMEM, "-M/--shm: %m");
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
	if (!shm_exists(path))
		return make_shm(region, path, config, error);
	if (!config->reuse)
		return refuse_shm(error, path);
	region->fd = shm_open(path, O_RDWR, 0);
	if (region->fd < 0)
		return region_fail(
			error, -errno, "--reuse: cannot open '%.100s': %m", config->name);
	return 0;
}

int region_publish(const struct region *region, struct region_error *error)
{
	char from[40], to[SHM_PATH_SIZE];

	if (!region->name)
		return 0;
	snprintf(from, sizeof(from), "/proc/self/fd/%d", region->fd);
	shm_path(region->name, to);
	if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) == 0)
		return 0;
	if (errno == EEXIST)
		return refuse_shm(error, region->name);
	if (errno == ENOENT)
		return region_fail(error, -ENOENT,
			"-M/--shm: cannot create '%.100s' without /proc: mount it", to);
	return region_fail(error, -errno, "-M/--shm: cannot create '%.100s': %m", to);
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

static void unlink_if_same(int directory, const char *name, const struct stat *ours)
{
	struct stat named;

	if (fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
		ours->st_dev == named.st_dev && ours->st_ino == named.st_ino)
		unlinkat(directory, name, 0);
}

void region_unpublish(struct region *region)
{
	char path[SHM_PATH_SIZE];
	struct stat ours;

	if (!region->name)
		return;
	shm_path(region->name, path);
	if (fstat(region->fd, &ours) == 0)
		unlink_if_same(AT_FDCWD, path, &ours);
	free(region->name);
	region->name = NULL;
}

void region_discard(int fd)
{
	struct stat ours;
	DIR *directory = opendir(SHM_DIRECTORY);
	const struct dirent *entry;

	if (directory && fstat(fd, &ours) == 0 && ours.st_nlink > 0) {
		while ((entry = readdir(directory)))
			unlink_if_same(dirfd(directory), entry->d_name, &ours);
	}
	if (directory)
		closedir(directory);
	close(fd);
}
