/* SPDX-License-Identifier: MIT */
/*
 * metrics - what the server measures, for monitoring systems: over HTTP and as a file.
 * docs/observability.md.
 */
#ifndef TOOLS_SERVER_METRICS_METRICS_H
#define TOOLS_SERVER_METRICS_METRICS_H

#include "hub/hub.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <uv.h>

/* Descriptors that metrics take at most: not the peers'. */
#define METRICS_DESCRIPTORS 24

struct metrics_config {
	const char *address;  /* to serve HTTP on; NULL: none. See metrics_parse_address() */
	const char *file;     /* to write; NULL: none */
	unsigned interval_ms; /* between two writings */
	bool peers;           /* of each peer, too */
};

#define METRICS_CONFIG_INIT                                                                        \
	{                                                                                          \
		.interval_ms = 15000                                                               \
	}

#define METRICS_MAX_ADDRESSES 2

/*
 * "PORT" is the port on both loopback addresses; else "HOST:PORT", where HOST is an address in
 * numbers, "[ADDRESS]" for IPv6. Returns how many addresses that is, or -EINVAL.
 */
int metrics_parse_address(
	const char *text, struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES]);

struct metrics;

/* Serve and write until the stop. 0 with NULL if there is nothing to do, or -errno after having
 * said on `log` what is wrong. The texts of `config` are borrowed. */
int metrics_start(struct metrics **out, const struct metrics_config *config, struct hub *hub,
	uv_loop_t *loop, struct log *log);

/* Before the hub is destroyed and the loop closed. NULL is fine. */
void metrics_stop(struct metrics *metrics);

#endif
