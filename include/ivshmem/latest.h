/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/latest.h - the latest value of something, from one writer to any number of readers,
 * through a lane of a channel (<ivshmem/channel.h>). Freestanding, and never waits;
 * <ivshmem/channels.h> adds the waiting for hosted programs.
 *
 *     struct ivshmem_latest_writer writer;
 *     if (ivshmem_latest_writer_attach(&writer, &channel, memory, 0, id) == IVSHMEM_LATEST_OK)
 *             ivshmem_latest_write(&writer, &pose, sizeof(pose), 0);
 *
 *     struct ivshmem_latest_reader reader;
 *     if (ivshmem_latest_reader_attach(&reader, &channel, memory, 0, 0) == IVSHMEM_LATEST_OK)
 *             size = ivshmem_latest_read(&reader, &pose, sizeof(pose), NULL);
 *
 * The writer never waits for anybody, and does not know who reads. A reader writes nothing, so a
 * mapping for reading is enough, nobody can be disturbed by one, and one that stands still or dies
 * is nobody's business. What it hands out is a value as it was written, or nothing.
 *
 * How. Value `n` is in cell `n` mod 4 of the ring, and the writer's position is the number of the
 * newest. The writer puts the number of the next value on its cell, then the value, then moves the
 * position on. So the newest value is not touched, nor are the two before it: a reader has the time
 * of three writes to copy one. Afterwards it looks whether the number is still on the cell.
 *
 * Trust. As for streams: each word is taken once and compared with a geometry of the reader's own,
 * and the payload is copied before anybody looks at it. Somebody else who writes there can make the
 * values wrong or keep them away, and nothing else.
 *
 * Threads: a writer or reader is one thread's at a time.
 * Source: docs/channel.md, sections 6 to 8.
 */
#ifndef IVSHMEM_LATEST_H
#define IVSHMEM_LATEST_H

#include <ivshmem/channel.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum ivshmem_latest_result {
	IVSHMEM_LATEST_OK = 0,
	IVSHMEM_LATEST_EMPTY = -1,   /* reading: no value yet, or no newer one */
	IVSHMEM_LATEST_BUSY = -2,    /* reading: overtaken each time; try again */
	IVSHMEM_LATEST_BEGIN = -3,   /* reading: a life of the writer has begun */
	IVSHMEM_LATEST_END = -4,     /* reading: the writer has closed; it may come again */
	IVSHMEM_LATEST_TOO_BIG = -6, /* writing: above `largest`; reading: above the buffer */
	IVSHMEM_LATEST_BROKEN = -7,  /* reading: what is there cannot be */
};

#define IVSHMEM_LATEST_TRIES 8u /* of one call */

/* What is in front of a value. */
struct ivshmem_latest_cell {
	uint32_t number; /* of the value that is, or is being written, here */
	uint32_t size;
	uint32_t tag;
	uint32_t zero;
};

IVSHMEM_CHANNEL_ASSERT(offsetof(struct ivshmem_latest_cell, number) == 0x0);
IVSHMEM_CHANNEL_ASSERT(offsetof(struct ivshmem_latest_cell, size) == 0x4);
IVSHMEM_CHANNEL_ASSERT(offsetof(struct ivshmem_latest_cell, tag) == 0x8);
IVSHMEM_CHANNEL_ASSERT(offsetof(struct ivshmem_latest_cell, zero) == 0xc);
IVSHMEM_CHANNEL_ASSERT(sizeof(struct ivshmem_latest_cell) == IVSHMEM_CELL_HEADER);

struct ivshmem_latest_writer {
	volatile struct ivshmem_channel_slot *slot;
	volatile unsigned char *ring;
	size_t cell; /* bytes from one to the next */
	uint32_t largest;
	uint32_t number;   /* of the newest value; 0: none yet */
	uint32_t messages; /* values written, by all lives */
	uint32_t generation;
};

struct ivshmem_latest_reader {
	const volatile struct ivshmem_channel_slot *slot; /* the writer's */
	const volatile unsigned char *ring;
	size_t cell;
	uint32_t largest, key;
	uint32_t seen;  /* number of the value handed out last */
	uint32_t life;  /* the writer's generation, as last told */
	uint32_t ended; /* the end of this life has been told */
};

static inline uint32_t ivshmem_latest_following(uint32_t number)
{
	return number + 1 != 0 ? number + 1 : 1; /* 0 is that of no value */
}

/* ---- writing ---- */

static inline volatile struct ivshmem_latest_cell *ivshmem_latest_next_cell(
	const struct ivshmem_latest_writer *writer)
{
	const uint32_t next = ivshmem_latest_following(writer->number);

	return (volatile struct ivshmem_latest_cell *)(volatile void *)(writer->ring +
		(next % IVSHMEM_CELLS) * writer->cell);
}

