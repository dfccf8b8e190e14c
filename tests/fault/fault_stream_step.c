/* SPDX-License-Identifier: MIT */
/*
 * One end of a stream is a process of its own, and killed between any two of its instructions: the
 * compiled code, with whatever order of stores the compiler has chosen.
 *
 * It need not be killed for that. It is stepped, and what a kill at this instruction would leave is
 * the memory as it is: so after each step that has changed it, the next life begins on a copy, and
 * the other end, a copy of the true one too, goes on with it. The true ones go on with each other.
 */
#include "../common/fdcheck.h"
#include "../common/lane.h"
#include "traced.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define MESSAGES 60u
#define LATER    5u /* messages of the next life */

/* Instructions, about, after which the parent has its turn; $STEP_TURN for other ways of the two
 * past each other. */
static unsigned turn = 400;

static struct lane *lane; /* that the two share */
static struct lane copy;  /* what a kill leaves */

static void send(struct lane *where, struct ivshmem_writer *writer, uint32_t number)
{
	unsigned char bytes[LANE_LARGEST];

	lane_message(where, bytes, number);
	assert_int_equal(ivshmem_stream_write(writer, bytes, lane_size(where, number), number),
		IVSHMEM_STREAM_OK);
}

/* The next message: its number; or -1 if there is none now. */
static int64_t receive(struct lane *where, struct ivshmem_reader *reader, unsigned *begins)
{
	unsigned char bytes[LANE_LARGEST];
	uint32_t tag = 0;
	int32_t size;

	do {
		size = ivshmem_stream_read(reader, bytes, sizeof(bytes), &tag);
		*begins += size == IVSHMEM_STREAM_BEGIN;
	} while (size == IVSHMEM_STREAM_BEGIN || size == IVSHMEM_STREAM_END);
	if (size == IVSHMEM_STREAM_EMPTY)
		return -1;
	assert_int_equal(size, lane_size(where, tag));
	assert_true(lane_is_message(where, bytes, tag));
	return tag;
}

/* The same end on the copy. */
static struct ivshmem_end elsewhere(struct ivshmem_end end)
{
	const ptrdiff_t way = (char *)copy.memory - (char *)lane->memory;

	end.mine = (volatile struct ivshmem_channel_slot *)((volatile char *)end.mine + way);
	end.theirs =
		(const volatile struct ivshmem_channel_slot *)((const volatile char *)end.theirs +
			way);
	end.ring += way;
	return end;
}

static bool has_changed(void)
{
	if (memcmp(copy.memory, lane->memory, sizeof(copy.memory)) == 0)
		return false;
	memcpy(copy.memory, lane->memory, sizeof(copy.memory));
	return true;
}

/* ---- the writer is killed ---- */

static void write_all(void)
{
	struct ivshmem_writer writer;
	unsigned char bytes[LANE_LARGEST];

	traced_stop_here();
	ivshmem_writer_attach(&writer, &lane->stream, 5, 1);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		lane_message(lane, bytes, i);
		while (ivshmem_stream_write(&writer, bytes, lane_size(lane, i), i) !=
			IVSHMEM_STREAM_OK)
			ivshmem_writer_arm(&writer, lane_size(lane, i));
	}
	ivshmem_writer_close(&writer);
	_exit(0);
}

static void check_next_writer(const struct ivshmem_reader *true_reader, int64_t expected)
{
	struct ivshmem_reader reader = *true_reader;
	struct ivshmem_writer writer;
	struct lane kept = copy;
	unsigned begins = 0;
	int64_t number;

	reader.end = elsewhere(reader.end);
	ivshmem_writer_attach(&writer, &copy.stream, 5, 1);
	while ((number = receive(&copy, &reader, &begins)) >= 0)
		assert_int_equal(number, expected++);
	assert_true(expected <= MESSAGES && begins <= 1);
	begins = 0;
	for (uint32_t i = 0; i < LATER; i++) {
		send(&copy, &writer, 1000 + i);
		assert_int_equal(receive(&copy, &reader, &begins), 1000 + i);
	}
	assert_int_equal(begins, 1);
	copy = kept;
}

