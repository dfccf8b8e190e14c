/* SPDX-License-Identifier: MIT */
/*
 * Random joins, departures, stalls and naps against a reference model.
 *
 *     walk [SEED [STEPS]]
 *
 * The model is the set of who is connected, and nothing else: after everybody has read everything,
 * each client must see exactly that set, with all vectors, and its doorbells must ring the right
 * peer. On the way every client checks each message by the protocol's rules (serverbox.h). The seed
 * is printed; the same seed walks the same way, and a smaller STEPS finds the first bad step.
 */
#include "../common/serverbox.h"

#include "../common/chance.h"
#include "../common/fdcheck.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define CLIENTS 48

static struct chance chance;

static unsigned random_below(unsigned n)
{
	return chance_below(&chance, n);
}

struct walk {
	struct box *box;
	bool connected[CLIENTS]; /* the model */
	bool stalled[CLIENTS];   /* does not read until the next settling */
	unsigned steps, joins, settlings;
};

static int complain(const struct walk *walk, unsigned client, const char *what)
{
	fprintf(stderr, "step %u, client %u: %s\n", walk->steps, client, what);
	return -1;
}

static int check_rules(const struct walk *walk)
{
	for (unsigned c = 0; c < CLIENTS; c++) {
		const struct box_client *client = &walk->box->clients[c];
		if (walk->connected[c] && client->violation)
			return complain(walk, c, client->violation);
	}
	return 0;
}

static int settle_and_compare(struct walk *walk)
{
	struct box *box = walk->box;

	walk->settlings++;
	box_settle(box);
	for (unsigned c = 0; c < CLIENTS; c++) {
		walk->stalled[c] = false;
		if (!walk->connected[c])
			continue;
		if (box->clients[c].ended)
			return complain(walk, c, "thrown out");
		if (!box_sees_everyone(box, c))
			return complain(walk, c, "does not see exactly who is there");
		unsigned other = random_below(CLIENTS);
		if (other != c && walk->connected[other] && !box_rings(box, c, other))
			return complain(walk, c, "rings somebody else");
	}
	struct server_stats stats;
	server_get_stats(box->server, &stats);
	if (stats.quarantined > 0)
		return complain(walk, 0, "an ID stays in quarantine though all is flushed");
	if (box->due != -1)
		return complain(walk, 0, "the server wants to wake up though nothing is to do");
	return 0;
}

static int step(struct walk *walk)
{
	unsigned c = random_below(CLIENTS);
	struct box *box = walk->box;

	switch (random_below(16)) {
	case 0 ... 4:
		if (!walk->connected[c]) {
			if (box_connect(box, c) < 0)
				return complain(walk, c, "refused");
			walk->connected[c] = true;
			walk->joins++;
		}
		break;
	case 5 ... 7:
		if (walk->connected[c]) {
			box_disconnect(box, c);
			walk->connected[c] = false;
		}
		break;
	case 8:
		walk->stalled[c] = true;
		break;
	case 9 ... 11:
		if (walk->connected[c] && !walk->stalled[c])
			box_read(box, c, 1 + random_below(300));
		break;
	case 12 ... 14:
		box_run(box);
		break;
	case 15:
		box_wait(box, random_below(1000));
		break;
	}
	if (random_below(200) == 0 && settle_and_compare(walk) < 0)
		return -1;
	return check_rules(walk);
}

static int run_walk(uint64_t seed, unsigned steps)
{
	chance_seed(&chance, seed);
	struct walk walk = {0};
	unsigned vectors = random_below(2) == 0 ? BOX_MAX_VECTORS : 1 + random_below(4);
	int before = fdcheck_count();
	int result = 0;

	walk.box = box_create(&(struct server_config){.vectors = vectors});
	if (!walk.box)
		return -1;
	while (result == 0 && walk.steps < steps) {
		walk.steps++;
		result = step(&walk);
	}
	if (result == 0)
		result = settle_and_compare(&walk);
	box_destroy(walk.box);
	if (result == 0 && fdcheck_count() != before)
		result = complain(&walk, 0, "descriptors leaked");
	printf("seed %llu: %u steps, %u joins, %u vectors, compared %u times: %s\n",
		(unsigned long long)seed, walk.steps, walk.joins, vectors, walk.settlings,
		result == 0 ? "ok" : "FAILED");
	return result;
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	unsigned steps = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4000;
	unsigned walks = argc > 1 ? 1 : 8;

	for (unsigned i = 0; i < walks; i++) {
		if (run_walk(seed + i, steps) < 0) {
			fprintf(stderr, "again with: walk %llu %u\n",
				(unsigned long long)(seed + i), steps);
			return 1;
		}
	}
	return 0;
}
