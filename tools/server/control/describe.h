/* SPDX-License-Identifier: MIT */
/* What the control socket shows, as the JSON objects of ivshmem.Control.varlink. */
#ifndef TOOLS_SERVER_CONTROL_DESCRIBE_H
#define TOOLS_SERVER_CONTROL_DESCRIBE_H

#include "hub/bells.h"
#include "hub/hub.h"

#include <jansson.h>

/* All: NULL without memory. */
json_t *describe_region(struct hosted *hosted);
json_t *describe_peer(struct hosted *hosted, const struct server_peer_info *info);
json_t *describe_doorbell(const struct bell_info *bell);
json_t *describe_event(const struct hub_event *event);

/* An event of the watch itself: "watching", or "lost" with how many. */
json_t *describe_notice(const char *event, uint64_t lost);

#endif
