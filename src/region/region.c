/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A region is made in an order in which each failure leaves nothing behind and nobody dies:
 *
 *   1. refuse what cannot work           4. prove that it can be mapped, bind it to a NUMA node
 *   2. open the object, set its mode     5. allocate, step by step, asking the budget before each
 *   3. ask the budget, set the size      6. seal (memfd)
 *
 * Allocation is fallocate(), never writing to the memory: a page that cannot be had is then an
 * error code and not a SIGBUS. After step 6 nobody, we included, can change the size, so no peer
 * can take mapped memory from under another.
 */
#include "region/region.h"

#include "base/parse.h"
#include "region/budget.h"
#include "region/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

/* So much is allocated between two looks at the budget: 20 ms of work, and less than any reserve
 * that makes sense. */
#define STEP (UINT64_C(64) << 20)

uint64_t region_round_size(uint64_t size)
{
	uint64_t rounded = next_power_of_two(size > REGION_MIN_SIZE ? size : REGION_MIN_SIZE);
	return rounded > INT64_MAX ? 0 : rounded;
}

static const char *option_of(enum region_kind kind)
{
	switch (kind) {
	case REGION_MEMFD:
		return "-l/--size";
	case REGION_SHM:
		return "-M/--shm";
	case REGION_DIR:
		return "-m/--dir";
	case REGION_FILE:
		return "--file";
	}
	return "";
}

static int check_config(const struct region_config *config, struct region_error *error)
{
	if (config->kind != REGION_MEMFD && (!config->name || config->name[0] == '\0'))
		return region_fail(error, -EINVAL, "%s: give a name", option_of(config->kind));
	if (config->reuse && config->kind != REGION_SHM)
		return region_fail(error, -EINVAL,
			"--reuse adopts a shared memory object by name: it needs -M/--shm");
	if (config->huge_page && config->kind != REGION_MEMFD)
		return region_fail(error, -EINVAL,
			"--huge-pages makes a memfd: it goes without -M/--shm, -m/--dir and "
			"--file (give -m/--dir a hugetlbfs mount instead)");
	if (config->numa_node != REGION_NUMA_ANY && config->kind == REGION_FILE)
		return region_fail(error, -EINVAL,
			"--numa-node: where the pages of an existing file are is not ours to "
			"decide: it goes without --file");
	if (config->mode && config->kind == REGION_FILE)
		return region_fail(error, -EINVAL,
			"--region-mode: an existing file keeps its mode: it goes without --file");
	if (config->mode & ~0666U)
		return region_fail(error, -EINVAL,
			"--region-mode: %04o has more than permission to read and write (0666)",
			config->mode);
	if (config->size == 0 && config->kind != REGION_FILE)
		return region_fail(error, -EINVAL,
			"-l/--size: a region of 0 bytes is of no use, "
			"give at least 4K");
	if (region_round_size(config->size) == 0)
		return region_fail(
			error, -EINVAL, "-l/--size: no file can be that large, give less");
	if (config->numa_node != REGION_NUMA_ANY)
		return numa_check(config->numa_node, error);
	return 0;
}

/* The size of an object that was there before us is what it is: fit or refuse. */
static int accept_size(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	const char *option = config->kind == REGION_SHM ? "--reuse" : "--file";
	struct stat st;
	if (fstat(region->fd, &st) < 0)
		return region_fail(error, -errno, "%s: %m", option);
	uint64_t size = (uint64_t)st.st_size;
	if (S_ISDIR(st.st_mode) || size == 0)
		return region_fail(error, -EINVAL,
			"%s: peers would see '%.100s' as empty: it is "
			"no file of a size that fstat() tells",
			option, config->name);
	char text[24], wanted[24];
	if (size < REGION_MIN_SIZE || size != next_power_of_two(size))
		return region_fail(error, -EINVAL,
			"%s: '%.100s' has %s, a region needs a power of "
			"two, at least 4K: resize it (truncate -s)",
			option, config->name, format_size(size, text));
	if (size < config->size)
		return region_fail(error, -EINVAL,
			"-l/--size: '%.100s' has %s, less than %s, and "
			"is not resized: give a smaller size or resize it yourself",
			config->name, format_size(size, text), format_size(config->size, wanted));
	region->size = size;
	return 0;
}

/* Round, ask the budget before anything grows, then set the size. */
static int set_size(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	uint64_t size = region_round_size(config->size);
	region->size = size > region->granule ? size : region->granule;
	int err = 0;
	if (!config->no_prealloc)
		err = budget_check(
			region->fd, region->size, config->reserve, config->numa_node, error);
	if (err)
		return err;
	char text[24];
	format_size(region->size, text);
	/* Growing a file beyond this limit is a deadly signal (SIGXFSZ), not an error. */
	struct rlimit limit;
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < region->size)
		return region_fail(error, -EFBIG,
			"-l/--size: %s is above the limit for files: raise it (ulimit -f)", text);
	if (ftruncate(region->fd, (off_t)region->size) < 0)
		return region_fail(
			error, -errno, "-l/--size: the file system refuses a file of %s: %m", text);
	return 0;
}

