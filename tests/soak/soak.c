/* SPDX-License-Identifier: MIT */
/*
 * Days of a server's life in minutes: guests come and go with the hours, alone and in crowds; some
 * sleep, some are slow, some hostile; the server is killed, clocks jump, memory and descriptors run
 * out, regions are drained, removed and made.
 *
 *     soak [SEED [HOURS]]
 *
 * Theory of operation. There are some regions, each a server in a box (serverbox.h) with its guests
 * and a model of them (sim.h). A step moves one of them some seconds on, lets something happen
 * there, and looks at everything: the server against the model, each guest's view against the
 * server's, a take-over from a copy of what is kept, and the number of descriptors that are open in
 * this process. Time is a number, so an hour of it takes as long as its steps take. The same seed
 * does the same.
 */
#include "shortage.h"
#include "sim.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#define REGIONS 3
#define SECOND  UINT64_C(1000)
#define HOUR    (3600 * SECOND)
#define CROWD   40

/* How many of a hundred guests are there at an hour of the day. */
static const unsigned char busy[24] = {
	12, 8, 5, 5, 5, 10, 20, 40, 65, 80, 90, 90, 75, 80, 90, 85, 75, 65, 60, 55, 50, 40, 30, 20};

struct soak {
	struct chance chance;
	struct sim sims[REGIONS];
	struct sim *sim; /* whose step it is */
	const char *what;
	uint64_t steps, clock;
	unsigned baseline;    /* descriptors without any region */
	unsigned short_steps; /* for which something is short still */
	uint64_t kills, regions, jumps, shortages, joins, evictions, refusals;
};

/* ---- descriptors ---- */

/* Since Linux 6.2 the folder says how many there are; before that it has to be read. */
static unsigned count_descriptors(void)
{
	struct stat st;
	unsigned n = 0;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (unsigned)st.st_size;
	DIR *folder = opendir("/proc/self/fd");
	while (folder && readdir(folder))
		n++;
	if (folder)
		closedir(folder);
	return n;
}

static int check_descriptors(struct soak *soak)
{
	unsigned least = soak->baseline, most = soak->baseline;

	for (unsigned i = 0; i < REGIONS; i++) {
		unsigned a, b;
		if (!soak->sims[i].box)
			continue;
		sim_count_descriptors(&soak->sims[i], &a, &b);
		least += a;
		most += b;
	}
	unsigned now = count_descriptors();
	if (now >= least && now <= most)
		return 0;
	fprintf(stderr, "%u descriptors are open, and %u to %u are needed\n", now, least, most);
	soak->sim->complaint = "descriptors leaked";
	return -1;
}

/* ---- what happens ---- */

static unsigned below(struct soak *soak, unsigned n)
{
	return chance_below(&soak->chance, n);
}

/* Towards as many as the hour has. */
static int come_or_go(struct soak *soak)
{
	struct sim *sim = soak->sim;
	unsigned wanted = busy[sim->clock / HOUR % 24] * sim->box->config.max_peers / 100;
	bool come = below(soak, 100) < (sim->n < wanted ? 75u : 25u);
	int guest = sim_any(sim, !come);

	soak->what = come ? "an arrival" : "a departure";
	if (guest < 0)
		return 0;
	return come ? sim_arrive(sim, (unsigned)guest) : sim_hang_up(sim, (unsigned)guest);
}

static int crowd(struct soak *soak)
{
	bool come = below(soak, 2) == 0;
	int result = 0;

	soak->what = come ? "a crowd that comes" : "a crowd that goes";
	for (unsigned i = below(soak, CROWD); i > 0 && result == 0; i--) {
		int guest = sim_any(soak->sim, !come);
		if (guest >= 0)
			result = come ? sim_arrive(soak->sim, (unsigned)guest)
				      : sim_hang_up(soak->sim, (unsigned)guest);
	}
	return result;
}

/* For seconds or for hours, alone or many at once. */
static int fall_asleep(struct soak *soak)
{
	soak->what = "sleepers";
	for (unsigned i = 1 + below(soak, 10); i > 0; i--) {
		int guest = sim_any(soak->sim, true);
		if (guest >= 0)
			sim_sleep(soak->sim, (unsigned)guest,
				below(soak, below(soak, 4) > 0 ? 60 : 10800) * SECOND);
	}
	return 0;
}

static int misbehave(struct soak *soak)
{
	int guest = sim_any(soak->sim, true);

	soak->what = "a guest that is slow or hostile";
	if (guest < 0)
		return 0;
	if (below(soak, 2) == 0)
		sim_be_slow(soak->sim, (unsigned)guest);
	else
		sim_be_hostile(soak->sim, (unsigned)guest);
	return 0;
}

static int operate(struct soak *soak)
{
	struct sim *sim = soak->sim;
	int guest = sim_any(sim, true);

	switch (sim->draining ? 0 : below(soak, 4)) {
	case 0:
		soak->what = sim->draining ? "the end of draining" : "draining";
		sim_drain(sim, !sim->draining);
		return 0;
	case 1:
		soak->what = "the end of a region";
		soak->joins += sim->joins;
		soak->evictions += sim->evictions;
		soak->refusals += sim->refusals;
		return sim_remove(sim);
	default:
		soak->what = "an eviction";
		return guest >= 0 ? sim_evict(sim, (unsigned)guest) : 0;
	}
}

