/* SPDX-License-Identifier: MIT */
/* keep.c, and the two who hold. */
#ifndef TOOLS_DAEMON_KEEP_INTERNAL_H
#define TOOLS_DAEMON_KEEP_INTERNAL_H

#include "daemon/held.h"
#include "daemon/keep.h"

#include "base/log.h"

struct keep {
	struct log *log;
	enum keep_holder holder;
	struct held_names
		names;         /* all that is held, and the unit's sockets; by the caller's names */
	struct list listeners; /* those that the keeper accepts on */
	uint64_t max;          /* how many names the holder can hold */
	int sock;              /* to the keeper, or -1 */
	size_t names_size;     /* of all names, for systemd */
	struct log_limit drops; /* lines about those that systemd does not let go of */
};

/*
 * What the holder knows as NAME+N is a box of N descriptors, any other name a descriptor. Take over
 * what it has passed us: 0 or -errno, having said why and closed it.
 */
int keep_received(struct keep *keep, const char *held_as, int fd);

/* keep_keeper.c */
int keeper_open(struct keep *keep, const char *number);
int keeper_put(struct keep *keep, const char *held_as, int fd);
void keeper_drop(struct keep *keep, const char *held_as);
int keeper_accept(struct keep *keep, const struct held *listener, bool on);
int keeper_accepted(struct keep *keep, char listener[KEEP_NAME_SIZE], uint64_t *number, int *fd);
void keeper_ready(struct keep *keep);

/* keep_systemd.c, if there is libsystemd */
int systemd_open(struct keep *keep);
int systemd_put(struct keep *keep, const char *held_as, int fd);
void systemd_drop(struct keep *keep, const char *held_as);
void systemd_ready(struct keep *keep);

#endif
