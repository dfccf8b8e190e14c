/* SPDX-License-Identifier: MIT */
/* <ivshmem/gather.h>: turns, and that a lane is nobody else's business. */
#include "../common/fdcheck.h"
#include "../common/lane.h"

#include <ivshmem/gather.h>

enum { LANES = 3 };

static struct lane memory[LANES];
static struct ivshmem_lane lane[LANES];
static struct ivshmem_lanes lanes;
static struct ivshmem_writer writers[LANES];
static unsigned char buffer[LANE_LARGEST];

static void attach(uint32_t which)
{
	ivshmem_writer_attach(&writers[which], &memory[which].stream, which, 0);
}

static int set_up(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < LANES; i++) {
		lane_init(&memory[i], IVSHMEM_CHANNEL_WAIT);
		ivshmem_reader_attach(&lane[i].reader, &memory[i].stream, 9, 0, 0);
		attach(i);
	}
	ivshmem_lanes_init(&lanes, lane, LANES);
	return 0;
}

static void send(uint32_t which, uint32_t size)
{
	assert_int_equal(ivshmem_stream_write(&writers[which], buffer, size, which), 0);
}

static void fill(uint32_t which)
{
	while (ivshmem_stream_write(&writers[which], buffer, 8, which) == IVSHMEM_STREAM_OK)
		;
}

static void assert_read(uint32_t which, int32_t result)
{
	uint32_t from = UINT32_MAX;

	assert_int_equal(ivshmem_lanes_read(&lanes, buffer, sizeof(buffer), &from, NULL), result);
	assert_int_equal(from, which);
}

static void assert_empty(void)
{
	uint32_t from;
	assert_int_equal(ivshmem_lanes_read(&lanes, buffer, sizeof(buffer), &from, NULL),
		IVSHMEM_STREAM_EMPTY);
}

/* All lives begin. */
static void begin(void)
{
	for (uint32_t i = 0; i < LANES; i++)
		send(i, 0);
	for (unsigned i = 0; i < 2 * LANES; i++)
		assert_int_not_equal(
			ivshmem_lanes_read(&lanes, buffer, 8, &(uint32_t){0}, NULL), -1);
	assert_empty();
}

static void test_messages(void **state)
{
	uint32_t from, tag;
	(void)state;

	assert_empty();
	memcpy(buffer, "hello", 5);
	assert_int_equal(ivshmem_stream_write(&writers[1], buffer, 5, 77), 0);
	assert_read(1, IVSHMEM_STREAM_BEGIN);
	memset(buffer, 0, 5);
	assert_int_equal(ivshmem_lanes_read(&lanes, buffer, 5, &from, &tag), 5);
	assert_memory_equal(buffer, "hello", 5);
	assert_int_equal(from, 1);
	assert_int_equal(tag, 77);
	assert_empty();
}

/* One lane is never empty, and the others' messages come nonetheless, within a turn. */
static void test_flood(void **state)
{
	unsigned got = 0;
	uint32_t from;
	(void)state;

	begin();
	for (unsigned i = 0; i < 2000; i++) {
		fill(0);
		if (i % 50 == 0) {
			send(1, 8);
			send(2, 8);
		}
		assert_int_equal(
			ivshmem_lanes_read(&lanes, buffer, sizeof(buffer), &from, NULL), 8);
		got += from != 0;
	}
	assert_int_equal(got, 2 * 2000 / 50);
}

/* How long a lane waits at most: a turn of each other one. */
static void test_turns(void **state)
{
	uint32_t from = 0;
	unsigned before;
	(void)state;

	begin();
	for (unsigned round = 0; round < 40; round++) {
		fill(0);
		fill(1);
		for (unsigned i = 0; i < round; i++) /* anywhere in a turn */
			ivshmem_lanes_read(&lanes, buffer, sizeof(buffer), &from, NULL);
		fill(0);
		fill(1);
		send(2, 8);
		for (before = 0;; before++) {
			assert_true(ivshmem_lanes_read(
					    &lanes, buffer, sizeof(buffer), &from, NULL) >= 0);
			if (from == 2)
				break;
		}
		assert_true(before <= 2 * IVSHMEM_GATHER_BATCH);
	}
	/* Large messages: each is a turn. */
	(void)set_up(state);
	begin();
	for (unsigned i = 0; i < 3; i++) {
		send(0, 1000);
		send(1, 1000);
	}
	const uint32_t first = lanes.turn == 2 ? 0 : lanes.turn;
	for (unsigned i = 0; i < 6; i++)
		assert_read((first + i) % 2, 1000);
}

/* A message that is too large stays, and keeps nobody waiting. */
static void test_too_big(void **state)
{
	uint32_t from;
	(void)state;

	begin();
	send(0, 100);
	send(1, 4);
	unsigned small = 0, big = 0;
	for (unsigned i = 0; i < 4; i++) {
		int32_t size = ivshmem_lanes_read(&lanes, buffer, 50, &from, NULL);
		small += size == 4 && from == 1;
		big += size == IVSHMEM_STREAM_TOO_BIG && from == 0;
	}
	assert_int_equal(small, 1);
	assert_int_equal(big, 3);
	assert_read(0, 100);
}