/*
 * Map once and let go: what we cannot map (a size above the address space, a file that is no
 * memory), no peer can. Nothing is reserved or touched by it. The NUMA policy is set on the way.
 */
static int bind_pages(const struct region *region, const struct region_config *config,
	bool existing, struct region_error *error)
{
	struct statfs fs;
	bool bind = config->numa_node != REGION_NUMA_ANY;
	if (bind && existing)
		return region_fail(error, -EINVAL,
			"--numa-node: '%.100s' exists and has its pages: "
			"remove it or leave --numa-node out",
			config->name);
	if (bind && fstatfs(region->fd, &fs) == 0 && (uint32_t)fs.f_type != TMPFS_MAGIC &&
		(uint32_t)fs.f_type != HUGETLBFS_MAGIC)
		return region_fail(error, -EINVAL,
			"--numa-node: the file system of '%.100s' does "
			"not choose nodes: use tmpfs, hugetlbfs or no -m/--dir",
			config->name);

	void *address = MAP_FAILED;
	errno = ENOMEM;
	if (region->size <= SIZE_MAX)
		address = mmap(NULL, (size_t)region->size, PROT_NONE, MAP_SHARED | MAP_NORESERVE,
			region->fd, 0);
	char text[24];
	if (address == MAP_FAILED)
		return region_fail(error, -errno, "-l/--size: a region of %s cannot be mapped: %m",
			format_size(region->size, text));
	int err = bind ? numa_bind(address, region->size, config->numa_node) : 0;
	munmap(address, (size_t)region->size);
	if (err)
		return region_fail(
			error, err, "--numa-node: cannot bind to node %d: %m", config->numa_node);
	return 0;
}

/* An adopted object, or one that is half done, has some of its pages already. */
static uint64_t allocated(const struct region *region)
{
	struct stat st;
	if (fstat(region->fd, &st) < 0)
		return 0;
	uint64_t bytes = (uint64_t)st.st_blocks * 512;
	return bytes < region->size ? bytes : region->size;
}

static int allocate(
	const struct region *region, const struct region_config *config, struct region_error *error)
{
	uint64_t step = region->granule > STEP ? region->granule : STEP;
	for (uint64_t offset = 0; offset < region->size; offset += step) {
		uint64_t left = region->size - offset;
		int err = budget_check(region->fd, region->size - allocated(region),
			config->reserve, config->numa_node, error);
		if (err)
			return err;
		do
			err = fallocate(
				region->fd, 0, (off_t)offset, (off_t)(left < step ? left : step));
		while (err < 0 && errno == EINTR);
		if (err == 0)
			continue;
		if (errno == EOPNOTSUPP || errno == ENODEV)
			return region_fail(error, -errno,
				"%s: cannot be allocated beforehand on "
				"this file system (%m): --no-prealloc lives with that",
				option_of(region->kind));
		char text[24];
		return region_fail(error, -errno,
			"-l/--size: cannot allocate %s: %m; give a "
			"smaller size, make room, or --no-prealloc",
			format_size(region->size, text));
	}
	return 0;
}

int region_create(
	struct region *region, const struct region_config *config, struct region_error *error)
{
	*region = (struct region)REGION_INIT;
	int err = check_config(config, error);
	if (err)
		return err;
	err = backing_open(region, config, error);
	if (err)
		goto fail;
	bool existing =
		config->kind == REGION_FILE || (config->kind == REGION_SHM && !region->created);
	err = existing ? accept_size(region, config, error) : set_size(region, config, error);
	if (err)
		goto fail;
	err = bind_pages(region, config, existing, error);
	if (err)
		goto fail;
	if (!config->no_prealloc)
		err = allocate(region, config, error);
	if (err)
		goto fail;
	if (region->kind == REGION_MEMFD) {
		if (fcntl(region->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
			err = region_fail(error, -errno,
				"cannot seal the memfd: %m (-M/--shm "
				"goes without)");
			goto fail;
		}
		region->sealed = true;
	}
	return 0;
fail:
	region_fini(region);
	return err;
}

void region_fini(struct region *region)
{
	if (region->fd >= 0) {
		region_unpublish(region);
		close(region->fd);
	}
	*region = (struct region)REGION_INIT;
}

const char *region_warning(const struct region *region)
{
	if (!region->sealed)
		return "this region cannot be sealed: a peer that truncates it kills every other "
		       "with SIGBUS; the default (no -M, -m or --file) is a sealed memfd";
	if (region->granule > (uint64_t)sysconf(_SC_PAGESIZE))
		return "a peer that punches holes into huge pages gives them back to the system: "
		       "while none is free, whoever touches a hole gets SIGBUS";
	return NULL;
}
