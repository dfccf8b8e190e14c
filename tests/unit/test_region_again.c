/* SPDX-License-Identifier: MIT */
/* src/region: a region that goes on: cleared, taken over by another process, opened for reading. */
#include "../common/regiontest.h"

#include <errno.h>
#include <sys/mman.h>

/* The whole region full of something. */
static void fill(const struct region *region)
{
	const size_t size = (size_t)region->size;
	char *page = malloc(size);
	memset(page, 0x55, size);
	assert_int_equal(pwrite(region->fd, page, size, 0), size);
	free(page);
}

/* Which of the region's bytes are 0: all from..to, and no other. */
static void assert_zeros(const struct region *region, uint64_t from, uint64_t to)
{
	const size_t size = (size_t)region->size;
	unsigned char *bytes = malloc(size);
	assert_int_equal(pread(region->fd, bytes, size, 0), size);
	for (size_t i = 0; i < size; i++)
		if ((bytes[i] == 0) != (i >= from && i < to))
			fail_msg("byte %llu is %u", (unsigned long long)i, bytes[i]);
	free(bytes);
}

static void test_clearing_keeps_size_and_memory(void **state)
{
	struct region region = create(&(struct region_config){DEFAULTS});
	blkcnt_t blocks = status(region.fd).st_blocks;
	(void)state;

	fill(&region);
	assert_int_equal(region_clear(&region, true, 1 * MiB, 2 * MiB), 0);
	assert_zeros(&region, 1 * MiB, 3 * MiB);
	assert_int_equal(region_clear(&region, true, 0, UINT64_MAX), 0);
	assert_zeros(&region, 0, 4 * MiB);
	assert_int_equal(region_clear(&region, true, 4 * MiB, 1 * MiB), 0);
	assert_int_equal(status(region.fd).st_size, 4 * MiB);
	assert_int_equal(status(region.fd).st_blocks, blocks);
	region_fini(&region);
}

static void test_clearing_what_was_not_allocated_gives_it_back(void **state)
{
	struct region region = create(&(struct region_config){DEFAULTS, .no_prealloc = true});
	(void)state;

	fill(&region);
	assert_int_equal(region_clear(&region, false, 0, 4 * MiB), 0);
	assert_zeros(&region, 0, 4 * MiB);
	assert_int_equal(status(region.fd).st_size, 4 * MiB);
	assert_int_equal(status(region.fd).st_blocks, 0);
	region_fini(&region);
}

static void test_clearing_an_object_that_was_cut_off_kills_nobody(void **state)
{
	char *directory = make_directory();
	struct region region =
		create(&(struct region_config){DEFAULTS, .kind = REGION_DIR, .name = directory});
	(void)state;

	assert_int_equal(ftruncate(region.fd, 0), 0);
	assert_int_equal(region_clear(&region, true, 0, 4 * MiB), 0);
	region_fini(&region);
	remove_tree(directory);
}

static void test_read_only_descriptor_is_one(void **state)
{
	struct region region = create(&(struct region_config){DEFAULTS});
	(void)state;

	fill(&region);
	int fd = region_open_read_only(&region);
	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
	void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mapped, MAP_FAILED);
	assert_int_equal(*(char *)mapped, 0x55);
	assert_int_equal(mprotect(mapped, 4096, PROT_READ | PROT_WRITE), -1);
	munmap(mapped, 4096);
	close(fd);
	region_fini(&region);
}

static void test_adopted_region_is_the_same(void **state)
{
	const struct region_config config = {DEFAULTS};
	struct region region = create(&config), again;
	struct region_error error;
	(void)state;

	int fd = fcntl(region.fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(region_adopt(&again, fd, &config, region.created, &error), 0);
	assert_int_equal(again.fd, fd);
	assert_int_equal(again.size, region.size);
	assert_int_equal(again.granule, region.granule);
	assert_true(again.sealed);
	region_fini(&region);
	region_fini(&again);
}

static void test_adopted_object_is_removed_by_who_ends_last(void **state)
{
	char name[32];
	snprintf(name, sizeof(name), "ivshmem-again-%d", (int)getpid());
	const struct region_config config = {DEFAULTS, .kind = REGION_SHM, .name = name};
	struct region region = create(&config), again;
	struct region_error error;
	(void)state;

	int fd = fcntl(region.fd, F_DUPFD_CLOEXEC, 0);
	assert_int_equal(region_adopt(&again, fd, &config, region.created, &error), 0);
	free(region.name); /* as if the first process had been killed */
	region.name = NULL;
	region_fini(&region);
	int there = region_open_shm(name, true);
	assert_true(there >= 0);
	close(there);
	region_fini(&again);
	assert_int_equal(region_open_shm(name, true), -ENOENT);
}

static void test_what_is_no_such_region_is_not_adopted(void **state)
{
	const struct region_config config = {DEFAULTS};
	struct region small =
		create(&(struct region_config){.size = 4096, .numa_node = REGION_NUMA_ANY});
	struct region region;
	struct region_error error;
	int pipes[2];
	(void)state;

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(region_adopt(&region, pipes[0], &config, false, &error), -EINVAL);
	assert_has(error.text, "should have 4 MiB");
	assert_int_equal(region_adopt(&region, small.fd, &config, false, &error), -EINVAL);
	int fd = region_open_read_only(&small);
	assert_int_equal(
		region_adopt(&region, fd, &(struct region_config){.size = 4096}, false, &error),
		-EINVAL);
	assert_has(error.text, "not writable");
	close(fd);
	close(pipes[0]);
	close(pipes[1]);
	region_fini(&small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_clearing_keeps_size_and_memory),
		TEST(test_clearing_what_was_not_allocated_gives_it_back),
		TEST(test_clearing_an_object_that_was_cut_off_kills_nobody),
		TEST(test_read_only_descriptor_is_one),
		TEST(test_adopted_region_is_the_same),
		TEST(test_adopted_object_is_removed_by_who_ends_last),
		TEST(test_what_is_no_such_region_is_not_adopted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
