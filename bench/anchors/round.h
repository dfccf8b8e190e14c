/* SPDX-License-Identifier: MIT */
/* Measuring a round trip, the same code for the bare one and for ours. */
#ifndef ANCHORS_ROUND_H
#define ANCHORS_ROUND_H

#include <stdbool.h>

/* Read "two" or "one" (CPUs) from argument `i`, the last, and pin this process. True: one. `usage`
 * is the command line up to there. */
bool round_place(int argc, char **argv, int i, const char *usage);

void round_begin(bool one);

/* Ring and await for a while, print the median and the 99th percentile. */
void round_measure(
	bool one, const char *who, void (*ring)(void *), void (*await)(void *), void *data);

#endif
