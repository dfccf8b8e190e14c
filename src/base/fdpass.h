/* SPDX-License-Identifier: MIT */
/*
 * Descriptors over Unix sockets. The only place that knows SCM_RIGHTS.
 *
 * Facts of the kernel that the callers rely on (docs/protocol.md, section 1.2): a descriptor is
 * delivered with the first byte of its message; a read that ends at a descriptor-carrying message
 * never runs into the next one; a plain read() would drop descriptors silently; a receiver without
 * a free descriptor gets the bytes alone and MSG_CTRUNC.
 */
#ifndef BASE_FDPASS_H
#define BASE_FDPASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* Most descriptors that fdpass_recv() hands out; a message with more is refused whole. */
#define FDPASS_RECV_MAX 16

/*
 * Receive up to `size` bytes and the descriptors that came with them, without blocking.
 * `fds` has room for FDPASS_RECV_MAX; *n_fds says how many there are. They are close-on-exec and
 * the caller's. Returns the number of bytes, 0 at the end of the stream, or -errno:
 *   -EAGAIN   nothing there
 *   -EMFILE   descriptors came but this process had no slot free for them: they are lost
 *   -EMSGSIZE more than FDPASS_RECV_MAX descriptors came; all were closed
 */
ssize_t fdpass_recv(int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds);

/* The same, but waits until something is there, for ever if nothing comes. Only on a blocking
 * socket; on others it is fdpass_recv(). */
ssize_t fdpass_await(int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds);

/* Send `size` bytes with one descriptor (or none: -1) without blocking. Bytes sent, or -errno. */
ssize_t fdpass_send(int sock, const void *bytes, size_t size, int fd);

/*
 * Look at what fdpass_recv() would give, and leave it there. `wait`: as fdpass_await(). *with_fds:
 * descriptors come with it; fdpass_look_at_fds() gives copies of them, and the same number of bytes
 * (at least: where none come, more may have arrived). If all `size` bytes are there, Linux may show
 * descriptors that come with a later byte.
 */
ssize_t fdpass_look(int sock, void *bytes, size_t size, bool wait, bool *with_fds);
ssize_t fdpass_look_at_fds(
	int sock, void *bytes, size_t size, int fds[FDPASS_RECV_MAX], size_t *n_fds);

/*
 * One message whose length the kernel notes, behind its queueing or its removal and before anything
 * else can happen to the process (docs/restart.md). In memory that outlives it, for who finds it.
 */
struct fdpass_note {
	struct mmsghdr message;
};

/* Nothing is noted. */
void fdpass_note_clear(struct fdpass_note *note);

/* Did the call come to its end? *bytes: how many it has sent or taken. */
bool fdpass_noted(const struct fdpass_note *note, size_t *bytes);

/* Did descriptors come with what it has taken? */
bool fdpass_noted_fds(const struct fdpass_note *note);

/* As fdpass_send(); and take `size` bytes that fdpass_look() has shown, without blocking, leaving
 * descriptors that come with them to nobody. Clear the note before. */
ssize_t fdpass_send_noted(
	struct fdpass_note *note, int sock, const void *bytes, size_t size, int fd);
ssize_t fdpass_take_noted(struct fdpass_note *note, int sock, void *bytes, size_t size);

/*
 * Many small messages in one system call. Each message is up to 8 bytes with at most one
 * descriptor; the descriptors stay the caller's.
 */
#define FDPASS_BATCH 64

struct fdpass_batch;

struct fdpass_batch *fdpass_batch_create(void);
void fdpass_batch_destroy(struct fdpass_batch *batch);

/* Number of messages added since the last reset; add only while it is below FDPASS_BATCH. */
unsigned fdpass_batch_count(const struct fdpass_batch *batch);
void fdpass_batch_reset(struct fdpass_batch *batch);
void fdpass_batch_add(struct fdpass_batch *batch, const void *bytes, size_t size, int fd);

/*
 * Send the batch without blocking. Returns how many messages went out whole (possibly fewer than
 * there are), or -errno if not even a byte of the first did. If the last one went out in part,
 * *partial is the number of its bytes that are gone (its descriptor went with the first), else 0.
 */
int fdpass_batch_send(struct fdpass_batch *batch, int sock, size_t *partial);

/*
 * What became of a batch, for who finds the headers of one whose sender was killed: the kernel
 * notes the length of each message behind its queueing and before anything else can happen to the
 * process (docs/restart.md). The headers lie in `memory` from now on: fdpass_batch_headers_size()
 * bytes, aligned as for a pointer, borrowed; of the last use, no message "went out" once it is
 * added again.
 */
size_t fdpass_batch_headers_size(void);
void fdpass_batch_set_headers(struct fdpass_batch *batch, void *memory);

/* Did message `i` go out? *bytes: how many of its own. `headers` may be a dead process's. */
bool fdpass_batch_went_out(const void *headers, unsigned i, size_t *bytes);

#endif
