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
#include "line.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 3, "flat_host SOCKET WHO");
	struct line line = {.peer = ivshmem_open(argv[1], NULL)};

	if (!line.peer)
		die("ivshmem_open");
	printf("ready\n"); /* whoever starts the board waits for it */
	fflush(stdout);
	line_meet(&line);
	round_begin(one);
	round_measure(one, argv[2], line_ring, line_await, &line);
	ivshmem_close(line.peer);
	return 0;
}
