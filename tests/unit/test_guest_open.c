/* SPDX-License-Identifier: MIT */
/* src/guest/guest.c, and sysfs.c under it: a device without a driver. With one: test_guest_uio.c
 * and test_guest_vectors.c. */
#include "base/clock.h"

#include "../common/guesttree.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static struct tree_path registers(void)
{
	return tree_file(TREE_BDF, "resource0");
}

static void set_id(uint32_t id)
{
	tree_set_word(registers(), IVSHMEM_REG_IVPOSITION, id);
}

static void assert_enabled(const char *expected)
{
	char line[8] = "";
	assert_int_equal(
		sysfs_line(line, sizeof(line), "%s", tree_file(TREE_BDF, "enable").text), 0);
	assert_string_equal(line, expected);
}

/* Can that address be written to? */
static bool is_writable(void *address)
{
	int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	ssize_t n = read(zeros, address, 1);
	close(zeros);
	return n == 1;
}

/* ---- no driver ---- */

static void test_open(void **state)
{
	const unsigned caps = IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_ID | IVSHMEM_CAP_WRITE |
		IVSHMEM_CAP_REGION_FD | IVSHMEM_CAP_TIMED_WAIT;
	struct guest guest;
	struct stat st, expected;
	(void)state;
	tree_device(TREE_BDF, NULL);
	set_id(5);

	tree_open(&guest, GUEST_PCI, "00:04.0", &tree_params);
	assert_int_equal(guest.id, 5);
	assert_int_equal(guest_capabilities(&guest) & ~IVSHMEM_CAP_FAST_REGION, caps);
	assert_int_equal(guest.size, TREE_REGION);
	assert_true(is_writable(guest.region));
	((uint32_t *)guest.region)[TREE_REGION / 4 - 1] = htole32(0x12345678);
	struct tree_path memory = tree_file(TREE_BDF, SYSFS_MEMORY);
	assert_int_equal(tree_word(memory, TREE_REGION - 4), 0x12345678);

	int fd = guest_region_fd(&guest);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(stat(memory.text, &expected), 0);
	assert_int_equal(st.st_ino, expected.st_ino);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(guest_vectors(&guest, 5), 0);
	assert_int_equal(guest_vectors(&guest, 6), -ENOTSUP);
	assert_int_equal(guest_vector_fd(&guest, 0), -ENOTSUP);
	guest_close(&guest);
	assert_false(is_writable(guest.region)); /* not mapped any more */
	assert_false(is_writable((void *)guest.registers));
}

static void test_switching_on(void **state)
{
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	struct tree_path enable = tree_file(TREE_BDF, "enable");

	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);
	guest_close(&guest);
	assert_enabled("1");
	/* A count; each write would add to it. */
	tree_text(enable, "3\n");
	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);
	guest_close(&guest);
	assert_enabled("3");

	tree_drop(enable);
	tree_assert_fails(GUEST_PCI, TREE_BDF, &tree_params, -ENOENT, "/enable: No such file");
}

static void test_notify(void **state)
{
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	set_id(65535);
	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);

	assert_int_equal(guest_notify(&guest, 7, 3), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 0x00070003);
	assert_int_equal(guest_notify(&guest, 65535, 65535), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 0xffffffff);
	assert_int_equal(guest_notify(&guest, 0, 1), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 1);
	assert_int_equal(guest_notify(&guest, 65536, 0), -EINVAL);
	assert_int_equal(guest_notify(&guest, 0, 65536), -EINVAL);
	assert_int_equal(guest_notify(&guest, UINT32_MAX, UINT32_MAX), -EINVAL);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 1);
	/* No other register has been touched. */
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_INTRMASK), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_INTRSTATUS), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_IVPOSITION), 65535);
	guest_close(&guest);
}

