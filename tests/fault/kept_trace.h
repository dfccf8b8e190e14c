/* SPDX-License-Identifier: MIT */
/* kept_trace - the victim of a lab, traced: from one point of its work to another. */
#ifndef TESTS_KEPT_TRACE_H
#define TESTS_KEPT_TRACE_H

#include "kept_lab.h"
#include "traced.h"

/* A victim that has stopped before it calls the server for the first time. */
void trace_start(struct lab *lab);

/* Until it stops: false if it has ended instead. */
bool trace_go(struct lab *lab, int how);

/* To its n-th entry to or exit from a system call, or until it ends: false. */
bool trace_go_to_stop(struct lab *lab, unsigned n);

/* To where it is about to execute the instruction at `pc` for the n-th time. False: that did not
 * come to be, and it is elsewhere. Only with TRACE_RUNS. */
#if defined(__x86_64__)
#define TRACE_RUNS true
#else
#define TRACE_RUNS false
#endif
bool trace_run_to(struct lab *lab, uint64_t pc, unsigned times);

/* At the entry to sendmmsg(): send so many only. False: not on this machine. */
bool trace_shorten(const struct lab *lab, unsigned n);

#endif
