/* SPDX-License-Identifier: MIT */
#include "guest/cache.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where the number after `key` in the text ends; NULL if there is none. */
static const char *number_after(
	const char *text, const char *key, int base, unsigned long long *number)
{
	const char *at = text ? strstr(text, key) : NULL;
	char *end;

	*number = 0;
	if (!at)
		return NULL;
	at += strlen(key);
	*number = strtoull(at, &end, base);
	return end == at ? NULL : end;
}

/*
 * Does a line of /proc/mtrr make some of these addresses uncachable?
 *     reg00: base=0x080000000 ( 2048MB), size= 2048MB, count=1: uncachable
 */
static bool is_uncachable(
	const char *line, uint64_t address, uint64_t size, unsigned long long *number)
{
	unsigned long long base, length;

	const char *at = number_after(line, "reg", 10, number);
	at = number_after(at, "base=", 16, &base);
	at = number_after(at, "size=", 10, &length);
	if (!at || !strstr(at, ": uncachable\n"))
		return false;
	length <<= *at == 'M' ? 20 : 10;
	return address < base + length && base < address + size;
}

int cache_mtrr(const struct guest_system *system, uint64_t address, uint64_t size)
{
	char path[PATH_MAX], line[128];
	unsigned long long number;
	int found = -ENOENT;

	snprintf(path, sizeof(path), "%s/mtrr", system->proc);
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	while (found < 0 && fgets(line, sizeof(line), file))
		if (is_uncachable(line, address, size, &number) && number <= INT_MAX)
			found = (int)number;
	fclose(file);
	return found;
}

/*
 * What x86 kernels give each mapping that exists now, for root:
 *     PAT: [mem 0x00000000fe400000-0x00000000fe800000] write-back
 */
static enum ivshmem_cache from_pat_line(const char *line, uint64_t address)
{
	static const struct {
		const char *name;
		enum ivshmem_cache cache;
	} types[] = {
		{"] write-back\n", IVSHMEM_CACHE_WRITE_BACK},
		{"] write-combining\n", IVSHMEM_CACHE_WRITE_COMBINING},
		{"] uncached\n", IVSHMEM_CACHE_UNCACHED},
		{"] uncached-minus\n", IVSHMEM_CACHE_UNCACHED},
	};
	unsigned long long start, end;

	const char *at = number_after(line, "PAT: [mem ", 16, &start);
	at = number_after(at, "-", 16, &end);
	if (!at || address < start || address >= end)
		return IVSHMEM_CACHE_UNKNOWN;
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(at, types[i].name) == 0)
			return types[i].cache;
	return IVSHMEM_CACHE_UNKNOWN;
}

static enum ivshmem_cache from_pat_list(const struct guest_system *system, uint64_t address)
{
	char path[PATH_MAX], line[128];
	enum ivshmem_cache found = IVSHMEM_CACHE_UNKNOWN;

	snprintf(path, sizeof(path), "%s/kernel/debug/x86/pat_memtype_list", system->sys);
	FILE *file = fopen(path, "re");
	if (!file)
		return IVSHMEM_CACHE_UNKNOWN;
	while (found == IVSHMEM_CACHE_UNKNOWN && fgets(line, sizeof(line), file))
		found = from_pat_line(line, address);
	fclose(file);
	return found;
}

enum ivshmem_cache cache_type(
	const struct guest_system *system, const struct pci_function *function, enum guest_way way)
{
	static const enum ivshmem_cache others[] = {
		[GUEST_VFIO] = IVSHMEM_CACHE_UNCACHED,
		[GUEST_PCI] = SYSFS_CACHE,
	};

	if (way != GUEST_UIO)
		return others[way];
	enum ivshmem_cache listed = from_pat_list(system, function->region);
	if (listed != IVSHMEM_CACHE_UNKNOWN)
		return listed;
	int mtrr = cache_mtrr(system, function->region, function->region_size);
	if (mtrr >= 0)
		return IVSHMEM_CACHE_UNCACHED;
	return mtrr == -ENOENT ? IVSHMEM_CACHE_WRITE_BACK : IVSHMEM_CACHE_UNKNOWN;
}
