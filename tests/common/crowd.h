/* SPDX-License-Identifier: MIT */
/*
 * Some peers of libivshmem, 0 and up, with one memory and a doorbell each. Each is on a server of
 * its own, which the test goes on playing through `servers`.
 */
#ifndef TESTS_CROWD_H
#define TESTS_CROWD_H

#include "scripted.h"

#include <ivshmem/peer.h>

enum { CROWD = 3, CROWD_TIMEOUT_MS = 20000 };

static struct scripted servers[CROWD];
static struct ivshmem_peer *peers[CROWD];
static int region, bells[CROWD];

static inline bool crowd_is_complete(const struct ivshmem_peer *peer)
{
	for (unsigned i = 0; i < CROWD; i++)
		if (ivshmem_vectors(peer, i) < 1)
			return false;
	return true;
}

static inline struct ivshmem_peer *crowd_open_one(unsigned seat)
{
	struct line lines[3 + CROWD] = {{0, -1}, {(int)seat, -1}, {-1, region}};
	struct scripted *server = &servers[seat];

	for (unsigned i = 0; i < CROWD; i++) { /* itself last */
		const unsigned who = (seat + 1 + i) % CROWD;
		lines[3 + i] = (struct line){(int)who, bells[who]};
	}
	*server = (struct scripted){.lines = lines, .n_lines = 3 + CROWD};
	scripted_start(server);
	struct ivshmem_peer *peer = ivshmem_open(server->uri, NULL);
	assert_non_null(peer);
	scripted_join(server);
	while (!crowd_is_complete(peer))
		assert_true(ivshmem_dispatch(peer, CROWD_TIMEOUT_MS) > 0);
	return peer;
}

static inline void crowd_open(size_t region_size)
{
	region = scripted_region(region_size);
	for (unsigned i = 0; i < CROWD; i++)
		bells[i] = scripted_bell();
	for (unsigned i = 0; i < CROWD; i++)
		peers[i] = crowd_open_one(i);
}

static inline void crowd_close(void)
{
	for (unsigned i = 0; i < CROWD; i++) {
		ivshmem_close(peers[i]);
		scripted_stop(&servers[i]);
		close(bells[i]);
	}
	close(region);
}

/* Say to this one that another has gone. */
static inline void crowd_tell_gone(unsigned seat, unsigned who)
{
	scripted_say(&servers[seat], (int)who, -1);
}

#endif
