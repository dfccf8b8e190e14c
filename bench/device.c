/* SPDX-License-Identifier: MIT */
/*
 * device - register accesses through an ivshmem-device.
 *
 *     device SERVER DEVICE block|poll two|one
 *
 * The counterpart of anchors/responder.c: the device's process sleeps until a request comes, or
 * (--poll-us) looks for the next one for a while. The server is only there because this kind of
 * device wants one; it sleeps.
 */
#include "anchors/access.h"
#include "anchors/common.h"
#include "anchors/round.h"
#include "vmm.h"

#include <string.h>

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 4, "device SERVER DEVICE block|poll");
	bool poll = strcmp(argv[3], "poll") == 0;
	struct host host;

	host_start(&host, argv[1], &(struct host_options){.vectors = 1});
	struct board board = {.count = 1, .poll = poll, .cpu = one ? cpu_a() : cpu_b()};
	board_start(&board, argv[2], &host);
	access_measure(one, poll ? "device-poll" : "device-block", board_connect(&board, 0));
	board_stop(&board);
	host_stop(&host);
	return 0;
}
