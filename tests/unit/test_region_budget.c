/* SPDX-License-Identifier: MIT */
/* src/region/budget: what other machines, shown as a tree of files, would answer. */
#include "../common/regiontest.h"

#include "region/budget.h"

/* Write ROOT/PATH with the directories above it. */
static void put(const char *root, const char *path, const char *text)
{
	char full[512];
	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		mkdir(full, 0700);
		*slash = '/';
	}
	FILE *file = fopen(full, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void test_budget_fields(void **state)
{
	(void)state;
	uint64_t value = 0;
	const char *text = "MemFree: 1 kB\nMemAvailable:    2048 kB\nHugePages_Free:  7\n";
	assert_true(budget_field(text, "MemAvailable", &value));
	assert_int_equal(value, 2 * MiB);
	assert_true(budget_field(text, "HugePages_Free", &value));
	assert_int_equal(value, 7);
	assert_false(budget_field(text, "Available", &value));
	assert_false(budget_field(text, "Mem", &value));
	assert_false(budget_field("", "Mem", &value));
	assert_true(budget_field("Node 0 MemFree:  4 kB\n", "MemFree", &value));
	assert_int_equal(value, 4096);
	text = "total_inactive_file 5\ninactive_file 6\n";
	assert_true(budget_field(text, "inactive_file", &value));
	assert_int_equal(value, 6);
}

static void test_budget_of_memory_and_node(void **state)
{
	(void)state;
	char *root = make_directory();
	put(root, "/proc/meminfo", "MemTotal: 9000000 kB\nMemAvailable: 8192 kB\n");
	put(root, "/sys/devices/system/node/node1/meminfo",
		"Node 1 MemTotal: 9999 kB\nNode 1 MemFree: 1024 kB\nNode 1 Active(file): 512 kB\n"
		"Node 1 Inactive(file): 512 kB\nNode 1 Inactive(anon): 4096 kB\n");
	struct budget budget = BUDGET_INIT;
	budget_memory(&budget, root, REGION_NUMA_ANY);
	assert_int_equal(budget.available, 8 * MiB);
	assert_string_equal(budget.source, "MemAvailable");
	budget_memory(&budget, root, 1);
	assert_int_equal(budget.available, 2 * MiB);
	assert_has(budget.source, "node 1");
	remove_tree(root);
	budget = (struct budget)BUDGET_INIT;
	budget_memory(&budget, root, REGION_NUMA_ANY); /* no /proc: still an answer */
	assert_true(budget.available > 0 && budget.available < BUDGET_UNLIMITED);
}

static void test_budget_of_cgroups_v2(void **state)
{
	(void)state;
	char *root = make_directory();
	put(root, "/proc/self/cgroup", "0::/a/b\n");
	put(root, "/sys/fs/cgroup/a/b/memory.max", "max\n");
	put(root, "/sys/fs/cgroup/a/b/memory.current", "1048576\n");
	struct budget budget = BUDGET_INIT;
	budget_cgroups(&budget, root);
	assert_true(budget.available == BUDGET_UNLIMITED);

	/* The group above has the limit; page cache does not count as use. */
	put(root, "/sys/fs/cgroup/a/memory.max", "10485760\n");
	put(root, "/sys/fs/cgroup/a/memory.current", "8388608\n");
	put(root, "/sys/fs/cgroup/a/memory.stat",
		"anon 1\ninactive_file 1048576\nactive_file 1048576\n");
	budget_cgroups(&budget, root);
	assert_int_equal(budget.available, 4 * MiB);
	assert_string_equal(budget.source, "limit minus use of cgroup /a");

	put(root, "/sys/fs/cgroup/a/b/memory.high", "3145728\n");
	budget_cgroups(&budget, root);
	assert_int_equal(budget.available, 2 * MiB);
	assert_string_equal(budget.source, "limit minus use of cgroup /a/b");

	put(root, "/sys/fs/cgroup/a/b/memory.current", "9000000\n"); /* above the limit */
	budget_cgroups(&budget, root);
	assert_int_equal(budget.available, 0);
	remove_tree(root);
}

static void test_budget_of_cgroups_v1_and_containers(void **state)
{
	(void)state;
	char *root = make_directory();
	put(root, "/proc/self/cgroup", "9:cpu:/x\n4:memory:/docker/0123\n0::/docker/0123\n");
	/* A container sees its own group as the mount point. */
	put(root, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "4194304\n");
	put(root, "/sys/fs/cgroup/memory/memory.usage_in_bytes", "2097152\n");
	put(root, "/sys/fs/cgroup/memory/memory.stat",
		"inactive_file 9999999\ntotal_inactive_file 1048576\n");
	struct budget budget = BUDGET_INIT;
	budget_cgroups(&budget, root);
	assert_int_equal(budget.available, 3 * MiB);
	put(root, "/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes",
		"9223372036854771712\n");
	put(root, "/sys/fs/cgroup/memory/docker/0123/memory.usage_in_bytes", "1\n");
	put(root, "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "1048577\n");
	put(root, "/sys/fs/cgroup/memory/docker/memory.usage_in_bytes", "1\n");
	budget_cgroups(&budget, root);
	assert_int_equal(budget.available, MiB);
	remove_tree(root);
	budget = (struct budget)BUDGET_INIT;
	budget_cgroups(&budget, root); /* no cgroups at all */
	assert_true(budget.available == BUDGET_UNLIMITED);
}

static void test_budget_of_huge_pages(void **state)
{
	(void)state;
	char *root = make_directory();
	put(root, HUGE_2M "nr_hugepages", "10\n");
	put(root, HUGE_2M "free_hugepages", "6\n");
	put(root, HUGE_2M "resv_hugepages", "2\n"); /* promised to somebody's mapping */
	put(root, HUGE_2M "surplus_hugepages", "1\n");
	put(root, HUGE_2M "nr_overcommit_hugepages", "0\n");
	struct budget budget = BUDGET_INIT;
	budget_huge_pages(&budget, root, 2 * MiB, REGION_NUMA_ANY, 16 * MiB);
	assert_int_equal(budget.available, 8 * MiB);
	assert_string_equal(budget.source, "4 free huge pages of 2 MiB");
	assert_string_equal(budget.remedy, "echo 14 > " HUGE_2M "nr_hugepages");

	put(root, HUGE_2M "nr_overcommit_hugepages", "3\n");
	budget = (struct budget)BUDGET_INIT;
	budget_huge_pages(&budget, root, 2 * MiB, REGION_NUMA_ANY, 16 * MiB);
	assert_int_equal(budget.available, 12 * MiB);

	put(root, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages",
		"1\n");
	budget_huge_pages(&budget, root, 2 * MiB, 1, 16 * MiB);
	assert_int_equal(budget.available, 2 * MiB);
	assert_has(budget.source, "node 1");
	assert_has(budget.remedy, "/sys/devices/system/node/node1/");
	remove_tree(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_budget_fields),
		TEST(test_budget_of_memory_and_node),
		TEST(test_budget_of_cgroups_v2),
		TEST(test_budget_of_cgroups_v1_and_containers),
		TEST(test_budget_of_huge_pages),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
