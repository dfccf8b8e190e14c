/* SPDX-License-Identifier: MIT */
/*
 * The kept state as the server writes it, while it serves. Each function is one transition, and
 * does nothing in a server without kept state. docs/restart.md has the order in which they must
 * come.
 */
#ifndef SERVER_KEPT_RECORD_H
#define SERVER_KEPT_RECORD_H

#include "server/internal.h"
#include "server/kept_state.h"

struct kept {
	struct kept_state state;
	uint64_t *taken; /* bits: slots that are not free */
	unsigned hint;   /* no slot below it is free */
};

int kept_attach(struct server *server, const struct kept_state *state); /* 0 or -ENOMEM */
void kept_detach(struct server *server); /* the state stays as it is */

/* A connection has a number now; after this it never has another. */
void kept_serial(struct server *server);

/* A record for a newcomer, and its descriptors with the keeper: 0, or -errno and no record is left.
 * *held: the keeper has the connection. */
int kept_joining(struct server *server, struct server_peer *peer, bool *held);
void kept_not_joining(struct server *server, struct server_peer *peer);

/* From here on it exists. Its number in the sequence is the latest. */
void kept_joined(struct server *server, const struct server_peer *peer);

/* From here on it has left. The same. */
void kept_left(struct server *server, const struct server_peer *peer);

/* Nobody is in the middle of hearing of its vectors; and: nobody knows it any more. */
void kept_vectors_done(struct server *server, const struct member *member);
void kept_forgotten(struct server *server, const struct member *member);

/* A connection that the keeper has came to nothing. */
void kept_refused(struct server *server, int sock, uint64_t serial);

/* A batch for the peer: each message as it is added; all are; and: the kernel has been called. */
void kept_message(struct server *server, unsigned i, const struct entry *entry, unsigned index,
	unsigned offset);
void kept_sending(struct server *server, const struct server_peer *peer, unsigned n);
void kept_sent(struct server *server, const struct server_peer *peer);

void kept_counters(struct server *server);
void kept_identity(struct server *server, const struct server_peer *peer);
void kept_ending(struct server *server);

#endif
