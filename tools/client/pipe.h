/* SPDX-License-Identifier: MIT */
/*
 * What `send` and `recv` have in common: the convention by which a file goes through a channel
 * (docs/pipe.md), and the two channels that it takes.
 */
#ifndef CLIENT_PIPE_H
#define CLIENT_PIPE_H

#include "tool.h"

#include "ivshmem/channels.h"

#include <stddef.h>
#include <stdint.h>

#define PIPE_VECTOR    0u
#define PIPE_BACK      ".back" /* behind the channel's name: the one in the other direction */
#define PIPE_BACK_RING 1024u
#define PIPE_RING      (4u << 20)
#define PIPE_ALIVE_MS  10000   /* who says nothing for so long is asked */
#define PIPE_CHUNK     131072u /* bytes of the file in a message, at most */

/* The tag of a message is PIPE_TAG + one of these. */
#define PIPE_TAG 0x70697000u /* "pip" */

enum pipe_kind {
	PIPE_START = 1,  /* a transfer begins, at position 0 */
	PIPE_DATA = 2,   /* bytes of it, from the position on */
	PIPE_END = 3,    /* it has so many bytes, and this CRC-32 */
	PIPE_TAKEN = 4,  /* back: there is room; all up to the position is written */
	PIPE_DONE = 5,   /* back: all of it, and it adds up */
	PIPE_FAILED = 6, /* back: it never will be; `check` is an enum pipe_reason */
};

enum pipe_reason {
	PIPE_NOT_WRITTEN = 1, /* what was received could not be written */
	PIPE_NOT_EQUAL = 2,   /* it does not add up */
	PIPE_NOT_WANTED = 3,  /* thrown away by --anew */
};

/* What each message begins with: 24 bytes, little-endian. */
#define PIPE_HEADER 24u

struct pipe_header {
	uint64_t id;       /* of the transfer; random */
	uint64_t position; /* bytes before this message */
	uint32_t life;     /* generation of the sender in its channel */
	uint32_t check;    /* CRC-32 or enum pipe_reason; else 0 */
};

void pipe_put_header(unsigned char bytes[PIPE_HEADER], const struct pipe_header *header);
void pipe_get_header(const unsigned char bytes[PIPE_HEADER], struct pipe_header *header);

/* Lines of the ring: so much is what a message has at most, and after so much at the latest the
 * receiver says that there is room. So a sender that finds none will be told. */
static inline uint32_t pipe_eighth(const struct ivshmem_end *end)
{
	return end->lines / 8;
}

/*
 * Lay out both channels if there are none, and open one's two ends. 0, or -1 after having said why
 * not. pipe_close() takes what there is.
 */
struct pipe_ends {
	struct ivshmem_sender *out;
	struct ivshmem_receiver *in;
};

int pipe_open(struct client *c, bool sends, struct pipe_ends *ends);
void pipe_close(struct pipe_ends *ends);

/* Complain about an error of the channel. -1. */
int pipe_fail(const struct client *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Say how far it is: now and then, and in the end. Nothing unless --progress was given. */
struct pipe_progress {
	uint64_t start, last; /* ms */
};

void pipe_progress_start(struct pipe_progress *progress);
void pipe_progress(
	const struct client *c, struct pipe_progress *progress, uint64_t bytes, bool end);

/* A pipe takes more at once. That it does not work, or that it is none, does no harm. */
void pipe_widen(int fd);

#endif
