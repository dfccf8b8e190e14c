/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_SERVER_DESCRIPTORS_H
#define TOOLS_SERVER_DESCRIPTORS_H

#include "config.h"

/*
 * Raise the limit of open descriptors from soft to hard, and settle max_peers and in_flight_limit
 * of config->server by it. 0, or -1 if an explicit --max-peers does not fit (said on `log`).
 */
int descriptors_settle(struct config *config, struct log *log);

#endif
