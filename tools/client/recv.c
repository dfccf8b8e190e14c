/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Exit 0 means: one transfer from its first byte to its last, and it adds up.
 * What else can be found in a channel is told apart by what a message says of itself. Of a transfer
 * whose sender has gone, what is left is thrown away, since that sender has failed already. Of one
 * whose sender is there, but whose beginning another receiver has had, nothing is touched, unless
 * there is the file that that one has written: then this one goes on in it, and the check of the
 * whole file at the end says whether it was the right one.
 *
 * For that, a message is given back only after its bytes are written: who is killed in between
 * leaves it to the next one, which writes the same bytes to the same place once more. So messages
 * are looked at with ivshmem_receive(), which waits, and taken with <ivshmem/stream.h>.
 */
#include "crc32.h"
#include "pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DONE_MS 10000 /* for room to say that all has arrived */

struct receiving {
	struct client *c;
	struct pipe_ends ends;
	struct pipe_progress progress;
	int fd;                 /* standard output or a file, which is owned */
	unsigned char *message; /* PIPE_HEADER + PIPE_CHUNK bytes */
	uint32_t size, tag;     /* of the message */
	struct pipe_header word;

	bool begun;             /* we have this transfer: */
	struct pipe_header now; /* its ID and life, and how far we are */
	uint32_t crc;           /* of what is written */
	uint64_t refused;       /* ID of one that we have said we do not want */
	bool skipping;          /* something is being thrown away */
	uint32_t untold;        /* lines taken since the sender was told */
};

/* ---- to the sender ---- */

static int tell(struct receiving *r, enum pipe_kind kind, struct pipe_header word, int timeout_ms)
{
	unsigned char bytes[PIPE_HEADER];

	pipe_put_header(bytes, &word);
	return ivshmem_send(r->ends.out, bytes, sizeof(bytes), PIPE_TAG + kind, timeout_ms);
}

/* There is room; first make it. If it cannot be said, something is on its way that wakes the sender
 * as well. */
static void tell_taken(struct receiving *r)
{
	ivshmem_receiver_release(r->ends.in);
	tell(r, PIPE_TAKEN, r->now, 0);
	r->untold = 0;
}

static void tell_failed(struct receiving *r, uint64_t id, enum pipe_reason reason)
{
	tell(r, PIPE_FAILED, (struct pipe_header){.id = id, .check = reason}, DONE_MS);
}

/* ---- messages ---- */

static int fail_cut_off(const struct receiving *r, const char *what)
{
	return pipe_fail(r->c,
		"%s: what has come, %" PRIu64 " bytes, is not all that was to be sent", what,
		r->now.position);
}

/* No message: why not? 0 to go on, or -1. */
static int handle_news(const struct receiving *r, int error)
{
	switch (error) {
	case EINTR:
		return 0;
	case ETIMEDOUT:
		return pipe_fail(r->c, "nothing has come for %g s%s", r->c->timeout_ms / 1e3,
			r->begun ? "; the transfer is not complete" : "");
	case ESHUTDOWN:
		return r->begun ? fail_cut_off(r, "the sender has given up") : 0;
	case ECONNRESET:
	case EOWNERDEAD:
		return r->begun ? fail_cut_off(r, "the sender has died") : 0;
	case EHOSTDOWN:
		return r->begun ? fail_cut_off(r, "the sender does not answer") : 0;
	case EPROTO:
		return pipe_fail(r->c, "what is in the channel cannot be: somebody spoils it");
	}
	return pipe_fail(r->c, "cannot receive: %s", strerror(error));
}

/* Copy the message that is there, which stays there. */
static int copy_message(struct receiving *r)
{
	struct ivshmem_reader *reader = ivshmem_receiver_reader(r->ends.in);
	const volatile uint32_t *record = ivshmem_stream_record(&reader->end, 0);
	int32_t size = ivshmem_stream_next(reader, &record);

	if (size < (int32_t)PIPE_HEADER || size > (int32_t)(PIPE_HEADER + PIPE_CHUNK))
		return pipe_fail(r->c, "channel %s carries something else", r->c->pipe.channel);
	r->tag = ivshmem_channel_get(record + 1);
	r->size = (uint32_t)size;
	ivshmem_channel_take(r->message, record + 2, r->size);
	pipe_get_header(r->message, &r->word);
	return 0;
}

/* Done with it. */
static void pass(struct receiving *r)
{
	struct ivshmem_reader *reader = ivshmem_receiver_reader(r->ends.in);

	r->untold += ivshmem_record_lines(r->size);
	ivshmem_stream_step(reader);
	if (r->untold >= pipe_eighth(&reader->end))
		tell_taken(r);
}

