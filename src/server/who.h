/* SPDX-License-Identifier: MIT */
/*
 * who - the identity of a peer that is in, in little room: the texts of an identity are mostly
 * empty, and there may be 65,536 of them.
 */
#ifndef SERVER_WHO_H
#define SERVER_WHO_H

#include "server/identity.h"

/* Bytes that the texts take at most. What does not fit is cut, the later texts first. */
#define WHO_TEXT_SIZE 512

struct who {
	uid_t uid;
	gid_t gid;
	pid_t pid;
	char *texts; /* executable, machine, label, cgroup, each with its zero; NULL: not looked at
		      */
};

void who_fini(struct who *who);

/* Only what the kernel knows of the socket: cheap. */
void who_from_socket(struct who *who, int sock);

/* 0 or -ENOMEM: without the texts, then. */
int who_set(struct who *who, const struct identity *identity);

/* Back; the supplementary groups are not remembered. */
void who_get(const struct who *who, struct identity *identity);

/* The texts as they are, if there are any; and out of such a block, whatever it contains. */
void who_copy_texts(const struct who *who, char texts[WHO_TEXT_SIZE]);
void who_read_texts(const char texts[WHO_TEXT_SIZE], struct identity *identity);

#endif
