/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Standard input goes into the channel, and the end of it is only an end when
 * the receiver has said that all of it is written and adds up: so exit 0 means that it was
 * delivered. A receiver may be killed and started again meanwhile; this side just waits.
 *
 * It waits in two places. For room, it does not ask the channel but listens to the way back: a
 * receiver makes room, then says how far it is, for each eighth of the ring. No message is longer
 * than that, so when there is no room for one there are several eighths to come. So one wait is
 * enough for "there is room" and for "it has failed". And for input, where the bell
 * is watched, too: a receiver that hears nothing for a while rings to find out whether we are
 * there, and looks for our beat to go on (docs/channel.md, section 5).
 */
#include "crc32.h"
#include "pipe.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define BEAT_MS 1000 /* where nobody can ring us */

struct sending {
	struct client *c;
	struct pipe_ends ends;
	struct pipe_progress progress;
	struct pipe_header header; /* its position: what was read so far */
	unsigned char *message;    /* a header, then `chunk` bytes */
	uint32_t chunk;
	int bell;   /* -1: none */
	bool heard; /* of a receiver of this transfer */
	bool done;
};

/* ---- the way back ---- */

static int fail_delivery(const struct sending *s, uint32_t reason)
{
	const char *text = "it gives no reason";

	switch ((enum pipe_reason)reason) {
	case PIPE_NOT_WRITTEN:
		text = "it could not write what it got";
		break;
	case PIPE_NOT_EQUAL:
		text = "what has arrived is not what was sent";
		break;
	case PIPE_NOT_WANTED:
		text = "it has thrown away the rest of a transfer, as it was told to";
		break;
	}
	return pipe_fail(s->c, "not delivered: the receiver has failed: %s", text);
}

static int take_word(struct sending *s, uint32_t tag, const struct pipe_header *word)
{
	if (word->id != s->header.id)
		return 0;
	s->heard = true;
	if (tag == PIPE_TAG + PIPE_FAILED)
		return fail_delivery(s, word->check);
	s->done |= tag == PIPE_TAG + PIPE_DONE && word->position == s->header.position;
	return 0;
}

/* Take a word of the receiver, of whatever kind, or its end; and wait for one. 0 or -1. */
static int hear(struct sending *s, bool wait)
{
	const int timeout_ms = wait ? s->c->timeout_ms : 0;
	unsigned char bytes[PIPE_HEADER];
	struct pipe_header word;
	uint32_t tag;
	int size = ivshmem_receive(s->ends.in, bytes, sizeof(bytes), &tag, timeout_ms);

	if (size == (int)sizeof(bytes)) {
		pipe_get_header(bytes, &word);
		return take_word(s, tag, &word);
	}
	if (size >= 0)
		return 0;
	switch (errno) {
	case ETIMEDOUT:
		if (!wait)
			return 0;
		return pipe_fail(s->c, "not delivered: the receiver has taken nothing for %g s",
			timeout_ms / 1e3);
	case ESHUTDOWN:
	case EOWNERDEAD:
		if (s->heard)
			fprintf(stderr, "%s: the receiver has left; waiting for another one\n",
				s->c->program);
		s->heard = false;
		return 0;
	case ECONNRESET: /* a receiver in place of one that was cut off */
	case EINTR:
		return 0;
	}
	return pipe_fail(s->c, "not delivered: %s", strerror(errno));
}

/* ---- the way out ---- */

/* Send `n` bytes that are in the message. */
static int put(struct sending *s, enum pipe_kind kind, uint32_t n)
{
	pipe_put_header(s->message, &s->header);
	while (ivshmem_send(s->ends.out, s->message, PIPE_HEADER + n, PIPE_TAG + kind, 0) < 0) {
		/* EOWNERDEAD: the way back says so as well. */
		if (errno != ETIMEDOUT && errno != EOWNERDEAD && errno != EINTR)
			return pipe_fail(s->c, "cannot send: %s", strerror(errno));
		if (hear(s, true) < 0)
			return -1;
	}
	return 0;
}

