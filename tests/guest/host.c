/* SPDX-License-Identifier: MIT */
/*
 * A host process that takes part in the conversation of talk.h, on the public library alone:
 *
 *     talk-host URI SEAT SEATS ROUNDS [DEADLINE]
 *
 * Prints "host: ID N" when it has joined, the result line of talk_print(), and then stays until all
 * other peers have left, reporting each. Exit status 0: everything held, 1: it did not, 2: usage.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <ivshmem/peer.h>

#include "talk.h"

#define MAX_VECTORS TALK_MAX_SEATS

struct host {
	struct talk_port port;
	struct ivshmem_peer *peer;
	uint64_t rung[MAX_VECTORS]; /* interrupts that rung() has not handed out yet */
	bool lost;
};

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	struct host *host = data;

	(void)peer;
	if (vector < MAX_VECTORS)
		host->rung[vector] += count;
}

static void on_left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer;
	(void)data;
	printf("host: peer %u left\n", id);
	fflush(stdout);
}

static void on_lost(struct ivshmem_peer *peer, void *data, int error)
{
	struct host *host = data;

	(void)peer;
	host->lost = true;
	printf("host: server lost: %s\n", error ? strerror(error) : "orderly close");
	fflush(stdout);
}

static int host_ring(struct talk_port *port, unsigned id, unsigned vector)
{
	struct host *host = (struct host *)port;

	return ivshmem_notify(host->peer, id, vector) < 0 ? -errno : 0;
}

static uint64_t host_rung(struct talk_port *port, unsigned vector)
{
	struct host *host = (struct host *)port;
	uint64_t count = host->rung[vector];

	host->rung[vector] = 0;
	return count;
}

static void host_idle(struct talk_port *port, bool watched)
{
	struct host *host = (struct host *)port;

	if (watched)
		nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
	ivshmem_dispatch(host->peer, watched ? 0 : 10);
}

int main(int argc, char **argv)
{
	static const struct ivshmem_listener listener = {
		.peer_left = on_left,
		.interrupt = on_interrupt,
		.server_lost = on_lost,
	};
	struct host host = {.port = {.ring = host_ring, .rung = host_rung, .idle = host_idle}};
	char reason[256] = "";
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	struct talk_result result = {0};

	if (argc < 5 || argc > 6) {
		fprintf(stderr, "usage: %s URI SEAT SEATS ROUNDS [DEADLINE]\n", argv[0]);
		return 2;
	}
	struct talk_plan plan = {
		.seat = (unsigned)strtoul(argv[2], NULL, 10),
		.seats = (unsigned)strtoul(argv[3], NULL, 10),
		.rounds = (unsigned)strtoul(argv[4], NULL, 10),
		.deadline = argc > 5 ? (unsigned)strtoul(argv[5], NULL, 10) : 60,
	};

	params.listener = &listener;
	params.data = &host;
	params.error_text = reason;
	params.error_size = sizeof(reason);
	host.peer = ivshmem_open(argv[1], &params);
	if (host.peer == NULL) {
		fprintf(stderr, "talk-host: %s: %s\n", argv[1], reason);
		return 1;
	}
	int id = ivshmem_id(host.peer);
	uint64_t size;
	host.port.region = ivshmem_region(host.peer, &size);
	host.port.doorbell = (ivshmem_capabilities(host.peer) & IVSHMEM_CAP_NOTIFY) != 0;
	host.port.id = id < 0 ? 0 : (unsigned)id;
	printf("host: ID %u, %llu bytes\n", host.port.id, (unsigned long long)size);
	fflush(stdout);

	int err = size < TALK_SIZE ? -ENOSPC : talk(&host.port, &plan, &result, stdout);
	talk_print(&plan, &result, err, stdout);
	while (err == 0 && !host.lost && ivshmem_peers(host.peer, NULL, 0) > 0)
		ivshmem_dispatch(host.peer, 100);
	ivshmem_close(host.peer);
	return err == 0 && !host.lost ? 0 : 1;
}
