/* SPDX-License-Identifier: MIT */
/* One of our programs as a child process, to measure. */
#ifndef BENCH_PROCESS_H
#define BENCH_PROCESS_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#define NOBODY 65534 /* the ordinary user */

struct process_options {
	int cpu;            /* the only one that it may use */
	bool ordinary_user; /* run it as nobody, if we are root */
	rlim_t soft, hard;  /* RLIMIT_NOFILE; 0: as we have it */
};

/* What a command line must end with, and where the child has that descriptor. */
#define PROCESS_READY (char *)"--ready-fd", (char *)"3"

/* Start `program` with these arguments; it is ready when this returns. */
pid_t process_start(const char *program, char *const argv[], const struct process_options *options);
void process_kill(pid_t pid);

/* The number behind `key` in /proc/PID/FILE, e.g. "RssAnon:" (in KiB) of "status". */
long process_number(pid_t pid, const char *file, const char *key);

/* How often it was switched away from: not more often than it was woken. */
long process_switches(pid_t pid);

#endif
