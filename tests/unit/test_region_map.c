/* SPDX-License-Identifier: MIT */
/*
 * src/region, seen by peers: mapping what came from a server, and what a hostile peer can and
 * cannot do to the others.
 */
#include "../common/regiontest.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Touch a byte; -1 if that is answered with SIGBUS. */
static sigjmp_buf on_bus;

static void jump(int signal_number)
{
	(void)signal_number;
	siglongjmp(on_bus, 1);
}

static int touch(volatile unsigned char *byte, bool write)
{
	struct sigaction action = {.sa_handler = jump}, before;
	sigaction(SIGBUS, &action, &before);
	int result = -1;
	if (sigsetjmp(on_bus, 1) == 0) {
		if (write)
			*byte = 7;
		result = *byte;
	}
	sigaction(SIGBUS, &before, NULL);
	return result;
}

static void punch(int fd, off_t offset, off_t size)
{
	assert_int_equal(
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size), 0);
}

static void test_peer_cannot_resize_a_sealed_region(void **state)
{
	(void)state;
	struct region region = create(&(struct region_config){DEFAULTS});
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", region.fd);
	int peer = open(path, O_RDWR | O_CLOEXEC);
	assert_true(peer >= 0);
	const off_t sizes[] = {0, 4096, 4 * MiB - 1, 4 * MiB + 1, 8 * MiB};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(ftruncate(peer, sizes[i]), -1);
		assert_int_equal(errno, EPERM);
	}
	assert_int_equal(fallocate(peer, 0, 4 * MiB, 4096), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(fcntl(peer, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), -1);
	assert_int_equal(errno, EPERM);
	close(peer);
	region_fini(&region);
}

static void test_hole_loses_content_and_kills_nobody(void **state)
{
	(void)state;
	struct region region = create(&(struct region_config){DEFAULTS});
	void *address;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(region.fd, 0, false, &address, &size, &sealed), 0);
	unsigned char *bytes = address;
	memset(bytes, 0x55, (size_t)size);
	punch(region.fd, 0, 2 * MiB);
	assert_int_equal(touch(bytes, false), 0);
	assert_int_equal(touch(bytes + MiB, true), 7);
	assert_int_equal(touch(bytes + 3 * MiB, false), 0x55);
	punch(region.fd, 0, 4 * MiB);
	for (uint64_t at = 0; at < size; at += 4096)
		assert_int_equal(touch(bytes + at, true), 7);
	region_unmap(address, size);
	region_fini(&region);
}

static uint64_t huge_number(const char *file)
{
	char path[128], text[32] = "0";
	snprintf(path, sizeof(path), HUGE_2M "%s", file);
	int fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = '0';
	if (fd >= 0)
		close(fd);
	return strtoull(text, NULL, 10);
}

static void set_huge_pages(uint64_t pages)
{
	FILE *file = fopen(HUGE_2M "nr_hugepages", "w");
	if (!file)
		return;
	fprintf(file, "%" PRIu64 "\n", pages);
	fclose(file);
}

