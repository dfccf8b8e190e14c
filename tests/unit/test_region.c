/* SPDX-License-Identifier: MIT */
/*
 * src/region: nothing that a peer or an operator does may kill others by SIGBUS, start the OOM
 * killer or leave anything behind. Sizes above the machine's memory are tried with RLIMIT_FSIZE
 * low, so that a missing check fails a test instead of taking the machine down. Objects with a name
 * of their own are in test_region_named.c.
 */
#include "../common/regiontest.h"

#include "region/budget.h"

#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TiB (UINT64_C(1) << 40)

/* Stands in for the C library's fallocate(), to say what happens between two steps. */
static unsigned fallocate_calls;
static void (*before_fallocate)(unsigned call);
static int fallocate_errno; /* fail the next call so, once */

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	fallocate_calls++;
	if (before_fallocate)
		before_fallocate(fallocate_calls);
	if (fallocate_errno) {
		errno = fallocate_errno;
		fallocate_errno = 0;
		return -1;
	}
	if (sizeof(long) == sizeof(off_t))
		return (int)syscall(SYS_fallocate, fd, mode, offset, len);
	return (int)syscall(SYS_fallocate, fd, mode, (long)offset, (long)(offset >> 31 >> 1),
		(long)len, (long)(len >> 31 >> 1));
}

/* ---- size ---- */

static void test_sizes_round_up_to_a_power_of_two(void **state)
{
	(void)state;
	assert_int_equal(region_round_size(0), 4096);
	assert_int_equal(region_round_size(4096), 4096);
	assert_int_equal(region_round_size(4097), 8192);
	assert_int_equal(region_round_size(5 * MiB), 8 * MiB);
	assert_true(region_round_size(3072 * MiB) == 4096 * MiB); /* 32 bit would wrap */
	assert_true(region_round_size(99999 * TiB) == UINT64_C(1) << 57);
	assert_true(region_round_size(UINT64_C(1) << 62) == UINT64_C(1) << 62);
	assert_int_equal(region_round_size((UINT64_C(1) << 62) + 1), 0);
	assert_int_equal(region_round_size(UINT64_MAX), 0);
}

static void test_absurd_sizes_are_refused_before_anything_is_allocated(void **state)
{
	(void)state;
	limit_files(256 * MiB);
	uint64_t available = meminfo("MemAvailable");
	uint64_t shared = meminfo("Shmem");
	const uint64_t sizes[] = {2 * available, 99999 * TiB, UINT64_C(1) << 62};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct region_config config = {DEFAULTS};
		config.size = sizes[i];
		struct region_error error = refuse(&config, -ENOMEM, "-l/--size");
		assert_has(error.text, " needed, ");
		assert_has(error.text, " available (");
		assert_has(error.text, "--no-prealloc");
	}
	assert_true(meminfo("Shmem") < shared + 64 * MiB);

	refuse(&(struct region_config){.size = UINT64_MAX, .numa_node = -1}, -EINVAL, "-l/--size");
	refuse(&(struct region_config){.size = 0, .numa_node = -1}, -EINVAL, "-l/--size");
	limit_files(RLIM_INFINITY);
}

static void test_reserve_is_kept_free(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .reserve = 2 * meminfo("MemTotal")};
	struct region_error error = refuse(&config, -ENOMEM, "--memory-reserve");
	assert_has(error.text, "4 MiB needed, 0 B available");
	config.reserve = UINT64_MAX;
	refuse(&config, -ENOMEM, "--memory-reserve");
	config.no_prealloc = true;
	struct region region = create(&config);
	region_fini(&region);
}

static void test_file_size_limit_is_an_error_not_a_signal(void **state)
{
	(void)state;
	limit_files(4 * MiB);
	signal(SIGXFSZ, SIG_DFL);
	struct region_config config = {DEFAULTS};
	struct region region = create(&config);
	region_fini(&region);
	config.size = 5 * MiB;
	refuse(&config, -EFBIG, "-l/--size");
	signal(SIGXFSZ, SIG_IGN);
	limit_files(RLIM_INFINITY);
}

static void test_no_prealloc_allocates_nothing(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .no_prealloc = true};
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks, 0);
	assert_int_equal(status(region.fd).st_size, 4 * MiB);
	assert_int_equal(fcntl(region.fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	region_fini(&region);
	/* What no process could map is refused all the same. */
	config.size = 99999 * TiB;
	refuse(&config, -ENOMEM, "-l/--size");
}

/* ---- memfd ---- */

static void test_memfd_is_rounded_allocated_private_and_sealed(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	config.size = 5 * MiB;
	mode_t umask_before = umask(0);
	struct region region = create(&config);
	umask(umask_before);
	struct stat st = status(region.fd);
	assert_int_equal(region.size, 8 * MiB);
	assert_int_equal(st.st_size, 8 * MiB);
	assert_int_equal(st.st_blocks * 512, 8 * MiB);
	assert_int_equal(region.granule, sysconf(_SC_PAGESIZE));
	assert_int_equal(mode_of(region.fd), 0600);
	assert_true(region.sealed);
	assert_false(region.created);
	assert_int_equal(fcntl(region.fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	assert_int_equal(fcntl(region.fd, F_GETFD), FD_CLOEXEC);
	assert_null(region_warning(&region));
	region_fini(&region);
	assert_int_equal(region.fd, -1);
	region_fini(&region);
}

static void test_memfd_larger_than_one_step_is_allocated_whole(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	config.size = 100 * MiB;
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks * 512, 128 * MiB);
	region_fini(&region);
}

static struct region_config shrinking;

static void take_memory(unsigned call)
{
	if (call == 1)
		shrinking.reserve = UINT64_MAX; /* as if others had taken all the rest */
}

static void test_budget_is_asked_again_before_each_step(void **state)
{
	(void)state;
	shrinking = (struct region_config){.size = 128 * MiB, .numa_node = REGION_NUMA_ANY};
	before_fallocate = take_memory;
	fallocate_calls = 0;
	struct region_error error = refuse(&shrinking, -ENOMEM, "--memory-reserve");
	before_fallocate = NULL;
	assert_int_equal(fallocate_calls, 1);
	assert_has(error.text, "64 MiB needed, 0 B available");
}

static void test_allocation_that_fails(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS};
	fallocate_errno = EINTR; /* a signal is no failure */
	struct region region = create(&config);
	assert_int_equal(status(region.fd).st_blocks * 512, 4 * MiB);
	region_fini(&region);
	fallocate_errno = ENOSPC;
	refuse(&config, -ENOSPC, "-l/--size");
	fallocate_errno = EOPNOTSUPP;
	refuse(&config, -EOPNOTSUPP, "--no-prealloc");
}

static void test_mode_is_what_was_asked_for(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .mode = 0660};
	struct region region = create(&config);
	assert_int_equal(mode_of(region.fd), 0660);
	region_fini(&region);
	config.mode = 0755;
	refuse(&config, -EINVAL, "--region-mode");
}

