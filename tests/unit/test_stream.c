/* SPDX-License-Identifier: MIT */
/* Streams, both ends in one thread: what is promised, and what an end may meet. The two at once are
 * in tests/channel, killed ones in tests/fault/fault_stream.c, every order of memory accesses in
 * tests/model. */
#include "../common/fdcheck.h"
#include "../common/lane.h"

#include <ivshmem/stream.h>
#include <ivshmem/view.h>

#include <endian.h>

static struct lane lane;
static struct ivshmem_writer writer;
static struct ivshmem_reader reader;
static unsigned char buffer[LANE_LARGEST];

static void attach(void)
{
	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	ivshmem_reader_attach(&reader, &lane.stream, 6, 2, 0);
	/* Who comes rings once, as a former life of his may not have come to it. */
	ivshmem_stream_due(&writer.end);
	ivshmem_stream_due(&reader.end);
}

static int set_up(void **state)
{
	(void)state;
	lane_init(&lane, IVSHMEM_CHANNEL_WAIT);
	attach();
	return 0;
}

static int set_up_overwriting(void **state)
{
	(void)state;
	lane_init(&lane, IVSHMEM_CHANNEL_OVERWRITE);
	attach();
	return 0;
}

static int32_t receive(uint32_t *tag)
{
	return ivshmem_stream_read(&reader, buffer, sizeof(buffer), tag);
}

/* The next message is the `number`th, of the size that it has by its number. */
static void expect_message(uint32_t number)
{
	uint32_t tag = ~number;

	assert_int_equal(receive(&tag), lane_size(&lane, number));
	assert_int_equal(tag, number);
	assert_true(lane_is_message(&lane, buffer, number));
}

static int send_message(uint32_t number)
{
	lane_message(&lane, buffer, number);
	return ivshmem_stream_write(&writer, buffer, lane_size(&lane, number), number);
}

static void test_messages(void **state)
{
	(void)state;
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);

	/* Each size comes at each place, again and again around the ring. */
	for (uint32_t i = 1; i < 4000; i++) {
		assert_int_equal(send_message(i), IVSHMEM_STREAM_OK);
		expect_message(i);
	}
	assert_int_equal(le32toh(lane_slot(&lane, IVSHMEM_LANE_WRITER)->messages), 4000);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(le32toh(lane_slot(&lane, IVSHMEM_LANE_READER)->messages), 4000);
}

static void test_full(void **state)
{
	uint32_t sent = 0, got = 0;
	(void)state;

	for (unsigned round = 0; round < 100; round++) {
		while (send_message(sent) == IVSHMEM_STREAM_OK)
			sent++;
		assert_int_equal(send_message(sent), IVSHMEM_STREAM_FULL);
		if (round == 0)
			assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
		for (unsigned i = 0; i < 1 + round % 7 && got < sent; i++)
			expect_message(got++);
	}
	while (got < sent)
		expect_message(got++);
	assert_true(sent > 100);
	/* Whatever is left unsaid, and wherever we are: the largest message finds room in the end.
	 */
	memset(buffer, 7, sizeof(buffer));
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
		assert_int_equal(
			ivshmem_stream_write(&writer, buffer, LANE_LARGEST, i), IVSHMEM_STREAM_OK);
		assert_int_equal(receive(NULL), LANE_LARGEST);
		assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
		expect_message(0);
	}
}

static void test_sizes(void **state)
{
	static const volatile uint32_t too_big[] = {
		LANE_LARGEST + 1, UINT32_MAX, UINT32_MAX - 7, UINT32_MAX - 62};
	(void)state;

	for (unsigned i = 0; i < 8; i++) { /* also where there would be room */
		assert_int_equal(ivshmem_stream_write(&writer, buffer, too_big[i % 4], 0),
			IVSHMEM_STREAM_TOO_BIG);
		if (i == 3)
			assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	}
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
	assert_int_equal(ivshmem_stream_write(&writer, "", 0, 9), IVSHMEM_STREAM_OK);
	assert_int_equal(ivshmem_stream_write(&writer, "abcde", 5, 0), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), 0);
	/* One that does not fit stays, and nothing behind the buffer changes. */
	memset(buffer, 0xcb, 8);
	assert_int_equal(ivshmem_stream_read(&reader, buffer, 4, NULL), IVSHMEM_STREAM_TOO_BIG);
	assert_int_equal(ivshmem_stream_read(&reader, buffer, 5, NULL), 5);
	assert_memory_equal(buffer, "abcde\xcb\xcb\xcb", 8);
	/* No byte of the writer's memory but those of the message is in the ring. */
	assert_memory_equal(
		(const char *)lane.memory + IVSHMEM_LANE_RING + 3 * 64 + 8, "abcde\0\0\0", 8);
}

