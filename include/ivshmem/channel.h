/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/channel.h - what channels look like in the shared memory, and how to touch it: the
 * numbers of docs/channel.md. Freestanding: no libc, no allocation, nothing to link; C11 and C++17,
 * down to a Cortex-M0. The messages themselves are in <ivshmem/stream.h>; hosted programs start at
 * <ivshmem/channels.h>.
 *
 *     struct ivshmem_channel frames;
 *     struct ivshmem_stream stream;
 *
 *     if (ivshmem_channel_find(memory, size, 4096, "frames", &frames) == 0 &&
 *             ivshmem_channel_lane(&frames, memory, 0, &stream) == 0)
 *             ...                                      // <ivshmem/stream.h> takes the stream
 *
 * All words are 32 bits, little-endian and aligned. Positions and counts are free-running: compare
 * them by their unsigned difference only.
 *
 * Memory order. Six accesses are all that the protocol is made of, and what each promises is what
 * the arguments in docs/channel.md, section 8, and above the code build on:
 *
 *   get       a relaxed load, done once     acquire   a load; what follows is not older than it
 *   set       a relaxed store               release   a store; whoever acquires its value has also
 *                                                     what came before
 *   order     what comes before it and what comes behind are in order, but for a store and a later
 *             load
 *   fence     that, too: store, fence, load here and the same there cannot both miss the other's
 *             store
 *
 * The compiler's atomics are right wherever the memory is mapped as ordinary memory and processors
 * keep it coherent: between processes, guests with a write-back BAR, and cores of one chip. Where
 * the compiler has none of that size without a library (Cortex-M0), or says so itself
 * (IVSHMEM_CHANNEL_DEVICE_MEMORY, for a BAR mapped as a device's memory or write-combining), it is
 * one barrier for all, that of <ivshmem/mmio.h>. Who knows of a machine in which the compiler's
 * fence does nothing defines IVSHMEM_CHANNEL_FENCE, a function (docs/channel.md, section 8).
 */
#ifndef IVSHMEM_CHANNEL_H
#define IVSHMEM_CHANNEL_H

#include <ivshmem/abi.h>
#if defined(IVSHMEM_CHANNEL_DEVICE_MEMORY) || !defined(__GCC_ATOMIC_INT_LOCK_FREE) ||              \
	__GCC_ATOMIC_INT_LOCK_FREE != 2
#define IVSHMEM_CHANNEL_ONE_BARRIER
#include <ivshmem/mmio.h>
#endif

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define IVSHMEM_CHANNEL_ASSERT(what) static_assert(what, #what)
extern "C" {
#else
#define IVSHMEM_CHANNEL_ASSERT(what) _Static_assert(what, #what)
#endif

/* ---- the format: docs/channel.md, sections 2 to 5 ---- */

#define IVSHMEM_CHANNELS_MAGIC   0x68637669u /* "ivch" */
#define IVSHMEM_CHANNELS_VERSION 1u
#define IVSHMEM_CHANNELS_OFFSET  4096u /* of the directory, unless the header says otherwise */
#define IVSHMEM_CHANNELS_MAX     255u

enum ivshmem_channel_shape {
	IVSHMEM_CHANNEL_STREAM = 1, /* one lane */
	IVSHMEM_CHANNEL_GATHER = 2, /* a lane for each writer, one reader */
	IVSHMEM_CHANNEL_LATEST = 3, /* a lane with one writer, any number of readers */
	IVSHMEM_CHANNEL_CALL = 4,   /* two lanes for each caller: requests, replies */
};

/* What a writer does when there is no room. */
enum ivshmem_channel_policy {
	IVSHMEM_CHANNEL_WAIT = 0,
	IVSHMEM_CHANNEL_DROP = 1,      /* the new message is lost */
	IVSHMEM_CHANNEL_OVERWRITE = 2, /* the oldest messages are lost */
};

enum ivshmem_channel_flag {
	IVSHMEM_CHANNEL_READER_POLLS = 1, /* the reader never sleeps: writers need not look */
	IVSHMEM_CHANNEL_WRITER_POLLS = 2, /* likewise */
};

enum ivshmem_slot_state {
	IVSHMEM_SLOT_NOBODY = 0,
	IVSHMEM_SLOT_OPEN = 1,
	IVSHMEM_SLOT_CLOSED = 2, /* its owner has left in good order */
};

/* The directory: this, then an entry for each channel. Written by whoever formats, then constant.
 */
struct ivshmem_channel_directory {
	uint32_t magic;    /* IVSHMEM_CHANNELS_MAGIC */
	uint32_t version;  /* IVSHMEM_CHANNELS_VERSION */
	uint32_t bytes;    /* of all of it: 64 + 128 * channels */
	uint32_t check;    /* CRC-32 of these bytes, this word taken as 0; written last */
	uint32_t channels; /* 1..IVSHMEM_CHANNELS_MAX */
	uint32_t end_low;  /* offset of the first byte behind all channels: bits 31..0, */
	uint32_t end_high; /* 63..32 */
	uint32_t zero[9];
};

struct ivshmem_channel_entry {
	unsigned char name[64]; /* [a-z0-9._-]{1,63}, then zeros */
	uint32_t shape;         /* enum ivshmem_channel_shape */
	uint32_t policy;        /* enum ivshmem_channel_policy */
	uint32_t flags;         /* enum ivshmem_channel_flag; ignore others */
	uint32_t lanes;         /* how many follow each other at the offset */
	uint32_t lines;         /* of 64 bytes, in the ring of a lane: a power of two */
	uint32_t largest;       /* bytes of a message */
	uint32_t offset_low;    /* of the first lane in the region, a multiple of 128 */
	uint32_t offset_high;
	uint32_t zero[8];
};

/* What one end says of itself; nobody else writes here. Two of them begin a lane. */
struct ivshmem_channel_slot {
	uint32_t position;   /* lines written, or read */
	uint32_t messages;   /* the same in messages */
	uint32_t floor;      /* writer that overwrites: what lies before it is gone; reader: where
				its life began */
	uint32_t lost;       /* writer: messages dropped; reader: how often it was overtaken */
	uint32_t generation; /* odd; another one for each life */
	uint32_t state;      /* enum ivshmem_slot_state */
	uint32_t id;         /* whom to ring: up to 65535; else nobody */
	uint32_t vector;     /* and on which */
	uint32_t key;        /* CHECK of the directory; else the slot says nothing */
	uint32_t zero0[7];
	uint32_t want; /* "ring when your position passes this" */
	uint32_t beat; /* counts on whenever its owner has looked */
	uint32_t zero1[14];
};

#define IVSHMEM_CHANNEL_LINE 64u
#define IVSHMEM_LANE_WRITER  0u /* offsets in a lane */
#define IVSHMEM_LANE_READER  128u
#define IVSHMEM_LANE_RING    256u

/* The first word of a record: its size, or one of these. The second is the message's tag. */
#define IVSHMEM_RECORD_PAD   0x80000001u /* nothing from here to the end of the ring */
#define IVSHMEM_RECORD_BEGIN 0x80000002u /* a writer's life; the tag is its generation */
#define IVSHMEM_RECORD_END   0x80000003u /* a life that ended in good order */

#define IVSHMEM_RECORD_HEADER 8u
#define IVSHMEM_RING_MIN      16u /* lines */
#define IVSHMEM_RING_MAX      0x01000000u
#define IVSHMEM_CELLS         4u /* in the ring of a latest value, of the same size */
#define IVSHMEM_CELL_HEADER   16u
#define IVSHMEM_ID_NOBODY     0xffffffffu

#define IVSHMEM_AT(type, member, at) IVSHMEM_CHANNEL_ASSERT(offsetof(struct type, member) == (at))
IVSHMEM_AT(ivshmem_channel_directory, magic, 0x00);
IVSHMEM_AT(ivshmem_channel_directory, version, 0x04);
IVSHMEM_AT(ivshmem_channel_directory, bytes, 0x08);
IVSHMEM_AT(ivshmem_channel_directory, check, 0x0c);
IVSHMEM_AT(ivshmem_channel_directory, channels, 0x10);
IVSHMEM_AT(ivshmem_channel_directory, end_low, 0x14);
IVSHMEM_AT(ivshmem_channel_directory, end_high, 0x18);
IVSHMEM_AT(ivshmem_channel_directory, zero, 0x1c);
IVSHMEM_AT(ivshmem_channel_entry, name, 0x00);
IVSHMEM_AT(ivshmem_channel_entry, shape, 0x40);
IVSHMEM_AT(ivshmem_channel_entry, policy, 0x44);
IVSHMEM_AT(ivshmem_channel_entry, flags, 0x48);
IVSHMEM_AT(ivshmem_channel_entry, lanes, 0x4c);
IVSHMEM_AT(ivshmem_channel_entry, lines, 0x50);
IVSHMEM_AT(ivshmem_channel_entry, largest, 0x54);
IVSHMEM_AT(ivshmem_channel_entry, offset_low, 0x58);
IVSHMEM_AT(ivshmem_channel_entry, offset_high, 0x5c);
IVSHMEM_AT(ivshmem_channel_entry, zero, 0x60);
IVSHMEM_AT(ivshmem_channel_slot, position, 0x00);
IVSHMEM_AT(ivshmem_channel_slot, messages, 0x04);
IVSHMEM_AT(ivshmem_channel_slot, floor, 0x08);
IVSHMEM_AT(ivshmem_channel_slot, lost, 0x0c);
IVSHMEM_AT(ivshmem_channel_slot, generation, 0x10);
IVSHMEM_AT(ivshmem_channel_slot, state, 0x14);
IVSHMEM_AT(ivshmem_channel_slot, id, 0x18);
IVSHMEM_AT(ivshmem_channel_slot, vector, 0x1c);
IVSHMEM_AT(ivshmem_channel_slot, key, 0x20);
IVSHMEM_AT(ivshmem_channel_slot, zero0, 0x24);
IVSHMEM_AT(ivshmem_channel_slot, want, 0x40);
IVSHMEM_AT(ivshmem_channel_slot, beat, 0x44);
IVSHMEM_AT(ivshmem_channel_slot, zero1, 0x48);
IVSHMEM_CHANNEL_ASSERT(sizeof(struct ivshmem_channel_directory) == 64);
IVSHMEM_CHANNEL_ASSERT(sizeof(struct ivshmem_channel_entry) == 128);
IVSHMEM_CHANNEL_ASSERT(sizeof(struct ivshmem_channel_slot) == IVSHMEM_LANE_READER);
#undef IVSHMEM_AT

/* ---- access ---- */

static inline uint32_t ivshmem_channel_le(uint32_t word)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
	return __builtin_bswap32(word);
#else
	return word;
#endif
}

/* Tests of the algorithms have brought accesses of their own, by the names below. */
#ifndef IVSHMEM_CHANNEL_ACCESS

#ifdef IVSHMEM_CHANNEL_ONE_BARRIER

static inline uint32_t ivshmem_channel_get(const volatile uint32_t *word)
{
	return ivshmem_channel_le(*word);
}

static inline void ivshmem_channel_set(volatile uint32_t *word, uint32_t value)
{
	*word = ivshmem_channel_le(value);
}

static inline void ivshmem_channel_fence(void)
{
	ivshmem_mmio_barrier();
}

static inline uint32_t ivshmem_channel_acquire(const volatile uint32_t *word)
{
	const uint32_t value = *word;

	ivshmem_mmio_barrier();
	return ivshmem_channel_le(value);
}

static inline void ivshmem_channel_release(volatile uint32_t *word, uint32_t value)
{
	ivshmem_mmio_barrier();
	*word = ivshmem_channel_le(value);
}

static inline void ivshmem_channel_order(void)
{
	ivshmem_mmio_barrier();
}

#else

static inline uint32_t ivshmem_channel_get(const volatile uint32_t *word)
{
	return ivshmem_channel_le(__atomic_load_n(word, __ATOMIC_RELAXED));
}

/* NOLINTBEGIN(readability-non-const-parameter): they write. */
static inline void ivshmem_channel_set(volatile uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, ivshmem_channel_le(value), __ATOMIC_RELAXED);
}

static inline uint32_t ivshmem_channel_acquire(const volatile uint32_t *word)
{
	return ivshmem_channel_le(__atomic_load_n(word, __ATOMIC_ACQUIRE));
}

static inline void ivshmem_channel_release(volatile uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, ivshmem_channel_le(value), __ATOMIC_RELEASE);
}
/* NOLINTEND(readability-non-const-parameter) */

