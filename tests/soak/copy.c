/* SPDX-License-Identifier: MIT */
/*
 * What is kept, at any moment, is enough to go on: another server takes over from a copy of it, and
 * has the same peers, with the same to be told, as the one that goes on working. It has copies of
 * the descriptors, too, and never gets so far as to send.
 */
#include "sim.h"

#include "server/kept_state.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static bool joined(void *data, struct server_peer *peer, int sock)
{
	(void)data;
	(void)peer;
	(void)sock;
	return true;
}

static void want_write(void *data, struct server_peer *peer, bool on)
{
	(void)data;
	(void)peer;
	(void)on;
}

static void left(void *data, struct server_peer *peer)
{
	(void)data;
	(void)peer;
}

static int keep(void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n)
{
	(void)data;
	(void)kind;
	(void)serial;
	(void)fds;
	(void)n;
	return 0;
}

static void forget(void *data, enum server_kept kind, uint64_t serial)
{
	(void)data;
	(void)kind;
	(void)serial;
}

static const struct server_ops ops = {
	.joined = joined, .want_write = want_write, .left = left, .keep = keep, .forget = forget};

/* Only what was ever touched: most of it was not. */
static void copy_state(const struct sim *sim)
{
	unsigned slots = kept_slots(&sim->box->config);
	struct kept_state from, to;

	kept_lay_out(&from, sim->box->kept, slots);
	kept_lay_out(&to, sim->copy, slots);
	const struct kept_header *header = from.header;
	memcpy(to.header, from.header, (size_t)((char *)from.left_at - (char *)from.header));
	memcpy(to.left_at, from.left_at, header->ids_used * sizeof(*to.left_at));
	memcpy(to.records, from.records, header->slots_used * sizeof(*to.records));
	memcpy(to.rows, from.rows, (size_t)header->slots_used * header->row_size);
}

/* Peers of one server, to be found one after the other at another one. */
struct comparison {
	struct server_peer_info peers[SIM_GUESTS];
	unsigned n, at;
	const char *difference;
};

static bool note(void *data, const struct server_peer_info *info)
{
	struct comparison *comparison = data;
	comparison->peers[comparison->n++] = *info;
	return comparison->n < SIM_GUESTS;
}

static bool compare(void *data, const struct server_peer_info *info)
{
	struct comparison *comparison = data;
	const struct server_peer_info *other = &comparison->peers[comparison->at];

	if (comparison->at++ >= comparison->n || info->serial != other->serial)
		comparison->difference = "a copy has other peers, or in another order";
	else if (info->id != other->id || info->joined_ms != other->joined_ms)
		comparison->difference = "a copy has another ID or time of joining";
	else if (info->sent != other->sent)
		comparison->difference = "a copy has sent another number of messages";
	else if (info->queued != other->queued)
		comparison->difference = "a copy has more or less to tell";
	return !comparison->difference;
}

static const char *compare_servers(const struct server *one, const struct server *other)
{
	struct comparison comparison = {.n = 0};
	struct server_stats mine, copied;

	server_get_stats(one, &mine);
	server_get_stats(other, &copied);
	if (copied.restarts != mine.restarts + 1)
		return "a copy counts its restarts otherwise";
	if (copied.joins != mine.joins || copied.leaves != mine.leaves ||
		copied.evictions != mine.evictions || copied.refusals != mine.refusals ||
		copied.messages != mine.messages || copied.peers != mine.peers)
		return "a copy has other counters";
	if (copied.quarantined != mine.quarantined)
		return "a copy has more or fewer IDs in quarantine";
	if (server_last_serial(one) != server_last_serial(other))
		return "a copy counts connections otherwise";
	server_visit((struct server *)(uintptr_t)one, note, &comparison);
	server_visit((struct server *)(uintptr_t)other, compare, &comparison);
	if (!comparison.difference && comparison.at != comparison.n)
		return "a copy has fewer peers";
	return comparison.difference;
}

static void close_all(struct kept_descriptors *sets, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		for (unsigned j = 0; j < sets[i].n; j++)
			close(sets[i].fds[j]);
	}
}

int sim_check_copy(struct sim *sim)
{
	static struct kept_descriptors held[BOX_MAX_HELD];
	struct box *box = sim->box;
	struct server *copy;

	copy_state(sim);
	unsigned n = box_held_copies(box, held);
	if (server_create(&copy, &box->config, box->region_fd, &ops, NULL, NULL) < 0)
		return -1;
	int error = kept_resume(copy, sim->copy, box->kept_size, held, n, sim->reason);
	if (error < 0)
		close_all(held, n);
	sim->complaint = error < 0 ? sim->reason : compare_servers(box->server, copy);
	server_destroy(copy);
	box_free_copies(held, n);
	return sim->complaint ? -1 : 0;
}