static void test_writer_killed(void **state)
{
	struct ivshmem_reader reader;
	unsigned begins = 0, kills = 0;
	int64_t expected = 0, number;
	(void)state;

	lane_init(lane, IVSHMEM_CHANNEL_WAIT);
	copy = *lane;
	copy.stream.lane = (volatile unsigned char *)copy.memory;
	ivshmem_reader_attach(&reader, &lane->stream, 6, 2, 0);
	pid_t pid = fork();
	if (pid == 0)
		write_all();
	assert_true(traced_begin(&pid));
	for (unsigned i = 1; traced_go(&pid, PTRACE_SINGLESTEP); i++) {
		if (has_changed()) {
			check_next_writer(&reader, expected);
			kills++;
		}
		if (i % turn == 0 && (number = receive(lane, &reader, &begins)) >= 0)
			assert_int_equal(number, expected++);
	}
	while ((number = receive(lane, &reader, &begins)) >= 0)
		assert_int_equal(number, expected++);
	assert_int_equal(expected, MESSAGES);
	assert_true(kills > 300);
	print_message("writer: %u kills\n", kills);
}

/* ---- the reader is killed ---- */

static void read_all(void)
{
	struct ivshmem_reader reader;
	unsigned char bytes[LANE_LARGEST];
	uint32_t tag = 0;

	traced_stop_here();
	ivshmem_reader_attach(&reader, &lane->stream, 6, 2, 0);
	while (tag != MESSAGES - 1)
		if (ivshmem_stream_read(&reader, bytes, sizeof(bytes), &tag) ==
			IVSHMEM_STREAM_EMPTY)
			ivshmem_reader_arm(&reader);
	ivshmem_reader_close(&reader);
	_exit(0);
}

/* Nothing that was not read is missing; what comes again had not been released. */
static void check_next_reader(const struct ivshmem_writer *true_writer, uint32_t sent)
{
	struct ivshmem_writer writer = *true_writer;
	struct ivshmem_reader reader;
	struct lane kept = copy;
	unsigned begins = 0;
	int64_t number, expected = -1;

	writer.end = elsewhere(writer.end);
	ivshmem_reader_attach(&reader, &copy.stream, 6, 2, 0);
	while ((number = receive(&copy, &reader, &begins)) >= 0) {
		assert_true(expected < 0 || number == expected);
		expected = number + 1;
	}
	assert_true(expected < 0 || expected == sent);
	for (uint32_t i = 0; i < LATER; i++) {
		send(&copy, &writer, sent + i);
		assert_int_equal(receive(&copy, &reader, &begins), sent + i);
	}
	copy = kept;
}

static void test_reader_killed(void **state)
{
	struct ivshmem_writer writer;
	unsigned char bytes[LANE_LARGEST];
	unsigned kills = 0;
	uint32_t sent = 0;
	(void)state;

	lane_init(lane, IVSHMEM_CHANNEL_WAIT);
	copy = *lane;
	copy.stream.lane = (volatile unsigned char *)copy.memory;
	ivshmem_writer_attach(&writer, &lane->stream, 5, 1);
	pid_t pid = fork();
	if (pid == 0)
		read_all();
	assert_true(traced_begin(&pid));
	for (unsigned i = 0; traced_go(&pid, PTRACE_SINGLESTEP); i++) {
		if (i % turn == 0 && sent < MESSAGES) {
			lane_message(lane, bytes, sent);
			sent += ivshmem_stream_write(&writer, bytes, lane_size(lane, sent), sent) ==
				IVSHMEM_STREAM_OK;
		}
		if (has_changed()) {
			check_next_reader(&writer, sent);
			kills++;
		}
	}
	assert_int_equal(sent, MESSAGES);
	assert_true(kills > 50);
	print_message("reader: %u kills\n", kills);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_writer_killed), TEST(test_reader_killed)};

	const char *given = getenv("STEP_TURN");

	if (given)
		turn = (unsigned)strtoul(given, NULL, 10);
	lane = mmap(NULL, sizeof(*lane), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return lane == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