static inline void ivshmem_channel_fence(void)
{
#ifdef IVSHMEM_CHANNEL_FENCE
	IVSHMEM_CHANNEL_FENCE();
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

static inline void ivshmem_channel_order(void)
{
	__atomic_thread_fence(__ATOMIC_ACQ_REL);
}

#endif

/*
 * Copies between the shared memory, where only aligned whole words are touched, and the program's
 * own, which may be anywhere. Behind the last byte the rest of its word is written as zeros:
 * records are whole lines, so it belongs to them.
 */
#if defined(__linux__) && !defined(IVSHMEM_CHANNEL_DEVICE_MEMORY)

/*
 * Short ones are loops, since calling memcpy() costs more than a line takes; long ones are
 * memcpy(), as the memory takes any access. Statements that do nothing keep the compiler from
 * making memcpy() of the loops, and from looking at the shared memory once more instead of at the
 * copy.
 */
#define IVSHMEM_CHANNEL_LONG     256u
#define IVSHMEM_CHANNEL_COPY(to) __asm__ volatile("" ::"r"(to) : "memory")

/* Less than a word, in pieces that are an instruction each. */
static inline void ivshmem_channel_rest(unsigned char *to, const unsigned char *from, uint32_t size)
{
	const uint32_t two = size & 4, one = size & 6;

	if (two != 0)
		__builtin_memcpy(to, from, 4);
	if ((size & 2) != 0)
		__builtin_memcpy(to + two, from + two, 2);
	if ((size & 1) != 0)
		to[one] = from[one];
}

/* Whole words, and what is left of the size. */
static inline uint32_t ivshmem_channel_words(
	unsigned char **to, const unsigned char **from, uint32_t size)
{
	for (; size >= 16; size -= 16, *to += 16, *from += 16) {
		__builtin_memcpy(*to, *from, 16);
		IVSHMEM_CHANNEL_COPY(*to);
	}
	if (size >= 8) {
		__builtin_memcpy(*to, *from, 8);
		size -= 8;
		*to += 8;
		*from += 8;
	}
	return size;
}

static inline void ivshmem_channel_put(volatile void *place, const void *bytes, uint32_t size)
{
	unsigned char *to = (unsigned char *)place;
	const unsigned char *from = (const unsigned char *)bytes;
	unsigned char last[8] = {0};

	if (size > IVSHMEM_CHANNEL_LONG) {
		__builtin_memcpy(to, from, size);
		return;
	}
	size = ivshmem_channel_words(&to, &from, size);
	if (size != 0) {
		ivshmem_channel_rest(last, from, size);
		__builtin_memcpy(to, last, sizeof(last));
	}
}

static inline void ivshmem_channel_take(void *bytes, const volatile void *place, uint32_t size)
{
	unsigned char *to = (unsigned char *)bytes;
	const unsigned char *from = (const unsigned char *)place;

	if (size > IVSHMEM_CHANNEL_LONG) {
		__builtin_memcpy(to, from, size);
	} else {
		size = ivshmem_channel_words(&to, &from, size);
		if (size != 0)
			ivshmem_channel_rest(to, from, size);
	}
	IVSHMEM_CHANNEL_COPY(bytes);
}

#else

static inline void ivshmem_channel_put(volatile void *to, const void *from, uint32_t size)
{
	volatile uint32_t *words = (volatile uint32_t *)to;
	const unsigned char *bytes = (const unsigned char *)from;
	uint32_t word = 0, i;

	for (i = 0; i < size; i++) {
		word |= (uint32_t)bytes[i] << (i % 4 * 8);
		if (i % 4 == 3 || i + 1 == size) {
			ivshmem_channel_set(words++, word);
			word = 0;
		}
	}
}

static inline void ivshmem_channel_take(void *to, const volatile void *from, uint32_t size)
{
	const volatile uint32_t *words = (const volatile uint32_t *)from;
	unsigned char *bytes = (unsigned char *)to;
	uint32_t word = 0, i;

	for (i = 0; i < size; i++) {
		if (i % 4 == 0)
			word = ivshmem_channel_get(words++);
		bytes[i] = (unsigned char)(word & 0xff);
		word >>= 8;
	}
}

#endif

#endif /* IVSHMEM_CHANNEL_ACCESS */

/*
 * The order before up to `size` bytes are written where others may be reading. On x86 memcpy() may
 * make a long copy of stores that go ahead of those before it (non-temporal ones; in glibc never
 * below 16 KiB), and only a fence holds them back.
 */
static inline void ivshmem_channel_order_before(uint32_t size)
{
#if defined(__i386__) || defined(__x86_64__)
	if (size >= 0x4000)
		ivshmem_channel_fence();
#else
	(void)size;
#endif
	ivshmem_channel_order();
}

/* ---- finding a channel ---- */

/* A checked copy of an entry: what is used from then on. */
struct ivshmem_channel {
	uint32_t shape, policy, flags, lanes, lines, largest, key;
	uint64_t offset;
};

/* One lane, of two parties. */
struct ivshmem_stream {
	volatile unsigned char *lane;
	uint32_t lines, largest, policy, flags, key;
};

enum ivshmem_channel_error {
	IVSHMEM_CHANNEL_NO_DIRECTORY = -1, /* or one that does not add up: look again */
	IVSHMEM_CHANNEL_NO_SUCH = -2,
	IVSHMEM_CHANNEL_BAD = -3, /* does not lie in the memory, or is none that we know */
};

static inline uint32_t ivshmem_channel_crc(uint32_t crc, uint32_t word)
{
	unsigned i;

	crc ^= word;
	for (i = 0; i < 32; i++)
		crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
	return crc;
}

/*
 * Where the directory begins: where the region's header says (docs/region.md), if it has one that
 * adds up and says so; else where it always does. A hint, like all that the header says.
 */
static inline uint32_t ivshmem_channels_at(const volatile void *memory, size_t size)
{
	const volatile uint32_t *page = (const volatile uint32_t *)memory;
	uint32_t crc = 0xffffffffu, check = 0, offset = 0, i;

	if (size < IVSHMEM_HEADER_SIZE || ivshmem_channel_get(page) != IVSHMEM_HEADER_MAGIC_VALUE ||
		ivshmem_channel_get(page + IVSHMEM_HEADER_VERSION / 4) !=
			IVSHMEM_HEADER_VERSION_VALUE)
		return IVSHMEM_CHANNELS_OFFSET;
	for (i = 0; i < IVSHMEM_HEADER_SIZE / 4; i++) {
		const uint32_t word = ivshmem_channel_get(page + i);

		if (i == IVSHMEM_HEADER_DIRECTORY / 4)
			offset = word;
		if (i == IVSHMEM_HEADER_CHECK / 4)
			check = word;
		crc = ivshmem_channel_crc(crc, i == IVSHMEM_HEADER_CHECK / 4 ? 0 : word);
	}
	return ~crc == check && offset >= IVSHMEM_HEADER_SIZE ? offset : IVSHMEM_CHANNELS_OFFSET;
}

/* Lines of a record with so many bytes of payload; without overflow, whatever the size. */
static inline uint32_t ivshmem_record_lines(uint32_t size)
{
	return size / IVSHMEM_CHANNEL_LINE +
		(size % IVSHMEM_CHANNEL_LINE + IVSHMEM_RECORD_HEADER + IVSHMEM_CHANNEL_LINE - 1) /
		IVSHMEM_CHANNEL_LINE;
}

/* Bytes of the largest message. It always finds room in the end if its record is at most half the
 * ring, since up to as much can be skipped at its end; or a quarter where the oldest is
 * overwritten, by quarters. */
static inline uint32_t ivshmem_channel_largest(uint32_t shape, uint32_t policy, uint32_t lines)
{
	if (shape == IVSHMEM_CHANNEL_LATEST)
		return lines / IVSHMEM_CELLS * IVSHMEM_CHANNEL_LINE - IVSHMEM_CELL_HEADER;
	return lines / (policy == IVSHMEM_CHANNEL_OVERWRITE ? 4 : 2) * IVSHMEM_CHANNEL_LINE -
		IVSHMEM_RECORD_HEADER;
}

/* Is the geometry one that cannot lead out of `size` bytes of memory? */
static inline int ivshmem_channel_fits(const struct ivshmem_channel *channel, size_t size)
{
	const uint32_t lines = channel->lines, stride = IVSHMEM_LANE_RING / IVSHMEM_CHANNEL_LINE;
	uint32_t i;
	size_t room;

	if (lines < IVSHMEM_RING_MIN || lines > IVSHMEM_RING_MAX || (lines & (lines - 1)) != 0 ||
		channel->policy > IVSHMEM_CHANNEL_OVERWRITE ||
		(channel->shape == IVSHMEM_CHANNEL_LATEST && channel->policy != 0) ||
		channel->largest >
			ivshmem_channel_largest(channel->shape, channel->policy, lines) ||
		channel->lanes == 0 || channel->offset % 128 != 0 || channel->offset > size)
		return 0;
	room = (size - (size_t)channel->offset) / IVSHMEM_CHANNEL_LINE;
	for (i = 0; i < channel->lanes; i++) {
		if (room < stride + lines)
			return 0;
		room -= stride + lines;
	}
	return 1;
}

/* Words of the directory, each read once, and their CRC. */
static inline uint32_t ivshmem_channel_copied(
	uint32_t crc, const volatile uint32_t *from, uint32_t *to, unsigned count)
{
	unsigned i;

	for (i = 0; i < count; i++) {
		to[i] = ivshmem_channel_get(from + i);
		crc = ivshmem_channel_crc(crc, to[i]);
	}
	return crc;
}

static inline int ivshmem_channel_named(const uint32_t *words, const char *name)
{
	unsigned i;

	for (i = 0; i < 64; i++) {
		if ((words[i / 4] >> (i % 4 * 8) & 0xff) != (unsigned char)name[i])
			return 0;
		if (name[i] == '\0')
			return 1;
	}
	return 0;
}

/*
 * Find a channel by name in the directory at `offset` of `size` bytes of memory, and take a copy of
 * what it says. 0, or enum ivshmem_channel_error.
 */
static inline int ivshmem_channel_find(const volatile void *memory, size_t size, uint32_t offset,
	const char *name, struct ivshmem_channel *channel)
{
	const volatile uint32_t *at =
		(const volatile uint32_t *)((const volatile unsigned char *)memory + offset);
	int result = IVSHMEM_CHANNEL_NO_SUCH;
	uint32_t head[16], entry[32], crc, i;

	if (offset % 4 != 0 || offset > size || size - offset < sizeof(head))
		return IVSHMEM_CHANNEL_NO_DIRECTORY;
	ivshmem_channel_copied(0, at, head, 16);
	if (head[0] != IVSHMEM_CHANNELS_MAGIC || head[1] != IVSHMEM_CHANNELS_VERSION ||
		head[4] > IVSHMEM_CHANNELS_MAX || head[2] != 64 + 128 * head[4] ||
		size - offset < head[2])
		return IVSHMEM_CHANNEL_NO_DIRECTORY;
	for (crc = 0xffffffffu, i = 0; i < 16; i++)
		crc = ivshmem_channel_crc(crc, i == 3 ? 0 : head[i]);
	for (i = 0; i < head[4]; i++) {
		crc = ivshmem_channel_copied(crc, at + 16 + (size_t)32 * i, entry, 32);
		if (!ivshmem_channel_named(entry, name))
			continue;
		channel->shape = entry[16];
		channel->policy = entry[17];
		channel->flags = entry[18];
		channel->lanes = entry[19];
		channel->lines = entry[20];
		channel->largest = entry[21];
		channel->offset = (uint64_t)entry[23] << 32 | entry[22];
		channel->key = head[3];
		result = ivshmem_channel_fits(channel, size) ? 0 : IVSHMEM_CHANNEL_BAD;
	}
	return ~crc == head[3] ? result : IVSHMEM_CHANNEL_NO_DIRECTORY;
}

/* Where a lane of a channel that has been found begins in the memory. */
static inline size_t ivshmem_channel_place(const struct ivshmem_channel *channel, uint32_t lane)
{
	return (size_t)channel->offset +
		lane * (IVSHMEM_LANE_RING + (size_t)channel->lines * IVSHMEM_CHANNEL_LINE);
}

/* A lane, for messages, of a channel that has been found in this memory. 0, or IVSHMEM_CHANNEL_BAD;
 * that of a latest value is for <ivshmem/latest.h>. */
static inline int ivshmem_channel_lane(const struct ivshmem_channel *channel, volatile void *memory,
	uint32_t lane, struct ivshmem_stream *stream)
{
	if (lane >= channel->lanes || channel->shape == IVSHMEM_CHANNEL_LATEST)
		return IVSHMEM_CHANNEL_BAD;
	stream->lane = (volatile unsigned char *)memory + ivshmem_channel_place(channel, lane);
	stream->lines = channel->lines;
	stream->largest = channel->largest;
	stream->policy = channel->policy;
	stream->flags = channel->flags;
	stream->key = channel->key;
	return 0;
}

#ifdef __cplusplus
}
#endif

#endif
