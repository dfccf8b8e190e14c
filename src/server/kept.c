/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What is kept is what cannot be found out again: who is there (a record each), who has been told
 * of whom (a bit each), and how far a message is that is out in part. Queues are not kept: they
 * follow from that. So a kill cannot leave half a queue behind, and nothing here depends on what
 * was noted after a system call: a batch that may be on its way is described before, and the kernel
 * itself says how much of it went out.
 *
 * Every change of meaning is one store (kept_commit), and what it makes valid is written before.
 * What a keeper holds is there before the store that needs it, and goes after the one that does
 * not.
 */
#include "server/kept.h"

#include "server/kept_record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

/*
 * Being kept, or not
 */

int kept_attach(struct server *server, const struct kept_state *state)
{
	struct kept *kept = calloc(1, sizeof(*kept));
	uint64_t *taken = calloc(state->row_words, sizeof(*taken));

	if (!kept || !taken) {
		free(kept);
		free(taken);
		return -ENOMEM;
	}
	*kept = (struct kept){.state = *state, .taken = taken};
	/* The kernel's notes must not fail for want of memory. Without the right to lock they could
	 * where the page has been swapped out and no memory is left; then we die of it as well. */
	(void)mlock(state->header, (size_t)((char *)state->left_at - (char *)state->header));
	fdpass_batch_set_headers(server->batch, state->headers);
	free(server->left_at);
	server->left_at = state->left_at;
	server->kept = kept;
	return 0;
}

void kept_detach(struct server *server)
{
	if (!server->kept)
		return;
	server->left_at = NULL;
	free(server->kept->taken);
	free(server->kept);
	server->kept = NULL;
}

int kept_begin(struct server *server, void *memory, size_t size)
{
	const struct wire_format *format = server->config.format;
	struct kept_state state;
	unsigned slots = kept_slots(&server->config);

	if (size != kept_lay_out(&state, memory, slots))
		return -EINVAL;
	int error = kept_attach(server, &state);
	if (error < 0)
		return error;
	*state.header = (struct kept_header){
		.version = KEPT_VERSION,
		.size = size,
		.slots = slots,
		.vectors = server->config.vectors,
		.record_size = sizeof(struct kept_record),
		.row_size = state.row_words * (unsigned)sizeof(uint64_t),
		.headers_size = (uint32_t)fdpass_batch_headers_size(),
		.width = format->width,
		.big_endian = format->big_endian,
		.has_version = format->has_version,
		.last_serial = server->last_serial,
	};
	uint64_t magic;
	memcpy(&magic, KEPT_MAGIC, sizeof(magic));
	kept_commit((uint64_t *)(void *)state.header->magic, magic);
	return 0;
}

static struct kept_record *record_of(const struct server *server, const struct member *member)
{
	return &server->kept->state.records[member->slot];
}

/*
 * Coming
 */

static int take_slot(struct kept *kept)
{
	unsigned words = (kept->state.slots + 63) / 64;

	for (unsigned word = kept->hint / 64; word < words; word++) {
		if (~kept->taken[word] == 0)
			continue;
		unsigned slot = word * 64 + (unsigned)__builtin_ctzll(~kept->taken[word]);
		if (slot >= kept->state.slots)
			break;
		kept_set_bit(kept->taken, slot, true);
		kept->hint = slot;
		return (int)slot;
	}
	return -ENOSPC;
}

static void release_slot(struct kept *kept, unsigned slot)
{
	kept_commit(&kept->state.records[slot].serial, 0);
	kept_set_bit(kept->taken, slot, false);
	if (slot < kept->hint)
		kept->hint = slot;
}

void kept_serial(struct server *server)
{
	if (server->kept)
		kept_commit(&server->kept->state.header->last_serial, server->last_serial);
}

static void write_texts(struct kept_record *record, const struct who *who)
{
	record->has_texts = 0;
	if (!who->texts)
		return;
	__atomic_signal_fence(__ATOMIC_SEQ_CST); /* half a text is no text */
	who_copy_texts(who, record->texts);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	record->has_texts = 1;
}

/* All but the serial number, which makes it count. */
static void write_record(struct kept_record *record, const struct server_peer *peer)
{
	record->joined = record->left = record->progress = record->sent = 0;
	record->joined_ms = peer->joined_ms;
	record->rule_key = peer->rule_key;
	record->uid = peer->who.uid;
	record->gid = peer->who.gid;
	record->pid = peer->who.pid;
	record->rule = peer->rule;
	record->id = peer->member->id;
	record->read_only = peer->read_only;
	record->restricted = peer->rings != NULL;
	if (peer->rings)
		memcpy(record->rings, peer->rings->bits, sizeof(record->rings));
	write_texts(record, &peer->who);
}

