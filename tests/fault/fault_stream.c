/* SPDX-License-Identifier: MIT */
/*
 * One end of a stream dies, at each store of its life in turn: the other end goes on with the next
 * life. No message is torn or out of order, none that was published is lost, and those that come
 * twice had not been released.
 *
 * That the order of a program is the order in memory is assumed here, and shown in tests/model. The
 * dying end and the living one take turns after each message, or some, so that the ring is full,
 * empty and in between.
 */
#include "../common/mortal.h" /* before the headers that it changes */

#include "../common/fdcheck.h"
#include "../common/lane.h"

#define MESSAGES 40u
#define LATER    20u /* messages of the next life */

static struct lane lane;

/* What the dying end does, and how far it got. */
struct life {
	struct ivshmem_writer writer;
	struct ivshmem_reader reader;
	uint32_t turn;                  /* messages after which it is the other's turn */
	uint32_t next;                  /* message to write */
	uint32_t published;             /* messages that the reader can know of */
	uint32_t expected, released;    /* message to read; and those that will not come again */
	uint32_t begins, ends, repeats; /* what the reader was told */
	bool broken;
};

static void write_some(struct life *life, uint32_t end)
{
	unsigned char bytes[LANE_LARGEST];

	for (uint32_t i = 0; i < life->turn && life->next < end; i++) {
		lane_message(&lane, bytes, life->next);
		if (ivshmem_stream_add(&life->writer, bytes, lane_size(&lane, life->next),
			    life->next) != IVSHMEM_STREAM_OK)
			break;
		life->next++;
	}
	ivshmem_stream_publish(&life->writer);
	life->published = life->next;
}

/* Take what there is, up to `most`. */
static void read_some(struct life *life, uint32_t most)
{
	unsigned char bytes[LANE_LARGEST];
	uint32_t tag = 0;

	while (most > 0 && !life->broken) {
		int32_t size = ivshmem_stream_read(&life->reader, bytes, sizeof(bytes), &tag);
		if (size == IVSHMEM_STREAM_EMPTY)
			break;
		if (size == IVSHMEM_STREAM_BEGIN) {
			life->begins++;
			continue;
		}
		if (size == IVSHMEM_STREAM_END) {
			life->ends++;
			continue;
		}
		life->broken = size < 0 || (uint32_t)size != lane_size(&lane, tag) ||
			!lane_is_message(&lane, bytes, tag) || tag > life->expected ||
			tag < life->released;
		life->repeats += tag < life->expected;
		life->expected = tag + 1;
		if (life->reader.released == life->reader.head)
			life->released = tag + 1;
		most--;
	}
}

static void init(struct life *life, uint32_t turn)
{
	*life = (struct life){.turn = turn};
	lane_init(&lane, IVSHMEM_CHANNEL_WAIT);
	ivshmem_reader_attach(&life->reader, &lane.stream, 6, 2, 0);
}

/* ---- the writer dies ---- */

static void writers_life(void *data)
{
	struct life *life = data;

	ivshmem_writer_attach(&life->writer, &lane.stream, 5, 1);
	while (life->next < MESSAGES) {
		write_some(life, MESSAGES);
		bool running = mortal.running;
		mortal.running = false; /* the reader does not */
		read_some(life, life->turn + 1);
		mortal.running = running;
		ivshmem_writer_arm(&life->writer, 1000);
	}
	ivshmem_writer_close(&life->writer);
}

static void test_writer_dies(void **state)
{
	static struct life life;
	unsigned long stores = 0;
	bool dead;
	(void)state;

	for (uint32_t turn = 1; turn < 30; turn += turn < 4 ? 1 : 8) {
		for (stores = 0, dead = true; dead; stores++) {
			init(&life, turn);
			dead = mortal_run(stores, writers_life, &life);

			/* The next one: of what it finds it knows nothing. The reader may sleep,
			 * and have been about to be rung. */
			life.turn = 1;
			ivshmem_writer_attach(&life.writer, &lane.stream, 5, 1);
			assert_true(ivshmem_stream_due(&life.writer.end));
			read_some(&life, UINT32_MAX);
			assert_false(life.broken);
			uint32_t got = life.expected, ends = life.ends, begins = life.begins;
			assert_true(got >= life.published); /* all that was said to be there */
			assert_true(got <= life.next + 1);
			/* Messages that were never published are written anew. */
			for (life.next = got; life.next < got + LATER;) {
				write_some(&life, got + LATER);
				read_some(&life, UINT32_MAX);
			}
			assert_false(life.broken);
			assert_int_equal(life.expected, got + LATER);
			assert_int_equal(life.repeats, 0);
			/* The reader knows that the first life was cut off, or that it was not. */
			assert_int_equal(life.begins, begins + 1);
			assert_true(begins <= 1);
			assert_true(life.ends <= 1 && (dead || life.ends == 1));
			assert_true(ends <= life.ends);
			assert_true(!dead || life.ends == 0 || got == MESSAGES);
		}
	}
	assert_true(stores > 1000);
}

/* ---- the reader dies ---- */

static void readers_life(void *data)
{
	struct life *life = data;

	ivshmem_reader_attach(&life->reader, &lane.stream, 6, 2, 0);
	for (unsigned i = 0; i < 2000 && life->expected < MESSAGES; i++) {
		bool running = mortal.running;
		mortal.running = false;
		write_some(life, MESSAGES);
		mortal.running = running;
		read_some(life, life->turn + 1);
		if (i % 5 == 0)
			ivshmem_reader_arm(&life->reader);
	}
	ivshmem_reader_close(&life->reader);
}

static void test_reader_dies(void **state)
{
	static struct life life;
	unsigned long stores = 0;
	bool dead;
	(void)state;

	for (uint32_t turn = 1; turn < 30; turn += turn < 4 ? 1 : 8) {
		for (stores = 0, dead = true; dead; stores++) {
			init(&life, turn);
			ivshmem_writer_attach(&life.writer, &lane.stream, 5, 1);
			dead = mortal_run(stores, readers_life, &life);

			ivshmem_reader_attach(&life.reader, &lane.stream, 6, 2, 0);
			assert_true(ivshmem_stream_due(&life.reader.end));
			for (unsigned i = 0; i < 2000 && life.expected < MESSAGES + LATER; i++) {
				write_some(&life, MESSAGES + LATER);
				read_some(&life, UINT32_MAX);
			}
			assert_false(life.broken);
			assert_int_equal(life.expected, MESSAGES + LATER);
		}
	}
	assert_true(stores > 20);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_writer_dies), TEST(test_reader_dies)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