static void test_batches(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 5; i++) {
		lane_message(&lane, buffer, i);
		assert_int_equal(ivshmem_stream_add(&writer, buffer, lane_size(&lane, i), i),
			IVSHMEM_STREAM_OK);
	}
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	ivshmem_stream_publish(&writer);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	for (uint32_t i = 0; i < 5; i++)
		expect_message(i);
}

static void test_in_place(void **state)
{
	struct ivshmem_viewer viewer;
	const volatile void *seen = NULL;
	volatile void *place = NULL;
	uint32_t tag = 0;
	(void)state;

	assert_int_equal(ivshmem_viewer_attach(&viewer, &lane.stream, 6, 2, 0), 0);
	assert_int_equal(ivshmem_stream_reserve(&writer, 1000, &place), IVSHMEM_STREAM_OK);
	((volatile char *)place)[2] = 'x';
	ivshmem_stream_commit(&writer, 3, 77); /* less than was reserved */
	ivshmem_stream_publish(&writer);
	assert_int_equal(ivshmem_viewer_peek(&viewer, &seen, &tag), IVSHMEM_STREAM_BEGIN);
	assert_int_equal(ivshmem_viewer_peek(&viewer, &seen, &tag), 3);
	assert_ptr_equal(seen, place);
	assert_int_equal(tag, 77);
	assert_int_equal(ivshmem_viewer_peek(&viewer, &seen, &tag), 3); /* until we are done */
	ivshmem_viewer_done(&viewer);
	assert_int_equal(ivshmem_viewer_peek(&viewer, &seen, &tag), IVSHMEM_STREAM_EMPTY);

	lane_init(&lane, IVSHMEM_CHANNEL_OVERWRITE);
	assert_int_equal(ivshmem_viewer_attach(&viewer, &lane.stream, 6, 2, 0), -1);
}

/* ---- doorbells ---- */

static void test_doorbells(void **state)
{
	uint32_t id, vector;
	(void)state;

	/* A reader that does not sleep is not rung. */
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	assert_false(ivshmem_stream_due(&writer.end));
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);

	/* One that does is, once. */
	ivshmem_reader_arm(&reader);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(send_message(1), IVSHMEM_STREAM_OK);
	assert_true(ivshmem_stream_due(&writer.end));
	assert_false(ivshmem_stream_due(&writer.end));
	assert_int_equal(ivshmem_stream_whom(&writer.end, &id, &vector), 0);
	assert_int_equal(id, 6);
	assert_int_equal(vector, 2);
	assert_int_equal(send_message(2), IVSHMEM_STREAM_OK);
	assert_false(ivshmem_stream_due(&writer.end));
	expect_message(1);
	expect_message(2);

	/* And what it cannot be rung by is not an ID. */
	lane_slot(&lane, IVSHMEM_LANE_READER)->id = ivshmem_channel_le(65536);
	assert_int_equal(ivshmem_stream_whom(&writer.end, &id, &vector), -1);
}

static void test_doorbells_of_room(void **state)
{
	uint32_t sent = 0, got = 0;
	unsigned rings = 0;
	(void)state;

	while (send_message(sent) == IVSHMEM_STREAM_OK)
		sent++;
	ivshmem_writer_arm(&writer, lane_size(&lane, sent));
	assert_int_equal(send_message(sent), IVSHMEM_STREAM_FULL);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	while (got < sent) {
		expect_message(got++);
		if (ivshmem_stream_due(&reader.end)) {
			rings++;
			assert_int_equal(send_message(sent), IVSHMEM_STREAM_OK);
			sent++;
		}
	}
	assert_int_equal(rings, 1);
}

static void test_declared_polling(void **state)
{
	(void)state;
	lane.stream.flags = IVSHMEM_CHANNEL_READER_POLLS;
	attach();
	ivshmem_reader_arm(&reader);
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	assert_false(ivshmem_stream_due(&writer.end));
}

/* ---- lives ---- */