static int kill_server(struct soak *soak)
{
	soak->what = "a kill";
	soak->kills++;
	unsigned leave = below(soak, 4) > 0 ? below(soak, 3) : below(soak, CROWD);
	unsigned arrive = below(soak, 4) > 0 ? below(soak, 3) : below(soak, CROWD);
	return sim_kill(soak->sim, leave, arrive);
}

/* The wall clock goes anywhere, also to before 1970: nobody may notice. The other one only goes on,
 * but it may be looked at late, as after SIGSTOP: then it has jumped. */
static int jump(struct soak *soak)
{
	soak->jumps++;
	if (below(soak, 2) == 0) {
		soak->what = "a jump of the wall clock";
		int64_t years = (int64_t)below(soak, 100) - 58;
		sim_wall_error_ms = years * 365 * 24 * (int64_t)HOUR + below(soak, 1000) * 1000;
		return 0;
	}
	soak->what = "a jump of the server's clock";
	sim_jump(soak->sim, below(soak, 5) * HOUR);
	return 0;
}

static int run_short(struct soak *soak)
{
	soak->what = "a shortage";
	soak->shortages++;
	soak->short_steps = 1 + below(soak, 50);
	shortage_set(below(soak, 2) == 0 ? SHORT_OF_ANYTHING : SHORT_OF_DESCRIPTORS, &soak->chance);
	return 0;
}

static int act(struct soak *soak)
{
	unsigned choice = below(soak, 1000);

	if (choice < 880)
		return come_or_go(soak);
	if (choice < 910)
		return fall_asleep(soak);
	if (choice < 935)
		return misbehave(soak);
	if (choice < 945)
		return crowd(soak);
	if (choice < 965)
		return kill_server(soak);
	if (choice < 980)
		return operate(soak);
	return choice < 990 ? jump(soak) : run_short(soak);
}

/* ---- steps ---- */

static int check(struct soak *soak)
{
	if (soak->sim->box && (sim_check(soak->sim) < 0 || sim_check_copy(soak->sim) < 0))
		return -1;
	return check_descriptors(soak);
}

static int step(struct soak *soak)
{
	soak->sim = &soak->sims[below(soak, REGIONS)];
	soak->steps++;
	if (soak->short_steps > 0 && --soak->short_steps == 0)
		shortage_set(SHORT_OF_NOTHING, NULL);
	soak->what = "a new region";
	if (!soak->sim->box) {
		soak->regions++;
		return sim_create(soak->sim, &soak->chance);
	}
	soak->what = "time that goes by";
	/* More happens by day. */
	unsigned pause = 200 - busy[soak->sim->clock / HOUR % 24];
	if (sim_wait(soak->sim, below(soak, pause * 10)) < 0 || act(soak) < 0)
		return -1;
	return check(soak);
}

static bool is_over(const struct soak *soak, uint64_t hours)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		if (soak->sims[i].clock < hours * HOUR)
			return false;
	}
	return true;
}

static int finish(struct soak *soak)
{
	shortage_set(SHORT_OF_NOTHING, NULL);
	for (unsigned i = 0; i < REGIONS; i++) {
		soak->sim = &soak->sims[i];
		soak->what = "the end of everything";
		if (!soak->sim->box)
			continue;
		soak->joins += soak->sim->joins;
		soak->evictions += soak->sim->evictions;
		soak->refusals += soak->sim->refusals;
		if (sim_check(soak->sim) < 0 || sim_remove(soak->sim) < 0)
			return -1;
	}
	return check_descriptors(soak);
}

static void report(const struct soak *soak, uint64_t seed, uint64_t hours)
{
	printf("seed %" PRIu64 ": %" PRIu64 " hours, %" PRIu64 " steps, %" PRIu64 " joins, %" PRIu64
	       " refusals, %" PRIu64 " evictions, %" PRIu64 " kills, %" PRIu64 " regions, %" PRIu64
	       " jumps, %" PRIu64 " shortages\n",
		seed, hours, soak->steps, soak->joins, soak->refusals, soak->evictions, soak->kills,
		soak->regions, soak->jumps, soak->shortages);
}

static void explain(const struct soak *soak, uint64_t seed, uint64_t hours)
{
	static const char *const tempers[] = {
		[AWAKE] = "awake", [SLOW] = "slow", [ASLEEP] = "asleep"};
	const struct sim *sim = soak->sim;

	fprintf(stderr, "step %" PRIu64 ", region %u, guest %u (%s), after %s%s: %s\n", soak->steps,
		(unsigned)(sim - soak->sims), sim->guest, tempers[sim->guests[sim->guest].temper],
		soak->what, soak->short_steps > 0 ? " in a shortage" : "",
		sim->complaint ? sim->complaint : "out of memory");
	if (sim->box)
		fprintf(stderr, "the server's last line: %s\n", sim->box->last_log);
	fprintf(stderr, "again with: soak %" PRIu64 " %" PRIu64 "\n", seed, hours);
}

int main(int argc, char **argv)
{
	uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : (uint64_t)time(NULL);
	uint64_t hours = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;
	static struct soak soak;
	struct rlimit limit;

	/* Each guest has a descriptor of each other. */
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	chance_seed(&soak.chance, seed);
	soak.baseline = count_descriptors();
	int result = 0;
	while (result == 0 && !is_over(&soak, hours))
		result = step(&soak);
	if (result == 0)
		result = finish(&soak);
	report(&soak, seed, hours);
	if (result < 0)
		explain(&soak, seed, hours);
	return result < 0;
}
