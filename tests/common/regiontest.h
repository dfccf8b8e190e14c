/* SPDX-License-Identifier: MIT */
/* What the tests of src/region share. */
#ifndef TESTS_REGIONTEST_H
#define TESTS_REGIONTEST_H

#include "fdcheck.h"

#include "region/region.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MiB              (UINT64_C(1) << 20)
#define ALL_SEALS        (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
#define HUGE_2M          "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define DEFAULTS         .size = 4 * MiB, .numa_node = REGION_NUMA_ANY
#define assert_has(a, b) assert_non_null(strstr(a, b))

static inline struct region create(const struct region_config *config)
{
	struct region region;
	struct region_error error = {""};
	if (region_create(&region, config, &error) != 0)
		fail_msg("%s", error.text);
	return region;
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
