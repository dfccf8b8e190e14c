/* SPDX-License-Identifier: MIT */
/* metrics_file - the metrics as a file, written anew at intervals. */
#ifndef TOOLS_SERVER_METRICS_METRICS_FILE_H
#define TOOLS_SERVER_METRICS_METRICS_FILE_H

#include "exposition.h"

#include <uv.h>

struct metrics_file;

/* 0 or -errno. `path` is borrowed. The file is there once the loop has run for a moment. */
int metrics_file_start(struct metrics_file **out, const struct exposition *exposition,
	const char *path, unsigned interval_ms, uv_loop_t *loop, struct log *log);

/* Removes the file, too: what it says would be true no longer. NULL is fine. */
void metrics_file_stop(struct metrics_file *file);

#endif
