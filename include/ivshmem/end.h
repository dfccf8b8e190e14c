/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/end.h - one end of a lane: taking the seat, saying how far one is, and not missing each
 * other between a look and sleep. What the writers and readers of <ivshmem/stream.h> share, which
 * is the header to start at; those who wait and ring use from here
 *
 *     if (ivshmem_stream_due(&writer.end) && ivshmem_stream_whom(&writer.end, &id, &vector) == 0)
 *             ...                                      // ring it
 *
 * Source: docs/channel.md, sections 3, 5, 6 and 8.
 */
#ifndef IVSHMEM_END_H
#define IVSHMEM_END_H

#include <ivshmem/channel.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Private, but for the two slots and the ring that it points to. */
struct ivshmem_end {
	volatile struct ivshmem_channel_slot *mine;
	const volatile struct ivshmem_channel_slot *theirs;
	volatile unsigned char *ring;
	uint32_t lines, largest, policy, key;
	uint32_t asks; /* the other end may sleep: look whether it does */
	uint32_t due;  /* it does, and is to be rung */
	uint32_t life; /* its generation, as last seen */
};

/* What is not needed for each message is better not repeated at each call. */
#if defined(__GNUC__)
#define IVSHMEM_APART       __attribute__((noinline, unused)) static
#define IVSHMEM_UNLIKELY(x) __builtin_expect((x) != 0, 0)
#else
#define IVSHMEM_APART       static inline
#define IVSHMEM_UNLIKELY(x) (x)
#endif

static inline volatile uint32_t *ivshmem_stream_record(const struct ivshmem_end *end, uint32_t at)
{
	return (volatile uint32_t *)(volatile void *)(end->ring +
		(size_t)(at & (end->lines - 1)) * IVSHMEM_CHANNEL_LINE);
}

/* Lines from there to where no record goes across: the end of the ring, or of a quarter of one
 * whose quarters are overwritten. */
IVSHMEM_APART uint32_t ivshmem_stream_to_end(const struct ivshmem_end *end, uint32_t at)
{
	const uint32_t part =
		end->policy == IVSHMEM_CHANNEL_OVERWRITE ? end->lines / 4 : end->lines;
	return part - (at & (part - 1));
}

/*
 * Hints: a line is soon to be written, or read. Lines change hands all the time, which takes long,
 * but a processor can wait for several at once; it does so for stores only as far as its store
 * buffer goes, and for loads as far as it sees that they will come. For messages of
 * a line only: a long copy goes ahead by itself, and hints disturb it. Only where the memory is
 * known to be ordinary.
 */
#define IVSHMEM_WRITE_AHEAD 8u /* lines */
#define IVSHMEM_READ_AHEAD  16u

static inline void ivshmem_stream_will_write(const volatile void *line)
{
#if !defined(__linux__) || defined(IVSHMEM_CHANNEL_DEVICE_MEMORY)
	(void)line;
#elif defined(__x86_64__) /* for which the compiler's own would only fetch it for reading */
	__asm__ volatile("prefetchw %0" ::"m"(*(const volatile unsigned char *)line));
#else
	__builtin_prefetch((const void *)line, 1);
#endif
}

static inline void ivshmem_stream_will_read(const volatile void *line)
{
#if !defined(__linux__) || defined(IVSHMEM_CHANNEL_DEVICE_MEMORY)
	(void)line;
#else
	__builtin_prefetch((const void *)line, 0);
#endif
}

/*
 * Where the other end is. As long as nobody has been there it is where everybody begins. Acquire:
 * `key` pairs with its release in ivshmem_stream_sat(), after which the position is not what was in
 * the memory before; `position` with that in ivshmem_stream_tell().
 */
IVSHMEM_APART uint32_t ivshmem_stream_theirs(const struct ivshmem_end *end)
{
	if (ivshmem_channel_acquire(&end->theirs->key) != end->key)
		return 0;
	return ivshmem_channel_acquire(&end->theirs->position);
}

/*
 * Say how far we are, and find out whether the other end sleeps until then. Release: what was
 * written or read before is done when the other acquires the position. Fence: against that the
 * other stores `want`, does not see our position, and sleeps, while we do not see its `want`; its
 * half is in ivshmem_stream_arm().
 */
