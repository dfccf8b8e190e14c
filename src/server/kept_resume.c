/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * First everything is checked, then everything is made that takes memory or descriptors of our own,
 * and only then anything is taken over; from there on nothing can fail but the watch of a socket,
 * which costs its peer the place. What a reader is still to be told is worked out as if it were
 * asked now: of everybody who is there and of whom it has not heard, of everybody who has gone and
 * of whom it has, each at the time when it happened, and before these what it has heard in part.
 */
#include "server/kept.h"

#include "server/kept_held.h"
#include "server/kept_record.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Something that readers may have to be told. */
struct event {
	uint64_t at;
	unsigned slot;
};

struct resume {
	struct server *server;
	struct kept_state state;
	unsigned used; /* slots */
	struct kept_holdings holdings;
	struct member **members;           /* of each slot */
	struct server_peer **peers;        /* the same */
	uint64_t *live, *gone, *half_told; /* bits */
	struct event *events;              /* room for one of each slot */
	char *reason;
};

static int __attribute__((format(printf, 3, 4)))
bad(struct resume *resume, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(resume->reason, KEPT_REASON_SIZE, format, args);
	va_end(args);
	return error;
}

/*
 * What was left
 */

static int check_read_only(struct resume *resume, unsigned slot)
{
	const struct kept_record *record = &resume->state.records[slot];
	struct kept_step step;

	(void)kept_step_unpack(record->progress, &step);
	if (kept_is_live(record) && record->read_only && !step.greeted &&
		resume->server->read_only_fd < 0)
		return bad(resume, -EINVAL,
			"slot %u, read_only: the region cannot be opened for reading only", slot);
	return 0;
}

/* A connection that is not held has no other end any more. */
static void note_lost(struct resume *resume, unsigned slot)
{
	struct kept_record *record = &resume->state.records[slot];
	struct kept_header *header = resume->state.header;

	if (!kept_is_live(record) ||
		kept_find_held(&resume->holdings, SERVER_KEPT_SOCKET, record->serial))
		return;
	server_say(resume->server, record->uid, LOG_LEVEL_WARNING,
		"peer %u left: its connection was not kept", record->id);
	kept_commit(&record->left, header->joins + header->leaves + 1);
	kept_commit(&header->leaves, header->leaves + 1);
}

/* Whoever was being accepted and is not held is lost, if there was anybody: an upper bound. */
static void count_lost_in_accept(struct resume *resume)
{
	struct kept_header *header = resume->state.header;

	if (header->accepting == 0)
		return;
	if (!kept_find_held(&resume->holdings, SERVER_KEPT_SOCKET, header->accepting)) {
		log_warning(resume->server->log,
			"a client that was just being accepted may have been lost");
		kept_commit(&header->lost_in_accept, header->lost_in_accept + 1);
	}
	kept_commit(&header->accepting, 0);
}

/* The latest join or leave is the last store of its kind: its count may be missing. */
static void recount(struct resume *resume)
{
	struct kept_header *header = resume->state.header;
	uint64_t counted = header->joins + header->leaves;

	for (unsigned slot = 0; slot < resume->used; slot++) {
		const struct kept_record *record = &resume->state.records[slot];
		if (record->serial == 0)
			continue;
		if (record->left > counted)
			kept_commit(&header->leaves, header->leaves + 1);
		else if (record->joined > counted)
			kept_commit(&header->joins, header->joins + 1);
		else
			continue;
		return;
	}
}

/*
 * What it takes
 */

static int make_peer(struct resume *resume, unsigned slot, int sock)
{
	struct server *server = resume->server;
	const struct kept_record *record = &resume->state.records[slot];
	struct server_peer *peer = peer_create(server, sock);

	if (!peer)
		return -ENOMEM;
	resume->peers[slot] = peer;
	peer->member = resume->members[slot];
	peer->joined_at = record->joined;
	peer->joined_ms = record->joined_ms;
	peer->rule_key = record->rule_key;
	peer->rule = server_find_rule(server, record->rule, record->rule_key);
	peer->read_only = record->read_only;
	peer->sent = record->sent;
	peer->who = (struct who){.uid = record->uid, .gid = record->gid, .pid = record->pid};
	if (record->has_texts) {
		struct identity *identity = &server->identity;
		who_get(&peer->who, identity);
		who_read_texts(record->texts, identity);
		if (who_set(&peer->who, identity) < 0)
			return -ENOMEM;
	}
	if (record->restricted) {
		struct policy_vectors rings = {.all = false};
		memcpy(rings.bits, record->rings, sizeof(rings.bits));
		int error = peer_restrict(peer, &rings);
		if (error < 0)
			return error;
	}
	return user_join(server->users, peer);
}

