/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_KEEPER_CONFIG_H
#define TOOLS_KEEPER_CONFIG_H

#include "common/options.h"

#include <stdint.h>

/* The command line: PROGRAM and its arguments, or NULL after having said what is wrong. `*max` is
 * the most and the default for --max-descriptors. */
char **config_parse(int argc, char **argv, uint64_t *max);

#endif
