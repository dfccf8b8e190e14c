/* SPDX-License-Identifier: MIT */
/*
 * channel - streams between two processes that look all the time: round trip and rate of messages
 * of a line, one and 32 for each publish, with and without the look whether the reader sleeps; the
 * same without the checks for liars (trusting.h); large ones, copied in and out; and messages that
 * are reserved and looked at in place, whose payload nobody touches.
 *
 * What it is compared with is in anchors/.
 */
#include "anchors/common.h"
#include "anchors/timing.h"
#include "trusting.h"

#include <ivshmem/view.h>

#include <stdbool.h>
#include <string.h>

#define LINES_4M   65536u
#define LINES_MAX  524288u
#define LANE_BYTES (IVSHMEM_LANE_RING + (size_t)LINES_MAX * IVSHMEM_CHANNEL_LINE)
#define SIZE_LIMIT (1u << 20)
#define POLLING    (IVSHMEM_CHANNEL_READER_POLLS | IVSHMEM_CHANNEL_WRITER_POLLS)

struct setup {
	const char *name;
	uint32_t size, lines, batch, flags;
	bool trusting;
};

static const struct setup rates[] = {
	{"channel.rate.1", 56, 1024, 1, 0, false},
	{"channel.rate.1.trusting", 56, 1024, 1, 0, true},
	{"channel.rate.32", 56, 1024, 32, 0, false},
	{"channel.rate.32.trusting", 56, 1024, 32, 0, true},
	{"channel.rate.1.polling", 56, 1024, 1, POLLING, false},
	{"channel.rate.1K.64K", 1 << 10, 1024, 1, 0, false},
	{"channel.rate.1K.4M", 1 << 10, LINES_4M, 1, 0, false},
	{"channel.rate.64K.4M", 64 << 10, LINES_4M, 1, 0, false},
	{"channel.rate.1M.4M", 1 << 20, LINES_4M, 1, 0, false},
};

static const struct setup trips[] = {
	{"channel.trip.1", 56, 1024, 1, 0, false},
	{"channel.trip.1.polling", 56, 1024, 1, POLLING, false},
};

/* In a ring of 32 MiB: where only three fit, it is the round trip of room that is measured. */
static const struct setup loans[] = {
	{"channel.loan.64", 56, LINES_MAX, 1, 0, false},
	{"channel.loan.1M", 1 << 20, LINES_MAX, 1, 0, false},
};

/* Both sides' part of a test. */
struct test {
	const struct setup *setup;
	struct ivshmem_stream there, back;
	struct ivshmem_writer writer;
	union {
		struct ivshmem_reader reader;
		struct ivshmem_viewer viewer;
	};
};

static unsigned char message[SIZE_LIMIT], copy[SIZE_LIMIT];
static unsigned char *lanes[2];

static struct ivshmem_stream stream_in(unsigned char *lane, const struct setup *setup)
{
	return (struct ivshmem_stream){
		.lane = lane,
		.lines = setup->lines,
		.largest = setup->lines / 2 * IVSHMEM_CHANNEL_LINE - IVSHMEM_RECORD_HEADER,
		.flags = setup->flags,
		.key = 1,
	};
}

static struct test begin(const struct setup *setup)
{
	for (unsigned i = 0; i < 2; i++)
		memset(lanes[i], 0, IVSHMEM_LANE_RING);
	test_begin();
	return (struct test){
		.setup = setup,
		.there = stream_in(lanes[0], setup),
		.back = stream_in(lanes[1], setup),
	};
}

static void attach(
	struct test *test, const struct ivshmem_stream *out, const struct ivshmem_stream *in)
{
	ivshmem_writer_attach(&test->writer, out, IVSHMEM_ID_NOBODY, 0);
	ivshmem_reader_attach(&test->reader, in, IVSHMEM_ID_NOBODY, 0, 0);
}

/* ---- rate ---- */