/* Whoever has gone is still needed as long as somebody must hear of it; but his vectors only if
 * somebody is in the middle of these. */
static int make_member(struct resume *resume, unsigned slot)
{
	const struct kept_record *record = &resume->state.records[slot];
	bool gone = kept_is_gone(record);
	struct kept_held *socket =
		kept_find_held(&resume->holdings, SERVER_KEPT_SOCKET, record->serial);
	struct kept_held *vectors = NULL;

	if (!gone && (!kept_is_live(record) || !socket))
		return 0; /* who lost its connection is gone already */
	if (!gone || kept_bit(resume->half_told, slot))
		vectors = kept_find_held(&resume->holdings, SERVER_KEPT_VECTORS, record->serial);
	struct member *member = member_adopt(record->id, record->serial,
		resume->server->config.vectors, vectors ? vectors->set->fds : NULL);
	if (!member)
		return -ENOMEM;
	resume->members[slot] = member;
	member->slot = slot;
	member->gone = gone;
	member->left_at = record->left;
	kept_set_bit(gone ? resume->gone : resume->live, slot, true);
	if (vectors)
		vectors->fate = KEPT_USED;
	if (socket)
		socket->fate = gone ? KEPT_OVER : KEPT_USED;
	return gone ? 0 : make_peer(resume, slot, socket->set->fds[0]);
}

/*
 * Queues
 */

static int compare_events(const void *a, const void *b)
{
	const struct event *x = a, *y = b;
	return (x->at > y->at) - (x->at < y->at);
}

static void add_events(struct resume *resume, unsigned *n, uint64_t bits, unsigned first)
{
	for (; bits != 0; bits &= bits - 1) {
		unsigned slot = first + (unsigned)__builtin_ctzll(bits);
		const struct kept_record *record = &resume->state.records[slot];
		resume->events[(*n)++] = (struct event){
			.at = record->left != 0 ? record->left : record->joined, .slot = slot};
	}
}

/* Everything that the reader has not heard of, in its order; what it has begun to hear of is left
 * out, but not that this one has gone meanwhile. */
static unsigned find_events(struct resume *resume, unsigned reader, const struct kept_step *begun)
{
	const uint64_t *row = kept_row(&resume->state, reader);
	unsigned n = 0;

	for (unsigned word = 0; word < (resume->used + 63) / 64; word++) {
		uint64_t half = 0;
		if (begun->kind == KEPT_CONNECT || begun->kind == KEPT_LEAVE)
			half = begun->member / 64 == word ? UINT64_C(1) << begun->member % 64 : 0;
		uint64_t told = begun->kind == KEPT_LEAVE ? row[word] & ~half : row[word] | half;
		add_events(resume, &n, (resume->live[word] & ~told) | (resume->gone[word] & told),
			word * 64);
	}
	qsort(resume->events, n, sizeof(*resume->events), compare_events);
	return n;
}

static void push(struct resume *resume, struct queue *queue, unsigned slot, bool leave)
{
	struct member *member = resume->members[slot];

	queue_push(queue, leave ? ENTRY_LEAVE : ENTRY_CONNECT, member,
		leave ? 1 : resume->server->config.vectors);
}

static int make_queue(struct resume *resume, unsigned reader)
{
	struct queue *queue = &resume->peers[reader]->queue;
	struct kept_step begun;
	unsigned n = 0;

	(void)kept_step_unpack(resume->state.records[reader].progress, &begun);
	if (resume->server->config.vectors > 0)
		n = find_events(resume, reader, &begun);
	if (n == 0 && begun.greeted && begun.kind == KEPT_NOTHING)
		return 0;
	int error = queue_reserve(queue, n + 1);
	if (error < 0)
		return error;
	if (!begun.greeted)
		queue_push(queue, ENTRY_HELLO, NULL, kept_hello_messages(resume->state.header));
	else if (begun.kind != KEPT_NOTHING)
		push(resume, queue, begun.member, begun.kind == KEPT_LEAVE);
	for (unsigned i = 0; i < n; i++)
		push(resume, queue, resume->events[i].slot,
			kept_bit(resume->gone, resume->events[i].slot));
	queue->done = begun.index;
	queue->offset = begun.offset;
	queue->messages -= begun.index;
	return 0;
}

