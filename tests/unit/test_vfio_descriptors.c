/* SPDX-License-Identifier: MIT */
/* Which request a descriptor belongs to, and that none is left over: docs/vfio-user.md, 1. */
#include "../common/scripted.h"
#include "../common/vfupair.h"

#include <sys/resource.h>

static void test_the_memory_goes_with_its_region(void **state)
{
	(void)state;
	uint8_t bytes[64];
	struct vfu_region_info info = {.argsz = sizeof(info), .index = IVSHMEM_BAR_MEMORY};
	int memory = eventfd(0, EFD_NONBLOCK);

	up(1, memory);
	/* Every time, not only the first. */
	for (unsigned id = 2; id < 4; id++) {
		send_bytes(bytes, add(bytes, id, VFU_GET_REGION_INFO, &info, sizeof(info)));
		assert_int_equal(ready(1), VFU_WAIT_READ);
		int fd = receive(id, VFU_GET_REGION_INFO, 0, 48, &info);
		assert_int_equal(info.flags, 7);
		assert_int_equal(info.size, BOX_SIZE);
		eventfd_t count;
		assert_int_equal(eventfd_write(memory, id), 0);
		assert_int_equal(eventfd_read(fd, &count), 0); /* the same file */
		close(fd);
	}
	down();
	close(memory);
}

/* Does ringing `vector` reach `fd`, which is closed? */
static bool reaches(unsigned vector, int fd)
{
	eventfd_t count;
	vfu_function_interrupt(&pair.box.function, vector);
	bool reached = eventfd_read(fd, &count) == 0;
	close(fd);
	return reached;
}

/* Requests without descriptors lie in the socket before the one that has them: the kernel delivers
 * all of it in one read. */
