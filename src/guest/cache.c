/* SPDX-License-Identifier: MIT */
#include "guest/cache.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/*
 * A line of /proc/mtrr:
 *     reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable
 */
struct mtrr {
	int number;
	unsigned long long base, size; /* bytes */
	char type[32];
};

static bool parse_mtrr(const char *line, struct mtrr *mtrr)
{
	char unit;

	if (sscanf(line, "reg%d: base=%llx (%*[^)]), size=%llu%cB, count=%*d: %31s", &mtrr->number,
		    &mtrr->base, &mtrr->size, &unit, mtrr->type) != 5)
		return false;
	mtrr->size <<= unit == 'M' ? 20 : 10;
	return true;
}

int cache_mtrr(const struct guest_system *system, uint64_t address, uint64_t size)
{
	char path[PATH_MAX], line[128];
	struct mtrr mtrr;
	int found = -ENOENT;

	snprintf(path, sizeof(path), "%s/mtrr", system->proc);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	while (found < 0 && fgets(line, sizeof(line), file))
		if (parse_mtrr(line, &mtrr) && strcmp(mtrr.type, "uncachable") == 0 &&
			address < mtrr.base + mtrr.size && mtrr.base < address + size)
			found = mtrr.number;
	fclose(file);
	return found;
}

/*
 * What x86 kernels give each mapping that exists now, for root:
 *     PAT: [mem 0x00000000fe400000-0x00000000fe800000] write-back
 */
static enum ivshmem_cache from_pat_list(const struct guest_system *system, uint64_t address)
{
	static const struct {
		const char *name;
		enum ivshmem_cache cache;
	} types[] = {
		{"write-back", IVSHMEM_CACHE_WRITE_BACK},
		{"write-combining", IVSHMEM_CACHE_WRITE_COMBINING},
		{"uncached", IVSHMEM_CACHE_UNCACHED},
		{"uncached-minus", IVSHMEM_CACHE_UNCACHED},
	};
	char path[PATH_MAX], line[128], name[32];
	unsigned long long start, end;
	enum ivshmem_cache found = IVSHMEM_CACHE_UNKNOWN;

	snprintf(path, sizeof(path), "%s/kernel/debug/x86/pat_memtype_list", system->sys);
	FILE *file = fopen(path, "re");
	if (!file)
		return IVSHMEM_CACHE_UNKNOWN;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "PAT: [mem %llx-%llx] %31s", &start, &end, name) != 3 ||
			address < start || address >= end)
			continue;
		for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
			if (strcmp(name, types[i].name) == 0)
				found = types[i].cache;
	}
	fclose(file);
	return found;
}

enum ivshmem_cache cache_type(
	const struct guest_system *system, const struct pci_function *function, enum guest_way way)
{
	if (way != GUEST_UIO)
		return way == GUEST_PCI ? SYSFS_CACHE : IVSHMEM_CACHE_UNCACHED;
	enum ivshmem_cache listed = from_pat_list(system, function->region);
	if (listed != IVSHMEM_CACHE_UNKNOWN)
		return listed;
	int mtrr = cache_mtrr(system, function->region, function->region_size);
	if (mtrr >= 0)
		return IVSHMEM_CACHE_UNCACHED;
	return mtrr == -ENOENT ? IVSHMEM_CACHE_WRITE_BACK : IVSHMEM_CACHE_UNKNOWN;
}
