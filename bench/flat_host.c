/* SPDX-License-Identifier: MIT */
/*
 * flat_host - the round trip of a doorbell between a host process and a firmware that answers each
 * one (tests/cortex, role=echo), whatever board it runs on.
 *
 *     flat_host SOCKET WHO two|one
 *
 * Joins first, so its ID is 0, and waits for the firmware. The board is not pinned: QEMU's has more
 * threads than there are CPUs to pin them to.
 */
#include "anchors/common.h"
#include "anchors/round.h"

#include <ivshmem/peer.h>

#include <stdio.h>

#define TIMEOUT_MS 10000

struct line {
	struct ivshmem_peer *peer;
	unsigned other;
};

static void ring(void *data)
{
	const struct line *line = data;
	if (ivshmem_notify(line->peer, line->other, 0) < 0)
		die("ivshmem_notify");
}

static void await(void *data)
{
	const struct line *line = data;
	if (ivshmem_wait(line->peer, 0, TIMEOUT_MS, NULL) != 1)
		die("ivshmem_wait");
}

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 3, "flat_host SOCKET WHO");
	struct line line = {.peer = ivshmem_open(argv[1], NULL)};

	if (!line.peer)
		die("ivshmem_open");
	printf("ready\n"); /* whoever starts the board waits for it */
	fflush(stdout);
	while (ivshmem_peers(line.peer, &line.other, 1) < 1 ||
		ivshmem_vectors(line.peer, line.other) < 1)
		if (ivshmem_dispatch(line.peer, TIMEOUT_MS) < 1)
			die("ivshmem_dispatch");
	round_begin(one);
	round_measure(one, argv[2], ring, await, &line);
	ivshmem_close(line.peer);
	return 0;
}
