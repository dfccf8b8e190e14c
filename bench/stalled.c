/* SPDX-License-Identifier: MIT */
/*
 * stalled - how long joins take while a tenth of 200 peers has stopped reading.
 *
 *     stalled SERVER VECTORS STALLED HARD
 *
 * The server runs as an ordinary user whose RLIMIT_NOFILE is 1024 with the hard limit HARD (0: as
 * we have it), because to such a user descriptors in flight are limited, over all its peers
 * together. 20 peers join; STALLED of them never read. Then the other 180 join at once, and at the
 * end one more time the last of them. A peer that reads has less to do if others do not: so the
 * time of the whole is printed per message received, which leaves the server no advantage.
 */
#include "anchors/common.h"
#include "anchors/receive.h"
#include "host.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PEERS     200
#define FIRST     (PEERS / 10)
#define SETTLE_US 100000
#define SOFT      1024

static void report(
	const char *what, int vectors, int stalled, long hard, double value, const char *unit)
{
	char name[64];
	snprintf(name, sizeof(name), "stalled.%s.%dx%d.%d%s", what, PEERS, vectors, stalled,
		hard > 0 ? ".hard" : "");
	emit(name, value, unit);
}

static void measure(const char *program, int vectors, int stalled, long hard)
{
	struct host host;
	struct crowd crowd;
	struct rlimit limit;
	/* Everyone who reads receives everyone's vectors. */
	uint64_t each = 3 + (uint64_t)PEERS * (uint64_t)vectors;
	uint64_t first = (uint64_t)(FIRST - stalled) * (3 + (uint64_t)FIRST * (uint64_t)vectors);
	uint64_t all = (uint64_t)(PEERS - stalled) * each;
	uint64_t last[LAST_JOINS];

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	host_start(&host, program,
		&(struct host_options){
			.vectors = vectors,
			.process = {.ordinary_user = true,
				.soft = SOFT,
				.hard = hard > 0 ? (rlim_t)hard : limit.rlim_max},
		});
	crowd_init(&crowd, &host, PEERS);
	test_begin();
	crowd_join_deaf(&crowd, stalled);
	crowd_join(&crowd, FIRST - stalled, first);
	usleep(SETTLE_US);

	uint64_t start = now_ns();
	crowd_join(&crowd, PEERS - FIRST, all);
	uint64_t end = now_ns();
	for (int i = 0; i < LAST_JOINS; i++) {
		uint64_t others = (uint64_t)(PEERS - stalled - 1);
		crowd_leave(&crowd, others);
		usleep(LAST_PAUSE_US);
		last[i] = now_ns();
		crowd_join(&crowd, 1, crowd.received + others * (uint64_t)vectors + each);
		last[i] = now_ns() - last[i];
	}
	test_end();
	report("mesh", vectors, stalled, hard, (double)(end - start) / 1e6, "ms");
	report("message", vectors, stalled, hard, (double)(end - start) / (double)(all - first),
		"ns/message");
	report("last", vectors, stalled, hard, (double)quantile(last, LAST_JOINS, 0.5) / 1e6, "ms");
	crowd_fini(&crowd);
	host_stop(&host);
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: stalled SERVER VECTORS STALLED HARD\n");
		return 2;
	}
	pin(cpu_b());
	raise_descriptor_limit();
	measure(argv[1], atoi(argv[2]), atoi(argv[3]), atol(argv[4]));
	return 0;
}
