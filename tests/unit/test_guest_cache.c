/* SPDX-License-Identifier: MIT */
/* src/guest/cache.c: what /proc/mtrr and the kernel's list of mappings say of a device's memory. */
#include "guest/cache.h"

#include "../common/guesttree.h"

#define MIB (1ull << 20)
#define PAT "sys/kernel/debug/x86/pat_memtype_list"

/* ---- MTRRs ---- */

/* As firmware leaves them in a machine of 3 GiB. */
static const char ordinary_mtrr[] =
	"reg00: base=0x000000000 (    0MB), size= 2048MB, count=1: write-back\n"
	"reg01: base=0x080000000 ( 2048MB), size= 1024MB, count=1: write-back\n"
	"reg02: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable\n"
	"reg05: base=0x800000000 (32768MB), size=32768MB, count=1: uncachable\n"
	"reg06: base=0x0000a0000 (    0MB), size=  128KB, count=1: uncachable\n";

static void test_mtrr(void **state)
{
	(void)state;
	tree_text(tree_path("proc/mtrr"), ordinary_mtrr);

	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), 2);
	assert_int_equal(cache_mtrr(&tree, 0x900000000, 16), 5);
	assert_int_equal(cache_mtrr(&tree, 0, MIB), 6); /* KiB, too */
	assert_int_equal(cache_mtrr(&tree, MIB, MIB), -ENOENT);
	assert_int_equal(cache_mtrr(&tree, 0x380000000000, MIB), -ENOENT);
	/* Up to its edges. */
	assert_int_equal(cache_mtrr(&tree, 0xc0000000 - MIB, MIB), -ENOENT);
	assert_int_equal(cache_mtrr(&tree, 0xc0000000 - MIB, MIB + 1), 2);
	assert_int_equal(cache_mtrr(&tree, 0xffffffff, 1), 2);
	assert_int_equal(cache_mtrr(&tree, 0x100000000, MIB), -ENOENT);
	/* Of two that do, one is enough to begin with. */
	assert_int_equal(cache_mtrr(&tree, 0xc0000000, 64ull << 30), 2);
}

static void test_no_mtrr(void **state)
{
	(void)state;
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ENOENT);
	tree_text(tree_path("proc/mtrr"), "");
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ENOENT);
	tree_drop(tree_path("proc/mtrr"));
	tree_path("proc/mtrr/");
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ENOENT);
}

static void test_hostile_mtrr(void **state)
{
	static const char *const lines[] = {
		"\n",
		"uncachable\n",
		"reg02: base=0x0c0000000\n",
		"reg02: base=0x0c0000000 (), size= 1024MB, count=1: write-back\n",
		"reg02: base=here ( 3072MB), size= 1024MB, count=1: uncachable\n",
		"reg02: base=0x0c0000000 ( 3072MB), size= many, count=1: uncachable\n",
		"reg02: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1:\n",
		"reg02: base=0x0c0000000 ( 3072MB), size= 1024MB, count=1: uncachable-perhaps\n",
		"reg02: base=0x0c0000000 ( 3072MB), size= 0MB, count=1: uncachable\n",
		"reg02: base=0xffffffffffffffff ( 3072MB), size= 1MB, count=1: uncachable\n",
		"reg02: base=0x0c0000000 ( 3072MB), size= 17592186044416MB, count=1: uncachable\n",
		"reg02: base=0xfe000000 (0), size=9MB, count=1: uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu\n",
	};
	char text[512];
	(void)state;

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		tree_text(tree_path("proc/mtrr"), lines[i]);
		if (cache_mtrr(&tree, 0xfe000000, MIB) != -ENOENT)
			fail_msg("%s", lines[i]);
		/* What follows it counts none the less. */
		snprintf(text, sizeof(text), "%s%s", lines[i], ordinary_mtrr);
		tree_text(tree_path("proc/mtrr"), text);
		assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), 2);
	}
	tree_huge(tree_path("proc/mtrr"), 'r');
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ENOENT);
	tree_huge(tree_path("proc/mtrr"), '\0');
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ENOENT);
}

