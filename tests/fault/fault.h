/* SPDX-License-Identifier: MIT */
/*
 * Fail the Nth system call or allocation of a scenario.
 *
 * The linker replaces the functions that are listed in fault.c and in this folder's meson.build
 * (--wrap) in everything that is linked statically into the test: our layers, not the C library,
 * not libuv. Only the thread that calls fault_arm() is subject to it, so a scripted other side can
 * be a thread or a child process.
 */
#ifndef TESTS_FAULT_H
#define TESTS_FAULT_H

#include <stdbool.h>

/* From now on the n-th call (1 is the next) of a listed function fails in this thread, once. */
void fault_arm(unsigned n);

/* Stop; returns the name of the function that failed, or NULL if it did not come to that. */
const char *fault_disarm(void);

/* Mappings made minus mappings removed by this thread since the program started. */
int fault_mappings(void);

/*
 * Run `scenario` with n = 1, 2, 3, .. until no fault fires any more, each time followed by a run
 * without a fault, which must return 0. Fails the cmocka test if a run leaves a descriptor or a
 * mapping behind, or memory where the sanitizer can tell. Returns how many faults there were.
 */
unsigned fault_sweep(int (*scenario)(void *data), void *data);

#endif