/* The measurement behind docs/decisions/0002-memory-budget.md. */
static void test_hole_in_huge_pages(void **state)
{
	(void)state;
	uint64_t pages_before = huge_number("nr_hugepages");
	if (huge_number("free_hugepages") < 2)
		set_huge_pages(pages_before + 2);
	if (huge_number("free_hugepages") < 2) {
		print_message("cannot reserve two huge pages of 2 MiB here (root can)\n");
		set_huge_pages(pages_before);
		skip();
	}
	struct region_config config = {.size = 3 * MiB, .numa_node = -1, .huge_page = 2 * MiB};
	struct region region = create(&config);
	assert_int_equal(region.size, 4 * MiB);
	assert_int_equal(region.granule, 2 * MiB);
	struct stat st;
	assert_int_equal(fstat(region.fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(fcntl(region.fd, F_GET_SEALS) & ALL_SEALS, ALL_SEALS);
	assert_has(region_warning(&region), "huge pages");
	assert_int_equal(ftruncate(region.fd, 2 * MiB), -1);
	assert_int_equal(errno, EPERM);

	void *address, *late;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(region.fd, 0, false, &address, &size, &sealed), 0);
	unsigned char *bytes = address;
	memset(bytes, 0x55, (size_t)size);
	punch(region.fd, 0, 2 * MiB);
	assert_int_equal(touch(bytes, false), 0); /* the page was still free: content lost */
	punch(region.fd, 0, 2 * MiB);

	/* Somebody takes all free pages: SIGBUS in the hole, an error for who maps only now. */
	int thief = memfd_create("thief", MFD_CLOEXEC | MFD_HUGETLB);
	assert_int_equal(ftruncate(thief, 1 << 30), 0);
	for (off_t at = 0; fallocate(thief, 0, at, 2 * MiB) == 0;)
		at += 2 * MiB;
	assert_int_equal(touch(bytes, false), -1);
	assert_int_equal(touch(bytes, true), -1);
	assert_int_equal(touch(bytes + 2 * MiB, false), 0x55);
	assert_int_equal(region_map(region.fd, 0, false, &late, &size, &sealed), -ENOMEM);
	close(thief);
	assert_int_equal(touch(bytes, true), 7);

	region_unmap(address, size);
	region_fini(&region);
	set_huge_pages(pages_before);
}

static void test_map_checks_what_it_was_given(void **state)
{
	(void)state;
	void *address;
	uint64_t size;
	bool sealed;
	struct region region = create(&(struct region_config){DEFAULTS});
	assert_int_equal(region_map(region.fd, 4 * MiB, false, &address, &size, &sealed), 0);
	assert_int_equal(size, 4 * MiB);
	assert_true(sealed);
	region_unmap(address, size);
	region_unmap(NULL, 0);
	assert_int_equal(
		region_map(region.fd, 4 * MiB - 1, false, &address, &size, &sealed), -EFBIG);

	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(region_map(pair[0], 0, false, &address, &size, &sealed), -EINVAL);
	close(pair[0]);
	close(pair[1]);
	int null = open("/dev/null", O_RDWR);
	assert_int_equal(region_map(null, 0, false, &address, &size, &sealed), -EINVAL);
	close(null);
	int directory = open("/", O_RDONLY);
	assert_int_equal(region_map(directory, 0, false, &address, &size, &sealed), -EINVAL);
	close(directory);
	int empty = memfd_create("empty", MFD_CLOEXEC);
	assert_int_equal(region_map(empty, 0, false, &address, &size, &sealed), -EINVAL);
	assert_int_equal(ftruncate(empty, 4096), 0);
	assert_int_equal(region_map(empty, 0, false, &address, &size, &sealed), 0);
	assert_false(sealed);
	region_unmap(address, size);
	close(empty);
	assert_int_equal(region_map(-1, 0, false, &address, &size, &sealed), -EBADF);
	region_fini(&region);
}

static void test_read_only_map_needs_no_write_permission(void **state)
{
	(void)state;
	char name[64];
	snprintf(name, sizeof(name), "ivshmem-test-map-%d", (int)getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4096), 0);
	assert_int_equal(pwrite(fd, "x", 1, 0), 1);
	close(fd);
	fd = region_open_shm(name, true);
	void *address;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(fd, 0, false, &address, &size, &sealed), -EACCES);
	assert_int_equal(region_map(fd, 0, true, &address, &size, &sealed), 0);
	assert_int_equal(*(char *)address, 'x');
	assert_false(sealed);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	region_unmap(address, size);
	close(fd);
	shm_unlink(name);
}

static void test_open_file(void **state)
{
	(void)state;
	char path[64];
	snprintf(path, sizeof(path), "/tmp/ivshmem-test-map-%d", (int)getpid());
	assert_int_equal(mkfifo(path, 0600), 0);
	int fd = region_open_file(path, true); /* must not wait for a writer */
	assert_true(fd >= 0);
	void *address;
	uint64_t size;
	bool sealed;
	assert_int_equal(region_map(fd, 0, true, &address, &size, &sealed), -EINVAL);
	close(fd);
	unlink(path);
	assert_int_equal(region_open_file(path, false), -ENOENT);
	assert_int_equal(region_open_file("/tmp", false), -EISDIR);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_peer_cannot_resize_a_sealed_region),
		TEST(test_hole_loses_content_and_kills_nobody),
		TEST(test_hole_in_huge_pages),
		TEST(test_map_checks_what_it_was_given),
		TEST(test_read_only_map_needs_no_write_permission),
		TEST(test_open_file),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
