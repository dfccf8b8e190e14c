/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_COMMON_DESCRIPTORS_H
#define TOOLS_COMMON_DESCRIPTORS_H

#include <stdint.h>

/*
 * Raise the limit of open descriptors from soft to hard, as whoever holds one for each vector of
 * each peer needs. Returns the limit from now on.
 */
uint64_t descriptors_raise(void);

#endif
