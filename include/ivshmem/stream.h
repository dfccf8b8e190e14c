/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/stream.h - messages from one writer to one reader, through a lane of a channel
 * (<ivshmem/channel.h>). Freestanding, and never waits; <ivshmem/channels.h> adds the waiting for
 * hosted programs.
 *
 * One end:
 *
 *     struct ivshmem_writer writer;
 *
 *     ivshmem_writer_attach(&writer, &stream, id, vector);
 *     if (ivshmem_stream_write(&writer, "hi", 2, 0) == IVSHMEM_STREAM_OK)
 *             ...
 *     if (ivshmem_stream_due(&writer.end))
 *             ...                                      // ring whom ivshmem_stream_whom() says
 *
 * The other:
 *
 *     struct ivshmem_reader reader;
 *
 *     ivshmem_reader_attach(&reader, &stream, id, vector, 0);
 *     size = ivshmem_stream_read(&reader, buffer, sizeof(buffer), &tag);
 *     if (size >= 0)
 *             ...
 *     if (ivshmem_stream_due(&reader.end))
 *             ...
 *
 * Trust. The other end may write anything, anywhere, at any time. A reader takes each of its words
 * once, compares it with a geometry of its own, and copies the payload out before anybody looks at
 * it; at worst the messages are not what somebody meant to send. A writer believes only that there
 * is room, and loses nothing but the reader's messages by it. In place:
 *
 *     writing    ivshmem_stream_reserve() and _commit(): safe, for what is in the ring is for
 *                the other anyway
 *     reading    struct ivshmem_viewer: the message changes under whoever reads it, if the writer
 *                or a third one likes; for data that is checked while it is used, or need not be
 *
 * A struct ivshmem_reader never hands out what it has not copied.
 *
 * Threads: an end is one thread's at a time.
 * Source: docs/channel.md, sections 3 to 8, which also has the argument for each order below.
 */
#ifndef IVSHMEM_STREAM_H
#define IVSHMEM_STREAM_H

#include <ivshmem/end.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ivshmem_stream_result {
	IVSHMEM_STREAM_OK = 0,
	IVSHMEM_STREAM_EMPTY = -1,   /* reading: nothing there yet */
	IVSHMEM_STREAM_FULL = -2,    /* writing: no room yet; publish what you have, then wait */
	IVSHMEM_STREAM_BEGIN = -3,   /* reading: what follows is of a writer's new life */
	IVSHMEM_STREAM_END = -4,     /* reading: the writer has closed; it may come again */
	IVSHMEM_STREAM_LOST = -5,    /* reading: overtaken; older messages have been overwritten */
	IVSHMEM_STREAM_TOO_BIG = -6, /* writing: above `largest`; reading: above the buffer */
	IVSHMEM_STREAM_BROKEN = -7,  /* what the other end says cannot be: section 7 */
};

struct ivshmem_writer {
	struct ivshmem_end end;
	uint32_t tail;      /* where the next record goes */
	uint32_t published; /* what the reader knows of */
	uint32_t room;      /* lines that may be written at `tail` without a look */
	uint32_t messages;
	uint32_t begin; /* records still to come before the first message */
	uint32_t generation;
};

struct ivshmem_reader {
	struct ivshmem_end end;
	uint32_t head;     /* the next record */
	uint32_t released; /* what the writer knows of */
	uint32_t ready;    /* lines that may be read at `head` without a look */
	uint32_t lines;    /* of the message that is there */
	uint32_t messages;
	uint32_t ended; /* the end of this life has been told */
};

/* ---- writing ---- */

enum { IVSHMEM_WRITER_ENDS = 1, IVSHMEM_WRITER_BEGINS = 2 };

/* Be the writer. `id` and `vector`: how to ring it when it waits for room, or IVSHMEM_ID_NOBODY. */
static inline void ivshmem_writer_attach(struct ivshmem_writer *writer,
	const struct ivshmem_stream *stream, uint32_t id, uint32_t vector)
{
	struct ivshmem_end *end = &writer->end;

	writer->tail = ivshmem_stream_sit(end, stream, IVSHMEM_LANE_WRITER, id, vector);
	writer->published = writer->tail;
	writer->room = 0;
	writer->messages = ivshmem_channel_get(&end->mine->messages);
	writer->begin = IVSHMEM_WRITER_BEGINS;
	if (ivshmem_channel_get(&end->mine->state) == IVSHMEM_SLOT_CLOSED)
		writer->begin |= IVSHMEM_WRITER_ENDS;
	writer->generation = ivshmem_stream_sat(end);
}

