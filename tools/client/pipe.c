/* SPDX-License-Identifier: MIT */
#include "pipe.h"

#include "base/clock.h"
#include "base/le.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WIDTH          (1 << 20)
#define PROGRESS_MS    500
#define NAME_MAX_BYTES 64

/* Where the channels begin, behind a page for the region's header and one for the directory, and
 * what the two take besides their rings. */
#define CHANNELS_AT 8192u
#define OVERHEAD    (2u * IVSHMEM_LANE_RING + PIPE_BACK_RING)

int pipe_fail(const struct client *c, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", c->program);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	return -1;
}

/* ---- messages ---- */

void pipe_put_header(unsigned char bytes[PIPE_HEADER], const struct pipe_header *header)
{
	store_le(bytes, 8, header->id);
	store_le(bytes + 8, 8, header->position);
	store_le(bytes + 16, 4, header->life);
	store_le(bytes + 20, 4, header->check);
}

void pipe_get_header(const unsigned char bytes[PIPE_HEADER], struct pipe_header *header)
{
	*header = (struct pipe_header){
		.id = load_le(bytes, 8),
		.position = load_le(bytes + 8, 8),
		.life = (uint32_t)load_le(bytes + 16, 4),
		.check = (uint32_t)load_le(bytes + 20, 4),
	};
}

/* ---- channels ---- */

/* Both sides come to the same, since the region has the same size for both. */
static uint32_t default_ring(const struct client *c)
{
	uint32_t ring = PIPE_RING;
	uint64_t size;

	ivshmem_region(c->peer, &size);
	while (ring > IVSHMEM_RING_MIN * IVSHMEM_CHANNEL_LINE &&
		(uint64_t)CHANNELS_AT + OVERHEAD + ring > size)
		ring /= 2;
	return ring;
}

static int fail_format(const struct client *c)
{
	switch (errno) {
	case ENOSPC:
		return pipe_fail(c, "the region is too small for this; a smaller --ring may fit");
	case EACCES:
		return pipe_fail(c, "the region is mapped read-only");
	case EINVAL:
		return pipe_fail(c,
			"no channel can be like this: the name is 1 to 58 of a-z 0-9 . _ -, the "
			"ring a power of two from 1K to 1G");
	}
	return pipe_fail(c, "cannot lay out the channel: %s", strerror(errno));
}

/* The directory is written by whoever comes first. If there is another one that has our channels,
 * they do as well: opening them tells. */
static int format(const struct client *c, const char *back)
{
	const struct ivshmem_channel_plan plan[] = {
		{.name = c->pipe.channel,
			.ring = c->pipe.ring ? (uint32_t)c->pipe.ring : default_ring(c)},
		{.name = back, .ring = PIPE_BACK_RING},
	};

	if (ivshmem_channels_format(c->peer, 0, plan, 2) == 0 || errno == EEXIST)
		return 0;
	return fail_format(c);
}

static int fail_open(const struct client *c, const char *name, bool sends)
{
	switch (errno) {
	case ENOENT:
		return pipe_fail(c, "the region has other channels, and none is '%s'", name);
	case EAGAIN:
		return pipe_fail(
			c, "what is at the beginning of the region is neither channels nor empty");
	case EBUSY:
		return pipe_fail(c, "another peer is %s on channel %s already",
			sends ? "sending" : "receiving", c->pipe.channel);
	}
	return pipe_fail(c, "cannot open channel '%s': %s", name, strerror(errno));
}

int pipe_open(struct client *c, bool sends, struct pipe_ends *ends)
{
	char back[NAME_MAX_BYTES];
	struct ivshmem_channel_options in = IVSHMEM_CHANNEL_OPTIONS_INIT,
				       out = IVSHMEM_CHANNEL_OPTIONS_INIT;

	*ends = (struct pipe_ends){0};
	if (snprintf(back, sizeof(back), "%s" PIPE_BACK, c->pipe.channel) >= (int)sizeof(back)) {
		errno = EINVAL;
		return fail_format(c);
	}
	if (ivshmem_capabilities(c->peer) & IVSHMEM_CAP_INTERRUPT &&
		!session_await(c, ivshmem_id(c->peer), PIPE_VECTOR))
		return pipe_fail(c, "the server gives no vectors: it wants --vectors 1 at least");
	if (format(c, back) < 0)
		return -1;
	in.vector = out.vector = PIPE_VECTOR;
	in.anew = sends; /* what a former transfer was answered */
	in.silent_ms = sends ? 0 : PIPE_ALIVE_MS;
	/* The end that others may have first, so that the other is left alone then. */
	ends->out = ivshmem_sender_open(c->peer, sends ? c->pipe.channel : back, &out);
	if (!ends->out)
		return fail_open(c, sends ? c->pipe.channel : back, sends);
	ends->in = ivshmem_receiver_open(c->peer, sends ? back : c->pipe.channel, &in);
	if (!ends->in)
		return fail_open(c, sends ? back : c->pipe.channel, sends);
	if (ivshmem_sender_writer(ends->out)->end.policy != IVSHMEM_CHANNEL_WAIT ||
		ivshmem_receiver_reader(ends->in)->end.policy != IVSHMEM_CHANNEL_WAIT)
		return pipe_fail(c,
			"channel %s loses messages when it is full: no file can go "
			"through it",
			c->pipe.channel);
	return 0;
}

void pipe_close(struct pipe_ends *ends)
{
	ivshmem_receiver_close(ends->in);
	ivshmem_sender_close(ends->out);
}

/* ---- ---- */

void pipe_widen(int fd)
{
	fcntl(fd, F_SETPIPE_SZ, WIDTH);
}

void pipe_progress_start(struct pipe_progress *progress)
{
	progress->start = progress->last = clock_ms();
}

void pipe_progress(const struct client *c, struct pipe_progress *progress, uint64_t bytes, bool end)
{
	char amount[24], rate[24];
	uint64_t now;

	if (!c->pipe.progress)
		return;
	now = clock_ms();
	if (!end && now - progress->last < PROGRESS_MS)
		return;
	progress->last = now;
	const double seconds = (double)(now - progress->start + 1) / 1000;
	fprintf(stderr, "\r%s, %.1f s, %s/s   %s", format_size(bytes, amount), seconds,
		format_size((uint64_t)((double)bytes / seconds) >> 10 << 10, rate),
		end ? "\n" : "");
}