static void test_writer_again(void **state)
{
	(void)state;
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	lane_message(&lane, buffer, 1);
	ivshmem_stream_add(&writer, buffer, lane_size(&lane, 1), 1); /* and never published */

	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	assert_int_equal(send_message(2), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(2);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
}

static void test_writer_closes(void **state)
{
	(void)state;
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	ivshmem_reader_arm(&reader);
	expect_message(0);
	ivshmem_reader_arm(&reader);
	ivshmem_writer_close(&writer);
	assert_true(ivshmem_stream_due(&writer.end)); /* a sleeping reader is to hear of it */
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_END);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY); /* told once */
	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	assert_int_equal(send_message(1), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(1);

	/* And if the next one has come before the reader has got there. */
	assert_int_equal(send_message(2), IVSHMEM_STREAM_OK);
	ivshmem_writer_close(&writer);
	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	assert_int_equal(send_message(3), IVSHMEM_STREAM_OK);
	expect_message(2);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_END);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(3);

	/* A reader that comes to what has ended, and has nothing for it, waits for the next. */
	ivshmem_stream_release(&reader);
	ivshmem_writer_close(&writer);
	ivshmem_reader_attach(&reader, &lane.stream, 6, 2, 0);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
}

static void test_reader_again(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(send_message(i), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
	ivshmem_stream_release(&reader);
	expect_message(1); /* but not released: it comes again */
	ivshmem_reader_attach(&reader, &lane.stream, 6, 2, 0);
	expect_message(1);
	expect_message(2);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);

	assert_int_equal(send_message(3), IVSHMEM_STREAM_OK);
	ivshmem_reader_attach(&reader, &lane.stream, 6, 2, 1); /* what was before is not wanted */
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(send_message(4), IVSHMEM_STREAM_OK);
	expect_message(4);
}

/* Another directory: what is left of the slots says nothing. */
static void test_formatted_again(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 9; i++)
		assert_int_equal(send_message(i), IVSHMEM_STREAM_OK);
	lane.stream.key++;
	ivshmem_reader_attach(&reader, &lane.stream, 6, 2, 0);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	assert_int_equal(send_message(0), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(0);
}

/* ---- lies ---- */

static void test_lies_of_the_writer(void **state)
{
	volatile struct ivshmem_channel_slot *slot = lane_slot(&lane, IVSHMEM_LANE_WRITER);
	volatile uint32_t *record = (volatile uint32_t *)(lane.memory + IVSHMEM_LANE_RING / 4);
	static const uint32_t sizes[] = {
		LANE_LARGEST, 57, 0x7fffffff, 0x80000000, 0x80000001, 0x80000004, 0xffffffff};
	(void)state;

	slot->position = ivshmem_channel_le(LANE_LINES + 1);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BROKEN);
	slot->position = ivshmem_channel_le(UINT32_MAX);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BROKEN);
	slot->position = ivshmem_channel_le(1);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		record[0] = ivshmem_channel_le(sizes[i]);
		assert_int_equal(receive(NULL), IVSHMEM_STREAM_BROKEN);
	}
	/* A new life ends it. */
	ivshmem_writer_attach(&writer, &lane.stream, 5, 1);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(send_message(3), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	expect_message(3);
}

/* A record that would go across the ring's end, with as many lines published. */
static void test_across_the_end(void **state)
{
	volatile uint32_t *record = (volatile uint32_t *)(lane.memory +
		(IVSHMEM_LANE_RING + (LANE_LINES - 1) * 64) / 4);
	uint32_t sent = 0;
	(void)state;

	while (writer.tail != LANE_LINES - 1) {
		assert_int_equal(ivshmem_stream_write(&writer, "x", 1, 0), IVSHMEM_STREAM_OK);
		sent++;
	}
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	while (sent-- > 0)
		assert_int_equal(receive(NULL), 1);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(ivshmem_stream_write(&writer, "x", 1, 0), IVSHMEM_STREAM_OK);
	record[0] = ivshmem_channel_le(100);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BROKEN);
}