static void produce(void *data)
{
	struct test *test = data;
	const struct setup *setup = test->setup;
	struct ivshmem_writer *writer = &test->writer;
	uint32_t added = 0;

	ivshmem_writer_attach(writer, &test->there, IVSHMEM_ID_NOBODY, 0);
	for (;;) {
		const int result = setup->trusting
			? trusting_add(writer, message, setup->size)
			: ivshmem_stream_add(writer, message, setup->size, 0);
		if (result != IVSHMEM_STREAM_OK && added == 0)
			continue;
		if (result != IVSHMEM_STREAM_OK || ++added == setup->batch) {
			ivshmem_stream_publish(writer);
			added = 0;
		}
	}
}

static unsigned consume(void *data)
{
	struct test *test = data;
	return ivshmem_stream_read(&test->reader, copy, sizeof(copy), NULL) >= 0;
}

static unsigned consume_trusting(void *data)
{
	struct test *test = data;
	return trusting_read(&test->reader, copy) >= 0;
}

static void measure_rate(const struct setup *setup)
{
	struct test test = begin(setup);
	const unsigned each = setup->size > 8192 ? 8 : 512;

	pid_t producer = spawn(cpu_b(), produce, &test);
	ivshmem_reader_attach(&test.reader, &test.there, IVSHMEM_ID_NOBODY, 0, 0);
	const double rate = setup->trusting ? rate_of(consume_trusting, &test, each)
					    : rate_of(consume, &test, each);
	reap(producer);
	test_end();
	emit(setup->name, rate, "messages/s");
}

/* ---- round trips ---- */

static void send(struct test *test)
{
	while (ivshmem_stream_write(&test->writer, message, test->setup->size, 0) !=
		IVSHMEM_STREAM_OK)
		cpu_relax();
}

static void receive(struct test *test)
{
	while (ivshmem_stream_read(&test->reader, copy, sizeof(copy), NULL) < 0)
		;
}

static void answer(void *data)
{
	struct test *test = data;

	attach(test, &test->back, &test->there);
	for (;;) {
		receive(test);
		send(test);
	}
}

static void trip(void *data)
{
	send(data);
	receive(data);
}

/* ---- the same in place: nobody touches what is in the messages ---- */

static void lend(struct test *test)
{
	const uint32_t size = test->setup->size;
	volatile void *place = NULL;

	while (ivshmem_stream_reserve(&test->writer, size, &place) != IVSHMEM_STREAM_OK)
		cpu_relax();
	ivshmem_stream_commit(&test->writer, size, 0);
	ivshmem_stream_publish(&test->writer);
}

static void look(struct test *test)
{
	const volatile void *place;

	while (ivshmem_viewer_peek(&test->viewer, &place, NULL) < 0)
		;
	ivshmem_viewer_done(&test->viewer);
}

static void answer_in_place(void *data)
{
	struct test *test = data;

	attach(test, &test->back, &test->there);
	for (;;) {
		look(test);
		lend(test);
	}
}

static void trip_in_place(void *data)
{
	lend(data);
	look(data);
}

static void measure_trip(const struct setup *setup, bool in_place)
{
	struct test test = begin(setup);

	pid_t other = spawn(cpu_b(), in_place ? answer_in_place : answer, &test);
	attach(&test, &test.there, &test.back);
	const double time = in_place ? trip_of(trip_in_place, &test, 16) : trip_of(trip, &test, 16);
	reap(other);
	test_end();
	emit(setup->name, time, "ns");
}

int main(void)
{
	pin(cpu_a());
	memset(message, 1, sizeof(message));
	memset(copy, 1, sizeof(copy));
	for (unsigned i = 0; i < 2; i++)
		lanes[i] = shared_alloc(LANE_BYTES);
	for (unsigned i = 0; i < sizeof(trips) / sizeof(trips[0]); i++)
		measure_trip(&trips[i], false);
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
		measure_rate(&rates[i]);
	for (unsigned i = 0; i < sizeof(loans) / sizeof(loans[0]); i++)
		measure_trip(&loans[i], true);
	return 0;
}
