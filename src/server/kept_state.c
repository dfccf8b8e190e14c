/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The memory has been written by this program, and nobody else has it; but by which version, and
 * what has become of it since, nobody knows. So nothing in it is used before all of it has been
 * looked at: every size, index, kind and reference, and each conversation as it will be once the
 * batch in flight has been accounted for. Whoever has passed here can be worked with blindly.
 */
#include "server/kept_state.h"

#include "wire/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u

_Static_assert(sizeof(struct kept_header) <= PAGE, "the header is a page");
_Static_assert(sizeof(struct kept_record) % 8 == 0, "records are aligned");

/*
 * Steps: member 0..15, index 16..27, offset 28..31, kind 32..33, greeted 34
 */

uint64_t kept_step_pack(const struct kept_step *step)
{
	return (uint64_t)step->member | (uint64_t)step->index << 16 | (uint64_t)step->offset << 28 |
		(uint64_t)step->kind << 32 | (uint64_t)step->greeted << 34;
}

int kept_step_unpack(uint64_t word, struct kept_step *step)
{
	*step = (struct kept_step){
		.kind = (enum kept_kind)(word >> 32 & 3),
		.member = word & 0xffff,
		.index = word >> 16 & 0xfff,
		.offset = word >> 28 & 0xf,
		.greeted = word >> 34 & 1,
	};
	return word >> 35 == 0 ? 0 : -EINVAL;
}

/*
 * Layout
 */

/* Those who have left stay until everybody knows: as many again, and some for a small server. */
unsigned kept_slots(const struct server_config *config)
{
	uint64_t slots = UINT64_C(2) * config->max_peers + 64;
	return slots < KEPT_MAX_SLOTS ? (unsigned)slots : KEPT_MAX_SLOTS;
}

static size_t whole_pages(size_t size)
{
	return (size + PAGE - 1) / PAGE * PAGE;
}

/* Where things are, in bytes from the beginning. */
struct layout {
	size_t headers, left_at, records, rows, size;
};

static struct layout lay_out(unsigned slots)
{
	size_t row = (slots + 63) / 64 * sizeof(uint64_t);
	struct layout at = {.headers = PAGE};

	at.left_at = at.headers + whole_pages(fdpass_batch_headers_size());
	at.records = at.left_at + IDS_COUNT * sizeof(uint64_t);
	at.rows = at.records + whole_pages(slots * sizeof(struct kept_record));
	at.size = at.rows + whole_pages(slots * row);
	return at;
}

size_t kept_lay_out(struct kept_state *state, void *memory, unsigned slots)
{
	struct layout at = lay_out(slots);
	char *base = memory;

	*state = (struct kept_state){
		.header = memory,
		.headers = base + at.headers,
		.left_at = (uint64_t *)(void *)(base + at.left_at),
		.records = (struct kept_record *)(void *)(base + at.records),
		.rows = (uint64_t *)(void *)(base + at.rows),
		.slots = slots,
		.row_words = (slots + 63) / 64,
	};
	return at.size;
}

size_t kept_size(const struct server_config *config)
{
	return lay_out(kept_slots(config)).size;
}

unsigned kept_hello_messages(const struct kept_header *header)
{
	return header->has_version ? 3 : 2;
}

/*
 * Replay
 */

static unsigned messages_of(const struct kept_header *header, enum kept_kind kind)
{
	switch (kind) {
	case KEPT_HELLO:
		return kept_hello_messages(header);
	case KEPT_CONNECT:
		return header->vectors;
	case KEPT_LEAVE:
		return 1;
	case KEPT_NOTHING:
		break;
	}
	return 0;
}

/* One message, of which `bytes` more went out. */
static void advance(const struct kept_header *header, struct kept_view *view,
	struct kept_step *step, size_t bytes)
{
	step->offset += (unsigned)bytes;
	if (step->offset == header->width) {
		step->offset = 0;
		step->index++;
		view->sent++;
		view->messages++;
	}
	if (step->index == messages_of(header, step->kind)) {
		if (step->kind != KEPT_HELLO)
			kept_set_bit(view->row, step->member, step->kind == KEPT_CONNECT);
		*step = (struct kept_step){.greeted = true};
	}
	view->progress = kept_step_pack(step);
}

