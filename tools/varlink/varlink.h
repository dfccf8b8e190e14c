/* SPDX-License-Identifier: MIT */
/*
 * varlink - framing and messages of the Varlink protocol (varlink.org), both sides: JSON objects,
 * each ended by a zero byte. No I/O: bytes go in and come out. docs/control.md says what is spoken.
 *
 * Every limit is against a peer that means harm: a message that does not end, queues that nobody
 * reads, deep nesting. What breaks one breaks this connection and no other.
 */
#ifndef TOOLS_VARLINK_VARLINK_H
#define TOOLS_VARLINK_VARLINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define VARLINK_MAX_CALL   (8u << 10) /* bytes of one call; a longer one ends the connection */
#define VARLINK_MAX_VALUES 512        /* values in one call, at any depth */
#define VARLINK_MAX_REPLY  (1u << 20) /* bytes of one reply that a client takes */
#define VARLINK_MAX_DEPTH  16         /* objects and arrays within each other, in both */

/* A buffer of bytes that came, cut into messages. */
struct varlink_reader {
	char *bytes;
	size_t size, used, scanned, max_bytes, max_values;
};

/* What one message may have, the final zero not counted. */
void varlink_reader_init(struct varlink_reader *reader, size_t max_bytes, size_t max_values);
void varlink_reader_fini(struct varlink_reader *reader);

/* Room for the next read: where, and how much (> 0); to be called when varlink_reader_next() has
 * returned 0. NULL without memory. Then: so much has come. */
char *varlink_reader_room(struct varlink_reader *reader, size_t *room);
void varlink_reader_add(struct varlink_reader *reader, size_t bytes);

/* The next whole message as a JSON object (the caller's): 1; 0: none yet; -EBADMSG: no JSON object,
 * or an invalid one, or nested too deep; -EMSGSIZE: too long, or of too many values. After an error
 * the connection must end. */
int varlink_reader_next(struct varlink_reader *reader, json_t **message);

/* A call as a server sees it. Borrowed from the message. */
struct varlink_call {
	const char *method; /* "interface.Method" */
	json_t *parameters; /* an object; never NULL */
	bool more, oneway, upgrade;
};

/* 0, -EBADMSG if this is no call, or -ENOMEM. */
int varlink_parse_call(json_t *message, struct varlink_call *call);

/* Messages to send; all take over `parameters` (NULL: {}). NULL without memory. */
json_t *varlink_make_call(const char *method, json_t *parameters, bool more);
json_t *varlink_make_reply(json_t *parameters, bool continues);
json_t *varlink_make_error(const char *error, json_t *parameters);

/* The bytes of a message with its zero; malloc'ed. Releases the message. NULL without memory. */
char *varlink_pack(json_t *message, size_t *size);

#endif
