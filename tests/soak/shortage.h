/* SPDX-License-Identifier: MIT */
/*
 * shortage - while the server is called, something is short: any allocation or system call may
 * fail, or there are hardly any descriptors left. The clients and the keeper, which are the same
 * process, have all they need; but what the server has held in such a moment may fail, too.
 */
#ifndef TESTS_SHORTAGE_H
#define TESTS_SHORTAGE_H

#include "../common/chance.h"

enum shortage { SHORT_OF_NOTHING, SHORT_OF_ANYTHING, SHORT_OF_DESCRIPTORS };

/* From now on. `chance` says how short, each time anew. */
void shortage_set(enum shortage shortage, struct chance *chance);
bool something_is_short(void);

/* A box's `around`. */
void shortage_around(bool entering);

#endif
