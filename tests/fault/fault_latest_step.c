/* SPDX-License-Identifier: MIT */
/*
 * The latest value, between any two instructions of the compiled code.
 *
 * The writer is a process that is stepped, as in fault_stream_step.c: after each step that has
 * changed the memory, what a kill would leave is looked at by readers, and the next life begins on
 * a copy. A reader need not be killed, as it writes nothing; so it is stepped while the writer goes
 * on, and must never have a value that is torn. It has the memory mapped for reading only.
 */
#include "../common/fdcheck.h"
#include "../common/lane.h"
#include "traced.h"

#include <ivshmem/latest.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define VALUES 24u
#define LATER  5u  /* values of the next life */
#define READS  60u /* of the stepped reader */

static struct lane *lane; /* that the two share */
static struct lane copy;  /* what a kill leaves */
static struct ivshmem_channel channel;

/* What value number n is made of: made before anybody is stepped, as it is no use to step that. */
static unsigned char values[256][LANE_LARGEST];

static const unsigned char *value(uint32_t number)
{
	return values[number % 256];
}

static int set(struct ivshmem_latest_writer *writer, uint32_t number)
{
	return ivshmem_latest_write(writer, value(number), lane_size(lane, number), number);
}

/* ---- the writer is killed ---- */

static void set_all(void)
{
	struct ivshmem_latest_writer writer = {0};

	traced_stop_here();
	if (ivshmem_latest_writer_attach(&writer, &channel, lane->memory, 0, 5) != 0)
		_exit(1);
	for (uint32_t i = 1; i <= VALUES; i++)
		if (set(&writer, i) != IVSHMEM_LATEST_OK)
			_exit(1);
	ivshmem_latest_writer_close(&writer);
	_exit(0);
}

static bool has_changed(void)
{
	if (memcmp(copy.memory, lane->memory, sizeof(copy.memory)) == 0)
		return false;
	memcpy(copy.memory, lane->memory, sizeof(copy.memory));
	return true;
}

/* Whole, or not handed out. */
static bool is_whole(struct ivshmem_latest_reader *reader, uint32_t number)
{
	unsigned char bytes[LANE_LARGEST];
	uint32_t tag = 0;
	int32_t size = ivshmem_latest_copy(reader, number, bytes, sizeof(bytes), &tag);

	if (size == IVSHMEM_LATEST_BUSY)
		return false;
	assert_int_equal(tag, number);
	assert_int_equal(size, lane_size(lane, number));
	assert_memory_equal(bytes, value(number), (size_t)size);
	return true;
}

/* For readers that look now, or have looked before; and for those of the next life. */
static uint32_t check_kill(uint32_t newest)
{
	struct ivshmem_latest_reader reader = {0};
	struct ivshmem_latest_writer writer = {0};

	assert_int_equal(ivshmem_latest_reader_attach(&reader, &channel, copy.memory, 0, 0), 0);
	const uint32_t now = ivshmem_latest_newest(&reader);
	assert_true(now == newest || now == newest + 1);
	for (uint32_t age = 0; age < 4 && age < now; age++)
		assert_true(is_whole(&reader, now - age) || age == 3);

	assert_int_equal(ivshmem_latest_writer_attach(&writer, &channel, copy.memory, 0, 5), 0);
	assert_true(now == 0 || is_whole(&reader, now));
	for (uint32_t i = now + 1; i <= now + LATER; i++) {
		assert_int_equal(set(&writer, i), IVSHMEM_LATEST_OK);
		assert_int_equal(ivshmem_latest_newest(&reader), i);
		assert_true(is_whole(&reader, i));
	}
	return now;
}

static void test_writer_killed(void **state)
{
	unsigned kills = 0;
	uint32_t newest = 0;
	(void)state;

	lane_init(lane, IVSHMEM_CHANNEL_WAIT);
	copy = *lane;
	pid_t pid = fork();
	if (pid == 0)
		set_all();
	assert_true(traced_begin(&pid));
	while (traced_go(&pid, PTRACE_SINGLESTEP))
		if (has_changed()) {
			newest = check_kill(newest);
			memcpy(copy.memory, lane->memory, sizeof(copy.memory));
			kills++;
		}
	assert_int_equal(newest, VALUES);
	assert_true(kills > 150);
}

/* ---- the reader is stepped ---- */

/* What it has got, for the parent to look at. */
static struct given {
	unsigned char bytes[LANE_LARGEST];
	int32_t size;
	uint32_t tag, count;
} * given;

static void read_all(const void *memory)
{
	struct ivshmem_latest_reader reader;

	traced_stop_here();
	if (ivshmem_latest_reader_attach(&reader, &channel, memory, 0, 0) != 0)
		_exit(1);
	for (uint32_t i = 1; i <= READS; i++) {
		given->size = ivshmem_latest_read(
			&reader, given->bytes, sizeof(given->bytes), &given->tag);
		__atomic_store_n(&given->count, i, __ATOMIC_RELEASE);
	}
	_exit(0);
}

/* Is it a value? Then it is a whole one, and not before the last one. */
static bool check_given(uint32_t *before)
{
	if (given->size == IVSHMEM_LATEST_BUSY)
		return false;
	assert_int_equal(given->size, lane_size(lane, given->tag));
	assert_memory_equal(given->bytes, value(given->tag), (size_t)given->size);
	assert_true(given->tag >= *before);
	*before = given->tag;
	return true;
}

static void test_reader_stepped(void **state)
{
	struct ivshmem_latest_writer writer = {0};
	uint32_t number = 10, seen = 0, before = 0, values_seen = 0;
	unsigned length = 0; /* of a try, in instructions: the second one is measured */
	(void)state;

	lane_init(lane, IVSHMEM_CHANNEL_WAIT);
	assert_int_equal(ivshmem_latest_writer_attach(&writer, &channel, lane->memory, 0, 5), 0);
	assert_int_equal(set(&writer, ++number), IVSHMEM_LATEST_OK);
	pid_t pid = fork();
	if (pid == 0) {
		mprotect(lane, sizeof(*lane), PROT_READ);
		read_all(lane->memory);
	}
	assert_true(traced_begin(&pid));
	/* Four values in one try are too many for it, three are not; and each time they come at
	 * other instructions. */
	for (unsigned i = 1; traced_go(&pid, PTRACE_SINGLESTEP); i++) {
		if (seen < 2)
			length += seen;
		else if (i % (length / (3 + seen % 4 * 3) + 1) == 0)
			assert_int_equal(set(&writer, ++number), IVSHMEM_LATEST_OK);
		if (given->count != seen) {
			seen = given->count;
			values_seen += check_given(&before);
		}
	}
	assert_int_equal(seen, READS);
	assert_true(values_seen > READS / 4 && number > 4 * READS);
}

static void *shared(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		exit(1);
	return memory;
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_writer_killed), TEST(test_reader_stepped)};

	lane = shared(sizeof(*lane));
	given = shared(sizeof(*given));
	for (unsigned i = 0; i < 256; i++)
		memset(values[i], (int)i, sizeof(values[i]));
	lane_init(lane, IVSHMEM_CHANNEL_WAIT);
	channel = lane_latest(lane);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
