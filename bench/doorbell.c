/* SPDX-License-Identifier: MIT */
/*
 * doorbell - the round trip of a doorbell between two host peers through libivshmem.
 *
 *     doorbell SERVER two|one
 *
 * The counterpart of anchors/bell.c: ivshmem_notify() and ivshmem_wait() in place of write() and
 * read(). The server is only there to introduce the two; it sleeps while they talk.
 */
#include "anchors/common.h"
#include "anchors/round.h"
#include "host.h"
#include "line.h"

/* Join, and wait for the other one. */
static void line_open(struct line *line, const char *socket)
{
	line->peer = ivshmem_open(socket, NULL);
	if (!line->peer)
		die("ivshmem_open");
	line_meet(line);
}

static void answer(void *data)
{
	struct line line;
	line_open(&line, data);
	for (;;) {
		line_await(&line);
		line_ring(&line);
	}
}

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 2, "doorbell SERVER");
	struct host host;
	struct line line;

	host_start(&host, argv[1], &(struct host_options){.vectors = 1});
	round_begin(one);
	pid_t other = spawn(one ? cpu_a() : cpu_b(), answer, host.socket);
	line_open(&line, host.socket);
	round_measure(one, "peer", line_ring, line_await, &line);
	reap(other);
	ivshmem_close(line.peer);
	host_stop(&host);
	return 0;
}