/* Everything so far is for the reader. Then ask ivshmem_stream_due(). If there is nothing new, it
 * is said again, should somebody have overwritten it. */
static inline void ivshmem_stream_publish(struct ivshmem_writer *writer)
{
	const uint32_t from = writer->published;

	writer->published = writer->tail;
	ivshmem_stream_tell(&writer->end, from, writer->tail, writer->messages);
}

/* Put a record that is no message. */
static inline void ivshmem_stream_mark(struct ivshmem_writer *writer, uint32_t what, uint32_t lines)
{
	volatile uint32_t *record = ivshmem_stream_record(&writer->end, writer->tail);

	ivshmem_channel_set(record + 1, writer->generation);
	ivshmem_channel_set(record, what);
	writer->tail += lines;
}

/* Lines that are free. Of a reader that says the impossible: IVSHMEM_STREAM_BROKEN. */
static inline int32_t ivshmem_stream_free(struct ivshmem_writer *writer)
{
	const struct ivshmem_end *end = &writer->end;
	const uint32_t used = writer->tail - ivshmem_stream_theirs(end);

	return used > end->lines ? (int32_t)IVSHMEM_STREAM_BROKEN : (int32_t)(end->lines - used);
}

/*
 * A ring whose oldest quarter is overwritten is never full. What is there is published before, so
 * that `floor` never passes the position. `floor` is released before anything is written to that
 * quarter (order); the reader looks at it after it has read: ivshmem_stream_overtaken().
 */
static inline int32_t ivshmem_stream_clear(struct ivshmem_writer *writer)
{
	struct ivshmem_end *end = &writer->end;
	const uint32_t quarter = end->lines / 4;
	const uint32_t at = writer->tail & ~(quarter - 1);

	ivshmem_stream_publish(writer);
	ivshmem_channel_release(&end->mine->floor, at + quarter - end->lines);
	ivshmem_channel_order_before(end->largest);
	return (int32_t)(at + quarter - writer->tail);
}

/* Look for room for a record of so many lines at `tail`, which may move on for it. */
IVSHMEM_APART int ivshmem_stream_make_room(struct ivshmem_writer *writer, uint32_t size)
{
	struct ivshmem_end *end = &writer->end;
	const uint32_t need = ivshmem_record_lines(size);
	const int overwrites = end->policy == IVSHMEM_CHANNEL_OVERWRITE;
	uint32_t to_end;
	int32_t room;

	if (size > end->largest)
		return IVSHMEM_STREAM_TOO_BIG;
	for (;;) {
		writer->room = 0;
		room = overwrites ? ivshmem_stream_clear(writer) : ivshmem_stream_free(writer);
		if (room <= 0)
			return room < 0 ? (int)room : (int)IVSHMEM_STREAM_FULL;
		to_end = ivshmem_stream_to_end(end, writer->tail);
		if ((writer->begin & IVSHMEM_WRITER_ENDS) != 0) {
			ivshmem_stream_mark(writer, IVSHMEM_RECORD_END, 1);
			writer->begin &= ~(uint32_t)IVSHMEM_WRITER_ENDS;
		} else if (writer->begin != 0) {
			ivshmem_stream_mark(writer, IVSHMEM_RECORD_BEGIN, 1);
			writer->begin = 0;
		} else if (need <= to_end) {
			writer->room = (uint32_t)room < to_end ? (uint32_t)room : to_end;
			return need <= writer->room ? IVSHMEM_STREAM_OK : IVSHMEM_STREAM_FULL;
		} else if (overwrites || to_end + need <= (uint32_t)room) {
			ivshmem_stream_mark(writer, IVSHMEM_RECORD_PAD, to_end);
		} else {
			return IVSHMEM_STREAM_FULL;
		}
	}
}

/*
 * Room for a message of up to `size` bytes. *place, a multiple of 8, is in the ring: fill it by
 * aligned words where the memory is a device's. IVSHMEM_STREAM_OK, _FULL, _TOO_BIG, or _BROKEN,
 * which may end by itself when the reader comes back.
 */
