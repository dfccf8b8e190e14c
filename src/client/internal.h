/* SPDX-License-Identifier: MIT */
/* What the files of src/client share among themselves. */
#ifndef CLIENT_INTERNAL_H
#define CLIENT_INTERNAL_H

#include "base/clock.h"
#include "client/client.h"

/* Data of an epoll event: the number of an own vector, or one of these. */
#define SERVER_EVENT  UINT32_MAX
#define HANDLED_EVENT (UINT32_MAX - 1)

#define client_explain(error, ...) snprintf((error)->text, sizeof((error)->text), __VA_ARGS__)

/*
 * The next event from the server: 1 and *event, 0 if there is none now, CLIENT_EOF, or -errno if
 * the connection is of no use any more (-EPROTO: the server sent nonsense).
 */
int client_next(struct client *client, struct wire_event *event);

/* Take in an event, except errors, and call the listener unless the handshake is still on.
 * 0, or -errno if the connection is of no use any more. Takes event->fd over. */
int client_handle(struct client *client, const struct wire_event *event);

/* Wait until own vector `vector` is there, handling server messages: 1, 0 if the time passed,
 * -errno. */
int client_await_vector(struct client *client, unsigned vector, uint64_t deadline);

/* Wait for `fd` to be readable: 1, 0 if the time passed, -errno. */
int client_poll(int fd, uint64_t deadline);

#endif
