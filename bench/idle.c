/* SPDX-License-Identifier: MIT */
/*
 * idle - what a server with 500 peers costs while nothing happens.
 *
 *     idle SERVER
 *
 * They all join at once, so what the storm has left behind counts as the server's memory. Wake-ups
 * are how often it was switched away from.
 */
#include "anchors/common.h"
#include "host.h"

#include <stdio.h>
#include <unistd.h>

#define PEERS     500
#define SETTLE_US 500000
#define IDLE_US   3000000

int main(int argc, char **argv)
{
	struct host host;
	struct crowd crowd;

	if (argc != 2) {
		fprintf(stderr, "usage: idle SERVER\n");
		return 2;
	}
	pin(cpu_b());
	raise_descriptor_limit();
	test_one_cpu();
	host_start(&host, argv[1], &(struct host_options){.vectors = 1});
	crowd_init(&crowd, &host, PEERS);
	long memory = process_number(host.pid, "status", "RssAnon:");
	crowd_join(&crowd, PEERS, mesh_messages(PEERS, 1));
	usleep(SETTLE_US);
	memory = process_number(host.pid, "status", "RssAnon:") - memory;
	long wakeups = process_switches(host.pid);
	usleep(IDLE_US);
	wakeups = process_switches(host.pid) - wakeups;
	emit("idle.memory.500x1", (double)memory / PEERS, "KiB/peer");
	emit("idle.wakeups.500x1", (double)wakeups, "in_3_s");
	crowd_fini(&crowd);
	host_stop(&host);
	return 0;
}
