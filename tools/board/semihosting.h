/* SPDX-License-Identifier: MIT */
/*
 * semihosting - what a firmware may ask of the host: its command line, the console, the time, an
 * end. Not the host's files: what is run here need not be trusted with them.
 */
#ifndef BOARD_SEMIHOSTING_H
#define BOARD_SEMIHOSTING_H

#include "core/core.h"

#include <stdbool.h>
#include <stdint.h>

struct semihosting {
	const char *command_line;
	uint64_t start;      /* when the board was started, nanoseconds of CLOCK_MONOTONIC */
	uint32_t last_error; /* for SYS_ERRNO */
};

/* Serve the call that `core` has stopped for. True: the firmware has ended, with *status. */
bool semihosting_serve(struct semihosting *host, struct core *core, int *status);

#endif
