/* SPDX-License-Identifier: MIT */
/* The listening socket: where it is, whose it is, and whether an old one may be replaced. */
#ifndef TOOLS_SERVER_LISTEN_H
#define TOOLS_SERVER_LISTEN_H

#include "config.h"

struct listener {
	int fd; /* -1: none; owned */
	const char *path;
	dev_t device;
	ino_t inode; /* of the socket that we made: only that one is removed */
};

#define LISTENER_INIT                                                                              \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* 0, or -1 after having said on `log` what is wrong; then nothing is left behind. */
int listener_open(struct listener *listener, const struct config *config, struct log *log);

/* Stop listening and remove the socket, if it is still ours. Safe twice. */
void listener_close(struct listener *listener);

#endif
