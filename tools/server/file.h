/* SPDX-License-Identifier: MIT */
/* The configuration file: ivshmem.conf(5). */
#ifndef TOOLS_SERVER_FILE_H
#define TOOLS_SERVER_FILE_H

#include "hub/hub.h"

#include <stddef.h>

#define FILE_MAX_SIZE  (4u << 20) /* bytes */
#define FILE_MAX_RULES 256        /* of a region */

struct file_config {
	struct region_spec *regions; /* in the order of the file */
	size_t n;
	char control_path[SOCKET_PATH_SIZE]; /* "": none */
	gid_t control_group;                 /* (gid_t)-1: none */
	unsigned control_clients;
	struct users_limits users;
};

/* Called for each mistake with one line: "FILE:LINE: what is wrong, what is allowed". */
typedef void file_complaint(void *data, const char *line);

/*
 * Understand `size` bytes at `text`; `path` is for messages. 0, -EINVAL after complaining, or
 * -ENOMEM. Then file_config_fini().
 */
int file_parse(struct file_config *config, const char *path, const char *text, size_t size,
	file_complaint *complain, void *data);

/* The same for a file; also -errno of reading it, which is a complaint, too. */
int file_read(struct file_config *config, const char *path, file_complaint *complain, void *data);

void file_config_fini(struct file_config *config);

#endif
