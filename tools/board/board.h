/* SPDX-License-Identifier: MIT */
/* board - processor, memories, UART and ivshmem device, put together and kept running. */
#ifndef BOARD_BOARD_H
#define BOARD_BOARD_H

#include "config.h"
#include "core/core.h"
#include "peripherals.h"
#include "semihosting.h"
#include "window.h"

#include "base/log.h"

#include <stdbool.h>

struct board {
	const struct config *config;
	struct log *log;
	struct core *core;
	uint8_t *flash, *ram;
	struct peripherals peripherals;
	struct semihosting host;
	struct window window;
	bool input; /* standard input has not ended */
};

enum { BOARD_CANNOT_START = 125, BOARD_LOCKED_UP = 126 };

/* Build it and load the firmware. 0, or -1 after having said why not. board_close() is for both
 * cases. `config` and `log` must outlive it. */
int board_open(struct board *board, const struct config *config, struct log *log);
void board_close(struct board *board);

/* Run until the firmware ends: its status, or BOARD_LOCKED_UP. */
int board_run(struct board *board);

#endif