/* A device without interrupts has no server, unless it says so by its ID. */
static void test_plain(void **state)
{
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	tree_config(TREE_BDF, 0);

	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);
	assert_int_equal(guest.id, -1);
	assert_false(guest_capabilities(&guest) & (IVSHMEM_CAP_ID | IVSHMEM_CAP_NOTIFY));
	assert_true(guest_capabilities(&guest) & IVSHMEM_CAP_TIMED_WAIT);
	assert_int_equal(guest_notify(&guest, 0, 0), -ENOTSUP);
	assert_int_equal(guest_vectors(&guest, 0), -ENOTSUP);
	assert_int_equal(guest_vectors(&guest, -1), -ENOTSUP);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 0);
	guest_close(&guest);

	set_id(3);
	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);
	assert_int_equal(guest.id, 3);
	assert_int_equal(guest_notify(&guest, 0, 0), 0);
	guest_close(&guest);

	/* What any user sees of a device does not tell whether it has vectors; the first peer's ID
	 * is one then. */
	set_id(0);
	assert_int_equal(truncate(tree_file(TREE_BDF, "config").text, 64), 0);
	tree_open(&guest, GUEST_PCI, TREE_BDF, &tree_params);
	assert_int_equal(guest.id, 0);
	guest_close(&guest);
}

static void test_read_only(void **state)
{
	struct ivshmem_params params = tree_params;
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	params.read_only = 1;
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);

	assert_false(guest_capabilities(&guest) & IVSHMEM_CAP_WRITE);
	assert_false(is_writable(guest.region));
	assert_int_equal(fcntl(guest_region_fd(&guest), F_GETFL) & O_ACCMODE, O_RDONLY);
	assert_int_equal(guest_notify(&guest, 1, 1), 0);
	assert_int_equal(tree_word(registers(), IVSHMEM_REG_DOORBELL), 0x00010001);
	guest_close(&guest);
}

/* ---- IDs ---- */

static void test_bad_id(void **state)
{
	struct ivshmem_params params = tree_params;
	uint64_t start;
	(void)state;
	tree_device(TREE_BDF, NULL);

	set_id(65536);
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -EPROTO, "0x10000, more than 65535");
	set_id(0x80000000);
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -EPROTO, "0x80000000");
	set_id(UINT32_MAX);
	params.timeout_ms = 30;
	start = clock_ms();
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -EAGAIN, "start the server");
	assert_true(clock_ms() - start >= 29);
}

static void *give_id(void *arg)
{
	(void)arg;
	usleep(30000);
	set_id(9);
	return NULL;
}

/* The server comes while we wait. */
static void test_late_id(void **state)
{
	struct ivshmem_params params = tree_params;
	struct guest guest;
	pthread_t thread;
	(void)state;
	tree_device(TREE_BDF, NULL);
	set_id(UINT32_MAX);
	params.timeout_ms = -1;

	assert_int_equal(pthread_create(&thread, NULL, give_id, NULL), 0);
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);
	pthread_join(thread, NULL);
	assert_int_equal(guest.id, 9);
	guest_close(&guest);
}

/* ---- BARs ---- */

static void assert_resource_fails(
	const char *region, const struct ivshmem_params *params, int expected, const char *hint)
{
	char text[128];
	snprintf(text, sizeof(text), "0x1000 0x10ff 0x0\n0x0 0x0 0x0\n%s 0x0\n", region);
	tree_text(tree_file(TREE_BDF, "resource"), text);
	tree_assert_fails(GUEST_PCI, TREE_BDF, params, expected, hint);
}

static void test_bad_bars(void **state)
{
	struct ivshmem_params params = tree_params;
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);

	params.map_limit = TREE_REGION - 1;
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -EFBIG, "64 KiB exceeds the limit of");
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -EFBIG, "map_limit");
	params.map_limit++;
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);
	guest_close(&guest);

	assert_resource_fails("0x0 0x0", &params, -ENODEV, "no room for its BARs");
	tree_text(tree_file(TREE_BDF, "resource"), "0x1000 0x1007 0x0\n0 0 0\n0x0 0xffff 0x0\n");
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -ENODEV, "no room for its BARs");
	tree_text(tree_file(TREE_BDF, "resource"), "");
	tree_assert_fails(GUEST_PCI, TREE_BDF, &params, -ENODEV, "no room for its BARs");
	/* More than there are addresses. */
	params.map_limit = 0;
	const bool wide = sizeof(void *) > 4;
	assert_resource_fails("0x0 0x3fffffffffffffff", &params, wide ? -ENOMEM : -EFBIG,
		"mapping the shared memory from " SYSFS_MEMORY);
}

