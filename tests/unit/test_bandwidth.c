/* SPDX-License-Identifier: MIT */
/* src/region/bandwidth.c: that measuring ends, tells slow memory from fast, and disturbs nobody. */
#include "base/clock.h"
#include "region/bandwidth.h"

#include "../common/fdcheck.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

/* ---- slow memory: each first access to a page takes a while ---- */

static unsigned char *slow;
static size_t slow_size, page;
static unsigned wait_us;
static volatile sig_atomic_t faults;

static void serve(int number, siginfo_t *info, void *context)
{
	unsigned char *at = info->si_addr;
	(void)number, (void)context;

	if (at < slow || at >= slow + slow_size)
		abort();
	faults++;
	usleep(wait_us);
	mprotect(slow + (size_t)(at - slow) / page * page, page, PROT_READ | PROT_WRITE);
}

static struct sigaction before;

static void make_slow(size_t size, unsigned us)
{
	struct sigaction action = {.sa_sigaction = serve, .sa_flags = SA_SIGINFO};

	page = (size_t)sysconf(_SC_PAGESIZE);
	slow_size = size;
	wait_us = us;
	faults = 0;
	slow = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(slow, MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
}

static void end_slow(void)
{
	sigaction(SIGSEGV, &before, NULL);
	munmap(slow, slow_size);
}

/* However slow it is, it ends at the limit, and has a result. */
static void test_limit(void **state)
{
	(void)state;
	make_slow(16 * MIB, 2000);
	uint64_t speed = bandwidth_of_reading(slow, slow_size, 20);
	assert_true(faults >= 1 && faults <= 11); /* each took at least 2 ms */
	assert_true(speed > 0);
	/* Not more than a page each 2 ms. */
	assert_true(speed <= page * 500);
	end_slow();

	make_slow(16 * MIB, 2000);
	speed = bandwidth_of_writing(slow, slow_size, 20);
	assert_true(faults >= 1 && faults <= 11);
	assert_true(speed > 0 && speed <= page * 500);
	end_slow();
}

static void test_slow_is_not_fast(void **state)
{
	(void)state;
	make_slow(MIB, 100000);
	assert_false(bandwidth_is_fast(slow, slow_size));
	end_slow();
}

static void test_ordinary_is_fast(void **state)
{
	(void)state;
	unsigned char *memory = malloc(MIB);
	assert_non_null(memory);
	memset(memory, 7, MIB);
	/* Once in a while the machine has something else to do meanwhile. */
	bool fast = false;
	for (int i = 0; i < 20 && !fast; i++)
		fast = bandwidth_is_fast(memory, MIB);
	assert_true(fast);
	assert_true(bandwidth_of_reading(memory, MIB, 1000) > 0);
	assert_true(bandwidth_of_writing(memory, MIB, 1000) > 0);
	free(memory);
}

/* ---- disturbing nobody ---- */

static void test_content_stays(void **state)
{
	(void)state;
	unsigned char *memory = malloc(MIB), *copy = malloc(MIB);
	assert_non_null(memory);
	assert_non_null(copy);
	for (size_t i = 0; i < MIB; i++)
		memory[i] = copy[i] = (unsigned char)(i * 31);
	bandwidth_of_reading(memory, MIB, 1000);
	bandwidth_of_writing(memory, MIB, 1000);
	bandwidth_is_fast(memory, MIB);
	assert_memory_equal(memory, copy, MIB);
	free(memory);
	free(copy);
}

static atomic_bool done;

/* Somebody else counts in the memory meanwhile. */
static void *count(void *word)
{
	uintptr_t n = 0;

	for (; !done; n++)
		__atomic_fetch_add((uint32_t *)word, 1, __ATOMIC_RELAXED);
	return (void *)n;
}

static void test_counting_goes_on(void **state)
{
	pthread_t thread;
	void *counted;
	(void)state;
	uint32_t *memory = calloc(1, 4096);
	assert_non_null(memory);

	done = false;
	assert_int_equal(pthread_create(&thread, NULL, count, memory), 0);
	for (uint64_t end = clock_ms() + 50; clock_ms() < end;)
		bandwidth_of_writing(memory, 64, 20);
	done = true;
	pthread_join(thread, &counted);
	assert_int_equal(memory[0], (uint32_t)(uintptr_t)counted);
	free(memory);
}

/* Reading is all that a mapping for reading allows. */
static void test_read_only(void **state)
{
	(void)state;
	void *memory = mmap(NULL, MIB, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(memory, MAP_FAILED);
	assert_true(bandwidth_of_reading(memory, MIB, 1000) > 0);
	bandwidth_is_fast(memory, MIB);
	munmap(memory, MIB);
}

/* ---- edges ---- */

static void test_nothing_to_measure(void **state)
{
	uint64_t word = 0;
	(void)state;
	assert_int_equal(bandwidth_of_reading(&word, 0, 1000), 0);
	assert_int_equal(bandwidth_of_writing(&word, 0, 1000), 0);
	assert_int_equal(bandwidth_of_reading(&word, sizeof(word), 0), 0);
	assert_true(bandwidth_is_fast(&word, 0));
}

/* A region can be a file of any size. Not a byte after its end is touched. */
static void test_odd_sizes(void **state)
{
	static const size_t sizes[] = {1, 3, 7, 63, 65, 67, 4095, 4097, 16385};
	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		unsigned char *memory = calloc(1, sizes[i]); /* a sanitizer sees its end */
		assert_non_null(memory);
		bandwidth_of_reading(memory, sizes[i], 20);
		bandwidth_of_writing(memory, sizes[i], 20);
		bandwidth_is_fast(memory, sizes[i]);
		free(memory);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_limit),
		TEST(test_slow_is_not_fast),
		TEST(test_ordinary_is_fast),
		TEST(test_content_stays),
		TEST(test_counting_goes_on),
		TEST(test_read_only),
		TEST(test_nothing_to_measure),
		TEST(test_odd_sizes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
