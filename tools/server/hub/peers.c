/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Sockets are watched with uv_poll and handled by our own code: libuv's pipes
 * would hide the descriptor passing that is all this server does.
 */
#include "hosted.h"
#include "keeping.h"

#include "daemon/watch.h"

#include <stdlib.h>

struct watch {
	uv_poll_t poll;
	struct list link; /* hosted.watches */
	struct hosted *hosted;
	struct server_peer *peer;
};

static void peer_event(uv_poll_t *poll, int status, int events)
{
	struct watch *watch = poll->data;
	struct hosted *hosted = watch->hosted;
	struct server_peer *peer = watch->peer;

	hosted_touch(hosted);
	if (status == 0 && events & UV_WRITABLE)
		server_peer_writable(hosted->server, peer);
	/* An error shows on reading, too. */
	if (status < 0 || events & (UV_READABLE | UV_DISCONNECT))
		server_peer_readable(hosted->server, peer);
}

static void free_watch(uv_handle_t *handle)
{
	free(handle->data);
}

static bool peer_joined(void *data, struct server_peer *peer, int sock)
{
	struct hosted *hosted = data;
	struct watch *watch = calloc(1, sizeof(*watch));
	if (!watch)
		return false;
	watch->hosted = hosted;
	watch->peer = peer;
	if (uv_poll_init(hosted->hub->loop, &watch->poll, sock) < 0) {
		free(watch);
		return false;
	}
	watch->poll.data = watch;
	server_peer_set_data(peer, watch);

	if (watch_start(&watch->poll, UV_READABLE | UV_DISCONNECT, peer_event) < 0) {
		uv_close((uv_handle_t *)&watch->poll, free_watch);
		return false;
	}
	list_append(&hosted->watches, &watch->link);
	hosted->used = true;
	return true;
}

/* Whoever has hung up is gone, whether the loop has said so or not. */
void peers_notice_departures(struct hosted *hosted)
{
	list_for_each_safe (node, &hosted->watches)
		server_peer_readable(hosted->server, container_of(node, struct watch, link)->peer);
}

static void peer_want_write(void *data, struct server_peer *peer, bool on)
{
	struct watch *watch = server_peer_data(peer);
	(void)data;
	/* Not watch_start(): libuv takes it out and puts it back, in the place that this frees. */
	uv_poll_start(
		&watch->poll, UV_READABLE | UV_DISCONNECT | (on ? UV_WRITABLE : 0), peer_event);
}

static void peer_left(void *data, struct server_peer *peer)
{
	struct watch *watch = server_peer_data(peer);
	struct hosted *hosted = data;
	list_remove(&watch->link);
	uv_close((uv_handle_t *)&watch->poll, free_watch);
	hosted_touch(hosted); /* also if a user's account had it evicted */
	if (hosted->hub->holder != KEEP_KEEPER)
		acceptor_resume(&hosted->acceptor);
}

const struct server_ops peer_ops = {
	.joined = peer_joined,
	.want_write = peer_want_write,
	.left = peer_left,
	.keep = keeping_put_peer,
	.forget = keeping_drop_peer,
};