static void test_bad_files(void **state)
{
	(void)state;
	tree_device(TREE_BDF, NULL);

	tree_drop(tree_file(TREE_BDF, SYSFS_MEMORY));
	tree_assert_fails(
		GUEST_PCI, TREE_BDF, &tree_params, -ENOENT, SYSFS_MEMORY ": No such file");
	assert_int_equal(mkfifo(tree_file(TREE_BDF, SYSFS_MEMORY).text, 0600), 0);
	tree_assert_fails(
		GUEST_PCI, TREE_BDF, &tree_params, -ENODEV, "mapping the shared memory from");
	tree_drop(registers());
	tree_assert_fails(GUEST_PCI, TREE_BDF, &tree_params, -ENOENT, "resource0: No such file");
	assert_int_equal(mkfifo(registers().text, 0600), 0);
	tree_assert_fails(GUEST_PCI, TREE_BDF, &tree_params, -ENODEV, "mapping the registers from");
}

/* ---- timed waits ---- */

static void test_timed_wait(void **state)
{
	struct ivshmem_params params = tree_params;
	uint64_t start;
	struct guest guest;
	uint64_t count = 77;
	(void)state;
	tree_device(TREE_BDF, NULL);
	params.max_vectors = 4;
	params.poll_us = 20000;
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);

	start = clock_ms();
	assert_int_equal(guest_wait(&guest, 3, 60000, &count), 1);
	assert_true(clock_ms() - start >= 19);
	assert_int_equal(count, 0);
	assert_int_equal(guest_wait(&guest, 0, -1, NULL), 1);

	assert_int_equal(guest_wait(&guest, 0, 0, &count), 0);
	guest.poll_us = UINT32_MAX; /* over an hour */
	start = clock_ms();
	assert_int_equal(guest_wait(&guest, 0, 20, &count), 0);
	assert_true(clock_ms() - start >= 19);
	assert_int_equal(guest_wait(&guest, 4, 0, NULL), -EINVAL);
	assert_int_equal(guest_wait(&guest, UINT32_MAX, -1, NULL), -EINVAL);
	guest_close(&guest);
}

static void ignore(int sig)
{
	(void)sig;
}

static void test_signals_interrupt(void **state)
{
	const struct itimerval soon = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000},
			       off = {0};
	struct sigaction action = {.sa_handler = ignore}, old;
	struct ivshmem_params params = tree_params;
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	params.poll_us = 30000000;
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);

	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(guest_wait(&guest, 0, -1, NULL), -EINTR);
	assert_int_equal(guest_dispatch(&guest, -1), -EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	guest_close(&guest);
}

/* Who has a loop of his own has nothing to hear in it. */
static void test_loop(void **state)
{
	const struct ivshmem_listener nobody = {.interrupt = NULL};
	struct ivshmem_params params = tree_params;
	uint64_t start;
	struct guest guest;
	(void)state;
	tree_device(TREE_BDF, NULL);
	params.listener = &nobody;
	tree_open(&guest, GUEST_PCI, TREE_BDF, &params);

	start = clock_ms();
	assert_int_equal(guest_dispatch(&guest, 20), 0);
	assert_true(clock_ms() - start >= 19);
	struct pollfd loop = {.fd = guest.epoll, .events = POLLIN};
	assert_int_equal(poll(&loop, 1, 0), 0);
	guest_close(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_signals_interrupt), /* before there are threads */
		TREE_TEST(test_open),
		TREE_TEST(test_switching_on),
		TREE_TEST(test_notify),
		TREE_TEST(test_plain),
		TREE_TEST(test_read_only),
		TREE_TEST(test_bad_id),
		TREE_TEST(test_late_id),
		TREE_TEST(test_bad_bars),
		TREE_TEST(test_bad_files),
		TREE_TEST(test_timed_wait),
		TREE_TEST(test_loop),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
