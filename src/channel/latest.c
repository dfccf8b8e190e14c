/* SPDX-License-Identifier: MIT */
/*
 * The latest value: <ivshmem/latest.h> with opening, waiting and counting.
 *
 * Who waits for a newer value cannot say so, as a reader writes nothing; so nobody rings it, and it
 * looks now and then. For the rest it is an endpoint as others are: its partner is the writer, and
 * the writer's slot tells whether that is still there.
 */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>

#define POLL_US 1000

struct ivshmem_setter {
	struct ivshmem_latest_writer writer;
	struct ivshmem_channel_counters counters;
};

struct ivshmem_getter {
	struct ivshmem_latest_reader reader;
	struct ivshmem_end end; /* what an endpoint wants to know of the writer */
	struct endpoint endpoint;
	uint32_t lives;
	bool midway; /* a life has begun, and its end has not been told */
};

static int find_lane(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_channel *channel)
{
	int err = endpoint_find_channel(peer, name, options, channel);

	if (err < 0)
		return err;
	if (channel->shape != IVSHMEM_CHANNEL_LATEST)
		return -EPROTOTYPE;
	return options->lane < channel->lanes ? 0 : -ENOENT;
}

/* ---- the writer ---- */

static int open_setter(struct ivshmem_setter *setter, struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options)
{
	char *region = ivshmem_region(peer, NULL);
	const int id = ivshmem_id(peer);
	struct ivshmem_channel channel = {0};

	if (!(ivshmem_capabilities(peer) & IVSHMEM_CAP_WRITE))
		return -EACCES;
	int err = find_lane(peer, name, options, &channel);
	if (err < 0)
		return err;
	const size_t place = ivshmem_channel_place(&channel, options->lane);
	err = endpoint_check_slot(
		peer, (volatile struct ivshmem_channel_slot *)(region + place), channel.key);
	if (err < 0)
		return err;
	return ivshmem_latest_writer_attach(&setter->writer, &channel, region, options->lane,
		id < 0 ? IVSHMEM_ID_NOBODY : (uint32_t)id);
}

struct ivshmem_setter *ivshmem_setter_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_setter *setter = calloc(1, sizeof(*setter));

	if (!setter)
		return NULL;
	if (options)
		complete = *options;
	int err = open_setter(setter, peer, name, &complete);
	if (err == 0)
		return setter;
	free(setter);
	errno = -err;
	return NULL;
}

void ivshmem_setter_close(struct ivshmem_setter *setter)
{
	if (setter)
		ivshmem_latest_writer_close(&setter->writer);
	free(setter);
}

int ivshmem_set(struct ivshmem_setter *setter, const void *bytes, uint32_t size, uint32_t tag)
{
	if (ivshmem_latest_write(&setter->writer, bytes, size, tag) == IVSHMEM_LATEST_OK) {
		setter->counters.messages++;
		return 0;
	}
	errno = EMSGSIZE;
	return -1;
}

struct ivshmem_latest_writer *ivshmem_setter_writer(struct ivshmem_setter *setter)
{
	return &setter->writer;
}

void ivshmem_setter_counters(
	const struct ivshmem_setter *setter, struct ivshmem_channel_counters *counters)
{
	*counters = setter->counters;
	counters->generation = setter->writer.generation;
}

/* ---- a reader ---- */

static int open_getter(struct ivshmem_getter *getter, struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options)
{
	const void *region = ivshmem_region(peer, NULL);
	struct ivshmem_channel channel = {0};
	int err = find_lane(peer, name, options, &channel);

	if (err == 0 && options->silent_ms != 0)
		err = -EINVAL; /* a writer that nobody can ask */
	if (err < 0)
		return err;
	err = ivshmem_latest_reader_attach(
		&getter->reader, &channel, region, options->lane, options->anew);
	getter->end = (struct ivshmem_end){.theirs = getter->reader.slot, .key = channel.key};
	endpoint_prepare(&getter->endpoint, peer, &getter->end, options);
	getter->endpoint.nap_us = options->poll_us ? options->poll_us : POLL_US;
	return err;
}

struct ivshmem_getter *ivshmem_getter_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options)
{
	struct ivshmem_channel_options complete = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_getter *getter = calloc(1, sizeof(*getter));

	if (!getter)
		return NULL;
	if (options)
		complete = *options;
	int err = open_getter(getter, peer, name, &complete);
	if (err == 0)
		return getter;
	free(getter);
	errno = -err;
	return NULL;
}

void ivshmem_getter_close(struct ivshmem_getter *getter)
{
	free(getter);
}

/* A place for a value. */
struct attempt {
	struct ivshmem_getter *getter;
	void *bytes;
	uint32_t room, *tag;
	int result; /* size, or -errno to tell */
};

/* What has come of it: a size, or -errno; -ENODATA is nothing new. */
static int outcome(struct ivshmem_getter *getter, int32_t result)
{
	const bool midway = getter->midway;

	switch ((enum ivshmem_latest_result)(result < 0 ? result : 0)) {
	case IVSHMEM_LATEST_OK:
		getter->endpoint.counters.messages++;
		return result;
	case IVSHMEM_LATEST_EMPTY:
		break;
	case IVSHMEM_LATEST_BUSY:
		getter->endpoint.counters.lost++;
		return -EBUSY;
	case IVSHMEM_LATEST_BEGIN:
		/* Worth telling only if nothing was heard of the end of the one before. */
		getter->midway = true;
		getter->lives++;
		return midway ? -ECONNRESET : -ENODATA;
	case IVSHMEM_LATEST_END:
		getter->midway = false;
		return -ESHUTDOWN;
	case IVSHMEM_LATEST_TOO_BIG:
		return -EMSGSIZE;
	case IVSHMEM_LATEST_BROKEN:
		return -EPROTO;
	}
	return -ENODATA;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): *tag is written. */
int ivshmem_get(struct ivshmem_getter *getter, void *bytes, uint32_t room, uint32_t *tag)
{
	int result = outcome(getter, ivshmem_latest_read(&getter->reader, bytes, room, tag));

	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}

/* Not 0: something to tell. Who was overtaken looks again. */
static int look(void *data)
{
	struct attempt *attempt = data;
	struct ivshmem_getter *getter = attempt->getter;

	attempt->result = outcome(getter,
		ivshmem_latest_next(&getter->reader, attempt->bytes, attempt->room, attempt->tag));
	return attempt->result != -ENODATA && attempt->result != -EBUSY;
}

/* There is nothing that a reader could say. */
static void arm(void *data)
{
	(void)data;
}

/* NOLINTBEGIN(readability-non-const-parameter): *tag is written. */
int ivshmem_await(
	struct ivshmem_getter *getter, void *bytes, uint32_t room, uint32_t *tag, int timeout_ms)
{
	struct attempt attempt = {.getter = getter, .bytes = bytes, .room = room, .tag = tag};
	/* It looks twice at least: the first may find no more than that a life has begun. */
	int found =
		endpoint_wait(&getter->endpoint, deadline_after(timeout_ms), look, arm, &attempt);
	int result = found > 0 ? attempt.result : found < 0 ? found : -ETIMEDOUT;

	if (result >= 0)
		return result;
	errno = -result;
	return -1;
}
/* NOLINTEND(readability-non-const-parameter) */

void ivshmem_getter_counters(
	const struct ivshmem_getter *getter, struct ivshmem_channel_counters *counters)
{
	*counters = getter->endpoint.counters;
	counters->lives = getter->lives;
	counters->generation = 0;
}
