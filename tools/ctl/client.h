/* SPDX-License-Identifier: MIT */
/* The other end of the control socket: calls go out, answers come in. */
#ifndef TOOLS_CTL_CLIENT_H
#define TOOLS_CTL_CLIENT_H

#include "varlink/varlink.h"

struct client {
	int sock;       /* owned; -1: none */
	int descriptor; /* that has come along with an answer; owned, -1: none */
	struct varlink_reader reader;
};

#define CLIENT_INIT                                                                                \
	{                                                                                          \
		.sock = -1, .descriptor = -1                                                       \
	}

/* Connect; nothing will take longer than `timeout_ms`, 0: any time. 0 or -errno. */
int client_open(struct client *client, const char *path, int timeout_ms);
void client_close(struct client *client);

/* From now on wait for ever for an answer. */
void client_be_patient(struct client *client);

/* Takes over `parameters`. 0 or -errno. */
int client_call(struct client *client, const char *method, json_t *parameters, bool more);

/* The next answer, the caller's: 0, or -errno; -ECONNRESET if the server has gone, -ETIMEDOUT. */
int client_answer(struct client *client, json_t **answer);

/* The last descriptor that has come; the caller's. -1: none. */
int client_take_descriptor(struct client *client);

/* The same in two steps, for who waits for other things, too: the next answer of what has come (1,
 * 0: none, or -errno), and taking what comes next, or the end of it (0 or -errno). */
int client_next(struct client *client, json_t **answer);
int client_receive(struct client *client);

#endif
