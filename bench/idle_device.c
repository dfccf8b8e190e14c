/* SPDX-License-Identifier: MIT */
/*
 * idle-device - what a process with 64 devices costs while nothing happens.
 *
 *     idle-device SERVER DEVICE
 *
 * Each device is a peer of the same server and has a VMM. Memory is what each device adds to that
 * of a process with one: its own, and its share of what it maps (the region, which they all map).
 * Wake-ups are how often the process was switched away from.
 */
#include "anchors/common.h"
#include "vmm.h"

#include <stdio.h>
#include <unistd.h>

#define DEVICES   64
#define SETTLE_US 500000
#define IDLE_US   3000000

struct memory {
	long own, share; /* KiB */
};

static struct memory memory_of(const struct board *board)
{
	return (struct memory){
		.own = process_number(board->pid, "status", "RssAnon:"),
		.share = process_number(board->pid, "smaps_rollup", "Pss:"),
	};
}

/* Start that many devices, with VMMs, and let them come to rest. */
static void start(struct board *board, const char *program, const struct host *host)
{
	board_start(board, program, host);
	for (int i = 0; i < board->count; i++)
		board_connect(board, i);
	usleep(SETTLE_US);
}

int main(int argc, char **argv)
{
	struct host host;

	if (argc != 3) {
		fprintf(stderr, "usage: idle-device SERVER DEVICE\n");
		return 2;
	}
	raise_descriptor_limit();
	pin(cpu_b());
	test_one_cpu();
	host_start(&host, argv[1], &(struct host_options){.vectors = 1});
	struct board single = {.count = 1, .cpu = cpu_a()};
	start(&single, argv[2], &host);
	struct memory one = memory_of(&single);
	board_stop(&single);

	struct board board = {.count = DEVICES, .cpu = cpu_a()};
	start(&board, argv[2], &host);
	struct memory all = memory_of(&board);
	long wakeups = process_switches(board.pid);
	usleep(IDLE_US);
	wakeups = process_switches(board.pid) - wakeups;
	emit("idle-device.own", (double)(all.own - one.own) / (DEVICES - 1), "KiB/device");
	emit("idle-device.share", (double)(all.share - one.share) / (DEVICES - 1), "KiB/device");
	emit("idle-device.process", (double)one.share, "KiB");
	emit("idle-device.wakeups", (double)wakeups, "in_3_s");
	board_stop(&board);
	host_stop(&host);
	return 0;
}
