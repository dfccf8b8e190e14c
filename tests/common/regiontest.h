/* SPDX-License-Identifier: MIT */
/* What the tests of src/region share. */
#ifndef TESTS_REGIONTEST_H
#define TESTS_REGIONTEST_H

#include "fdcheck.h"

#include "region/budget.h"
#include "region/region.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define MiB              (UINT64_C(1) << 20)
#define ALL_SEALS        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define HUGE_2M          "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define DEFAULTS         .size = 4 * MiB, .numa_node = REGION_NUMA_ANY
#define assert_has(a, b) assert_non_null(strstr(a, b))

static inline struct region create(const struct region_config *config)
{
	struct region region;
	struct region_error error = {""};
	if (region_create(&region, config, &error) != 0 || region_publish(&region, &error) != 0)
		fail_msg("%s", error.text);
	return region;
}

/* Must fail with `err`, say one whole line that names `option`, and leave nothing. */
static inline struct region_error refuse(
	const struct region_config *config, int err, const char *option)
{
	struct region region;
	struct region_error error = {""};
	assert_int_equal(region_create(&region, config, &error), err);
	assert_has(error.text, option);
	assert_null(strchr(error.text, '\n'));
	assert_true(strlen(error.text) < sizeof(error.text) - 1);
	assert_int_equal(region.fd, -1);
	assert_null(region.name);
	region_fini(&region);
	return error;
}

static inline struct stat status(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return st;
}

static inline mode_t mode_of(int fd)
{
	return status(fd).st_mode & 07777;
}

static inline uint64_t meminfo(const char *key)
{
	char text[8192];
	int fd = open("/proc/meminfo", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	assert_true(n > 0);
	text[n] = '\0';
	uint64_t value;
	assert_true(budget_field(text, key, &value));
	return value;
}

static inline void limit_files(rlim_t bytes)
{
	struct rlimit limit;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = bytes < limit.rlim_max ? bytes : limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* A directory of the test's own; valid until the next call. */
static inline char *make_directory(void)
{
	static char path[32];
	snprintf(path, sizeof(path), "/tmp/ivshmem-test-XXXXXX");
	assert_non_null(mkdtemp(path));
	return path;
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static inline void remove_tree(const char *path)
{
	assert_int_equal(nftw(path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}

#endif