int kept_joining(struct server *server, struct server_peer *peer, bool *held)
{
	struct kept *kept = server->kept;
	struct member *member = peer->member;
	int error = 0;

	if (!kept)
		return 0;
	int slot = take_slot(kept);
	if (slot < 0)
		return slot;
	member->slot = (unsigned)slot;

	struct kept_header *header = kept->state.header;
	if (header->slots_used <= member->slot)
		header->slots_used = member->slot + 1;
	if (header->ids_used <= member->id)
		header->ids_used = member->id + 1u;
	memset(kept_row(&kept->state, member->slot), 0,
		(header->slots_used + 63) / 64 * sizeof(uint64_t));
	write_record(record_of(server, member), peer);
	kept_commit(&record_of(server, member)->serial, member->serial);

	if (!*held)
		error = server->ops->keep(
			server->data, SERVER_KEPT_SOCKET, member->serial, &peer->sock, 1);
	*held |= error == 0;
	if (error == 0 && member->vectors > 0)
		error = server->ops->keep(server->data, SERVER_KEPT_VECTORS, member->serial,
			member->fds, member->vectors);
	if (error < 0)
		kept_not_joining(server, peer);
	return error;
}

void kept_not_joining(struct server *server, struct server_peer *peer)
{
	if (!server->kept)
		return;
	kept_vectors_done(server, peer->member);
	release_slot(server->kept, peer->member->slot);
}

void kept_joined(struct server *server, const struct server_peer *peer)
{
	if (!server->kept)
		return;
	kept_commit(&record_of(server, peer->member)->joined, peer->joined_at);
	kept_counters(server);
}

void server_accepting(struct server *server, bool on)
{
	if (server->kept)
		kept_commit(
			&server->kept->state.header->accepting, on ? server->last_serial + 1 : 0);
}

/* The keeper has the connection too: to close ours would say nothing to the peer. */
void kept_refused(struct server *server, int sock, uint64_t serial)
{
	if (!server->kept)
		return;
	(void)shutdown(sock, SHUT_RDWR);
	server->ops->forget(server->data, SERVER_KEPT_SOCKET, serial);
}

/*
 * Going
 */

void kept_left(struct server *server, const struct server_peer *peer)
{
	if (!server->kept)
		return;
	(void)shutdown(peer->sock, SHUT_RDWR);
	kept_commit(&record_of(server, peer->member)->left, peer->member->left_at);
	kept_counters(server);
	server->ops->forget(server->data, SERVER_KEPT_SOCKET, peer->member->serial);
}

void kept_vectors_done(struct server *server, const struct member *member)
{
	if (server->kept && member->vectors > 0)
		server->ops->forget(server->data, SERVER_KEPT_VECTORS, member->serial);
}

void kept_forgotten(struct server *server, const struct member *member)
{
	if (server->kept)
		release_slot(server->kept, member->slot);
}

/*
 * Telling
 */

static enum kept_kind kind_of(const struct entry *entry)
{
	switch (entry->kind) {
	case ENTRY_HELLO:
		return KEPT_HELLO;
	case ENTRY_CONNECT:
		return KEPT_CONNECT;
	case ENTRY_LEAVE:
		return KEPT_LEAVE;
	case ENTRY_FAREWELL: /* is not kept: nobody resumes after it */
	case ENTRY_CANCELLED:
		break;
	}
	return KEPT_NOTHING;
}

void kept_message(struct server *server, unsigned i, const struct entry *entry, unsigned index,
	unsigned offset)
{
	if (!server->kept)
		return;
	const struct kept_step step = {
		.kind = kind_of(entry),
		.member = entry->member ? entry->member->slot : 0,
		.index = index,
		.offset = offset,
		.greeted = entry->kind != ENTRY_HELLO,
	};
	server->kept->state.header->journal.steps[i] = kept_step_pack(&step);
}

void kept_sending(struct server *server, const struct server_peer *peer, unsigned n)
{
	if (!server->kept || server->leaving)
		return;
	struct kept_header *header = server->kept->state.header;
	header->journal.sent = record_of(server, peer->member)->sent;
	header->journal.messages = header->messages;
	kept_commit(&header->journal.batch, (uint64_t)n << 32 | (peer->member->slot + 1));
}

void kept_sent(struct server *server, const struct server_peer *peer)
{
	if (!server->kept || server->leaving)
		return;
	kept_settle_batch(&server->kept->state, peer->member->slot);
}

/*
 * The rest
 */

void kept_counters(struct server *server)
{
	if (!server->kept)
		return;
	struct kept_header *header = server->kept->state.header;
	kept_commit(&header->joins, server->stats.joins);
	kept_commit(&header->leaves, server->stats.leaves);
	kept_commit(&header->evictions, server->stats.evictions);
	kept_commit(&header->refusals, server->stats.refusals);
}

void kept_identity(struct server *server, const struct server_peer *peer)
{
	if (!server->kept)
		return;
	struct kept_record *record = record_of(server, peer->member);
	record->uid = peer->who.uid;
	record->gid = peer->who.gid;
	record->pid = peer->who.pid;
	write_texts(record, &peer->who);
}

void kept_ending(struct server *server)
{
	if (server->kept)
		__atomic_store_n(&server->kept->state.header->ending, 1, __ATOMIC_SEQ_CST);
}