static void test_descriptors_in_the_middle_of_a_burst(void **state)
{
	(void)state;
	uint8_t bytes[256];
	const struct vfu_dma_map map = {.argsz = sizeof(map)};

	for (size_t cut = 0; cut < 3; cut++) {
		int fds[2], mine[2];
		up(4, -1);
		int before = fdcheck_count();
		for (int i = 0; i < 2; i++) {
			mine[i] = eventfd(0, EFD_NONBLOCK);
			fds[i] = dup(mine[i]);
		}
		send_bytes(bytes, add(bytes, 2, VFU_DMA_MAP, &map, sizeof(map)));
		send_bytes(bytes, add(bytes, 3, VFU_RESET, NULL, 0));
		size_t size = add_set_irqs(bytes, 4, 1, 2);
		/* The message itself in one piece, in two, the first of which is one byte .. */
		send_fds(bytes, cut == 0 ? size : cut == 1 ? 1 : 20, fds, 2);
		unsigned handled = 2 + (cut == 0);
		assert_int_equal(ready(handled), VFU_WAIT_READ);
		if (cut > 0)
			send_bytes(bytes + (cut == 1 ? 1 : 20), size - (cut == 1 ? 1 : 20));
		/* .. and with others behind it. */
		send_bytes(bytes, add_set_irqs(bytes, 5, 0, 1));
		send_bytes(bytes, add(bytes, 6, VFU_DMA_MAP, &map, sizeof(map)));
		assert_int_equal(ready(2 + (cut > 0)), VFU_WAIT_READ);

		receive(2, VFU_DMA_MAP, 0, 16, NULL);
		receive(3, VFU_RESET, 0, 16, NULL);
		receive(4, VFU_SET_IRQS, 0, 16, NULL);
		receive(5, VFU_SET_IRQS, 0, 16, NULL);
		receive(6, VFU_DMA_MAP, 0, 16, NULL);
		vfubox_write(&pair.box, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
		assert_int_equal(fdcheck_count(), before + 4);
		assert_true(reaches(1, mine[0]));
		assert_true(reaches(2, mine[1]));
		down();
	}
}

/* One request is incomplete and has descriptors already when the next, with its own, arrives. */
static void test_descriptors_of_two_requests_at_once(void **state)
{
	(void)state;
	uint8_t bytes[64], rest[256];
	int first = eventfd(0, EFD_NONBLOCK), second = eventfd(0, EFD_NONBLOCK);
	int fds[2] = {dup(first), dup(second)};

	up(4, -1);
	size_t size = add_set_irqs(bytes, 2, 0, 1);
	send_fds(bytes, 17, &fds[0], 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	send_bytes(bytes + 17, size - 17);
	send_fds(rest, add_set_irqs(rest, 3, 1, 1), &fds[1], 1);
	assert_int_equal(ready(2), VFU_WAIT_READ);
	receive(2, VFU_SET_IRQS, 0, 16, NULL);
	receive(3, VFU_SET_IRQS, 0, 16, NULL);
	assert_true(reaches(0, first));
	assert_true(reaches(1, second));
	down();
}

static void test_descriptors_that_belong_to_nothing_are_closed(void **state)
{
	(void)state;
	uint8_t bytes[64];

	up(4, -1);
	int before = fdcheck_count();
	/* With the second half of a request. */
	size_t size = add_set_irqs(bytes, 2, 0, 1);
	send_bytes(bytes, 20);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	int fd = eventfd(0, 0);
	send_fds(bytes + 20, size - 20, &fd, 1);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_SET_IRQS, 0, 16, NULL); /* it had none: the vector is taken away */
	assert_int_equal(fdcheck_count(), before);

	/* With a request that wants none. */
	int fds[3] = {dup(0), dup(0), dup(0)};
	send_fds(bytes, add(bytes, 3, VFU_RESET, NULL, 0), fds, 3);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(3, VFU_RESET, 0, 16, NULL);
	assert_int_equal(fdcheck_count(), before);

	/* With requests that never become whole: they go with the connection. */
	fd = dup(0);
	add_set_irqs(bytes, 4, 0, 1);
	send_fds(bytes, 18, &fd, 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	fd = dup(0);
	send_fds(bytes + 18, 1, &fd, 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	assert_int_equal(fdcheck_count(), before + 1);
	down();
}

static void test_too_many_descriptors_end_it(void **state)
{
	(void)state;
	uint8_t bytes[64];
	int fds[FDPASS_RECV_MAX + 1];

	up(1, -1);
	int before = fdcheck_count();
	for (int i = 0; i < FDPASS_RECV_MAX; i++)
		fds[i] = dup(0);
	send_fds(bytes, add(bytes, 2, VFU_RESET, NULL, 0), fds, FDPASS_RECV_MAX);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_RESET, 0, 16, NULL);

	if (scripted_emulated()) { /* an emulator loses those that do not fit, and leaks them */
		down();
		return;
	}
	for (int i = 0; i < FDPASS_RECV_MAX + 1; i++)
		fds[i] = dup(0);
	send_fds(bytes, add(bytes, 3, VFU_RESET, NULL, 0), fds, FDPASS_RECV_MAX + 1);
	assert_int_equal(ready(0), VFU_WAIT_OVER);
	assert_int_equal(fdcheck_count(), before);
	assert_int_equal(lines, 1);
	down();
}

static void test_no_free_descriptor_ends_it(void **state)
{
	(void)state;
	uint8_t bytes[64];
	struct rlimit limit, tight;
	int fd = dup(0);

	up(1, -1);
	send_fds(bytes, add_set_irqs(bytes, 2, 0, 1), &fd, 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	tight = limit;
	tight.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	enum vfu_wait wait = ready(0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(wait, VFU_WAIT_OVER);
	assert_int_equal(lines, 1);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_memory_goes_with_its_region),
		TEST(test_descriptors_in_the_middle_of_a_burst),
		TEST(test_descriptors_of_two_requests_at_once),
		TEST(test_descriptors_that_belong_to_nothing_are_closed),
		TEST(test_too_many_descriptors_end_it),
		TEST(test_no_free_descriptor_ends_it),
	};
	return run_both_ways("alone", tests, sizeof(tests) / sizeof(tests[0]));
}
