/* SPDX-License-Identifier: MIT */
/* A process with devices to measure, and the sockets of VMMs that use them. */
#ifndef BENCH_VMM_H
#define BENCH_VMM_H

#include "host.h"

struct board {
	int count; /* devices, each a peer of the same server with one vector */
	int cpu;   /* the only one that the process may use */
	bool poll; /* look for requests instead of sleeping */
	pid_t pid;
	const struct host *host; /* the sockets are in its directory */
};

/* The first three fields are given. */
void board_start(struct board *board, const char *program, const struct host *host);
void board_stop(struct board *board);

/* A socket on which device `i` has agreed upon a version and was switched on, as by a guest. */
int board_connect(const struct board *board, int i);

#endif
