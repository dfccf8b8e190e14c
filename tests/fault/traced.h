/* SPDX-License-Identifier: MIT */
/*
 * A child process that is killed where we want: before or after a system call, or between two
 * instructions. It calls traced_stop_here() where that is to begin.
 */
#ifndef TESTS_TRACED_H
#define TESTS_TRACED_H

#include "base/sanitized.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/types.h>

/* Through instrumented code they take too long, and nobody runs such a program. */
#define SINGLE_STEPS !SANITIZED

struct user_regs_struct;

/* In the child. */
void traced_stop_here(void);

/* The first stop of a child that was just forked: false if it has ended instead. */
bool traced_begin(pid_t *pid);

/*
 * Let it go on until it stops, as PTRACE_SINGLESTEP or PTRACE_SYSCALL (which stops before and after
 * each call) say: false if it has ended instead, and then *pid is 0. It may end by itself with
 * success, or by SIGKILL; anything else fails the test.
 */
bool traced_go(pid_t *pid, int how);

/* Is its next instruction a system call? And where is that instruction? */
bool traced_is_at_call(pid_t pid);
bool traced_is_at_call_at(pid_t pid, uint64_t *pc);

/* False if it is not there any more. */
bool traced_get_registers(pid_t pid, struct user_regs_struct *registers);
bool traced_set_registers(pid_t pid, struct user_regs_struct *registers);

/* Wait for the end of a child, traced or not. */
void traced_wait(pid_t *pid);

void traced_kill(pid_t *pid);

#endif
