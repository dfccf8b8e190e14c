/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Without CAP_SYS_RESOURCE the kernel lets a user have as many descriptors in flight as
 * RLIMIT_NOFILE says, over all its sockets together. What a peer does not read stays in flight for
 * ever, even when our end is closed, and four sleeping peers with full socket buffers use up 1024.
 * So what one peer may have unread is bounded, by the kernel's own means: SO_SNDBUF makes the
 * socket full early, and POLLOUT says when the peer has read.
 *
 * Each burst begins with a small window, half the limit shared by all peers, and the window doubles
 * whenever the peer turns out to read. Who stops reading is stuck with the small one; who reads has
 * the whole socket buffer after a few wake-ups. Windows are powers of two, so that a growing number
 * of peers does not mean a system call for each of them at each join.
 *
 * Rejected: a share fixed at the join. The first peers, who join while there are few, would keep
 * large shares, and if it is they who stop reading, the rest starves.
 */
#include "server/internal.h"

#include <sys/socket.h>

#define MESSAGE_CHARGE 768 /* what the kernel charges a socket buffer for one message, bytes */
#define WINDOW_MIN     8u
#define WINDOW_MAX     278u /* what the default socket buffer holds */

static void set_window(struct server_peer *peer, unsigned messages)
{
	/* The kernel doubles the value that it is given. */
	int bytes = (int)(messages * MESSAGE_CHARGE / 2);
	if (setsockopt(peer->sock, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0)
		peer->window = messages;
}

void window_start(const struct server *server, struct server_peer *peer)
{
	if (server->config.in_flight_limit == UINT64_MAX)
		return;
	uint64_t share = server->config.in_flight_limit / (2 * (server->stats.peers + UINT64_C(1)));
	unsigned window = WINDOW_MIN;
	while (window < WINDOW_MAX && window <= share / 2)
		window *= 2;
	if (window > WINDOW_MAX)
		window = WINDOW_MAX;
	if (peer->window == 0 ? window < WINDOW_MAX : window < peer->window)
		set_window(peer, window);
}

void window_grow(struct server_peer *peer)
{
	if (peer->window == 0 || peer->window >= WINDOW_MAX)
		return;
	unsigned twice = peer->window * 2;
	set_window(peer, twice < WINDOW_MAX ? twice : WINDOW_MAX);
}

/* The socket is as another process has left it. */
void window_resume(const struct server *server, struct server_peer *peer)
{
	int bytes = 0;
	socklen_t size = sizeof(bytes);

	if (server->config.in_flight_limit == UINT64_MAX ||
		getsockopt(peer->sock, SOL_SOCKET, SO_SNDBUF, &bytes, &size) < 0)
		return;
	unsigned window = (unsigned)bytes / MESSAGE_CHARGE;
	peer->window = window < WINDOW_MAX - 1 ? window : 0;
}
