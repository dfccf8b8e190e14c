/* SPDX-License-Identifier: MIT */
/*
 * sandbox - giving up what a process that serves does not need: rights of its user, capabilities,
 * system calls. The mechanism; which calls a program needs is its own list.
 */
#ifndef TOOLS_DAEMON_SANDBOX_H
#define TOOLS_DAEMON_SANDBOX_H

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

/* A system call that may be made: with any arguments, or if this one has this value under a mask.
 * A call can stand there several times, with a condition each. */
struct sandbox_call {
	const char *name; /* NULL: the end of a list */
	unsigned argument;
	uint64_t mask, value; /* mask 0: any arguments */
};

#define SANDBOX_ALWAYS(name)                                                                       \
	{                                                                                          \
		(name), 0, 0, 0                                                                    \
	}
#define SANDBOX_IF(name, argument, mask, value)                                                    \
	{                                                                                          \
		(name), (argument), (mask), (value)                                                \
	}
#define SANDBOX_EXACTLY UINT64_MAX /* as a mask */
#define SANDBOX_END                                                                                \
	{                                                                                          \
		0                                                                                  \
	}

struct sandbox_config {
	const char *user;      /* to become; NULL: stay */
	bool confine;          /* drop capabilities, and allow only these system calls */
	uint64_t capabilities; /* bits: those that stay, if we have them */
	const struct sandbox_call *const *calls; /* lists, and NULL */
};

/*
 * Final. Call before the loop is made and while there is one thread. 0, or -1 after having said on
 * `log` what is wrong. Each list is allowed besides what every program that serves needs: a loop,
 * memory that is not executable, threads, signals to itself, reading and writing what is open.
 */
int sandbox_enter(const struct sandbox_config *config, struct log *log);

#endif
