/* SPDX-License-Identifier: MIT */
/* Whether a sim is as its model says. */
#include "sim.h"

#include "shortage.h"

#include <stdio.h>

#define RETRIES 60 /* of 60 ms, until those who are awake must have everything */

int sim_complain(struct sim *sim, unsigned guest, const char *what)
{
	sim->complaint = what;
	sim->guest = guest;
	return -1;
}

static struct box_client *client_of(const struct sim *sim, const struct sim_guest *guest)
{
	return &sim->box->clients[guest - sim->guests];
}

static void bid_farewell(struct sim *sim, struct sim_guest *guest)
{
	box_disconnect(sim->box, (unsigned)(guest - sim->guests));
	*guest = (struct sim_guest){.id = -1};
	sim->n--;
}

/* May the server throw it out for what it does, or does not do? */
static bool is_burden(const struct sim *sim, const struct sim_guest *guest)
{
	const struct server_config *config = &sim->box->config;

	switch (guest->temper) {
	case AWAKE:
		return false;
	case SLOW: /* a jump is a long time without reading */
		return config->max_queue > 0 || (sim->jumped && config->stall_timeout_ms > 0);
	case ASLEEP:
		break;
	}
	return config->max_queue > 0 || config->stall_timeout_ms > 0;
}

/* ---- what is due ---- */

unsigned sim_read_all(struct sim *sim)
{
	unsigned total = 0, moved;

	do {
		moved = 0;
		box_run(sim->box);
		for (unsigned g = 0; g < SIM_GUESTS; g++) {
			const struct sim_guest *guest = &sim->guests[g];
			if ((guest->in || guest->waiting) && guest->temper == AWAKE)
				moved += box_read(sim->box, g, UINT32_MAX);
		}
		total += moved;
	} while (moved > 0);
	return total;
}

/* The server's view of its peers. */
struct view {
	struct sim *sim;
	struct server_peer_info peers[SIM_GUESTS];
	unsigned n;
	bool awake_wait;
};

static struct sim_guest *guest_of(struct sim *sim, uint64_t serial)
{
	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		if ((sim->guests[g].in || sim->guests[g].waiting) &&
			sim->guests[g].serial == serial)
			return &sim->guests[g];
	}
	return NULL;
}

static bool note_peer(void *data, const struct server_peer_info *info)
{
	struct view *view = data;
	const struct sim_guest *guest = guest_of(view->sim, info->serial);

	if (view->n < SIM_GUESTS)
		view->peers[view->n] = *info;
	view->n++;
	view->awake_wait |= info->queued > 0 && guest && guest->temper == AWAKE;
	return true;
}

static void look(struct sim *sim, struct view *view)
{
	*view = (struct view){.sim = sim};
	server_visit(sim->box->server, note_peer, view);
}

/* Until the awake have heard everything. That takes time only if the kernel was short of something,
 * and then not much. */
static int settle(struct sim *sim, struct view *view)
{
	for (unsigned i = 0; i < RETRIES; i++) {
		sim_read_all(sim);
		look(sim, view);
		if (!view->awake_wait)
			return 0;
		box_wait(sim->box, 60);
	}
	return sim_complain(sim, 0, "somebody who reads everything is not told everything");
}

/* ---- is it as the model says? ---- */

/* One who was in is no peer any more. */
static int see_off(struct sim *sim, struct sim_guest *guest, unsigned *evictions)
{
	unsigned g = (unsigned)(guest - sim->guests);
	bool excused = guest->parting || guest->broken;

	if (!excused && !guest->evicted && !is_burden(sim, guest) && !something_is_short())
		return sim_complain(sim, g, "thrown out");
	*evictions += !excused && !something_is_short();
	box_read(sim->box, g, UINT32_MAX);
	if (!excused && !sim->box->clients[g].ended)
		return sim_complain(sim, g, "out, and does not see it");
	if (sim->box->clients[g].violation)
		return sim_complain(sim, g, sim->box->clients[g].violation);
	sim->leaves++;
	bid_farewell(sim, guest);
	return 0;
}

static int meet_peers(struct sim *sim, const struct view *view)
{
	for (unsigned i = 0; i < view->n; i++) {
		struct sim_guest *guest = guest_of(sim, view->peers[i].serial);
		if (!guest)
			return sim_complain(sim, 0, "there is a peer who never came");
		if (guest->waiting)
			sim_welcome(sim, guest, guest->serial);
		if (guest->id >= 0 && guest->id != view->peers[i].id)
			return sim_complain(sim, (unsigned)(guest - sim->guests), "has another ID");
		if (view->peers[i].joined_ms != guest->joined_ms)
			return sim_complain(
				sim, (unsigned)(guest - sim->guests), "joined at another time");
		guest->id = view->peers[i].id;
	}
	return 0;
}

static bool is_peer(const struct view *view, uint64_t serial)
{
	for (unsigned i = 0; i < view->n; i++) {
		if (view->peers[i].serial == serial)
			return true;
	}
	return false;
}

/* One who waited for a server was not let in. */
static int turn_away(struct sim *sim, struct sim_guest *guest)
{
	unsigned g = (unsigned)(guest - sim->guests);

	if (!guest->parting && !sim->may_refuse && !something_is_short())
		return sim_complain(sim, g, "waited, and was refused");
	box_disconnect(sim->box, g);
	*guest = (struct sim_guest){.id = -1};
	return 0;
}