static inline int ivshmem_stream_reserve(
	struct ivshmem_writer *writer, uint32_t size, volatile void **place)
{
	if (IVSHMEM_UNLIKELY(
		    size > writer->end.largest || ivshmem_record_lines(size) > writer->room)) {
		const int result = ivshmem_stream_make_room(writer, size);
		if (result != IVSHMEM_STREAM_OK)
			return result;
	}
	*place = (volatile unsigned char *)ivshmem_stream_record(&writer->end, writer->tail) +
		IVSHMEM_RECORD_HEADER;
	return IVSHMEM_STREAM_OK;
}

/* What has been reserved is a message of `size` bytes, which is not more than was reserved. The
 * reader learns of it by ivshmem_stream_publish(). */
static inline void ivshmem_stream_commit(struct ivshmem_writer *writer, uint32_t size, uint32_t tag)
{
	volatile uint32_t *record = ivshmem_stream_record(&writer->end, writer->tail);
	const uint32_t lines = ivshmem_record_lines(size);

	ivshmem_channel_set(record, size);
	ivshmem_channel_set(record + 1, tag);
	writer->tail += lines;
	writer->room -= lines;
	writer->messages++;
	if (lines == 1 && writer->room > IVSHMEM_WRITE_AHEAD)
		ivshmem_stream_will_write(
			ivshmem_stream_record(&writer->end, writer->tail + IVSHMEM_WRITE_AHEAD));
}

/* A message, to be published with others. The result is that of ivshmem_stream_reserve(). */
static inline int ivshmem_stream_add(
	struct ivshmem_writer *writer, const void *bytes, uint32_t size, uint32_t tag)
{
	volatile void *place = NULL;
	const int result = ivshmem_stream_reserve(writer, size, &place);

	if (result == IVSHMEM_STREAM_OK) {
		ivshmem_channel_put(place, bytes, size);
		ivshmem_stream_commit(writer, size, tag);
	}
	return result;
}

/* A message, published at once, with all that was added before it. */
static inline int ivshmem_stream_write(
	struct ivshmem_writer *writer, const void *bytes, uint32_t size, uint32_t tag)
{
	const int result = ivshmem_stream_add(writer, bytes, size, tag);

	if (result == IVSHMEM_STREAM_OK)
		ivshmem_stream_publish(writer);
	return result;
}

/*
 * Before sleeping until there is room for `size` bytes: ask to be rung, then try again, and sleep
 * only if that says IVSHMEM_STREAM_FULL. What was added is published, else it could never be read.
 */
static inline void ivshmem_writer_arm(struct ivshmem_writer *writer, uint32_t size)
{
	struct ivshmem_end *end = &writer->end;
	const uint32_t lines = ivshmem_record_lines(size);
	const uint32_t to_end = ivshmem_stream_to_end(end, writer->tail);
	uint32_t need = lines > to_end ? lines + to_end : lines;

	ivshmem_stream_publish(writer);
	/* A little more, so that one ring is for many messages. */
	if (need < end->lines / 4)
		need = end->lines / 4;
	ivshmem_stream_arm(end, writer->tail - end->lines + need - 1);
}

/* Leave: what was written stays for the reader, who then learns that it was all. */
static inline void ivshmem_writer_close(struct ivshmem_writer *writer)
{
	struct ivshmem_end *end = &writer->end;

	ivshmem_stream_publish(writer);
	/* Release: whoever acquires the state finds the last position. */
	ivshmem_channel_release(&end->mine->state, IVSHMEM_SLOT_CLOSED);
	ivshmem_channel_fence(); /* as in ivshmem_stream_tell(): the reader may be about to sleep */
	end->due |= ivshmem_channel_get(&end->theirs->want) == writer->tail;
}

/* ---- reading ---- */

/* Let the writer have the room of what has been read. Then ask ivshmem_stream_due(). If that is
 * nothing, it is said again, as by ivshmem_stream_publish(). */
IVSHMEM_APART void ivshmem_stream_release(struct ivshmem_reader *reader)
{
	const uint32_t from = reader->released;

	reader->released = reader->head;
	ivshmem_stream_tell(&reader->end, from, reader->head, reader->messages);
}

/* Be the reader. It goes on where a former life has released; `anew`: with what is written from now
 * on. */