/*
 * Be the writer of a lane of a channel that has been found in this memory. `id`: who that is, or
 * IVSHMEM_ID_NOBODY; readers can ask a server whether it is still there. Goes on where a former
 * life was, whose value stays until the next. IVSHMEM_LATEST_OK, or IVSHMEM_CHANNEL_BAD: there is
 * no such lane of this shape.
 *
 * Killed in between, the next life does it all again. Release: whoever acquires the key finds a
 * position of this directory, and whoever acquires the generation finds it open.
 */
static inline int ivshmem_latest_writer_attach(struct ivshmem_latest_writer *writer,
	const struct ivshmem_channel *channel, volatile void *memory, uint32_t lane, uint32_t id)
{
	volatile unsigned char *at =
		(volatile unsigned char *)memory + ivshmem_channel_place(channel, lane);
	volatile struct ivshmem_channel_slot *slot =
		(volatile struct ivshmem_channel_slot *)(volatile void *)at;

	if (channel->shape != IVSHMEM_CHANNEL_LATEST || lane >= channel->lanes)
		return IVSHMEM_CHANNEL_BAD;
	if (ivshmem_channel_get(&slot->key) != channel->key) {
		ivshmem_channel_set(&slot->position, 0);
		ivshmem_channel_set(&slot->messages, 0);
	}
	writer->slot = slot;
	writer->ring = at + IVSHMEM_LANE_RING;
	writer->cell = (size_t)(channel->lines / IVSHMEM_CELLS) * IVSHMEM_CHANNEL_LINE;
	writer->largest = channel->largest;
	writer->number = ivshmem_channel_get(&slot->position);
	writer->messages = ivshmem_channel_get(&slot->messages);
	writer->generation = (ivshmem_channel_get(&slot->generation) + 2) | 1;
	ivshmem_channel_set(&slot->id, id);
	ivshmem_channel_set(&slot->state, IVSHMEM_SLOT_OPEN);
	ivshmem_channel_release(&slot->generation, writer->generation);
	ivshmem_channel_release(&slot->key, channel->key);
	return IVSHMEM_LATEST_OK;
}

/*
 * Room for the next value, of up to `size` bytes: *place, a multiple of 16, until it is committed;
 * fill it by aligned words where the memory is a device's. IVSHMEM_LATEST_OK or _TOO_BIG.
 *
 * Order: the number is on the cell before anything in it changes. A reader that still copies the
 * value before, and has got anything of this one, finds it: ivshmem_latest_copy().
 */
static inline int ivshmem_latest_reserve(
	struct ivshmem_latest_writer *writer, uint32_t size, volatile void **place)
{
	volatile struct ivshmem_latest_cell *cell = ivshmem_latest_next_cell(writer);

	if (size > writer->largest)
		return IVSHMEM_LATEST_TOO_BIG;
	ivshmem_channel_set(&cell->number, ivshmem_latest_following(writer->number));
	ivshmem_channel_order_before(size);
	*place = cell + 1;
	return IVSHMEM_LATEST_OK;
}

/* What has been reserved is a value of `size` bytes, which is not more than was reserved, and the
 * latest one. Release: whoever acquires the position finds all of it. */
static inline void ivshmem_latest_commit(
	struct ivshmem_latest_writer *writer, uint32_t size, uint32_t tag)
{
	volatile struct ivshmem_latest_cell *cell = ivshmem_latest_next_cell(writer);

	ivshmem_channel_set(&cell->size, size);
	ivshmem_channel_set(&cell->tag, tag);
	writer->number = ivshmem_latest_following(writer->number);
	writer->messages++;
	ivshmem_channel_set(&writer->slot->messages, writer->messages);
	ivshmem_channel_release(&writer->slot->position, writer->number);
}

/* A new value, with any number of the writer's. The result is that of ivshmem_latest_reserve(). */
static inline int ivshmem_latest_write(
	struct ivshmem_latest_writer *writer, const void *bytes, uint32_t size, uint32_t tag)
{
	volatile void *place = NULL;
	const int result = ivshmem_latest_reserve(writer, size, &place);

	if (result == IVSHMEM_LATEST_OK) {
		ivshmem_channel_put(place, bytes, size);
		ivshmem_latest_commit(writer, size, tag);
	}
	return result;
}

/* Leave: the value stays, and readers learn that there will be no other. Release: whoever acquires
 * the state finds the last position. */
static inline void ivshmem_latest_writer_close(struct ivshmem_latest_writer *writer)
{
	ivshmem_channel_release(&writer->slot->position, writer->number);
	ivshmem_channel_release(&writer->slot->state, IVSHMEM_SLOT_CLOSED);
}

/* ---- reading ---- */

/*
 * The number of the newest value; 0: none. As long as nobody has been there, there is none.
 * Acquire: `key` pairs with its release in ivshmem_latest_writer_attach(), `position` with that in
 * ivshmem_latest_commit().
 */
static inline uint32_t ivshmem_latest_newest(const struct ivshmem_latest_reader *reader)
{
	if (ivshmem_channel_acquire(&reader->slot->key) != reader->key)
		return 0;
	return ivshmem_channel_acquire(&reader->slot->position);
}