static void test_lies_of_the_reader(void **state)
{
	volatile struct ivshmem_channel_slot *slot = lane_slot(&lane, IVSHMEM_LANE_READER);
	uint32_t sent = 0;
	(void)state;

	while (send_message(sent) == IVSHMEM_STREAM_OK)
		sent++;
	slot->position = ivshmem_channel_le(writer.tail + 1);
	assert_int_equal(send_message(sent), IVSHMEM_STREAM_BROKEN);
	slot->position = ivshmem_channel_le(writer.tail - LANE_LINES - 1);
	assert_int_equal(send_message(sent), IVSHMEM_STREAM_BROKEN);
	/* The true reader comes by, and says again where it is. */
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	ivshmem_reader_arm(&reader);
	assert_int_equal(send_message(sent), IVSHMEM_STREAM_FULL);
	for (uint32_t i = 0; i < sent; i++)
		expect_message(i);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
	assert_int_equal(send_message(sent), IVSHMEM_STREAM_OK);
}

/* ---- overwriting ---- */

static void test_overwriting(void **state)
{
	uint32_t sent = 0, tag = 0;
	(void)state;

	for (unsigned round = 0; round < 200; round++) {
		bool lost = false;
		int32_t size;

		for (unsigned i = 0; i < round % 97; i++)
			assert_int_equal(send_message(sent++), IVSHMEM_STREAM_OK);
		uint32_t next = tag;
		while ((size = receive(&tag)) != IVSHMEM_STREAM_EMPTY) {
			if (size == IVSHMEM_STREAM_BEGIN)
				continue;
			lost = lost || size == IVSHMEM_STREAM_LOST;
			if (size == IVSHMEM_STREAM_LOST)
				continue;
			assert_int_equal(size, lane_size(&lane, tag));
			assert_true(lane_is_message(&lane, buffer, tag));
			assert_true(lost || tag == next || tag == next + 1);
			next = tag;
		}
		assert_true(round % 97 == 0 || tag == sent - 1); /* the newest always comes */
	}
	assert_true(lane_slot(&lane, IVSHMEM_LANE_READER)->lost > 0);
}

/* A reader that stays away for more than half of all positions is overtaken as any other. */
static void test_overtaken_long_ago(void **state)
{
	uint32_t sent = 0, tag = 0;
	(void)state;

	assert_int_equal(send_message(sent++), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	assert_int_equal(receive(NULL), lane_size(&lane, 0));
	writer.tail += 0x90000000u;
	writer.room = 0;
	while (writer.tail < 0x90000000u + 3 * LANE_LINES)
		assert_int_equal(send_message(sent++), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_LOST);
	while (tag != sent - 1) {
		assert_true(receive(&tag) >= 0);
		assert_true(lane_is_message(&lane, buffer, tag));
	}
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_EMPTY);
}

/* Overtaken in the middle of a message: nothing of it is handed out. */
static void test_overtaken(void **state)
{
	uint32_t sent = 0;
	(void)state;

	assert_int_equal(send_message(sent++), IVSHMEM_STREAM_OK);
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_BEGIN);
	/* What the reader has in its hands is there ... */
	assert_int_equal(reader.ready, ivshmem_record_lines(lane_size(&lane, 0)));
	while (writer.tail < 2 * LANE_LINES)
		assert_int_equal(send_message(sent++), IVSHMEM_STREAM_OK);
	/* ... and gone. */
	assert_int_equal(receive(NULL), IVSHMEM_STREAM_LOST);
	uint32_t tag = 0;
	assert_true(receive(&tag) >= 0);
	assert_true(lane_is_message(&lane, buffer, tag));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_messages, set_up),
		cmocka_unit_test_setup(test_full, set_up),
		cmocka_unit_test_setup(test_sizes, set_up),
		cmocka_unit_test_setup(test_batches, set_up),
		cmocka_unit_test_setup(test_in_place, set_up),
		cmocka_unit_test_setup(test_doorbells, set_up),
		cmocka_unit_test_setup(test_doorbells_of_room, set_up),
		cmocka_unit_test_setup(test_declared_polling, set_up),
		cmocka_unit_test_setup(test_writer_again, set_up),
		cmocka_unit_test_setup(test_writer_closes, set_up),
		cmocka_unit_test_setup(test_reader_again, set_up),
		cmocka_unit_test_setup(test_formatted_again, set_up),
		cmocka_unit_test_setup(test_lies_of_the_writer, set_up),
		cmocka_unit_test_setup(test_across_the_end, set_up),
		cmocka_unit_test_setup(test_lies_of_the_reader, set_up),
		cmocka_unit_test_setup(test_overwriting, set_up_overwriting),
		cmocka_unit_test_setup(test_overtaken_long_ago, set_up_overwriting),
		cmocka_unit_test_setup(test_overtaken, set_up_overwriting),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