/* A server that has just been made has all IDs to give. */
static int restore_ids(struct resume *resume)
{
	uint64_t in_use[IDS_COUNT / 64] = {0};

	for (unsigned slot = 0; slot < resume->used; slot++) {
		if (resume->members[slot])
			kept_set_bit(in_use, resume->members[slot]->id, true);
	}
	return ids_restore(&resume->server->ids, resume->state.left_at,
		resume->state.header->ids_used, in_use);
}

static int make_everything(struct resume *resume)
{
	int error = 0;

	for (unsigned slot = 0; slot < resume->used && error == 0; slot++)
		error = make_member(resume, slot);
	for (unsigned slot = 0; slot < resume->used && error == 0; slot++) {
		if (resume->peers[slot])
			error = make_queue(resume, slot);
	}
	if (error == 0)
		error = restore_ids(resume);
	if (error == 0)
		error = kept_attach(resume->server, &resume->state);
	if (error == 0)
		return 0;
	for (unsigned slot = 0; slot < resume->used; slot++) {
		if (resume->peers[slot]) {
			queue_free(&resume->peers[slot]->queue);
			peer_destroy(resume->peers[slot]);
		}
		free(resume->members[slot]);
	}
	return bad(resume, error, "out of memory or descriptors");
}

/*
 * Taking over
 */

static void take_over_counters(struct resume *resume)
{
	struct server *server = resume->server;
	struct kept_header *header = resume->state.header;
	const struct kept_holdings *all = &resume->holdings;
	uint64_t highest = all->n > 0 ? all->held[all->n - 1].set->serial : 0;

	header->version = KEPT_VERSION; /* an older program must not go on with it */
	kept_commit(&header->restarts, header->restarts + 1);
	server->stats.restarts = header->restarts;
	server->stats.joins = header->joins;
	server->stats.leaves = header->leaves;
	server->stats.evictions = header->evictions;
	server->stats.refusals = header->refusals;
	server->stats.messages = header->messages;
	server->stats.lost_in_accept = header->lost_in_accept;
	server->last_serial = highest > header->last_serial ? highest : header->last_serial;
	kept_serial(server);
}

static void take_over_slots(struct resume *resume)
{
	struct kept *kept = resume->server->kept;

	for (unsigned slot = 0; slot < resume->used; slot++) {
		struct kept_record *record = &resume->state.records[slot];
		struct member *member = resume->members[slot];
		if (!member) {
			kept_commit(&record->serial, 0); /* it had not joined yet */
			continue;
		}
		kept_set_bit(kept->taken, slot, true);
		member->fds_open = member->vectors > 0 && member->fds[0] >= 0;
		resume->server->stats.quarantined += member->gone;
	}
}

/* In the order in which they joined. */
static void take_over_peers(struct resume *resume)
{
	struct server *server = resume->server;
	unsigned n = 0;

	for (unsigned word = 0; word < (resume->used + 63) / 64; word++)
		add_events(resume, &n, resume->live[word], word * 64);
	qsort(resume->events, n, sizeof(*resume->events), compare_events);
	for (unsigned i = 0; i < n; i++) {
		struct server_peer *peer = resume->peers[resume->events[i].slot];
		list_append(&server->peers, &peer->link);
		server->stats.peers++;
		peer->burst = peer->queue.messages; /* nobody's fault but ours */
		window_resume(server, peer);
		peer->burst_begins = peer->queue.count > 0;
		if (peer->queue.count > 0)
			peer_set_output(server, peer, OUTPUT_DIRTY);
	}
	server->resumed = true;
}

/* Before anybody is let go, so that all of them can still be told. */
static void watch_peers(struct resume *resume)
{
	struct server *server = resume->server;

	list_for_each_safe (node, &server->peers) {
		struct server_peer *peer = container_of(node, struct server_peer, link);
		peer->watched = server->ops->joined(server->data, peer, peer->sock);
		if (!peer->watched)
			peer_drop(server, peer, LOG_LEVEL_WARNING,
				"its connection cannot be watched");
	}
}