static inline void ivshmem_reader_attach(struct ivshmem_reader *reader,
	const struct ivshmem_stream *stream, uint32_t id, uint32_t vector, int anew)
{
	struct ivshmem_end *end = &reader->end;
	uint32_t tail;

	reader->head = ivshmem_stream_sit(end, stream, IVSHMEM_LANE_READER, id, vector);
	tail = ivshmem_stream_theirs(end);
	if (anew != 0)
		reader->head = tail;
	else if (tail - reader->head > end->lines) /* what is overwritten is before `floor` */
		reader->head = end->policy == IVSHMEM_CHANNEL_OVERWRITE ? tail - end->lines : tail;
	reader->released = reader->head;
	reader->ready = 0;
	reader->lines = 0;
	reader->messages = ivshmem_channel_get(&end->mine->messages);
	/* What ended before us, and left us nothing, is none of ours. */
	reader->ended = tail == reader->head &&
		ivshmem_channel_get(&end->theirs->state) == IVSHMEM_SLOT_CLOSED;
	ivshmem_channel_set(&end->mine->floor, reader->head);
	ivshmem_channel_set(&end->mine->position, reader->head);
	ivshmem_stream_sat(end);
}

/* What the writer says cannot be. If it has begun a new life since we have seen one begin, all is
 * forgotten: go on with that one. Its generation is released behind its position. */
IVSHMEM_APART int ivshmem_stream_broken(struct ivshmem_reader *reader)
{
	struct ivshmem_end *end = &reader->end;
	const uint32_t life = ivshmem_channel_acquire(&end->theirs->generation);

	if (life == end->life)
		return IVSHMEM_STREAM_BROKEN;
	end->life = life;
	reader->head = ivshmem_stream_theirs(end);
	reader->ready = 0;
	reader->ended = 0;
	ivshmem_stream_release(reader);
	return IVSHMEM_STREAM_BEGIN;
}

/*
 * Has the writer overwritten what we have just read? IVSHMEM_STREAM_OK: no, we are at most a ring
 * ahead of `floor`; anything else is behind it, however long nobody has read. Else go on with the
 * oldest that is left; if that makes no sense, ivshmem_stream_look() will find out. Order: if we
 * have seen anything that it wrote there, the order in ivshmem_stream_clear() makes us see `floor`
 * now. Acquire: the position that we look at next is not older.
 */
IVSHMEM_APART int ivshmem_stream_overtaken(struct ivshmem_reader *reader)
{
	struct ivshmem_end *end = &reader->end;
	uint32_t floor;

	if (end->policy != IVSHMEM_CHANNEL_OVERWRITE)
		return IVSHMEM_STREAM_OK;
	ivshmem_channel_order();
	floor = ivshmem_channel_acquire(&end->theirs->floor);
	if (reader->head - floor <= end->lines)
		return IVSHMEM_STREAM_OK;
	reader->head = floor;
	reader->ready = 0;
	ivshmem_channel_set(&end->mine->lost, ivshmem_channel_get(&end->mine->lost) + 1);
	return IVSHMEM_STREAM_LOST;
}

/*
 * Find out how much there is to read. _OK: something; else what ivshmem_stream_read() returns.
 * Acquire: if the state says that there will be no more, the position that we look at once more is
 * the last one.
 */
IVSHMEM_APART int ivshmem_stream_look(struct ivshmem_reader *reader)
{
	struct ivshmem_end *end = &reader->end;
	const uint32_t fill = ivshmem_stream_theirs(end) - reader->head;

	if (fill != 0) {
		const int result = ivshmem_stream_overtaken(reader);
		if (result != IVSHMEM_STREAM_OK)
			return result;
		if (fill > end->lines)
			return ivshmem_stream_broken(reader);
		reader->ready = ivshmem_stream_to_end(end, reader->head);
		if (fill < reader->ready)
			reader->ready = fill;
		return IVSHMEM_STREAM_OK;
	}
	if (reader->released != reader->head)
		ivshmem_stream_release(reader);
	if (reader->ended != 0 ||
		ivshmem_channel_acquire(&end->theirs->state) != IVSHMEM_SLOT_CLOSED ||
		ivshmem_stream_theirs(end) != reader->head)
		return IVSHMEM_STREAM_EMPTY;
	reader->ended = 1;
	return IVSHMEM_STREAM_END;
}

/* A record that is no message, or one that does not fit into what there is. */
IVSHMEM_APART int ivshmem_stream_special(
	struct ivshmem_reader *reader, const volatile uint32_t *record, uint32_t what)
{
	const int result = ivshmem_stream_overtaken(reader);
	const uint32_t ended = reader->ended;
	const uint32_t kind = what - IVSHMEM_RECORD_PAD; /* BEGIN: 1, END: 2 */
	const uint32_t lines = kind == 0 ? ivshmem_stream_to_end(&reader->end, reader->head) : 1;

