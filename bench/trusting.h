/* SPDX-License-Identifier: MIT */
/*
 * trusting - streams between two who believe each other, to measure what not believing costs:
 * <ivshmem/stream.h> with every comparison left out that is only there because of a liar. What is
 * left is what any ring needs. For nothing but bench/channel.c.
 */
#ifndef BENCH_TRUSTING_H
#define BENCH_TRUSTING_H

#include <ivshmem/stream.h>

static inline int trusting_add(struct ivshmem_writer *writer, const void *bytes, uint32_t size)
{
	struct ivshmem_end *end = &writer->end;
	const uint32_t need = ivshmem_record_lines(size);
	volatile uint32_t *record;

	if (IVSHMEM_UNLIKELY(need > writer->room)) {
		const uint32_t to_end = end->lines - (writer->tail & (end->lines - 1));
		uint32_t room =
			end->lines - writer->tail + ivshmem_channel_acquire(&end->theirs->position);

		if (room == 0 || (need > to_end && room < to_end))
			return IVSHMEM_STREAM_FULL;
		if (need > to_end) {
			ivshmem_stream_mark(writer, IVSHMEM_RECORD_PAD, to_end);
			room -= to_end;
		} else if (room > to_end) {
			room = to_end;
		}
		writer->room = room;
		if (need > room)
			return IVSHMEM_STREAM_FULL;
	}
	record = ivshmem_stream_record(end, writer->tail);
	ivshmem_channel_put(record + 2, bytes, size);
	ivshmem_stream_commit(writer, size, 0);
	return IVSHMEM_STREAM_OK;
}

static inline int32_t trusting_read(struct ivshmem_reader *reader, void *bytes)
{
	const struct ivshmem_end *end = &reader->end;
	const volatile uint32_t *record;
	uint32_t size;

	for (;;) {
		if (reader->ready == 0) {
			reader->ready =
				ivshmem_channel_acquire(&end->theirs->position) - reader->head;
			if (reader->ready == 0) {
				if (reader->released != reader->head)
					ivshmem_stream_release(reader);
				return IVSHMEM_STREAM_EMPTY;
			}
		}
		record = ivshmem_stream_record(end, reader->head);
		size = ivshmem_channel_get(record);
		if (!IVSHMEM_UNLIKELY((size & 0x80000000u) != 0))
			break;
		reader->lines = size == IVSHMEM_RECORD_PAD
			? end->lines - (reader->head & (end->lines - 1))
			: 1;
		reader->head += reader->lines;
		reader->ready -= reader->lines;
	}
	reader->lines = ivshmem_record_lines(size);
	ivshmem_channel_take(bytes, record + 2, size);
	ivshmem_stream_step(reader);
	return (int32_t)size;
}

#endif