/* Be a reader: nothing is written, nobody learns of it, and there is nothing to close. `anew`: what
 * was written before is not new. The result is that of ivshmem_latest_writer_attach(). */
static inline int ivshmem_latest_reader_attach(struct ivshmem_latest_reader *reader,
	const struct ivshmem_channel *channel, const volatile void *memory, uint32_t lane, int anew)
{
	const volatile unsigned char *at =
		(const volatile unsigned char *)memory + ivshmem_channel_place(channel, lane);

	if (channel->shape != IVSHMEM_CHANNEL_LATEST || lane >= channel->lanes)
		return IVSHMEM_CHANNEL_BAD;
	reader->slot = (const volatile struct ivshmem_channel_slot *)(const volatile void *)at;
	reader->ring = at + IVSHMEM_LANE_RING;
	reader->cell = (size_t)(channel->lines / IVSHMEM_CELLS) * IVSHMEM_CHANNEL_LINE;
	reader->largest = channel->largest;
	reader->key = channel->key;
	reader->life = 0; /* generations are odd */
	reader->ended = 0;
	reader->seen = anew != 0 ? ivshmem_latest_newest(reader) : 0;
	return IVSHMEM_LATEST_OK;
}

/*
 * Copy value `number`, whose position has been acquired. Order: if anything of what has been copied
 * is of a later value, its number is on the cell now: ivshmem_latest_reserve(). The size may be a
 * later one's, too, but no size that was ever written is too large.
 */
static inline int32_t ivshmem_latest_copy(struct ivshmem_latest_reader *reader, uint32_t number,
	void *bytes, uint32_t room, uint32_t *tag)
{
	const volatile struct ivshmem_latest_cell *cell =
		(const volatile struct ivshmem_latest_cell *)(const volatile void *)(reader->ring +
			(number % IVSHMEM_CELLS) * reader->cell);
	const uint32_t size = ivshmem_channel_get(&cell->size);
	const uint32_t word = ivshmem_channel_get(&cell->tag);

	if (size > reader->largest)
		return IVSHMEM_LATEST_BROKEN;
	if (size <= room)
		ivshmem_channel_take(bytes, cell + 1, size);
	ivshmem_channel_order();
	if (ivshmem_channel_get(&cell->number) != number)
		return IVSHMEM_LATEST_BUSY;
	if (size > room)
		return IVSHMEM_LATEST_TOO_BIG;
	if (tag != NULL)
		*tag = word;
	reader->seen = number;
	return (int32_t)size;
}

/*
 * The latest value, be it new or not: its size, and the writer's *tag if `tag` is not NULL; or
 * IVSHMEM_LATEST_EMPTY, _BUSY, _TOO_BIG, _BROKEN. Unless it is a size, `bytes` may be anything.
 *
 * _BUSY: as often as IVSHMEM_LATEST_TRIES, the writer has begun four values while one was copied.
 * It takes a reader that is several times slower than a writer that never pauses, or that has been
 * interrupted each time; or a liar.
 */
static inline int32_t ivshmem_latest_read(
	struct ivshmem_latest_reader *reader, void *bytes, uint32_t room, uint32_t *tag)
{
	unsigned i;

	for (i = 0; i < IVSHMEM_LATEST_TRIES; i++) {
		const uint32_t number = ivshmem_latest_newest(reader);
		int32_t result;

		if (number == 0)
			return IVSHMEM_LATEST_EMPTY;
		result = ivshmem_latest_copy(reader, number, bytes, room, tag);
		if (result != IVSHMEM_LATEST_BUSY)
			return result;
	}
	return IVSHMEM_LATEST_BUSY;
}

/*
 * What is new: a value other than the last that this reader was given, as ivshmem_latest_read()
 * does it; or _BEGIN and _END, once for each life; or IVSHMEM_LATEST_EMPTY. _BEGIN comes before the
 * first value of a life; a value behind it may still be that of the life before.
 *
 * Acquire: a generation that is new is not found with the state of the life before; and if the
 * state says that there will be no more, the position that is looked at once more is the last one.
 */
static inline int32_t ivshmem_latest_next(
	struct ivshmem_latest_reader *reader, void *bytes, uint32_t room, uint32_t *tag)
{
	uint32_t life;

	if (ivshmem_channel_acquire(&reader->slot->key) != reader->key)
		return IVSHMEM_LATEST_EMPTY;
	life = ivshmem_channel_acquire(&reader->slot->generation);
	if (life != reader->life) {
		reader->life = life;
		reader->ended = 0;
		return IVSHMEM_LATEST_BEGIN;
	}
	if (ivshmem_latest_newest(reader) != reader->seen)
		return ivshmem_latest_read(reader, bytes, room, tag);
	if (reader->ended != 0 ||
		ivshmem_channel_acquire(&reader->slot->state) != IVSHMEM_SLOT_CLOSED ||
		ivshmem_latest_newest(reader) != reader->seen)
		return IVSHMEM_LATEST_EMPTY;
	reader->ended = 1;
	return IVSHMEM_LATEST_END;
}

#ifdef __cplusplus
}
#endif

#endif
