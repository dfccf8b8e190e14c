/* SPDX-License-Identifier: MIT */
/*
 * kept - what a server must not forget, in memory that outlives its process.
 *
 * The descriptors of the peers are held by somebody else (server_ops.keep); this is the rest: who
 * has which ID, who has been told of whom, how far each conversation is. docs/restart.md has the
 * format and the argument why a process may be killed between any two instructions.
 */
#ifndef SERVER_KEPT_H
#define SERVER_KEPT_H

#include "server/server.h"

#include <stddef.h>
#include <stdint.h>

/* Tests build a server with a higher one, whose state this one has to refuse. */
#ifndef KEPT_VERSION
#define KEPT_VERSION 1u
#endif

/* Bytes that the state of a server with this configuration takes; most of them are never touched.
 */
size_t kept_size(const struct server_config *config);

/*
 * server_destroy() leaves what is kept as it is: the peers do not notice, and the next process goes
 * on. Only after server_farewell() it disconnects them and lets go of what is held.
 *
 * From now on the server keeps its state in `memory` (shared, zeroed, kept_size() bytes, borrowed).
 * To be called right after server_create(), when nobody is in. 0 or -errno.
 */
int kept_begin(struct server *server, void *memory, size_t size);

/* What a keeper still holds for this server. */
struct kept_descriptors {
	enum server_kept kind;
	uint64_t serial;
	int *fds; /* taken over by kept_resume(): closed or used */
	unsigned n;
};

/*
 * The same in place of kept_begin(), with memory that another process has left, and with all that
 * its keeper holds. Everything is checked before anything is used: 0, or a refusal with `reason`
 * that names the field, and then nothing has been taken over and nothing has changed:
 *   -EPROTO      not such a memory, or damaged
 *   -EOPNOTSUPP  of a newer version of this program: use that one
 *   -EINVAL      of another configuration (vectors, limits, generation of the protocol)
 *   others       from the operating system
 * Peers that had connected but not joined are admitted now; peers that have hung up meanwhile
 * leave. The joins and leaves that others have not been told of follow in their order.
 */
int kept_resume(struct server *server, void *memory, size_t size, struct kept_descriptors *held,
	size_t n_held, char reason[160]);

#endif
