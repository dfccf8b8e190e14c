/* SPDX-License-Identifier: MIT */
#include "board.h"
#include "config.h"
#include "terminal.h"

#include "common/descriptors.h"
#include "common/logsink.h"
#include "common/options.h"
#include "common/stdfds.h"

#include <stdio.h>
#include <stdlib.h>

static int run(const struct config *config, struct log *log)
{
	struct board board;
	int status = BOARD_CANNOT_START;

	if (board_open(&board, config, log) == 0) {
		terminal_open();
		status = board_run(&board);
		terminal_close();
	}
	board_close(&board);
	return status;
}

int main(int argc, char **argv)
{
	struct config config;
	int status = EXIT_USAGE;

	if (stdfds_open() < 0)
		return BOARD_CANNOT_START;
	descriptors_raise();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (config_parse(&config, argc, argv) == 0) {
		struct log *log = logsink_open("plain", "stderr", "ivshmem-flat-run");
		status = BOARD_CANNOT_START;
		if (log) {
			log->level = config.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARNING;
			status = run(&config, log);
		}
		logsink_close(log);
	}
	config_fini(&config);
	if ((fflush(stdout) != 0 || ferror(stdout)) && status == EXIT_SUCCESS)
		status = BOARD_CANNOT_START;
	return status;
}
