/* SPDX-License-Identifier: MIT */
/* One end of a doorbell line through libivshmem, for round_measure(). */
#ifndef BENCH_LINE_H
#define BENCH_LINE_H

#include "anchors/common.h"

#include <ivshmem/peer.h>

#define LINE_TIMEOUT_MS 60000 /* the other end may be a machine that boots */

struct line {
	struct ivshmem_peer *peer;
	unsigned other;
};

static inline void line_ring(void *data)
{
	const struct line *line = data;
	if (ivshmem_notify(line->peer, line->other, 0) < 0)
		die("ivshmem_notify");
}

static inline void line_await(void *data)
{
	const struct line *line = data;
	if (ivshmem_wait(line->peer, 0, LINE_TIMEOUT_MS, NULL) != 1)
		die("ivshmem_wait");
}

/* Wait for the other one, who can be rung then. */
static inline void line_meet(struct line *line)
{
	while (ivshmem_peers(line->peer, &line->other, 1) < 1 ||
		ivshmem_vectors(line->peer, line->other) < 1)
		if (ivshmem_dispatch(line->peer, LINE_TIMEOUT_MS) < 1)
			die("ivshmem_dispatch");
}

#endif