/* ---- what cannot be combined ---- */

static void test_impossible_combinations_name_the_option(void **state)
{
	(void)state;
	const struct {
		struct region_config config;
		const char *option;
	} cases[] = {
		{{.kind = REGION_SHM, DEFAULTS}, "-M/--shm"},
		{{.kind = REGION_SHM, .name = "", DEFAULTS}, "-M/--shm"},
		{{.kind = REGION_DIR, DEFAULTS}, "-m/--dir"},
		{{.kind = REGION_FILE, DEFAULTS}, "--file"},
		{{DEFAULTS, .reuse = true}, "--reuse"},
		{{.kind = REGION_DIR, .name = "/tmp", DEFAULTS, .reuse = true}, "--reuse"},
		{{.kind = REGION_SHM, .name = "x", DEFAULTS, .huge_page = 2 * MiB}, "--huge-pages"},
		{{.kind = REGION_DIR, .name = "/tmp", DEFAULTS, .huge_page = 2 * MiB},
			"--huge-pages"},
		{{.kind = REGION_FILE, .name = "x", DEFAULTS, .huge_page = 2 * MiB},
			"--huge-pages"},
		{{DEFAULTS, .huge_page = 3 * MiB}, "--huge-pages"},
		{{DEFAULTS, .huge_page = 4096}, "--huge-pages"},
		{{.kind = REGION_FILE, .name = "x", .numa_node = 0}, "--numa-node"},
		{{.size = 4096, .numa_node = 1023}, "--numa-node"},
		{{.size = 4096, .numa_node = 5000}, "--numa-node"},
		{{.size = 4096, .numa_node = -2}, "--numa-node"},
		{{.kind = REGION_DIR, .name = "/var/tmp", .size = 4096, .numa_node = 0},
			"--numa-node"},
		{{.kind = REGION_FILE, .name = "x", DEFAULTS, .mode = 0600}, "--region-mode"},
		{{.kind = REGION_DIR, .name = "/tmp", .numa_node = -1}, "-l/--size"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		refuse(&cases[i].config, -EINVAL, cases[i].option);
}

static void test_numa_policy_stays_with_the_object(void **state)
{
	(void)state;
	struct region region = create(&(struct region_config){.size = 4 * MiB, .numa_node = 0});
	void *address;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(region.fd, 0, false, &address, &size, &sealed), 0);
	int mode = -1;
	unsigned long nodes[16] = {0};
	assert_int_equal(syscall(SYS_get_mempolicy, &mode, nodes, 1024UL, address, MPOL_F_ADDR), 0);
	assert_int_equal(mode, MPOL_BIND);
	assert_int_equal(nodes[0], 1);
	region_unmap(address, size);
	region_fini(&region);
}

/* ---- huge pages ---- */

static void test_huge_pages_round_the_size_up(void **state)
{
	(void)state;
	struct region_config config = {
		.size = 4096, .numa_node = -1, .huge_page = 2 * MiB, .no_prealloc = true};
	struct region region = create(&config);
	assert_int_equal(region.size, 2 * MiB);
	assert_int_equal(region.granule, 2 * MiB);
	region_fini(&region);
}

static void test_too_few_huge_pages_say_how_to_reserve_them(void **state)
{
	(void)state;
	struct region_config config = {DEFAULTS, .huge_page = 2 * MiB};
	config.size = 512 * TiB;
	struct region_error error = refuse(&config, -ENOMEM, "-l/--size");
	assert_has(error.text, "free huge pages of 2 MiB");
	assert_has(error.text, " > " HUGE_2M "nr_hugepages");
}

/* ---- */

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes_round_up_to_a_power_of_two),
		TEST(test_absurd_sizes_are_refused_before_anything_is_allocated),
		TEST(test_reserve_is_kept_free),
		TEST(test_file_size_limit_is_an_error_not_a_signal),
		TEST(test_no_prealloc_allocates_nothing),
		TEST(test_memfd_is_rounded_allocated_private_and_sealed),
		TEST(test_memfd_larger_than_one_step_is_allocated_whole),
		TEST(test_budget_is_asked_again_before_each_step),
		TEST(test_allocation_that_fails),
		TEST(test_mode_is_what_was_asked_for),
		TEST(test_impossible_combinations_name_the_option),
		TEST(test_numa_policy_stays_with_the_object),
		TEST(test_huge_pages_round_the_size_up),
		TEST(test_too_few_huge_pages_say_how_to_reserve_them),
	};
	signal(SIGXFSZ, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