static void close_set(const struct resume *resume, const struct kept_descriptors *set)
{
	if (set->kind == SERVER_KEPT_SOCKET)
		(void)shutdown(set->fds[0], SHUT_RDWR);
	for (unsigned i = 0; i < set->n; i++)
		close(set->fds[i]);
	resume->server->ops->forget(resume->server->data, set->kind, set->serial);
}

static bool has_hung_up(int sock)
{
	char byte;
	return recv(sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void let_go(struct resume *resume)
{
	for (size_t i = 0; i < resume->holdings.n; i++) {
		const struct kept_held *held = &resume->holdings.held[i];
		if (held->fate == KEPT_OVER ||
			(held->fate == KEPT_UNKNOWN && held->set->kind == SERVER_KEPT_VECTORS))
			close_set(resume, held->set);
	}
	for (unsigned slot = 0; slot < resume->used; slot++) {
		if (kept_bit(resume->gone, slot))
			member_release(resume->server, resume->members[slot]);
	}
}

/* Those who had connected, and no more. */
static void let_in(struct resume *resume)
{
	for (size_t i = 0; i < resume->holdings.n; i++) {
		const struct kept_held *held = &resume->holdings.held[i];
		if (held->fate != KEPT_UNKNOWN || held->set->kind != SERVER_KEPT_SOCKET)
			continue;
		if (has_hung_up(held->set->fds[0])) {
			close_set(resume, held->set);
			continue;
		}
		server_settle_departures(resume->server);
		(void)server_let_in(resume->server, held->set->fds[0], held->set->serial, true);
	}
}

/*
 * All of it
 */

static int check_all(struct resume *resume, const struct kept_descriptors *sets)
{
	uint64_t batch = resume->state.header->journal.batch;
	int error = kept_sort_held(&resume->holdings, sets, resume->reason);

	if (error == 0 && batch != 0) /* changes no meaning, and may be done again */
		kept_settle_batch(&resume->state, (uint32_t)batch - 1);
	if (error == 0)
		error = kept_check_held(
			&resume->state, &resume->holdings, resume->half_told, resume->reason);
	for (unsigned slot = 0; slot < resume->used && error == 0; slot++)
		error = check_read_only(resume, slot);
	return error;
}

static int run(struct resume *resume, const struct kept_descriptors *sets)
{
	int error = check_all(resume, sets);
	if (error < 0)
		return error;
	recount(resume);
	count_lost_in_accept(resume);
	for (unsigned slot = 0; slot < resume->used; slot++)
		note_lost(resume, slot);
	error = make_everything(resume);
	if (error < 0)
		return error;

	take_over_counters(resume);
	take_over_slots(resume);
	take_over_peers(resume);
	let_go(resume);
	watch_peers(resume);
	log_info(resume->server->log, "%u peers taken over from an earlier process",
		resume->server->stats.peers);
	let_in(resume);
	return 0;
}

static bool allocate(struct resume *resume)
{
	unsigned n = resume->used + 1; /* calloc(0) may be NULL */
	unsigned words = (n + 63) / 64;

	resume->holdings.held = calloc(resume->holdings.n + 1, sizeof(*resume->holdings.held));
	resume->members = calloc(n, sizeof(struct member *));
	resume->peers = calloc(n, sizeof(struct server_peer *));
	resume->events = calloc(n, sizeof(*resume->events));
	resume->live = calloc(words, sizeof(uint64_t));
	resume->gone = calloc(words, sizeof(uint64_t));
	resume->half_told = calloc(words, sizeof(uint64_t));
	return resume->holdings.held && resume->members && resume->peers && resume->events &&
		resume->live && resume->gone && resume->half_told;
}

int kept_resume(struct server *server, void *memory, size_t size, struct kept_descriptors *held,
	size_t n_held, char reason[KEPT_REASON_SIZE])
{
	struct resume resume = {.server = server, .holdings.n = n_held, .reason = reason};
	int error = kept_check(&resume.state, memory, size, &server->config, reason);

	if (error < 0)
		return error;
	resume.used = resume.state.header->slots_used;
	error = allocate(&resume) ? run(&resume, held) : bad(&resume, -ENOMEM, "out of memory");
	free(resume.holdings.held);
	free(resume.members);
	free(resume.peers);
	free(resume.events);
	free(resume.live);
	free(resume.gone);
	free(resume.half_told);
	return error;
}