void kept_replay(const struct kept_state *state, struct kept_view *view)
{
	const struct kept_journal *journal = &state->header->journal;
	unsigned n = (unsigned)(journal->batch >> 32);
	struct kept_step step;
	size_t bytes;

	view->sent = journal->sent;
	view->messages = journal->messages;
	for (unsigned i = 0; i < n; i++) {
		if (!fdpass_batch_went_out(state->headers, i, &bytes))
			break;
		(void)kept_step_unpack(journal->steps[i], &step);
		advance(state->header, view, &step, bytes);
	}
}

void kept_settle_batch(const struct kept_state *state, unsigned reader)
{
	struct kept_record *record = &state->records[reader];
	struct kept_view view = {.row = kept_row(state, reader), .progress = record->progress};

	kept_replay(state, &view);
	record->progress = view.progress;
	record->sent = view.sent;
	state->header->messages = view.messages;
	kept_commit(&state->header->journal.batch, 0);
}

/*
 * Checks. Each returns 0, or an error with the reason.
 */

static int __attribute__((format(printf, 3, 4)))
bad(char reason[KEPT_REASON_SIZE], int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, KEPT_REASON_SIZE, format, args);
	va_end(args);
	return error;
}

static int check_size(struct kept_state *state, void *memory, size_t size, char *reason)
{
	const struct kept_header *header = memory;

	if (size < sizeof(*header) || memcmp(header->magic, KEPT_MAGIC, sizeof(header->magic)) != 0)
		return bad(reason, -EPROTO, "magic: this is no kept state");
	if (header->version > KEPT_VERSION)
		return bad(reason, -EOPNOTSUPP,
			"version: the state is of version %u, and this program knows them up to %u",
			header->version, KEPT_VERSION);
	if (header->version == 0)
		return bad(reason, -EPROTO, "version: there is no 0");
	if (header->slots == 0 || header->slots > KEPT_MAX_SLOTS)
		return bad(reason, -EPROTO, "slots: %u", header->slots);
	if (header->size != size || kept_lay_out(state, memory, header->slots) != size)
		return bad(reason, -EPROTO, "size: %llu, of a memory of %zu bytes for %u slots",
			(unsigned long long)header->size, size, header->slots);
	if (header->record_size != sizeof(struct kept_record) ||
		header->row_size != state->row_words * sizeof(uint64_t) ||
		header->headers_size != fdpass_batch_headers_size())
		return bad(reason, -EPROTO, "record_size, row_size or headers_size: %u, %u, %u",
			header->record_size, header->row_size, header->headers_size);
	return 0;
}

static int check_header(
	const struct kept_header *header, const struct server_config *config, char *reason)
{
	const struct wire_format *format = config->format;
	uint64_t events = header->joins + header->leaves;

	if (header->ending != 0)
		return bad(reason, header->ending == 1 ? -ESHUTDOWN : -EPROTO,
			"ending: the server was taking leave of its peers");
	if (header->vectors != config->vectors)
		return bad(reason, -EINVAL, "vectors: %u, and %u are configured", header->vectors,
			config->vectors);
	if (header->width != format->width || header->big_endian != format->big_endian ||
		header->has_version != format->has_version)
		return bad(reason, -EINVAL,
			"width, big_endian or has_version: "
			"another generation of the protocol is configured");
	if (header->slots_used > header->slots || header->ids_used > IDS_COUNT)
		return bad(reason, -EPROTO, "slots_used or ids_used: %u, %u", header->slots_used,
			header->ids_used);
	if (header->joins > INT64_MAX || header->leaves > INT64_MAX || events > INT64_MAX)
		return bad(reason, -EPROTO, "joins or leaves: too many");
	if (header->last_serial > INT64_MAX)
		return bad(reason, -EPROTO, "last_serial: too high");
	if (header->accepting > header->last_serial + 1)
		return bad(reason, -EPROTO, "accepting: higher than any connection's number");
	return 0;
}

