/* SPDX-License-Identifier: MIT */
/*
 * Two peers of libivshmem, 5 and 6, with one memory and a doorbell each. Either is on a server of
 * its own, which the test goes on playing through `servers`.
 */
#ifndef TESTS_TWOPEERS_H
#define TESTS_TWOPEERS_H

#include "scripted.h"

#include <ivshmem/peer.h>

#define TWOPEERS_TIMEOUT_MS 20000

static struct scripted servers[2];
static struct ivshmem_peer *peers[2];
static int region, bells[2];

static inline struct ivshmem_peer *twopeers_open_one(unsigned seat)
{
	const int id = 5 + (int)seat, other = 5 + !seat;
	const struct line lines[] = {
		{0, -1}, {id, -1}, {-1, region}, {other, bells[!seat]}, {id, bells[seat]}};
	struct scripted *server = &servers[seat];

	*server = (struct scripted){.lines = lines, .n_lines = 5};
	scripted_start(server);
	struct ivshmem_peer *peer = ivshmem_open(server->uri, NULL);
	assert_non_null(peer);
	scripted_join(server);
	while (ivshmem_vectors(peer, (unsigned)id) < 1 ||
		ivshmem_vectors(peer, (unsigned)other) < 1)
		assert_true(ivshmem_dispatch(peer, TWOPEERS_TIMEOUT_MS) > 0);
	return peer;
}

static inline void twopeers_open(size_t region_size)
{
	region = scripted_region(region_size);
	for (unsigned i = 0; i < 2; i++)
		bells[i] = scripted_bell();
	for (unsigned i = 0; i < 2; i++)
		peers[i] = twopeers_open_one(i);
}

static inline void twopeers_close(void)
{
	for (unsigned i = 0; i < 2; i++) {
		ivshmem_close(peers[i]);
		scripted_stop(&servers[i]);
		close(bells[i]);
	}
	close(region);
}

#endif
