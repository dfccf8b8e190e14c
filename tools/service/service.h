/* SPDX-License-Identifier: MIT */
/*
 * service - a Varlink service on a socket: who may connect, calls in, answers out. What the calls
 * do is the program's. A client that does not read, or sends what does not end, costs itself its
 * connection and nobody else anything. All of this belongs to the loop's thread.
 */
#ifndef TOOLS_SERVICE_SERVICE_H
#define TOOLS_SERVICE_SERVICE_H

#include "varlink/varlink.h"

#include "base/list.h"
#include "base/log.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <uv.h>

struct service;

/* Begins what the program has for a client. Others look at the first part only. */
struct service_client {
	uid_t uid; /* as the kernel knows it */
	pid_t pid;
	bool may_change; /* root, or the user that this process runs as; else it may see */
	void *data;      /* the configuration's */

	struct list link, turn;
	struct service *service;
	uv_poll_t poll;
	int sock, watched; /* owned; UV_READABLE... */
	struct varlink_reader reader;
	bool ended;   /* it sends nothing more, */
	bool gone;    /* or is not there at all */
	bool listens; /* its answer goes on when something happens, and it is not asked until then
		       */
	char *out;    /* what it has not taken yet: from `sent` to `used` */
	size_t size, used, sent;
	int descriptor; /* goes with the next byte of it; owned, -1: none */
};

/* What comes of an answer that is not over with its first message. */
enum service_rest {
	SERVICE_OVER,    /* nothing: the next call */
	SERVICE_GOES_ON, /* *message, or NULL without memory */
	SERVICE_LATER,   /* more of it, but only after service_wake() */
};

struct service_config {
	const char *interface; /* the errors NotPermitted, TooManyClients, NotEnough are in it */
	gid_t read_group;      /* members may see; (gid_t)-1: only who may change */
	unsigned max_clients;
	size_t client_size; /* of the struct that begins with a struct service_client; begins as
			       zero */
	/* The first message of the answer; NULL without memory. Where none is wanted (oneway), it
	 * is thrown away and must be all. */
	json_t *(*call)(struct service_client *client, const struct varlink_call *call);
	/* Asked whenever the client has taken all that was said before. */
	enum service_rest (*rest)(struct service_client *client, json_t **message);
	void (*closing)(struct service_client *client); /* NULL: nothing is to be done */
	void *data;
};

/* Serve on a listening socket (borrowed); the texts of the configuration are borrowed, too. 0 or
 * -errno. */
int service_start(struct service **out, const struct service_config *config, int listen_fd,
	uv_loop_t *loop, struct log *log);
void service_stop(struct service *service); /* closes all clients before it returns */

/* For `call`: this descriptor goes with the first byte of its answer. Takes it over. */
void service_attach(struct service_client *client, int fd);

/* There is something to be said to a client: ask for the rest of its answer. */
void service_wake(struct service_client *client);

/* Say something at once that others are told, too: a packed message, kept until it is taken. How
 * much is kept; 0 or -ENOMEM. */
size_t service_backlog(const struct service_client *client);
int service_append(struct service_client *client, const char *bytes, size_t n);

#endif