/* Somebody has rung: perhaps to say something, perhaps to find out whether we live. */
static int answer_bell(struct sending *s)
{
	if (s->bell >= 0 && ivshmem_wait(s->c->peer, PIPE_VECTOR, 0, NULL) < 0 && errno != EINTR)
		return pipe_fail(s->c, "cannot wait: %s", strerror(errno));
	ivshmem_writer_arm(ivshmem_sender_writer(s->ends.out), 0);
	return hear(s, false);
}

static int await_input(struct sending *s)
{
	struct pollfd fds[] = {
		{.fd = STDIN_FILENO, .events = POLLIN},
		{.fd = s->bell, .events = POLLIN},
		{.fd = ivshmem_get_fd(s->c->peer), .events = POLLIN},
	};

	while (!fds[0].revents) {
		int n = poll(fds, 3, s->bell >= 0 ? -1 : BEAT_MS);
		if (n < 0 && errno != EINTR)
			return pipe_fail(s->c, "cannot wait: %s", strerror(errno));
		if (n > 0 && fds[2].revents && ivshmem_dispatch(s->c->peer, 0) < 0 &&
			errno != EINTR)
			return pipe_fail(s->c, "the device has gone: %s", strerror(errno));
		if ((n == 0 || fds[1].revents) && answer_bell(s) < 0)
			return -1;
	}
	return 0;
}

/* 1, 0: it was all, or -1. */
static int send_chunk(struct sending *s, uint32_t *crc)
{
	ssize_t n;

	if (hear(s, false) < 0 || await_input(s) < 0)
		return -1;
	n = read(STDIN_FILENO, s->message + PIPE_HEADER, s->chunk);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN
			? 1
			: pipe_fail(s->c, "cannot read standard input: %s", strerror(errno));
	if (n == 0)
		return 0;
	*crc = crc32_add(*crc, s->message + PIPE_HEADER, (size_t)n);
	if (put(s, PIPE_DATA, (uint32_t)n) < 0)
		return -1;
	s->header.position += (uint64_t)n;
	pipe_progress(s->c, &s->progress, s->header.position, false);
	return 1;
}

static int transfer(struct sending *s)
{
	uint32_t crc = 0;
	int more;

	if (put(s, PIPE_START, 0) < 0)
		return -1;
	while ((more = send_chunk(s, &crc)) > 0)
		;
	if (more < 0)
		return -1;
	s->header.check = crc;
	if (put(s, PIPE_END, 0) < 0)
		return -1;
	while (!s->done)
		if (hear(s, true) < 0)
			return -1;
	pipe_progress(s->c, &s->progress, s->header.position, true);
	return 0;
}

static int prepare(struct sending *s)
{
	struct ivshmem_channel_counters counters;
	const struct ivshmem_writer *writer = ivshmem_sender_writer(s->ends.out);
	const uint32_t room = pipe_eighth(&writer->end) * IVSHMEM_CHANNEL_LINE -
		IVSHMEM_RECORD_HEADER - PIPE_HEADER;

	s->chunk = room < PIPE_CHUNK ? room : PIPE_CHUNK;
	if (writer->end.largest < PIPE_HEADER + s->chunk)
		return pipe_fail(s->c, "the messages of channel %s are too small for this",
			s->c->pipe.channel);
	s->message = malloc(PIPE_HEADER + (size_t)s->chunk);
	if (!s->message || getrandom(&s->header.id, sizeof(s->header.id), 0) < 0)
		return pipe_fail(s->c, "cannot begin: %s", strerror(errno));
	ivshmem_sender_counters(s->ends.out, &counters);
	s->header.life = counters.generation;
	s->bell = ivshmem_capabilities(s->c->peer) & IVSHMEM_CAP_INTERRUPT
		? ivshmem_vector_fd(s->c->peer, PIPE_VECTOR)
		: -1;
	pipe_widen(STDIN_FILENO);
	pipe_progress_start(&s->progress);
	return 0;
}

int pipe_send(struct client *c)
{
	struct sending s = {.c = c};
	int result = pipe_open(c, true, &s.ends);

	if (result == 0)
		result = prepare(&s);
	if (result == 0)
		result = transfer(&s);
	pipe_close(&s.ends);
	free(s.message);
	return result == 0 ? EXIT_OK : EXIT_COMMAND;
}
