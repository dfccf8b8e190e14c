/* SPDX-License-Identifier: MIT */
/* The listening socket: where it is, whose it is, and whether an old one may be replaced. */
#ifndef TOOLS_DAEMON_LISTEN_H
#define TOOLS_DAEMON_LISTEN_H

#include "base/log.h"

#include <stdbool.h>
#include <sys/types.h>

struct listen_config {
	const char *path;         /* borrowed by the listener: must outlive it */
	mode_t mode;              /* permission of the socket */
	uid_t uid;                /* (uid_t)-1: leave it */
	gid_t gid;                /* (gid_t)-1: leave it */
	const char *option;       /* that gave the path, for messages: "-S" */
	const char *owner_option; /* that gave the owner */
	const char *what;         /* listens there: "server" */
};

#define LISTENER_PATH_SIZE 108 /* what the kernel has for it */

struct listener {
	int fd;           /* -1: none; owned */
	const char *path; /* of the config, borrowed */
	dev_t device;
	ino_t inode; /* of the socket that we made: only that one is removed */
};

#define LISTENER_INIT                                                                              \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* 0, or -1 after having said on `log` what is wrong; then nothing is left behind. */
int listener_open(struct listener *listener, const struct listen_config *config, struct log *log);

/* Where a socket that another process has opened listens; false: nowhere, or not at a path. */
bool listener_name(int fd, char path[LISTENER_PATH_SIZE]);

/* Take over a socket that another process has opened, if it listens on `path` (borrowed); the file
 * is ours to remove then. False: it does not, and `fd` stays the caller's. */
bool listener_adopt(struct listener *listener, int fd, const char *path);

/* Change the permission of the socket, if it is still ours; (uid_t)-1 and (gid_t)-1 leave the
 * owner. 0 or -errno. */
int listener_permit(const struct listener *listener, mode_t mode, uid_t uid, gid_t gid);

/* Remove the socket's file, if it is still ours: nobody new finds it. */
void listener_unlink(struct listener *listener);

/* Stop listening and remove the socket, if it is still ours. Safe twice. */
void listener_close(struct listener *listener);

/*
 * Let go of a socket that another process of ours has opened and nobody wants, and of its file:
 * while a holder has it open, that would look like the socket of a program that lives.
 */
void listener_discard(int fd);

#endif
