/* SPDX-License-Identifier: MIT */
/*
 * The format of the kept state, as docs/restart.md has it byte by byte. All numbers are in the
 * host's byte order: the memory never leaves the machine.
 */
#ifndef SERVER_KEPT_STATE_H
#define SERVER_KEPT_STATE_H

#include "base/commit.h"
#include "base/fdpass.h"
#include "server/ids.h"
#include "server/kept.h"
#include "server/who.h"

#define KEPT_MAGIC       "ivshkept"
#define KEPT_MAX_SLOTS   IDS_COUNT
#define KEPT_REASON_SIZE 160

/* Where a peer's conversation is, in one word: what is begun, or nothing. */
enum kept_kind { KEPT_NOTHING, KEPT_HELLO, KEPT_CONNECT, KEPT_LEAVE };
struct kept_step {
	enum kept_kind kind;
	unsigned member; /* slot of the one whom it is about */
	unsigned index;  /* messages that are out whole */
	unsigned offset; /* bytes of the next that are out */
	bool greeted;    /* the hello is out */
};
uint64_t kept_step_pack(const struct kept_step *step);
int kept_step_unpack(uint64_t word, struct kept_step *step); /* 0 or -EINVAL */

/* The batch in flight. Its headers (fdpass.h) are in a page of their own. */
struct kept_journal {
	uint64_t batch;               /* 0: none; else slot of the reader + 1, and messages << 32 */
	uint64_t sent;                /* the reader's `sent` before the batch */
	uint64_t messages;            /* the header's `messages` before it */
	uint64_t steps[FDPASS_BATCH]; /* each message: the conversation before it */
};

struct kept_header {
	char magic[8];
	uint32_t version;
	uint32_t ending; /* 1: everybody is being told that everybody has left */
	uint64_t size;   /* of the whole memory */
	uint32_t slots, vectors;
	uint32_t record_size, row_size,
		headers_size; /* bytes: of a record, a row, a batch's headers */
	uint8_t width, big_endian, has_version, unused; /* the protocol's generation */
	uint32_t slots_used, ids_used; /* slots and IDs from here on were never touched */
	uint64_t last_serial;
	uint64_t restarts, joins, leaves, evictions, refusals, messages;
	struct kept_journal journal;
	/* From here on 0 in states of programs that did not know it. */
	uint64_t accepting;      /* number of the connection that is being accepted, or 0 */
	uint64_t lost_in_accept; /* times that it was not held afterwards */
};

/*
 * A peer. The state of its slot is in three words:
 *
 * state    serial  joined  left      becomes             by
 *
 * free     0       any     any       joining             serial
 * joining  > 0     0       0         live, or free       joined; serial
 * live     > 0     > 0     0         gone                left
 * gone     > 0     > 0     > joined  free                serial
 */
struct kept_record {
	uint64_t serial;
	uint64_t joined, left; /* sequence numbers */
	uint64_t progress;     /* struct kept_step */
	uint64_t sent;
	uint64_t joined_ms;
	uint64_t rule_key;
	uint32_t uid, gid;
	int32_t pid, rule;
	uint16_t id;
	uint8_t read_only, restricted, has_texts, unused[3];
	uint64_t rings[POLICY_BITS(POLICY_VECTORS)]; /* if restricted */
	char texts[WHO_TEXT_SIZE];                   /* if has_texts */
};

/* The parts of a memory. */
struct kept_state {
	struct kept_header *header;
	void *headers;     /* of the batch in flight */
	uint64_t *left_at; /* of each ID: when its last holder left, once it is free again */
	struct kept_record *records;
	uint64_t *rows; /* of each slot as a reader: a bit for each slot that it has been told of */
	unsigned slots, row_words;
};

static inline bool kept_bit(const uint64_t *bits, unsigned i)
{
	return bits[i / 64] >> (i % 64) & 1;
}

static inline void kept_set_bit(uint64_t *bits, unsigned i, bool on)
{
	uint64_t bit = UINT64_C(1) << (i % 64);
	bits[i / 64] = on ? bits[i / 64] | bit : bits[i / 64] & ~bit;
}

static inline uint64_t *kept_row(const struct kept_state *state, unsigned slot)
{
	return state->rows + (size_t)slot * state->row_words;
}

static inline bool kept_is_live(const struct kept_record *record)
{
	return record->serial != 0 && record->joined != 0 && record->left == 0;
}

static inline bool kept_is_gone(const struct kept_record *record)
{
	return record->serial != 0 && record->left != 0;
}

unsigned kept_slots(const struct server_config *config);

/* Where the parts are, in a memory for so many slots; returns its size. */
size_t kept_lay_out(struct kept_state *state, void *memory, unsigned slots);

unsigned kept_hello_messages(const struct kept_header *header);

/* What a reader knows, as a replay sees it. */
struct kept_view {
	uint64_t *row;
	uint64_t progress, sent, messages;
};

/* Add what the batch in flight has told its reader. Any number of times: the result is the same. */
void kept_replay(const struct kept_state *state, struct kept_view *view);

/* Write that down, and that no batch is in flight any more. */
void kept_settle_batch(const struct kept_state *state, unsigned reader);

/* Is all of it possible? 0, or an error of kept_resume() and the field that is not. */
int kept_check(struct kept_state *state, void *memory, size_t size,
	const struct server_config *config, char reason[KEPT_REASON_SIZE]);

#endif
