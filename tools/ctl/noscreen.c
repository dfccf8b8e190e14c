/* SPDX-License-Identifier: MIT */
/* For a build without ncurses. */
#include "screen.h"

#include <stdio.h>

int screen_run(struct ctl *ctl)
{
	(void)ctl;
	fprintf(stderr, CTL_PROGRAM ": built without ncurses: top works with --json only\n");
	return EXIT_FAILED;
}