static inline void ivshmem_stream_tell(
	struct ivshmem_end *end, uint32_t from, uint32_t to, uint32_t messages)
{
	ivshmem_channel_set(&end->mine->messages, messages);
	ivshmem_channel_release(&end->mine->position, to);
	if (end->asks) {
		ivshmem_channel_fence();
		/* Does `want` lie in [from, to)? */
		if (IVSHMEM_UNLIKELY(to - ivshmem_channel_get(&end->theirs->want) - 1 < to - from))
			end->due = 1;
	}
}

/* Has the other end to be rung? Asking settles it. */
static inline int ivshmem_stream_due(struct ivshmem_end *end)
{
	const int due = end->due != 0;

	end->due = 0;
	return due;
}

/* Whom to ring, then: 0, and *id and *vector, which are what the other says; or -1: nobody. */
static inline int ivshmem_stream_whom(const struct ivshmem_end *end, uint32_t *id, uint32_t *vector)
{
	*id = ivshmem_channel_get(&end->theirs->id);
	*vector = ivshmem_channel_get(&end->theirs->vector);
	return *id <= IVSHMEM_MAX_ID ? 0 : -1;
}

/* Say that we live, and ask to be rung once the other's position passes `want`. Fence: see
 * ivshmem_stream_tell(). */
static inline void ivshmem_stream_arm(struct ivshmem_end *end, uint32_t want)
{
	ivshmem_channel_set(&end->mine->beat, ivshmem_channel_get(&end->mine->beat) + 1);
	ivshmem_channel_set(&end->mine->want, want);
	ivshmem_channel_fence();
}

/*
 * Take a seat in the lane. The own slot still says where a former life was, if it is of this
 * directory: go on from there. `key` last: until then nobody believes a slot that was another's.
 * Killed in between, the next life does it all again. Returns the position to go on from.
 */
IVSHMEM_APART uint32_t ivshmem_stream_sit(struct ivshmem_end *end,
	const struct ivshmem_stream *stream, uint32_t seat, uint32_t id, uint32_t vector)
{
	volatile struct ivshmem_channel_slot *mine =
		(volatile struct ivshmem_channel_slot *)(volatile void *)(stream->lane + seat);

	end->mine = mine;
	end->theirs = (const volatile struct ivshmem_channel_slot *)(volatile void *)(stream->lane +
		(IVSHMEM_LANE_READER - seat));
	end->ring = stream->lane + IVSHMEM_LANE_RING;
	end->lines = stream->lines;
	end->largest = stream->largest;
	end->policy = stream->policy;
	end->key = stream->key;
	if (seat == IVSHMEM_LANE_WRITER)
		end->asks = (stream->flags & IVSHMEM_CHANNEL_READER_POLLS) == 0;
	else /* nobody waits for room where there always is some, or it need not be had */
		end->asks = stream->policy == IVSHMEM_CHANNEL_WAIT &&
			(stream->flags & IVSHMEM_CHANNEL_WRITER_POLLS) == 0;
	/* A former life of ours may have died just before it rang. */
	end->due = end->asks;
	end->life = ivshmem_channel_acquire(&end->theirs->generation);
	if (ivshmem_channel_get(&mine->key) != stream->key) {
		ivshmem_channel_set(&mine->position, 0);
		ivshmem_channel_set(&mine->messages, 0);
		ivshmem_channel_set(&mine->lost, 0);
		ivshmem_channel_set(&mine->state, IVSHMEM_SLOT_NOBODY);
	}
	ivshmem_channel_set(&mine->id, id);
	ivshmem_channel_set(&mine->vector, vector);
	ivshmem_channel_set(&mine->want, ivshmem_stream_theirs(end) - 1);
	return ivshmem_channel_get(&mine->position);
}

/* The other half: from now on we are there. Returns the new generation. Release: whoever acquires
 * it finds a position of this life. */
static inline uint32_t ivshmem_stream_sat(struct ivshmem_end *end)
{
	const uint32_t generation = (ivshmem_channel_get(&end->mine->generation) + 2) | 1;

	ivshmem_channel_set(&end->mine->state, IVSHMEM_SLOT_OPEN);
	ivshmem_channel_release(&end->mine->generation, generation);
	ivshmem_channel_release(&end->mine->key, end->key);
	return generation;
}

#ifdef __cplusplus
}
#endif

#endif
