/* SPDX-License-Identifier: MIT */
/*
 * What ivshmem-keeper and its worker say to each other, over a pair of SOCK_SEQPACKET sockets. Each
 * message is a struct keeper_message, with a descriptor where it says so. Nobody answers.
 *
 *   keeper  HELD     name, a descriptor: for each that is held, later for each that is accepted
 *           END      number: how many may be held; once, when all that is held has been told
 *   worker  PUT      name, which is not held yet, and a descriptor: hold a copy of it
 *           DROP     name, which is held
 *           ACCEPT   name of a listening socket, prefix, number: accept on it, and hold what
 *                    comes as PREFIX.NUMBER, ascending; numbers whose names are taken are left
 *                    out. Without a prefix: accept on it no longer
 *           READY    it serves
 *
 * What is in the queue is as good as carried out: the keeper reads what a worker has sent before
 * its death. A worker that says anything else is killed.
 */
#ifndef TOOLS_DAEMON_KEEPER_PROTOCOL_H
#define TOOLS_DAEMON_KEEPER_PROTOCOL_H

#include "daemon/held.h"

#include <stdbool.h>
#include <stdint.h>

#define KEEPER_VARIABLE "IVSHMEM_KEEPER" /* in the worker's environment: number of its socket */
#define KEEPER_VERSION  1

enum keeper_op {
	KEEPER_HELD = 1,
	KEEPER_END,
	KEEPER_PUT = 16,
	KEEPER_DROP,
	KEEPER_ACCEPT,
	KEEPER_READY,
};

struct keeper_message {
	uint32_t op;
	uint32_t version; /* KEEPER_VERSION */
	uint64_t number;
	char name[HELD_NAME_SIZE]; /* these end with a zero */
	char prefix[HELD_PREFIX_SIZE];
};

/* One message, and its descriptor or -1, which is the caller's: 1; 0: the other side has hung up;
 * -EAGAIN (unless it waits); -EPROTO and others: that was no message, or of another version. */
int keeper_receive(int sock, bool wait, struct keeper_message *m, int *fd);

#endif