	if (result != IVSHMEM_STREAM_OK)
		return result;
	if (kind > 2 || lines > reader->ready)
		return ivshmem_stream_broken(reader);
	reader->head += lines;
	reader->ready -= lines;
	if (kind == 0)
		return IVSHMEM_STREAM_OK;
	reader->ended = kind - 1;
	if (kind == 2)
		return ended != 0 ? IVSHMEM_STREAM_OK : IVSHMEM_STREAM_END;
	reader->end.life = ivshmem_channel_get(record + 1);
	return IVSHMEM_STREAM_BEGIN;
}

/* The next message: its size, and *record; or enum ivshmem_stream_result. The size word is read
 * once; one comparison tells what is a message and lies in what there is from all else. No writer
 * has a use for more than a PAD and an END between two things that are told; one that has goes on
 * with them as long as he likes, but not in one call. */
static inline int32_t ivshmem_stream_next(
	struct ivshmem_reader *reader, const volatile uint32_t **record)
{
	unsigned i;

	for (i = 0; i < 8; i++) {
		int result;

		if (reader->ready != 0) {
			const volatile uint32_t *at =
				ivshmem_stream_record(&reader->end, reader->head);
			const uint32_t size = ivshmem_channel_get(at);

			reader->lines = ivshmem_record_lines(size);
			if (!IVSHMEM_UNLIKELY(reader->lines > reader->ready)) {
				*record = at;
				return (int32_t)size;
			}
			result = ivshmem_stream_special(reader, at, size);
		} else {
			result = ivshmem_stream_look(reader);
		}
		if (result != IVSHMEM_STREAM_OK)
			return result;
	}
	return IVSHMEM_STREAM_BROKEN;
}

/* Done with a message. The writer learns of it now and then: each time costs both a cache line.
 * What is fetched ahead has been written: else it would be taken away from the writer. */
static inline void ivshmem_stream_step(struct ivshmem_reader *reader)
{
	reader->head += reader->lines;
	reader->ready -= reader->lines;
	reader->messages++;
	if (reader->lines == 1 && reader->ready > IVSHMEM_READ_AHEAD)
		ivshmem_stream_will_read(
			ivshmem_stream_record(&reader->end, reader->head + IVSHMEM_READ_AHEAD));
	if (IVSHMEM_UNLIKELY(reader->head - reader->released >= reader->end.lines / 8))
		ivshmem_stream_release(reader);
}

/*
 * Take the next message: its size, and the writer's *tag if `tag` is not NULL; or enum
 * ivshmem_stream_result. With _TOO_BIG it stays where it is; `largest` bytes are enough for each.
 * Then ask ivshmem_stream_due().
 */
static inline int32_t ivshmem_stream_read(
	struct ivshmem_reader *reader, void *bytes, uint32_t room, uint32_t *tag)
{
	const volatile uint32_t *record = ivshmem_stream_record(&reader->end, 0);
	const int32_t size = ivshmem_stream_next(reader, &record);

	if (size < 0)
		return size;
	if (IVSHMEM_UNLIKELY((uint32_t)size > room))
		return IVSHMEM_STREAM_TOO_BIG;
	if (tag != NULL)
		*tag = ivshmem_channel_get(record + 1);
	ivshmem_channel_take(bytes, record + 2, (uint32_t)size);
	if (reader->end.policy == IVSHMEM_CHANNEL_OVERWRITE) {
		const int result = ivshmem_stream_overtaken(reader);
		if (result != IVSHMEM_STREAM_OK)
			return result;
	}
	ivshmem_stream_step(reader);
	return size;
}

/* Before sleeping until there is something to read: ask to be rung, then read again, and sleep only
 * if that says IVSHMEM_STREAM_EMPTY. */
static inline void ivshmem_reader_arm(struct ivshmem_reader *reader)
{
	ivshmem_stream_release(reader);
	ivshmem_stream_arm(&reader->end, reader->head);
}

/* Leave: what has not been read is for the next life. */
static inline void ivshmem_reader_close(struct ivshmem_reader *reader)
{
	ivshmem_stream_release(reader);
	ivshmem_channel_release(&reader->end.mine->state, IVSHMEM_SLOT_CLOSED);
}

#ifdef __cplusplus
}
#endif

#endif
