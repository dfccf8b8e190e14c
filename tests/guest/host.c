/* SPDX-License-Identifier: MIT */
/*
 * A host process that takes part in the conversation of talk.h, on the public library alone:
 *
 *     talk-host URI SEAT SEATS ROUNDS [DEADLINE]
 *
 * Prints "host: ID N" when it has joined, the lines of talk_print(), and then stays until all other
 * peers have left, reporting each. Exit status 0: everything held, 1: it did not, 2: usage.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "library.h"

struct host {
	struct library library;
	bool lost; /* the server */
};

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

int main(int argc, char **argv)
{
	const struct ivshmem_listener listener = {.peer_left = on_left, .server_lost = on_lost};
	struct host host = {0};
	struct ivshmem_peer *peer;
	struct talk_result result;
	char reason[256] = "";

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

	if (library_open(&host.library, argv[1], listener, reason, sizeof(reason)) < 0) {
		fprintf(stderr, "talk-host: %s: %s\n", argv[1], reason);
		return 1;
	}
	peer = host.library.peer;
	printf("host: ID %u, %llu bytes\n", host.library.port.id,
		(unsigned long long)host.library.size);
	fflush(stdout);

	int err = talk(&host.library.port, &plan, &result, stdout);
	talk_print(&plan, &result, err, stdout);
	while (err == 0 && !host.lost && ivshmem_peers(peer, NULL, 0) > 0)
		ivshmem_dispatch(peer, 100);
	ivshmem_close(peer);
	return err == 0 && !host.lost ? 0 : 1;
}