/* Does each slot that is not free describe a peer that can be? */
static int check_record(const struct kept_state *state, unsigned slot, uint64_t *ids, char *reason)
{
	const struct kept_header *header = state->header;
	const struct kept_record *record = &state->records[slot];
	uint64_t latest = header->joins + header->leaves + 1; /* its number may be the last store */

	if (record->serial == 0)
		return 0;
	if (record->serial > header->last_serial)
		return bad(reason, -EPROTO, "slot %u, serial: higher than the last", slot);
	if (record->joined > latest || record->left > latest ||
		(record->left != 0 && (record->joined == 0 || record->left <= record->joined)))
		return bad(reason, -EPROTO, "slot %u, joined or left: %llu, %llu of %llu", slot,
			(unsigned long long)record->joined, (unsigned long long)record->left,
			(unsigned long long)latest);
	if (record->id >= header->ids_used || kept_bit(ids, record->id))
		return bad(
			reason, -EPROTO, "slot %u, id: %u is not used, or twice", slot, record->id);
	kept_set_bit(ids, record->id, true);
	if (record->read_only > 1 || record->restricted > 1 || record->has_texts > 1)
		return bad(reason, -EPROTO,
			"slot %u, read_only, restricted or has_texts: neither 0 nor 1", slot);
	if (record->rule < -1)
		return bad(reason, -EPROTO, "slot %u, rule: %d", slot, record->rule);
	return 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

/* Are all of these different? */
static int check_serials(const struct kept_state *state, char *reason)
{
	unsigned n = 0, used = state->header->slots_used;
	uint64_t *serials = calloc(used + 1, sizeof(*serials));
	int error = 0;

	if (!serials)
		return bad(reason, -ENOMEM, "out of memory");
	for (unsigned slot = 0; slot < used; slot++) {
		if (state->records[slot].serial != 0)
			serials[n++] = state->records[slot].serial;
	}
	qsort(serials, n, sizeof(*serials), compare);
	for (unsigned i = 1; i < n && error == 0; i++) {
		if (serials[i] == serials[i - 1])
			error = bad(reason, -EPROTO, "serial: two peers have %llu",
				(unsigned long long)serials[i]);
	}
	free(serials);
	return error;
}

static int check_records(const struct kept_state *state, char *reason)
{
	uint64_t ids[IDS_COUNT / 64] = {0};
	uint64_t latest = state->header->joins + state->header->leaves + 1;
	int error = 0;

	for (unsigned slot = 0; slot < state->header->slots_used && error == 0; slot++)
		error = check_record(state, slot, ids, reason);
	if (error == 0)
		error = check_serials(state, reason);
	for (unsigned id = 0; id < state->header->ids_used && error == 0; id++) {
		if (state->left_at[id] > latest)
			error = bad(reason, -EPROTO, "left_at of ID %u: later than the last", id);
	}
	return error;
}

/* A step that somebody can be at or have before him. */
static bool is_step(const struct kept_state *state, const struct kept_step *step)
{
	const struct kept_header *header = state->header;

	if (step->offset >= header->width || step->greeted != (step->kind != KEPT_HELLO) ||
		step->index >= messages_of(header, step->kind))
		return false;
	if (step->kind == KEPT_HELLO)
		return step->member == 0;
	if (step->member >= header->slots_used)
		return false;
	const struct kept_record *member = &state->records[step->member];
	return kept_is_gone(member) || (step->kind == KEPT_CONNECT && kept_is_live(member));
}

/* The batch in flight: steps of a peer that is in, and lengths as the kernel notes them. */
static int check_journal(const struct kept_state *state, char *reason)
{
	const struct kept_header *header = state->header;
	const struct kept_journal *journal = &header->journal;
	uint32_t reader = (uint32_t)journal->batch, n = (uint32_t)(journal->batch >> 32);
	bool ended = false;

	if (journal->batch == 0)
		return 0;
	if (n == 0 || n > FDPASS_BATCH || reader == 0 || reader > header->slots_used ||
		!kept_is_live(&state->records[reader - 1]))
		return bad(
			reason, -EPROTO, "journal, batch: %u messages for slot %u", n, reader - 1);
	for (unsigned i = 0; i < n; i++) {
		struct kept_step step;
		size_t bytes;

		if (kept_step_unpack(journal->steps[i], &step) < 0 || !is_step(state, &step) ||
			(i > 0 && step.offset > 0))
			return bad(reason, -EPROTO, "journal, step %u: impossible", i);
		bool out = fdpass_batch_went_out(state->headers, i, &bytes);
		if (out && (ended || bytes == 0 || bytes > header->width - step.offset))
			return bad(reason, -EPROTO, "journal, length %u: %zu", i, bytes);
		ended = !out || bytes < header->width - step.offset;
	}
	return 0;
}

/* Has the reader been told of somebody who is not? Words at a time; there may be many. */
static int check_row(const struct kept_state *state, const uint64_t *row, const uint64_t *present,
	unsigned reader, char *reason)
{
	for (unsigned word = 0; word < (state->header->slots_used + 63) / 64; word++) {
		if (row[word] & ~present[word])
			return bad(reason, -EPROTO,
				"slot %u, row: it has been told of a peer that never was", reader);
	}
	return 0;
}

/* Can a conversation be there, between two batches? */
static bool is_progress(const struct kept_state *state, const struct kept_view *view)
{
	struct kept_step step;

	if (kept_step_unpack(view->progress, &step) < 0)
		return false;
	if (step.kind == KEPT_NOTHING)
		return step.member == 0 && step.index == 0 && step.offset == 0;
	if (!is_step(state, &step) || (step.index == 0 && step.offset == 0))
		return false;
	return step.kind == KEPT_HELLO ||
		kept_bit(view->row, step.member) == (step.kind == KEPT_LEAVE);
}

/* The conversation with each peer, as it will be when the batch in flight has been accounted for.
 */
static int check_readers(
	const struct kept_state *state, uint64_t *present, uint64_t *scratch, char *reason)
{
	const struct kept_header *header = state->header;
	int error = 0;

	for (unsigned slot = 0; slot < header->slots_used; slot++) {
		const struct kept_record *record = &state->records[slot];
		if (header->vectors > 0)
			kept_set_bit(present, slot, kept_is_live(record) || kept_is_gone(record));
	}
	for (unsigned slot = 0; slot < header->slots_used && error == 0; slot++) {
		const struct kept_record *record = &state->records[slot];
		struct kept_view view = {.row = scratch, .progress = record->progress};

		if (!kept_is_live(record))
			continue;
		memcpy(scratch, kept_row(state, slot), state->row_words * sizeof(*scratch));
		if ((uint32_t)header->journal.batch == slot + 1)
			kept_replay(state, &view);
		error = check_row(state, scratch, present, slot, reason);
		if (error == 0 && !is_progress(state, &view))
			error = bad(reason, -EPROTO, "slot %u, progress: %#llx is impossible", slot,
				(unsigned long long)view.progress);
	}
	return error;
}

int kept_check(struct kept_state *state, void *memory, size_t size,
	const struct server_config *config, char reason[KEPT_REASON_SIZE])
{
	reason[0] = '\0';
	int error = check_size(state, memory, size, reason);
	if (error == 0)
		error = check_header(state->header, config, reason);
	if (error == 0)
		error = check_records(state, reason);
	if (error == 0)
		error = check_journal(state, reason);
	if (error < 0)
		return error;

	uint64_t *bits = calloc(2, state->row_words * sizeof(*bits));
	if (!bits)
		return bad(reason, -ENOMEM, "out of memory");
	error = check_readers(state, bits, bits + state->row_words, reason);
	free(bits);
	return error;
}
