/* SPDX-License-Identifier: MIT */
/*
 * kept_lab - the scenario of fault_kept.c: clients, a server that takes over, the victim, and what
 * must be true after it was killed and the next one has taken over.
 */
#ifndef TESTS_KEPT_LAB_H
#define TESTS_KEPT_LAB_H

#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include <sys/types.h>

/* Clients 0 and 1 read everything. */
#define EVICTED  2 /* is thrown out in the course of it */
#define GONE     3 /* has hung up, and the server does not know yet */
#define STUCK    4 /* has read nothing, is in the middle of EVICTED, and thrown out at the end */
#define NEWCOMER 5 /* sits where GONE was, and is in the middle of STUCK then */
#define CLIENTS  6

struct lab {
	struct box *box;
	bool keeper_accepts; /* or the server does: a connection is lost between that and being held
			      */
	int newcomer;        /* the server's end, accepted by the keeper; -1: none */
	int listener;        /* where the newcomer waits for the server to accept; -1: none */
	int keeper[2];
	pid_t victim;
	long call;       /* the system call at whose entry or exit it stopped last */
	uint64_t length; /* its third argument */
	bool accepted, held;
};

/* All but the victim. */
void lab_set_up(struct lab *lab, bool keeper_accepts);

/* `traced`: it stops before it calls the server for the first time. */
void lab_start(struct lab *lab, bool traced);

/* Unless it has ended; and take from it what is to be held. */
void lab_kill(struct lab *lab);

/* Take over, let the clients read, check that all is well, and end. `when` is for messages. */
void lab_finish(struct lab *lab, const char *when);

#endif
