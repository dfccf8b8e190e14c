/* SPDX-License-Identifier: MIT */
/* The live screen of `top`. */
#ifndef TOOLS_CTL_SCREEN_H
#define TOOLS_CTL_SCREEN_H

#include "sample.h"

/* Until somebody quits. An exit code; what went wrong has been said. */
int screen_run(struct ctl *ctl);

#endif