static int miss_others(struct sim *sim, const struct view *view, const struct server_stats *stats)
{
	unsigned evictions = 0, refused = 0;
	uint64_t leaves = sim->leaves;

	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		struct sim_guest *guest = &sim->guests[g];
		bool peer = is_peer(view, guest->serial);
		if (guest->waiting && !peer) {
			refused += !guest->parting;
			if (turn_away(sim, guest) < 0)
				return -1;
		}
		if (!guest->in)
			continue;
		if (peer && guest->parting)
			return sim_complain(sim, g, "has gone, and is a peer still");
		if (!peer && see_off(sim, guest, &evictions) < 0)
			return -1;
	}
	/* Let in, and thrown out before we looked. */
	if (something_is_short() && stats->joins > sim->joins &&
		stats->joins - sim->joins <= refused) {
		refused -= (unsigned)(stats->joins - sim->joins);
		sim->leaves += stats->joins - sim->joins;
		sim->joins = stats->joins;
	}
	sim->refusals += refused;
	uint64_t counted = stats->evictions - sim->evictions;
	if (counted < evictions || counted > sim->leaves - leaves)
		return sim_complain(sim, 0, "evictions do not add up");
	sim->evictions = stats->evictions;
	return 0;
}

static int check_counters(
	struct sim *sim, const struct view *view, const struct server_stats *stats)
{
	uint64_t sent = 0, sent_before = 0;
	bool same = stats->joins == sim->joins && stats->leaves == sim->leaves;

	for (unsigned i = 0; i < view->n; i++) {
		struct sim_guest *guest = guest_of(sim, view->peers[i].serial);
		const struct box_client *client = client_of(sim, guest);
		if (view->peers[i].sent < client->messages ||
			(guest->temper == AWAKE && view->peers[i].sent != client->messages))
			return sim_complain(sim, (unsigned)(guest - sim->guests),
				"messages sent and received differ");
		sent += view->peers[i].sent;
		sent_before += guest->sent;
		guest->sent = view->peers[i].sent;
	}
	if (!same || stats->peers != sim->n || stats->restarts != sim->restarts ||
		stats->refusals != sim->refusals) {
		snprintf(sim->reason, sizeof(sim->reason),
			"%llu joins, %llu leaves, %u peers, %llu refusals, %llu restarts, and it "
			"should be %llu, %llu, %u, %llu, %llu",
			(unsigned long long)stats->joins, (unsigned long long)stats->leaves,
			stats->peers, (unsigned long long)stats->refusals,
			(unsigned long long)stats->restarts, (unsigned long long)sim->joins,
			(unsigned long long)sim->leaves, sim->n, (unsigned long long)sim->refusals,
			(unsigned long long)sim->restarts);
		return sim_complain(sim, 0, sim->reason);
	}
	/* What was sent to those who have left since the last time only the server knows. */
	uint64_t counted = stats->messages - sim->last_messages;
	if (counted < sent - sent_before ||
		(sim->leaves == sim->last_leaves && counted != sent - sent_before))
		return sim_complain(sim, 0, "messages do not add up");
	sim->last_messages = stats->messages;
	sim->last_leaves = sim->leaves;
	return 0;
}

/* Does the guest know exactly those who are in? */
static bool sees_all(const struct sim *sim, const struct box_client *client)
{
	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		const struct sim_guest *other = &sim->guests[g];
		if (other->in && client->vectors[other->id] != sim->box->config.vectors)
			return false;
	}
	return client->others == sim->n - 1;
}

static int check_guests(struct sim *sim)
{
	unsigned last = SIM_GUESTS;

	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		const struct box_client *client = &sim->box->clients[g];
		if (!sim->guests[g].in)
			continue;
		if (client->violation)
			return sim_complain(sim, g, client->violation);
		if (client->id >= 0 && client->id != sim->guests[g].id)
			return sim_complain(sim, g, "was told another ID than the server has");
		if (sim->guests[g].temper != AWAKE || sim->guests[g].broken)
			continue;
		if (!sees_all(sim, client))
			return sim_complain(sim, g, "does not see exactly who is there");
		if (last < SIM_GUESTS && chance_one_in(sim->chance, 8) &&
			!box_rings(sim->box, last, g))
			return sim_complain(sim, g, "is not rung by who rings it");
		last = g;
	}
	return 0;
}

/* What the keeper has: of everybody the connection and the vectors; of who has gone, the vectors
 * as long as somebody is in the middle of hearing of them. */
static int check_held(struct sim *sim, const struct server_stats *stats)
{
	unsigned least = 2 * sim->n;

	if (sim->box->n_held < least || sim->box->n_held > least + stats->quarantined)
		return sim_complain(sim, 0, "the keeper has too little or too much");
	return 0;
}

int sim_check(struct sim *sim)
{
	struct server_stats stats;
	struct view view;

	if (settle(sim, &view) < 0)
		return -1;
	server_get_stats(sim->box->server, &stats);
	if (view.n > SIM_GUESTS || meet_peers(sim, &view) < 0 ||
		miss_others(sim, &view, &stats) < 0 || check_counters(sim, &view, &stats) < 0 ||
		check_guests(sim) < 0)
		return -1;
	sim->jumped = false;
	return check_held(sim, &stats);
}

/* ---- descriptors ---- */

void sim_count_descriptors(const struct sim *sim, unsigned *least, unsigned *most)
{
	const struct box *box = sim->box;
	struct server_stats stats;

	*least = 1; /* the region */
	for (unsigned i = 0; i < box->n_held; i++)
		*least += box->held[i].n;
	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		const struct box_client *client = &box->clients[g];
		if (!sim->guests[g].in)
			continue;
		*least += 1 + box->config.vectors; /* the server's */
		*least += 1 + client->n_first;     /* the guest's */
		for (unsigned v = 0; v < BOX_MAX_VECTORS; v++)
			*least += client->own[v] >= 0;
	}
	/* Those of whom somebody has heard half. */
	server_get_stats(box->server, &stats);
	*most = *least + stats.quarantined * box->config.vectors;
}
