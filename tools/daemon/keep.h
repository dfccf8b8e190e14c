/* SPDX-License-Identifier: MIT */
/*
 * keep - descriptors that outlive the process.
 *
 * Whoever holds them is either ivshmem-keeper, which has started us, or systemd with its descriptor
 * store (FileDescriptorStoreMax= of the unit), or nobody. Each set of descriptors has a name, which
 * is unique: [A-Za-z0-9._-]{1,120}. docs/restart.md compares the two.
 */
#ifndef TOOLS_DAEMON_KEEP_H
#define TOOLS_DAEMON_KEEP_H

#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEEP_NAME_SIZE 121
#define KEEP_MAX_FDS   253 /* in one set: what the kernel passes in one message */

enum keep_holder { KEEP_NOBODY, KEEP_KEEPER, KEEP_SYSTEMD };

struct keep;

/*
 * Find out who holds (IVSHMEM_KEEPER, or NOTIFY_SOCKET with FDSTORE, in the environment; they are
 * removed from it but for NOTIFY_SOCKET, which libsystemd reads) and take over what an earlier
 * process has left. 0 or -errno, having said on `log` what is wrong. Without a holder this works
 * too: keep_holder() says so and nothing is kept. To be called by the process that will serve.
 */
int keep_open(struct keep **out, struct log *log);
void keep_close(struct keep *keep); /* what is held stays held */

enum keep_holder keep_holder(const struct keep *keep);

/* How many sets can be held in all; 0 without a holder. */
uint64_t keep_room(const struct keep *keep);

/*
 * Sets that an earlier process left, and sockets that the unit passed (name: FileDescriptorName=).
 * Each can be taken once: the descriptors are the caller's then, close-on-exec. Returns how many,
 * 0: no such set, or -E2BIG, -EMFILE, -EBADMSG, and then it has not been taken. Its name stays in
 * use: it is held on, and a unit's socket by systemd.
 */
int keep_take(struct keep *keep, const char *name, int *fds, size_t max);

/* What was taken, to be taken again; `fd` is given away. */
void keep_give_back(struct keep *keep, const char *name, int fd);

/* The names of all sets that nobody has taken yet, until `visit` returns false. */
void keep_visit(
	struct keep *keep, bool (*visit)(void *data, const char *name, size_t n), void *data);

/*
 * Have a copy of these held. They are safe when this returns: whatever becomes of this process, the
 * next one gets them; if it is killed in here, all of them or none. 0 or -errno (-ENOSPC: the
 * holder is full; -EEXIST: the name is taken; -EINVAL: name or number are not allowed; -ENOTSUP:
 * nobody holds; -EPIPE: the keeper is gone; -ETIMEDOUT: systemd does not answer).
 */
int keep_put(struct keep *keep, const char *name, const int *fds, size_t n);

/*
 * How many of a set's descriptors count as in flight (docs/protocol.md, section 1.2) as long as it
 * is held. Who budgets for an unprivileged server subtracts them from RLIMIT_NOFILE.
 */
size_t keep_in_flight(const struct keep *keep, size_t n);

/* Let go of a set. No such name is no error. */
void keep_drop(struct keep *keep, const char *name);

/*
 * Only with KEEP_KEEPER: let it accept on the listening socket that it holds as `listener`. Each
 * connection is held as PREFIX.NUMBER (numbers from `first` on, ascending, taken names left out)
 * before keep_accepted() returns it. A prefix belongs to one listener. Of a process that dies, the
 * next one finds them among its sets, those that were not asked for included.
 *
 * keep_stop_accepting() leaves further ones in the backlog; a few may be on their way. The drop of
 * `listener` ends it too, and lets go of those. 0, -ENOENT: no such listener, -EINVAL: not a
 * prefix.
 */
int keep_accept(struct keep *keep, const char *listener, const char *prefix, uint64_t first);
void keep_stop_accepting(struct keep *keep, const char *listener);

/* Readable when keep_accepted() has something; -1 without a keeper. */
int keep_get_fd(const struct keep *keep);

/* The next connection: 1 with the name of its listener, its number and the descriptor
 * (close-on-exec, non-blocking, the caller's); without a name, and not held any more, if its
 * listener has been dropped meanwhile. 0: none at present; -errno: the keeper is gone. */
int keep_accepted(struct keep *keep, char listener[KEEP_NAME_SIZE], uint64_t *number, int *fd);

/* We serve: tell the holder (READY=1 of systemd; a restart that comes so far was a good one). */
void keep_ready(struct keep *keep);

#endif
