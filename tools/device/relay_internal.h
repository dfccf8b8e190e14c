/* SPDX-License-Identifier: MIT */
/* relay.c, which passes words on, and relay_join.c, by which it begins. */
#ifndef TOOLS_DEVICE_RELAY_INTERNAL_H
#define TOOLS_DEVICE_RELAY_INTERNAL_H

#include "relay.h"
#include "told.h"

#include <pthread.h>
#include <stdatomic.h>

/* What an earlier process was told. */
struct kept_word {
	struct told_entry entry;
	int fd;
};

struct relay {
	struct relay_config config;
	struct told told;
	void *memory;
	size_t memory_size;
	struct wire_session session;
	int server, pair, peer; /* -1: none */
	int fd;                 /* of the word that is being read; -1: none */
	uint64_t region_size;
	struct kept_word *words; /* for the peer; the first `said` have been passed on */
	uint32_t n_words, said;
	bool started, has_cut, is_over;
	void (*dispatch)(void *data); /* while there is no thread: has the peer read, or NULL */
	void *data;
	atomic_bool closing;
	pthread_t thread;
};

/* For told.h. */
void relay_drop(void *data, uint64_t number);

/* Pass a word on to the peer. False: it is gone, or nobody reads yet and there is no room. */
bool relay_tell(const struct relay *relay, int64_t value, int fd);

/*
 * Read the server's next word, or a piece of it. 1: it is whole; 0: not yet; -errno. CLIENT_EOF:
 * the server has closed the connection.
 */
int relay_read(struct relay *relay);

/*
 * The whole word is there. 1: the peer is to be told of it; 0: it need not; -EPROTO and *event;
 * -ENOSPC: the region cannot be held. Then relay_close_word().
 */
int relay_take(struct relay *relay, struct wire_event *event, struct wire_message *message);
void relay_close_word(struct relay *relay);

#endif
