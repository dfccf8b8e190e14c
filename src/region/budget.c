/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * fallocate() on shared memory does not fail when memory runs out: it wakes the OOM killer, which
 * takes a process of its choice. So the question is asked beforehand, of everybody who could say
 * no, and the least answer counts:
 *
 *   memory (memfd, tmpfs, ramfs)  MemAvailable, or the node's share of it; every memory cgroup from
 *                                 the own one upwards, limit minus use; the size of the tmpfs
 *   huge pages (hugetlbfs)        free pages of that size
 *   anything else, a disk         free blocks
 *
 * Use of a cgroup is counted without its page cache, as MemAvailable does for the whole machine:
 * the kernel drops that before it kills. Swap is not counted: memory that peers share at full speed
 * should not need it. The answer is old as soon as it is given, so region.c allocates in steps and
 * asks again, and a reserve stays free for the others.
 */
#include "region/budget.h"

#include "base/parse.h"
#include "region/internal.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/vfs.h>
#include <unistd.h>

#define TEXT_SIZE            16384
#define HUGE_PAGES_DIRECTORY "/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB"

/* Fill `text` from a small file of procfs or sysfs. */
static bool read_text(char text[TEXT_SIZE], const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static bool read_text(char text[TEXT_SIZE], const char *format, ...)
{
	char path[PATH_MAX];
	va_list arguments;
	va_start(arguments, format);
	int length = vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	if (length < 0 || (size_t)length >= sizeof(path))
		return false;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	size_t have = 0;
	ssize_t n;
	while (have < TEXT_SIZE - 1 && (n = read(fd, text + have, TEXT_SIZE - 1 - have)) > 0)
		have += (size_t)n;
	close(fd);
	text[have] = '\0';
	return have > 0;
}

/* The file's number; UINT64_MAX if there is no such file or it says "max". */
static uint64_t read_number(const char *directory, const char *file)
{
	char text[TEXT_SIZE];
	if (!read_text(text, "%s/%s", directory, file) || !isdigit((unsigned char)text[0]))
		return UINT64_MAX;
	return strtoull(text, NULL, 10);
}

bool budget_field(const char *text, const char *key, uint64_t *value)
{
	size_t length = strlen(key);
	for (const char *at = text; (at = strstr(at, key)); at += length) {
		bool starts = at == text || at[-1] == '\n' || at[-1] == ' ';
		const char *number = at + length;
		number += strspn(number, ": \t");
		if (!starts || number == at + length || !isdigit((unsigned char)*number))
			continue;
		char *end;
		*value = strtoull(number, &end, 10);
		if (strncmp(end, " kB", 3) == 0)
			*value *= 1024;
		return true;
	}
	return false;
}

static void lower(struct budget *budget, uint64_t available, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static void lower(struct budget *budget, uint64_t available, const char *format, ...)
{
	if (available >= budget->available)
		return;
	budget->available = available;
	snprintf(budget->remedy, sizeof(budget->remedy), "--no-prealloc");
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(budget->source, sizeof(budget->source), format, arguments);
	va_end(arguments);
}

void budget_memory(struct budget *budget, const char *root, int node)
{
	char text[TEXT_SIZE];
	uint64_t value;
	struct sysinfo info;
	if (read_text(text, "%s/proc/meminfo", root) && budget_field(text, "MemAvailable", &value))
		lower(budget, value, "MemAvailable");
	else if (sysinfo(&info) == 0) /* a chroot without /proc: free memory is a safe estimate */
		lower(budget, (uint64_t)info.freeram * info.mem_unit, "free memory");

	if (node == REGION_NUMA_ANY ||
		!read_text(text, "%s/sys/devices/system/node/node%d/meminfo", root, node))
		return;
	/* Nodes have no MemAvailable: what is free, and the page cache. */
	uint64_t available = 0;
	static const char *const parts[] = {"MemFree", "Inactive(file)", "Active(file)"};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		available += budget_field(text, parts[i], &value) ? value : 0;
	lower(budget, available, "free on NUMA node %d", node);
}

/* The files in which the two versions of control groups keep the same three numbers. */
struct cgroup_files {
	const char *limits[2];
	const char *use;
	const char *cache[2]; /* fields of memory.stat */
};

static const struct cgroup_files cgroup_v1 = {{"memory.limit_in_bytes", NULL},
	"memory.usage_in_bytes", {"total_inactive_file", "total_active_file"}};
/* Above memory.high nothing is killed, but the allocation is slowed down to a crawl. */
static const struct cgroup_files cgroup_v2 = {
	{"memory.max", "memory.high"}, "memory.current", {"inactive_file", "active_file"}};

static void one_cgroup(struct budget *budget, const char *directory, const char *name,
	const struct cgroup_files *files)
{
	uint64_t limit = UINT64_MAX;
	for (size_t i = 0; i < 2 && files->limits[i]; i++) {
		uint64_t value = read_number(directory, files->limits[i]);
		limit = value < limit ? value : limit;
	}
	uint64_t use = read_number(directory, files->use);
	if (limit == UINT64_MAX || use == UINT64_MAX)
		return;
	char text[TEXT_SIZE];
	if (read_text(text, "%s/memory.stat", directory)) {
		uint64_t cache;
		for (size_t i = 0; i < 2; i++)
			if (budget_field(text, files->cache[i], &cache))
				use -= cache < use ? cache : use;
	}
	lower(budget, limit > use ? limit - use : 0, "limit minus use of cgroup %.60s", name);
}

/*
 * From the own group up to the mount point. In a container the path can be one that only the host
 * knows; then only the mount point exists, and that is the container's own group.
 */
static void cgroup_and_above(struct budget *budget, const char *root, const char *mount,
	const char *path, const struct cgroup_files *files)
{
	char directory[PATH_MAX];
	const size_t prefix = strlen(root) + strlen(mount);
	int length = snprintf(directory, sizeof(directory), "%s%s%s", root, mount, path);
	if (length < 0 || (size_t)length >= sizeof(directory))
		return;
	char *slash;
	do {
		one_cgroup(budget, directory, directory[prefix] ? directory + prefix : "/", files);
		slash = strrchr(directory + prefix, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
}

void budget_cgroups(struct budget *budget, const char *root)
{
	char text[TEXT_SIZE];
	if (!read_text(text, "%s/proc/self/cgroup", root))
		return;
	/* A line is NUMBER:CONTROLLERS:PATH; version 2 has no controllers there. */
	char *rest;
	for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*controllers++ = '\0';
		*path++ = '\0';
		if (controllers[0] == '\0') {
			cgroup_and_above(budget, root, "/sys/fs/cgroup", path, &cgroup_v2);
			cgroup_and_above(budget, root, "/sys/fs/cgroup/unified", path, &cgroup_v2);
		} else if (strcmp(controllers, "memory") == 0) {
			cgroup_and_above(budget, root, "/sys/fs/cgroup/memory", path, &cgroup_v1);
		}
	}
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* A number that is nought where the file is missing. */
static uint64_t count(const char *directory, const char *file)
{
	uint64_t value = read_number(directory, file);
	return value == UINT64_MAX ? 0 : value;
}

void budget_huge_pages(
	struct budget *budget, const char *root, uint64_t page, int node, uint64_t need)
{
	char directory[PATH_MAX];
	snprintf(directory, sizeof(directory), "%s" HUGE_PAGES_DIRECTORY, root, page / 1024);
	uint64_t pages =
		minus(count(directory, "free_hugepages"), count(directory, "resv_hugepages"));
	/* Surplus pages, if the operator allows them, are made from ordinary memory on demand. */
	pages += minus(
		count(directory, "nr_overcommit_hugepages"), count(directory, "surplus_hugepages"));
	char where[32] = "";
	if (node != REGION_NUMA_ANY) {
		snprintf(where, sizeof(where), " on NUMA node %d", node);
		snprintf(directory, sizeof(directory),
			"%s/sys/devices/system/node/node%d/hugepages/hugepages-%" PRIu64 "kB", root,
			node, page / 1024);
		uint64_t here = count(directory, "free_hugepages");
		pages = here < pages ? here : pages;
	}
	char size[24];
	lower(budget, pages * page, "%" PRIu64 " free huge pages of %s%s", pages,
		format_size(page, size), where);
	snprintf(budget->remedy, sizeof(budget->remedy), "echo %" PRIu64 " > %s/nr_hugepages",
		count(directory, "nr_hugepages") + minus(need / page, pages),
		directory + strlen(root));
}

static void budget_of(
	struct budget *budget, const struct statfs *fs, uint64_t need, uint64_t reserve, int node)
{
	switch ((uint32_t)fs->f_type) {
	case HUGETLBFS_MAGIC:
		/* Its block counts mean nothing unless the mount has a limit. */
		budget_huge_pages(budget, "", (uint64_t)fs->f_bsize, node, need);
		return;
	case TMPFS_MAGIC:
	case RAMFS_MAGIC:
		budget_memory(budget, "", node);
		budget_cgroups(budget, "");
		if (reserve > 0) {
			char size[24];
			size_t length = strlen(budget->source);
			snprintf(budget->source + length, sizeof(budget->source) - length,
				" less a reserve of %s", format_size(reserve, size));
			snprintf(budget->remedy, sizeof(budget->remedy),
				"a smaller --memory-reserve, or --no-prealloc");
		}
		budget->available = minus(budget->available, reserve);
		break;
	}
	if (fs->f_blocks > 0) /* a memfd's tmpfs has no limit of its own */
		lower(budget, (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize,
			"free in the file system");
}

int budget_check(int fd, uint64_t need, uint64_t reserve, int node, struct region_error *error)
{
	struct statfs fs;
	if (fstatfs(fd, &fs) < 0)
		return region_fail(error, -errno, "-l/--size: cannot ask the file system: %m");
	struct budget budget = BUDGET_INIT;
	budget_of(&budget, &fs, need, reserve, node);
	if (need <= budget.available)
		return 0;
	char wanted[24], available[24];
	return region_fail(error, -ENOMEM,
		"-l/--size: %s needed, %s available (%s): give a smaller size, or %s",
		format_size(need, wanted), format_size(budget.available, available), budget.source,
		budget.remedy);
}
