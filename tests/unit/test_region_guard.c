/* SPDX-License-Identifier: MIT */
/* src/region/guard: loads and stores on memory that somebody else truncates. */
#include "region/guard.h"

#include "../common/fdcheck.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define SIZE 8192

struct memory {
	int fd;
	uint8_t *bytes;
};

/* cmocka takes SIGBUS for itself in each test. */
static struct sigaction guard;

static struct memory map(void)
{
	assert_int_equal(sigaction(SIGBUS, &guard, NULL), 0);
	struct memory memory = {.fd = memfd_create("guard", MFD_CLOEXEC)};
	assert_true(memory.fd >= 0);
	assert_int_equal(ftruncate(memory.fd, SIZE), 0);
	memory.bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd, 0);
	assert_ptr_not_equal(memory.bytes, MAP_FAILED);
	return memory;
}

static void unmap(struct memory *memory)
{
	munmap(memory->bytes, SIZE);
	close(memory->fd);
}

static void test_copies_of_every_size_and_alignment(void **state)
{
	(void)state;
	struct memory memory = map();
	uint8_t in[32], out[32];
	for (size_t i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)(i + 1);
	for (size_t offset = 0; offset < 9; offset++)
		for (size_t size = 0; size <= 17; size++) {
			memset(memory.bytes, 0xee, 64);
			memset(out, 0xee, sizeof(out));
			assert_true(region_guarded_write(memory.bytes + 8 + offset, in, size));
			assert_true(region_guarded_read(memory.bytes + 8 + offset, out, size));
			assert_memory_equal(memory.bytes + 8 + offset, in, size);
			assert_memory_equal(out, in, size);
			assert_int_equal(memory.bytes[7 + offset], 0xee);
			assert_int_equal(memory.bytes[8 + offset + size], 0xee);
			assert_int_equal(out[size], 0xee);
		}
	unmap(&memory);
}

static void test_truncated_memory_fails_and_comes_back(void **state)
{
	(void)state;
	struct memory memory = map();
	const size_t sizes[] = {1, 2, 3, 4, 8, 64};
	assert_int_equal(ftruncate(memory.fd, 4096), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t bytes[64], zeros[64] = {0};
		memset(bytes, 0xee, sizeof(bytes));
		assert_false(region_guarded_read(memory.bytes + 4096, bytes, sizes[i]));
		assert_memory_equal(bytes, zeros, sizes[i]);
		assert_false(region_guarded_write(memory.bytes + 4096, bytes, sizes[i]));
	}
	/* Half of it is there: what is read is not half of it. */
	uint8_t across[16], zeros[16] = {0};
	memset(memory.bytes, 0xaa, 4096);
	assert_false(region_guarded_read(memory.bytes + 4088, across, 16));
	assert_memory_equal(across, zeros, 16);

	assert_int_equal(ftruncate(memory.fd, SIZE), 0);
	uint32_t value = 0x12345678;
	assert_true(region_guarded_write(memory.bytes + 4096, &value, 4));
	value = 0;
	assert_true(region_guarded_read(memory.bytes + 4096, &value, 4));
	assert_int_equal(value, 0x12345678);
	unmap(&memory);
}

/* The signal that ends a child which does `what`; 0 if it exits. */
static int end_of(void (*what)(struct memory *memory), struct memory *memory)
{
	int status;
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
		what(memory);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void fault_unguarded(struct memory *memory)
{
	uint8_t byte;
	region_guarded_read(memory->bytes + 4096, &byte, 1);
	*(volatile uint8_t *)(memory->bytes + 4096) = 1;
}

static void send_signal(struct memory *memory)
{
	(void)memory;
	kill(getpid(), SIGBUS);
}

static void use_guarded(struct memory *memory)
{
	uint8_t byte;
	for (int i = 0; i < 100; i++)
		region_guarded_read(memory->bytes + 4096, &byte, 1);
}

static void test_other_sigbus_keeps_its_default(void **state)
{
	(void)state;
	struct memory memory = map();
	assert_int_equal(ftruncate(memory.fd, 4096), 0);
	assert_int_equal(end_of(use_guarded, &memory), 0);
	assert_int_equal(end_of(send_signal, &memory), SIGBUS);
	assert_int_equal(end_of(fault_unguarded, &memory), SIGBUS);
	unmap(&memory);
}

struct faulting {
	pthread_t thread;
	const struct memory *memory;
	unsigned failed;
};

static void *fault_often(void *data)
{
	struct faulting *faulting = data;
	uint32_t value;
	for (int i = 0; i < 2000; i++)
		faulting->failed += !region_guarded_read(faulting->memory->bytes + 4096, &value, 4);
	return NULL;
}

static void test_threads_do_not_disturb_each_other(void **state)
{
	(void)state;
	struct memory memory = map();
	struct faulting faulting[4];
	assert_int_equal(ftruncate(memory.fd, 4096), 0);
	for (int i = 0; i < 4; i++) {
		faulting[i] = (struct faulting){.memory = &memory};
		assert_int_equal(
			pthread_create(&faulting[i].thread, NULL, fault_often, &faulting[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		pthread_join(faulting[i].thread, NULL);
		assert_int_equal(faulting[i].failed, 2000);
	}
	unmap(&memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copies_of_every_size_and_alignment),
		cmocka_unit_test(test_truncated_memory_fails_and_comes_back),
		cmocka_unit_test(test_other_sigbus_keeps_its_default),
		cmocka_unit_test(test_threads_do_not_disturb_each_other),
	};
	signal(SIGBUS, SIG_DFL);    /* a sanitizer may have its own */
	for (int i = 0; i < 2; i++) /* once is enough, twice is fine */
		if (region_guard_install() < 0)
			return 1;
	sigaction(SIGBUS, NULL, &guard);
	return cmocka_run_group_tests(tests, fdcheck_setup, fdcheck_teardown);
}