static void test_broken(void **state)
{
	volatile struct ivshmem_channel_slot *slot = lane_slot(&memory[1], IVSHMEM_LANE_WRITER);
	(void)state;

	begin();
	slot->position = ivshmem_channel_le(writers[1].tail + LANE_LINES + 1);
	assert_read(1, IVSHMEM_STREAM_BROKEN);
	assert_empty(); /* told once */
	assert_int_equal(lanes.broken, 1);
	send(0, 8);
	send(2, 16);
	assert_read(2, 16);
	assert_read(0, 8);
	assert_empty();
	/* It may heal, and break again; and a new life heals it. */
	slot->position = ivshmem_channel_le(writers[1].tail);
	assert_empty();
	assert_int_equal(lanes.broken, 0);
	slot->position = ivshmem_channel_le(writers[1].tail - 1);
	assert_read(1, IVSHMEM_STREAM_BROKEN);
	attach(1);
	assert_read(1, IVSHMEM_STREAM_BEGIN);
	send(1, 24);
	assert_read(1, IVSHMEM_STREAM_BEGIN);
	assert_read(1, 24);
	assert_empty();
}

/* A ring of records that are nothing: who writes them cannot keep the reader with himself. */
static void test_nothing(void **state)
{
	volatile struct ivshmem_channel_slot *slot = lane_slot(&memory[0], IVSHMEM_LANE_WRITER);
	(void)state;

	begin();
	ivshmem_writer_close(&writers[0]);
	assert_read(0, IVSHMEM_STREAM_END);
	for (uint32_t i = 0; i < LANE_LINES; i++)
		ivshmem_channel_set(ivshmem_stream_record(&writers[0].end, i), IVSHMEM_RECORD_END);
	slot->position = ivshmem_channel_le(writers[0].tail + 60);
	send(1, 8);
	assert_read(1, 8);
	assert_read(0, IVSHMEM_STREAM_BROKEN);
	for (unsigned i = 0; i < LANE_LINES / 8; i++)
		assert_empty();
	send(1, 8);
	assert_read(1, 8);
}

static void test_lives(void **state)
{
	(void)state;
	begin();
	ivshmem_writer_close(&writers[2]);
	send(0, 8);
	assert_read(2, IVSHMEM_STREAM_END);
	assert_read(0, 8);
	assert_empty();
	attach(2);
	send(2, 8);
	assert_read(2, IVSHMEM_STREAM_BEGIN);
	assert_read(2, 8);
	/* The reader comes again: what it has not given back does, too. */
	send(1, 32);
	ivshmem_lanes_close(&lanes);
	for (uint32_t i = 0; i < LANES; i++)
		ivshmem_reader_attach(&lane[i].reader, &memory[i].stream, 9, 0, 0);
	ivshmem_lanes_init(&lanes, lane, LANES);
	assert_read(1, 32);
	assert_empty();
}

static void test_doorbells(void **state)
{
	uint32_t from = UINT32_MAX;
	(void)state;

	while (ivshmem_lanes_due(&lanes, &from)) /* a former life may have died before it rang */
		;
	assert_int_equal(from, LANES - 1);
	begin();
	for (uint32_t i = 0; i < LANES; i++) {
		send(i, 0);
		ivshmem_stream_due(&writers[i].end);
	}
	for (unsigned i = 0; i < LANES; i++)
		ivshmem_lanes_read(&lanes, buffer, 8, &from, NULL);
	/* Asleep, each of them wakes it. */
	ivshmem_lanes_arm(&lanes);
	assert_empty();
	for (uint32_t i = 0; i < LANES; i++) {
		send(i, 0);
		assert_true(ivshmem_stream_due(&writers[i].end));
	}
	assert_false(ivshmem_lanes_due(&lanes, &from));

	/* A writer that waits for room is rung, and no other. */
	fill(1);
	ivshmem_writer_arm(&writers[1], 8);
	unsigned rings = 0;
	while (ivshmem_lanes_read(&lanes, buffer, 8, &from, NULL) >= 0)
		while (ivshmem_lanes_due(&lanes, &from)) {
			assert_int_equal(from, 1);
			rings++;
		}
	assert_int_equal(rings, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_messages, set_up),
		cmocka_unit_test_setup(test_flood, set_up),
		cmocka_unit_test_setup(test_turns, set_up),
		cmocka_unit_test_setup(test_too_big, set_up),
		cmocka_unit_test_setup(test_broken, set_up),
		cmocka_unit_test_setup(test_nothing, set_up),
		cmocka_unit_test_setup(test_lives, set_up),
		cmocka_unit_test_setup(test_doorbells, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
