/* SPDX-License-Identifier: MIT */
/* A link of the chain of tests/guest/chain.c: "messages" from channel "in" to channel "out". */
#include "firmware.h"

#include <ivshmem/stream.h>

#define LARGEST 2040u

static unsigned char message[LARGEST];

static void lane_of(unsigned number, struct ivshmem_stream *stream)
{
	const char name[] = {'s', (char)('0' + number % 10), '\0'};
	struct ivshmem_channel channel;

	sleep_until(ivshmem_channel_find(iv.memory, iv.size, IVSHMEM_CHANNELS_OFFSET, name,
			    &channel) != IVSHMEM_CHANNEL_NO_DIRECTORY);
	expect("the channel",
		(uint32_t)ivshmem_channel_find(
			iv.memory, iv.size, IVSHMEM_CHANNELS_OFFSET, name, &channel),
		0);
	expect("the lane", (uint32_t)ivshmem_channel_lane(&channel, iv.memory, 0, stream), 0);
}

static void ring_if_due(struct ivshmem_end *end)
{
	uint32_t id, vector;

	if (ivshmem_stream_due(end) && ivshmem_stream_whom(end, &id, &vector) == 0)
		ivshmem_mmio_ring(&iv, id, vector);
}

/* Sleeps until there is one. */
static uint32_t receive(struct ivshmem_reader *reader, uint32_t *tag)
{
	for (bool armed = false;;) {
		const uint32_t seen = events;
		const int32_t size = ivshmem_stream_read(reader, message, LARGEST, tag);

		ring_if_due(&reader->end);
		if (size >= 0)
			return (uint32_t)size;
		if (size == IVSHMEM_STREAM_BEGIN)
			continue;
		if (size != IVSHMEM_STREAM_EMPTY)
			fail("reading");
		if (armed)
			ivshmem_mmio_sleep_while(&events, seen);
		else
			ivshmem_reader_arm(reader);
		armed = !armed;
		ring_if_due(&reader->end);
	}
}

static void pass_on(struct ivshmem_writer *writer, uint32_t size, uint32_t tag)
{
	for (bool armed = false;;) {
		const uint32_t seen = events;
		const int result = ivshmem_stream_write(writer, message, size, tag);

		ring_if_due(&writer->end);
		if (result == IVSHMEM_STREAM_OK)
			return;
		if (result != IVSHMEM_STREAM_FULL)
			fail("writing");
		if (armed)
			ivshmem_mmio_sleep_while(&events, seen);
		else
			ivshmem_writer_arm(writer, size);
		armed = !armed;
		ring_if_due(&writer->end);
	}
}

void role_chain(void)
{
	const unsigned messages = parameter("messages", 1000);
	const uint32_t self = (uint32_t)ivshmem_mmio_id(&iv);
	struct ivshmem_stream in, out;
	struct ivshmem_reader reader;
	struct ivshmem_writer writer;

	clock_start();
	lane_of(parameter("in", 0), &in);
	lane_of(parameter("out", 1), &out);
	ivshmem_reader_attach(&reader, &in, self, 0, 0);
	ivshmem_writer_attach(&writer, &out, self, 0);
	for (unsigned i = 0; i < messages; i++) {
		uint32_t tag;
		const uint32_t size = receive(&reader, &tag);

		pass_on(&writer, size, tag + 1);
	}
	ivshmem_reader_close(&reader);
	ivshmem_writer_close(&writer);
	ring_if_due(&reader.end);
	ring_if_due(&writer.end);
}
