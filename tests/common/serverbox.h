/* SPDX-License-Identifier: MIT */
/*
 * A server without a process: src/server on socket pairs, a clock that the test turns, and clients
 * that check every message against what a client may legally see (docs/protocol.md, section 2):
 * a disconnect only for an ID that was announced, never more vectors than there are, no second
 * hello. Used by the unit tests, the model walk and the fault tests.
 *
 * With kept state (box_keep()) the box is a keeper, too: the server can be ended, or its process
 * killed, and the next one takes over.
 */
#ifndef TESTS_SERVERBOX_H
#define TESTS_SERVERBOX_H

#include "server/kept.h"
#include "server/server.h"

#include <stdbool.h>
#include <stdint.h>

#define BOX_MAX_CLIENTS 256
#define BOX_MAX_VECTORS 8
#define BOX_IDS         65536
#define BOX_MAX_EVENTS  512
#define BOX_MAX_HELD    1024

/* What a client has heard: that an ID is there with all its vectors, or has left. */
struct box_event {
	int id;
	bool left;
};

struct box_client {
	int sock;        /* -1: not connected */
	int id;          /* -1: not known yet */
	int64_t refusal; /* what came in place of the version, if not 0 */
	bool region_seen, ended;
	unsigned greeted; /* messages of the hello so far */
	uint8_t *vectors; /* of each ID, as announced */
	unsigned others;  /* IDs that are there with all their vectors, its own not counted */
	int own[BOX_MAX_VECTORS];
	int *first_vector;     /* of each ID: the descriptor of vector 0, or -1 */
	unsigned n_first;      /* of these, descriptors */
	const char *violation; /* first rule that the server broke, or NULL */
	uint64_t messages;
	struct box_event events[BOX_MAX_EVENTS]; /* the first ones */
	unsigned n_events;
};

struct box_watch;

struct box {
	struct server *server;
	struct box_watch *watches; /* what the server has asked to be watched */
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

	void *kept; /* memory of the state, or NULL */
	size_t kept_size;
	bool keep_fails, forget_fails;
	int keeper; /* -1: the box holds; else it sends what is to be held here */
	struct kept_descriptors held[BOX_MAX_HELD];
	unsigned n_held;
};

/* `config` with NULL format means wire_current; returns NULL on failure. */
struct box *box_create(const struct server_config *config);
void box_destroy(struct box *box);

/* Keep the state from now on. To be called right after box_create(). 0 or -errno. */
int box_keep(struct box *box);

/* End the server without a word, as if it had been killed; its peers do not see that. */
void box_halt(struct box *box);

/* A new server takes over: what kept_resume() says, with its reason. */
int box_resume(struct box *box, char reason[160]);

/* Hold what another process has sent to the other end of `keeper`, until nothing is there. */
void box_hold_for(struct box *box, int keeper);

/* Hold a connection as a keeper does that has accepted it: its serial number is given. */
void box_hold_socket(struct box *box, uint64_t serial, int sock);

/* Copies of all that is held, for whoever takes them over. */
unsigned box_held_copies(const struct box *box, struct kept_descriptors *copies);
void box_free_copies(struct kept_descriptors *copies, unsigned n); /* not the descriptors */

/* Make client `c` without telling the server: its end of the connection, or -errno. */
int box_new_client(struct box *box, unsigned c);

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

/* How many IDs client `c` sees as present with all their vectors, its own not counted. The server
 * has vectors. */
unsigned box_sees(const struct box *box, unsigned c);

/* Does client `c` see exactly the clients that are connected? */
bool box_sees_everyone(const struct box *box, unsigned c);

/* Have all clients heard of things in the same order, as far as they have heard of the same? */
bool box_same_order(const struct box *box);

/* Ring vector 0 of `to` with the descriptor that `from` was given: does it arrive there? */
bool box_rings(struct box *box, unsigned from, unsigned to);

#endif
