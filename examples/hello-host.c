/* SPDX-License-Identifier: MIT */
/*
 * Say hello to everybody who joins the same server, and show what they say.
 *
 *     cc hello-host.c $(pkg-config --cflags --libs libivshmem) -o hello-host
 *     ivshmem-server -F &
 *     ./hello-host & ./hello-host
 *
 * Each peer owns one line of the shared memory, writes into it and rings the others.
 */
#include <ivshmem/peer.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_SIZE = 64, ROUNDS = 3 };

static char *line_of(struct ivshmem_peer *peer, unsigned id)
{
	uint64_t size;
	char *lines = ivshmem_region(peer, &size);
	return lines + (uint64_t)id * LINE_SIZE % size;
}

/* Called by ivshmem_dispatch() when somebody can be rung: now there is somebody to greet. */
static void greet(struct ivshmem_peer *peer, void *data, unsigned id, unsigned vectors)
{
	int *rounds = data;
	if (id == (unsigned)ivshmem_id(peer) || vectors != 1)
		return;
	snprintf(line_of(peer, (unsigned)ivshmem_id(peer)), LINE_SIZE, "hello from process %d",
		(int)getpid());
	if (ivshmem_notify(peer, id, 0) == 0)
		printf("peer %d: rang peer %u, round %d\n", ivshmem_id(peer), id, ++*rounds);
}

/* Somebody rang. Who? A doorbell does not say, so look at everybody's line, and answer. */
static void hear(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	unsigned ids[16];
	int n = ivshmem_peers(peer, ids, 16);

	printf("peer %d: vector %u rang %u times\n", ivshmem_id(peer), vector, (unsigned)count);
	for (int i = 0; i < n && i < 16; i++) {
		char line[LINE_SIZE]; /* others write at any time: copy once, then use the copy */
		memcpy(line, line_of(peer, ids[i]), LINE_SIZE);
		printf("peer %d: peer %u says: %.*s\n", ivshmem_id(peer), ids[i], LINE_SIZE, line);
		greet(peer, data, ids[i], 1);
	}
}

int main(int argc, char **argv)
{
	const struct ivshmem_listener listener = {.vector_added = greet, .interrupt = hear};
	char error[256];
	int rounds = 0;
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.listener = &listener;
	params.data = &rounds;
	params.error_text = error;
	params.error_size = sizeof(error);

	const char *uri = argc > 1 ? argv[1] : "unix:/tmp/ivshmem_socket";
	struct ivshmem_peer *peer = ivshmem_open(uri, &params);
	if (!peer) {
		fprintf(stderr, "hello-host: %s\n", error);
		return EXIT_FAILURE;
	}
	while (rounds < ROUNDS && ivshmem_connected(peer))
		if (ivshmem_dispatch(peer, 10000) <= 0)
			break;
	ivshmem_close(peer);
	return rounds >= ROUNDS ? EXIT_SUCCESS : EXIT_FAILURE;
}