static int next_message(struct receiving *r)
{
	for (;;) {
		int size = ivshmem_receive(r->ends.in, NULL, 0, NULL, r->c->timeout_ms);
		if (size < 0 && errno == EMSGSIZE)
			return copy_message(r);
		if (size >= 0)
			return pipe_fail(
				r->c, "channel %s carries something else", r->c->pipe.channel);
		if (handle_news(r, errno) < 0)
			return -1;
	}
}

/* ---- what is written ---- */

static int write_all(const struct receiving *r, const unsigned char *bytes, size_t n)
{
	while (n > 0) {
		ssize_t written = write(r->fd, bytes, n);
		if (written < 0 && errno != EINTR)
			return pipe_fail(r->c, "cannot write %s: %s",
				r->c->pipe.output ? r->c->pipe.output : "standard output",
				strerror(errno));
		bytes += written > 0 ? written : 0;
		n -= written > 0 ? (size_t)written : 0;
	}
	return 0;
}

static int fail_output(const struct receiving *r)
{
	return pipe_fail(r->c, "%s: %s", r->c->pipe.output, strerror(errno));
}

static int open_output(struct receiving *r)
{
	struct stat status;

	r->fd = STDOUT_FILENO;
	if (!r->c->pipe.output) {
		pipe_widen(r->fd);
		return 0;
	}
	r->fd = open(r->c->pipe.output, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (r->fd < 0 || fstat(r->fd, &status) < 0)
		return fail_output(r);
	if (r->c->pipe.resume && !S_ISREG(status.st_mode))
		return pipe_fail(r->c, "%s: --resume wants a file", r->c->pipe.output);
	return 0;
}

/* Some file systems say only now that there was no room for all of it. */
static int close_output(struct receiving *r)
{
	const int fd = r->fd;

	r->fd = -1;
	return r->c->pipe.output && fd >= 0 && close(fd) < 0 ? fail_output(r) : 0;
}

/* The sum of what another receiver has written, up to where we go on. */
static int read_again(struct receiving *r, uint64_t end)
{
	uint64_t at = 0;

	if (lseek(r->fd, 0, SEEK_SET) < 0)
		return fail_output(r);
	while (at < end) {
		size_t wanted = end - at < PIPE_CHUNK ? (size_t)(end - at) : PIPE_CHUNK;
		ssize_t n = read(r->fd, r->message + PIPE_HEADER, wanted);
		if (n < 0 && errno != EINTR)
			return fail_output(r);
		if (n == 0)
			return pipe_fail(r->c,
				"%s has %" PRIu64 " bytes, but the transfer is at %" PRIu64
				" already: this is not the file that it has begun in",
				r->c->pipe.output, at, end);
		r->crc = crc32_add(r->crc, r->message + PIPE_HEADER, n > 0 ? (size_t)n : 0);
		at += n > 0 ? (uint64_t)n : 0;
	}
	return 0;
}

/* ---- the beginning ---- */

/* Is the sender of this message the one that is there? */
static bool is_of_sender(const struct receiving *r)
{
	const struct ivshmem_end *end = &ivshmem_receiver_reader(r->ends.in)->end;

	return ivshmem_channel_acquire(&end->theirs->key) == end->key &&
		ivshmem_channel_get(&end->theirs->generation) == r->word.life &&
		ivshmem_channel_get(&end->theirs->state) == IVSHMEM_SLOT_OPEN;
}

static int begin(struct receiving *r)
{
	r->begun = true;
	r->now = (struct pipe_header){.id = r->word.id, .life = r->word.life};
	pipe_progress_start(&r->progress);
	if (r->c->pipe.output && !r->c->pipe.resume && ftruncate(r->fd, 0) < 0 && errno != EINVAL)
		return fail_output(r); /* EINVAL: a device or a pipe, which has no size */
	pass(r);
	return 0;
}

/* Go on in the middle, or behind the last byte; the message is handled after that. */
static int resume(struct receiving *r)
{
	struct pipe_header word = r->word;

	if (read_again(r, word.position) < 0 || copy_message(r) < 0)
		return -1;
	fprintf(stderr, "%s: going on at byte %" PRIu64 "\n", r->c->program, word.position);
	r->begun = true;
	r->now = (struct pipe_header){.id = word.id, .life = word.life, .position = word.position};
	pipe_progress_start(&r->progress);
	return 0;
}

static int skip(struct receiving *r, bool unwanted)
{
	if (!r->skipping)
		fprintf(stderr, "%s: throwing away what is left of a transfer %s\n", r->c->program,
			unwanted ? "that has begun without us" : "whose sender has gone");
	if (unwanted && r->refused != r->word.id)
		tell_failed(r, r->word.id, PIPE_NOT_WANTED);
	r->refused = r->word.id;
	r->skipping = true;
	pass(r);
	return 0;
}

/* The first message of a transfer, or what is there instead. */
static int handle_first(struct receiving *r)
{
	const bool is_start = r->tag == PIPE_TAG + PIPE_START;

	if (!is_start && r->tag != PIPE_TAG + PIPE_DATA && r->tag != PIPE_TAG + PIPE_END)
		return pipe_fail(r->c, "channel %s carries something else", r->c->pipe.channel);
	if (!is_of_sender(r))
		return skip(r, false);
	if (is_start)
		return begin(r);
	if (r->c->pipe.anew)
		return skip(r, true);
	if (r->c->pipe.resume)
		return resume(r);
	return pipe_fail(r->c,
		"a transfer is under way, and what comes next begins at byte %" PRIu64
		": the bytes before went to another 'recv'. 'recv --output FILE --resume' goes on "
		"in "
		"the file that it has written, 'recv --anew' throws the rest away",
		r->word.position);
}

/* ---- the transfer ---- */

static int handle_data(struct receiving *r)
{
	const unsigned char *bytes = r->message + PIPE_HEADER;
	const uint32_t n = r->size - PIPE_HEADER;

	if (r->word.position != r->now.position)
		return fail_cut_off(r, "some bytes are missing");
	if (write_all(r, bytes, n) < 0) {
		/* What is in a file can be gone on with when there is room again. */
		if (!r->c->pipe.output)
			tell_failed(r, r->now.id, PIPE_NOT_WRITTEN);
		return -1;
	}
	r->crc = crc32_add(r->crc, bytes, n);
	r->now.position += n;
	pipe_progress(r->c, &r->progress, r->now.position, false);
	pass(r);
	return 0;
}

/* 1: all is well; or -1. */
static int handle_end(struct receiving *r)
{
	if (r->word.position != r->now.position || r->word.check != r->crc) {
		tell_failed(r, r->now.id, PIPE_NOT_EQUAL);
		pass(r);
		return pipe_fail(r->c,
			"what has come is not what was sent: %" PRIu64
			" bytes with the sum %08" PRIx32 ", where %" PRIu64 " with %08" PRIx32
			" were sent",
			r->now.position, r->crc, r->word.position, r->word.check);
	}
	/* What an earlier receiver has written beyond this. */
	if (r->c->pipe.resume && ftruncate(r->fd, (off_t)r->now.position) < 0)
		return fail_output(r);
	if (close_output(r) < 0)
		return -1;
	if (tell(r, PIPE_DONE, r->now, DONE_MS) < 0)
		fprintf(stderr, "%s: all has come, but the sender could not be told: %s\n",
			r->c->program, strerror(errno));
	pass(r);
	pipe_progress(r->c, &r->progress, r->now.position, true);
	return 1;
}

/* 0 to go on, 1: all is well; or -1. */
static int handle_message(struct receiving *r)
{
	if (!r->begun) {
		int result = handle_first(r);
		if (result < 0 || !r->begun || r->tag == PIPE_TAG + PIPE_START)
			return result;
	}
	if (r->word.id == r->now.id && r->word.life == r->now.life) {
		if (r->tag == PIPE_TAG + PIPE_DATA)
			return handle_data(r);
		if (r->tag == PIPE_TAG + PIPE_END)
			return handle_end(r);
	}
	return fail_cut_off(r, "something else has come");
}

static int transfer(struct receiving *r)
{
	int result = 0;

	while (result == 0) {
		result = next_message(r);
		if (result == 0)
			result = handle_message(r);
	}
	return result;
}

int pipe_receive(struct client *c)
{
	struct receiving r = {
		.c = c,
		.fd = STDOUT_FILENO,
		.message = malloc(PIPE_HEADER + PIPE_CHUNK),
	};
	int result = r.message ? open_output(&r) : pipe_fail(c, "no memory");

	signal(SIGPIPE, SIG_IGN); /* the sender is told */
	if (result == 0)
		result = pipe_open(c, false, &r.ends);
	if (result == 0)
		result = transfer(&r);
	pipe_close(&r.ends);
	close_output(&r);
	free(r.message);
	return result >= 0 ? EXIT_OK : EXIT_COMMAND;
}
