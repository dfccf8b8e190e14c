/* SPDX-License-Identifier: MIT */
/*
 * join-server - the cost of a full-mesh join of N peers with V vectors through a server.
 *
 *     join-server SERVER NxV...
 *
 * Theory of operation
 *
 * The counterpart of anchors/join.c: the same number of messages, received by the same code on the
 * same CPU, with the server process where the bare sender was. All peers but one connect at once,
 * as fast as the server accepts; when everybody has heard of everybody, the last one joins. What
 * the bare cost does not have is charged to the server: connecting, accepting, waking up.
 */
#include "anchors/common.h"
#include "anchors/receive.h"
#include "host.h"

#include <stdio.h>
#include <unistd.h>

#define SETTLE_US 20000

static void report(int peers, int vectors, const char *what, double value, const char *unit)
{
	char name[64];
	snprintf(name, sizeof(name), "join.server.%s.%dx%d", what, peers, vectors);
	emit(name, value, unit);
}

/* What the last join takes, once more. */
static uint64_t join_again(struct crowd *crowd, int vectors)
{
	uint64_t others = (uint64_t)crowd->joined - 1;

	crowd_leave(crowd, others);
	usleep(LAST_PAUSE_US);
	uint64_t start = now_ns();
	crowd_join(crowd, 1, crowd->received + (2 * others + 1) * (uint64_t)vectors + 3);
	return now_ns() - start;
}

static void measure(const char *program, int peers, int vectors)
{
	struct host host;
	struct crowd crowd;
	uint64_t messages = mesh_messages(peers, vectors);

	host_start(&host, program, &(struct host_options){.vectors = vectors});
	crowd_init(&crowd, &host, peers);
	test_begin();
	long memory = process_number(host.pid, "status", "RssAnon:");
	uint64_t cpu = cpu_time_ns(host.pid), start = now_ns();
	crowd_join(&crowd, peers - 1, mesh_messages(peers - 1, vectors));
	uint64_t last[LAST_JOINS] = {now_ns()};
	crowd_join(&crowd, 1, messages);
	uint64_t end = now_ns();
	last[0] = end - last[0];
	usleep(SETTLE_US);
	cpu = cpu_time_ns(host.pid) - cpu;
	memory = process_number(host.pid, "status", "RssAnon:") - memory;
	for (int i = 1; i < LAST_JOINS; i++)
		last[i] = join_again(&crowd, vectors);
	test_end();
	crowd_fini(&crowd);
	host_stop(&host);

	report(peers, vectors, "mesh", (double)(end - start) / 1e6, "ms");
	report(peers, vectors, "last", (double)quantile(last, LAST_JOINS, 0.5) / 1e6, "ms");
	report(peers, vectors, "cpu", (double)cpu / (double)messages, "ns/message");
	report(peers, vectors, "memory", (double)memory / peers, "KiB/peer");
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: join-server SERVER NxV...\n");
		return 2;
	}
	pin(cpu_b());
	raise_descriptor_limit();
	for (int i = 2; i < argc; i++) {
		int peers, vectors;
		if (sscanf(argv[i], "%dx%d", &peers, &vectors) != 2 || peers < 2 || vectors < 1) {
			fprintf(stderr, "join-server: %s: give PEERSxVECTORS\n", argv[i]);
			return 2;
		}
		measure(argv[1], peers, vectors);
	}
	return 0;
}
