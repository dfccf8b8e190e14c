/* SPDX-License-Identifier: MIT */
/*
 * client - a peer in a host process: the connection to a server, the peers, their doorbells.
 *
 * Functions return 0 or -errno unless stated. What they promise to the application is written in
 * <ivshmem/peer.h>; here stands only what differs.
 */
#ifndef CLIENT_CLIENT_H
#define CLIENT_CLIENT_H

#include "client/peers.h"
#include "wire/wire.h"

#include <ivshmem/peer.h>

#include <stdbool.h>
#include <stdint.h>

struct epoll_event;

/* One line for people that says what to do next. */
struct client_error {
	char text[384];
};

struct client {
	/* What the callbacks get. */
	struct ivshmem_listener listener;
	struct ivshmem_peer *handle;
	void *data;

	unsigned max_peers, max_vectors, max_fds;
	bool read_only;
	uint64_t map_limit;

	/* The server. */
	struct wire_decoder decoder;
	struct wire_session session;
	int sock;       /* -1: lost */
	int lost_error; /* why, once it is lost */

	/* The region; final after client_open(). */
	int region_fd;
	void *region;
	uint64_t size;
	bool sealed;

	/* The peers. The own vectors are no part of the table. */
	struct peer_table peers;
	struct peer_entry own;
	unsigned n_bells; /* in the table */
	bool backlog;     /* there may be peers that came before the region: not announced yet */

	/* The loop. */
	int epoll;
	struct epoll_event *events; /* room for `max_events`: the socket and each watched vector */
	unsigned max_events;
	unsigned n_events; /* in use while client_dispatch() runs */

	/* When to spin before sleeping, see client_wait(). */
	unsigned spin_skip, spin_backoff;
};

/*
 * Connect to the server at `path`, shake hands, map the region. `params` has no zeros left that
 * stand for defaults. `client` is all zero before; after a failure it is for nothing.
 */
int client_open(struct client *client, const char *path, const struct ivshmem_params *params,
	struct client_error *error);
/* The same with a connection that is there; `name` is the server's, for messages. `sock` is taken
 * over, also if this fails. */
int client_adopt(struct client *client, int sock, const char *name,
	const struct ivshmem_params *params, struct client_error *error);
void client_close(struct client *client);

/* The steps of it, for who speaks with a server himself. Connect: a blocking socket, or -errno. */
int client_connect(const char *path, uint64_t deadline, struct client_error *error);
/* What is wrong with an event of type WIRE_EVENT_ERROR, which came in `state`; or with the
 * connection, for a -errno (CLIENT_EOF: the server has hung up). Return what ivshmem_open() says.
 */
int client_explain_event(struct client_error *error, const char *path, bool current,
	enum wire_state state, const struct wire_event *event);
int client_explain_loss(struct client_error *error, const char *path, int err);

/* The server closed the connection between two messages. */
#define CLIENT_EOF (-ENODATA)

int client_dispatch(struct client *client, int timeout_ms);
int client_peers(const struct client *client, unsigned *ids, size_t n);
int client_vectors(const struct client *client, unsigned id);
int client_notify(const struct client *client, unsigned id, unsigned vector);
int client_wait(struct client *client, unsigned vector, int timeout_ms, uint64_t *count);
int client_vector_fd(struct client *client, unsigned vector);
int client_doorbell_fd(const struct client *client, unsigned id, unsigned vector);

#endif
