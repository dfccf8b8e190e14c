/* SPDX-License-Identifier: MIT */
#include "server/internal.h"

void server_set_limits(struct server *server, const struct server_config *config)
{
	server->config.max_peers = config->max_peers;
	server->config.max_peers_per_uid = config->max_peers_per_uid;
	server->config.max_queue = config->max_queue;
	server->config.stall_timeout_ms = config->stall_timeout_ms;
	server->check_at = 0; /* deadlines are others now: look at once */
}

void server_set_last_serial(struct server *server, uint64_t serial)
{
	server->last_serial = serial;
}

uint64_t server_last_serial(const struct server *server)
{
	return server->last_serial;
}