/* ---- types ---- */

static enum ivshmem_cache type(uint64_t address, enum guest_way way)
{
	const struct pci_function function = {.region = address, .region_size = MIB};
	return cache_type(&tree, &function, way);
}

/* Only uio_ivshmem asks for more than no cache; where nothing is listed, it gets it. */
static void test_ways(void **state)
{
	(void)state;
	assert_int_equal(type(0x380000000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	assert_int_equal(type(0x380000000000, GUEST_VFIO), IVSHMEM_CACHE_UNCACHED);
	assert_int_equal(type(0x380000000000, GUEST_PCI), SYSFS_CACHE);
	tree_text(tree_path("proc/mtrr"), ordinary_mtrr);
	assert_int_equal(type(0x380000000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	/* Who may not look does not know. */
	tree_drop(tree_path("proc/mtrr"));
	tree_link(tree_path("proc/mtrr"), "mtrr");
	assert_int_equal(cache_mtrr(&tree, 0xfe000000, MIB), -ELOOP);
	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_UNKNOWN);
}

/* Root can read what the kernel has made of it. */
static void test_list_of_mappings(void **state)
{
	(void)state;
	tree_text(tree_path("proc/mtrr"), ordinary_mtrr);
	tree_text(tree_path(PAT),
		"PAT memtype list:\n"
		"PAT: [mem 0x00000000fe000000-0x00000000fe100000] write-combining\n"
		"PAT: [mem 0x00000000fe100000-0x00000000fe200000] uncached-minus\n"
		"PAT: [mem 0x00000000fe200000-0x00000000fe300000] uncached\n"
		"PAT: [mem 0x00000000fe300000-0x00000000fe400000] write-back\n"
		"PAT: [mem 0x00000000fe400000-0x00000000fe500000] write-protected\n"
		"PAT: [mem 0x0000380000000000-0x0000380100000000] uncached-minus\n");

	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_COMBINING);
	assert_int_equal(type(0xfe0fffff, GUEST_UIO), IVSHMEM_CACHE_WRITE_COMBINING);
	assert_int_equal(type(0xfe100000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	assert_int_equal(type(0xfe200000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	assert_int_equal(type(0xfe300000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	assert_int_equal(type(0x380000100000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	/* Not told, so the MTRRs are asked. */
	assert_int_equal(type(0xfe400000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	assert_int_equal(type(0xfe500000, GUEST_UIO), IVSHMEM_CACHE_UNCACHED);
	assert_int_equal(type(0x380100000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	assert_int_equal(type(0xfe300000, GUEST_PCI), SYSFS_CACHE);
}

static void test_hostile_list_of_mappings(void **state)
{
	(void)state;
	tree_text(tree_path(PAT),
		"\n"
		"PAT: [mem 0x0-\n"
		"PAT: [mem 0x00000000fe100000-0x00000000fe000000] uncached\n"
		"PAT: [mem 0x00000000fe000000-0x00000000fe100000]\n"
		"PAT: [mem 0x00000000fe000000-0x00000000fe100000] uncached-perhaps\n"
		"PAT: [mem 0x00000000fe000000-0x00000000fe100000] "
		"uncached-minusuncached-minusuncached-minusuncached-minus\n"
		"PAT: [mem -1-0x00000000fe100000] uncached\n");
	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	tree_huge(tree_path(PAT), 'P');
	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
	tree_drop(tree_path(PAT));
	tree_path(PAT "/");
	assert_int_equal(type(0xfe000000, GUEST_UIO), IVSHMEM_CACHE_WRITE_BACK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_mtrr),
		TREE_TEST(test_no_mtrr),
		TREE_TEST(test_hostile_mtrr),
		TREE_TEST(test_ways),
		TREE_TEST(test_list_of_mappings),
		TREE_TEST(test_hostile_list_of_mappings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
