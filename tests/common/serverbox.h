/* SPDX-License-Identifier: MIT */
/*
 * A server without a process: src/server on socket pairs, a clock that the test turns, and clients
 * that check every message against what a client may legally see (docs/protocol.md, section 2):
 * a disconnect only for an ID that was announced, never more vectors than there are, no second
 * hello. Used by the unit tests, the model walk and the fault tests.
 */
#ifndef TESTS_SERVERBOX_H
#define TESTS_SERVERBOX_H

#include "server/server.h"

#include <stdbool.h>
#include <stdint.h>

#define BOX_MAX_CLIENTS 256
#define BOX_MAX_VECTORS 8
#define BOX_IDS         65536

struct box_client {
	int sock;        /* -1: not connected */
	int id;          /* -1: not known yet */
	int64_t refusal; /* what came in place of the version, if not 0 */
	bool region_seen, ended;
	unsigned greeted; /* messages of the hello so far */
	uint8_t *vectors; /* of each ID, as announced */
	int own[BOX_MAX_VECTORS];
	int *first_vector;     /* of each ID: the descriptor of vector 0, or -1 */
	const char *violation; /* first rule that the server broke, or NULL */
	uint64_t messages;
};

struct box {
	struct server *server;
	struct server_config config;
	struct log log;
	char last_log[600], last_warning[600];
	unsigned log_lines;
	uint64_t now;
	int region_fd;
	int due; /* what server_run() returned last */
	bool watch_fails;
	void (*around)(bool entering); /* called before and after each call into the server */
	unsigned joined, left;
	struct box_client clients[BOX_MAX_CLIENTS];
};

/* `config` with NULL format means wire_current; returns NULL on failure. */
struct box *box_create(const struct server_config *config);
void box_destroy(struct box *box);

/* Connect client number `c`; returns what server_admit() said. Nothing is sent before box_run(). */
int box_connect(struct box *box, unsigned c);

/* Close the client's end. The server sees it at the next box_run(). */
void box_disconnect(struct box *box, unsigned c);

/* Let the server see all events and do what is due, until nothing moves. */
void box_run(struct box *box);

/* The same after `ms` milliseconds. */
void box_wait(struct box *box, uint64_t ms);

/* The client reads up to `limit` messages; returns how many there were. */
unsigned box_read(struct box *box, unsigned c, unsigned limit);

/* Everybody reads everything, until nothing moves. */
void box_settle(struct box *box);

/* How many IDs client `c` sees as present with all their vectors, its own not counted. */
unsigned box_sees(const struct box *box, unsigned c);

/* Does client `c` see exactly the clients that are connected? */
bool box_sees_everyone(const struct box *box, unsigned c);

/* Ring vector 0 of `to` with the descriptor that `from` was given: does it arrive there? */
bool box_rings(struct box *box, unsigned from, unsigned to);

#endif
