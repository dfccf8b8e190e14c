/* SPDX-License-Identifier: MIT */
/* A server process to measure, and many peers of it in this process. */
#ifndef BENCH_HOST_H
#define BENCH_HOST_H

#include "process.h"

#include <stdint.h>

struct host {
	pid_t pid;
	char directory[32];
	char socket[48]; /* path */
};

struct host_options {
	int vectors;
	struct process_options process; /* but for the CPU */
};

/* Start the server `program` on cpu_a(); clients can connect when this returns. */
void host_start(struct host *host, const char *program, const struct host_options *options);
void host_stop(struct host *host);

/* Messages of a full mesh: version, ID and region, and each one's vectors, for everyone. */
uint64_t mesh_messages(int peers, int vectors);

struct crowd {
	const struct host *host;
	int epoll;
	int *socks;
	int joined, capacity;
	uint64_t received; /* messages */
};

void crowd_init(struct crowd *crowd, const struct host *host, int capacity);
void crowd_fini(struct crowd *crowd);

/* Let so many more peers connect, who never read. */
void crowd_join_deaf(struct crowd *crowd, int peers);

/* Let so many more peers connect, and read until `messages` have been received in all. */
void crowd_join(struct crowd *crowd, int peers, uint64_t messages);

/* Let the one that joined last leave, and read `messages` more. */
void crowd_leave(struct crowd *crowd, uint64_t messages);

#endif
