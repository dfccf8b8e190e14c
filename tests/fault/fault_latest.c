/* SPDX-License-Identifier: MIT */
/*
 * The writer of a latest value dies, at each store of its life in turn: readers have the value that
 * was the last to be published, whole, also those that were about to copy one before it; and the
 * next life goes on. That the order of a program is the order in memory is assumed here, and shown
 * in tests/model.
 */
#include "../common/mortal.h" /* before the headers that it changes */

#include "../common/fdcheck.h"
#include "../common/lane.h"

#include <ivshmem/latest.h>

#define VALUES 20u
#define LATER  6u /* values of the next life */

static struct lane lane;

struct life {
	struct ivshmem_channel channel;
	struct ivshmem_latest_writer writer;
	struct ivshmem_latest_reader reader;
	uint32_t published; /* values that the reader can know of; number n is message n */
	uint32_t begins;
};

static void set_some(struct life *life, uint32_t count)
{
	unsigned char bytes[LANE_LARGEST];

	for (uint32_t end = life->published + count; life->published < end; life->published++) {
		const uint32_t number = life->published + 1;
		lane_message(&lane, bytes, number);
		assert_int_equal(ivshmem_latest_write(
					 &life->writer, bytes, lane_size(&lane, number), number),
			IVSHMEM_LATEST_OK);
	}
}

static void writers_life(void *data)
{
	struct life *life = data;

	assert_int_equal(
		ivshmem_latest_writer_attach(&life->writer, &life->channel, lane.memory, 0, 5),
		IVSHMEM_LATEST_OK);
	set_some(life, VALUES);
	ivshmem_latest_writer_close(&life->writer);
}

/* Whole, or not handed out. */
static bool is_whole(const struct life *life, uint32_t number)
{
	struct ivshmem_latest_reader reader = life->reader; /* another one */
	unsigned char bytes[LANE_LARGEST] = {0};
	uint32_t tag = 0;
	int32_t size = ivshmem_latest_copy(&reader, number, bytes, sizeof(bytes), &tag);

	if (size == IVSHMEM_LATEST_BUSY)
		return false;
	assert_int_equal(tag, number);
	assert_int_equal(size, lane_size(&lane, number));
	assert_true(lane_is_message(&lane, bytes, number));
	return true;
}

/* What there is for one who looks now, and for those who have looked before. */
static void check_values(struct life *life)
{
	const uint32_t newest = ivshmem_latest_newest(&life->reader);

	assert_true(newest == life->published || newest == life->published + 1);
	for (uint32_t age = 0; age < 4 && age < newest; age++)
		assert_true(is_whole(life, newest - age) || age == 3);
	life->published = newest; /* the rest was never published, and is written anew */
}

static int32_t next(struct life *life)
{
	unsigned char bytes[LANE_LARGEST];
	int32_t result;

	do {
		result = ivshmem_latest_next(&life->reader, bytes, sizeof(bytes), NULL);
		life->begins += result == IVSHMEM_LATEST_BEGIN;
	} while (result == IVSHMEM_LATEST_BEGIN);
	return result;
}

static void test_writer_dies(void **state)
{
	static struct life life;
	unsigned long stores = 0;
	bool dead;
	(void)state;

	for (dead = true; dead; stores++) {
		life = (struct life){0};
		lane_init(&lane, IVSHMEM_CHANNEL_WAIT);
		memset((char *)lane.memory + IVSHMEM_LANE_RING, 0xa5,
			sizeof(lane.memory) - IVSHMEM_LANE_RING);
		life.channel = lane_latest(&lane);
		ivshmem_latest_reader_attach(&life.reader, &life.channel, lane.memory, 0, 0);
		dead = mortal_run(stores, writers_life, &life);
		check_values(&life);
		/* Its last value, and the end if it was one; each once. */
		if (life.published > 0)
			assert_true(next(&life) >= 0);
		assert_int_equal(next(&life), dead ? IVSHMEM_LATEST_EMPTY : IVSHMEM_LATEST_END);
		assert_int_equal(next(&life), IVSHMEM_LATEST_EMPTY);

		/* The next one: of what it finds it knows nothing. */
		const uint32_t begins = life.begins;
		assert_int_equal(ivshmem_latest_writer_attach(
					 &life.writer, &life.channel, lane.memory, 0, 5),
			IVSHMEM_LATEST_OK);
		assert_int_equal(next(&life), IVSHMEM_LATEST_EMPTY);
		assert_int_equal(life.begins, begins + 1);
		check_values(&life);
		for (uint32_t i = 0; i < LATER; i++) {
			set_some(&life, 1);
			check_values(&life);
			assert_true(next(&life) >= 0);
		}
	}
	assert_true(stores > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_writer_dies)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
