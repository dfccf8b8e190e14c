/* SPDX-License-Identifier: MIT */
/*
 * sim - one region of the soak: a server in a box, those who are its guests, and a model of both.
 *
 * The model is who is in, why somebody may have left, and what the counters must say. Every call
 * ends with the server having done what was due and with the awake having read everything; what is
 * then different from the model is the finding: each returns 0, or -1 with `complaint` set.
 */
#ifndef TESTS_SIM_H
#define TESTS_SIM_H

#include "../common/chance.h"
#include "../common/serverbox.h"

#define SIM_GUESTS 64

enum temper {
	AWAKE,  /* reads everything at once: nothing is ever a reason to throw it out */
	SLOW,   /* reads some messages a step */
	ASLEEP, /* reads nothing until `wakes` */
};

struct sim_guest {
	bool in;      /* the server has, or is to have, it among its peers */
	bool waiting; /* a keeper has accepted it, no server has seen it */
	bool parting; /* has hung up or broken the protocol: must be gone once that has been seen */
	bool broken;  /* may be found to be gone, sooner or later */
	bool evicted; /* by the operator */
	bool lucky;   /* was let in while something was short */
	enum temper temper;
	uint64_t wakes; /* ms of the sim's clock */
	uint64_t serial, joined_ms, sent;
	int id;
};

struct sim {
	struct box *box; /* NULL: there is no such region */
	struct chance *chance;
	uint64_t clock; /* ms, of the world outside; the server's own begins anew with each process
			 */
	bool keeper_accepts, draining, jumped;
	struct sim_guest guests[SIM_GUESTS];
	unsigned n; /* who are in */
	uint64_t joins, leaves, refusals, evictions, restarts;
	uint64_t last_messages, last_leaves;
	void *copy;      /* of the kept state */
	bool may_refuse; /* those who wait: there is not room for all */
	char reason[160];
	const char *complaint;
	unsigned guest; /* that it is about */
};

/* Milliseconds by which the wall clock is wrong. */
extern int64_t sim_wall_error_ms;

int sim_create(struct sim *sim, struct chance *chance);
int sim_remove(struct sim *sim);

/* Time goes by, sleepers wake and the slow read. */
int sim_wait(struct sim *sim, uint64_t ms);

/* Time goes by for the server only. */
void sim_jump(struct sim *sim, uint64_t ms);

/* What guests do. */
int sim_arrive(struct sim *sim, unsigned guest);
int sim_hang_up(struct sim *sim, unsigned guest);
void sim_sleep(struct sim *sim, unsigned guest, uint64_t ms);
void sim_be_slow(struct sim *sim, unsigned guest);
void sim_be_hostile(struct sim *sim, unsigned guest);

/* What the operator does. */
int sim_evict(struct sim *sim, unsigned guest);
void sim_drain(struct sim *sim, bool on);

/* The server is killed; `leave` hang up and `arrive` connect before the next one is there, whose
 * clock says something else. */
int sim_kill(struct sim *sim, unsigned leave, unsigned arrive);

/* See what has come of it. */
int sim_check(struct sim *sim);

/* A process that took over now, from a copy, would have the same in mind. */
int sim_check_copy(struct sim *sim);

/* How many descriptors are open for it: at least, and at most. */
void sim_count_descriptors(const struct sim *sim, unsigned *least, unsigned *most);

/* Somebody who is in, or is not, by chance; -1: nobody. */
int sim_any(const struct sim *sim, bool in);

/* For the files of this folder: note what is wrong, -1; one who is in from now on; and the awake
 * read all, with the server taking its turns: how much that was. */
int sim_complain(struct sim *sim, unsigned guest, const char *what);
void sim_welcome(struct sim *sim, struct sim_guest *guest, uint64_t serial);
unsigned sim_read_all(struct sim *sim);

#endif
