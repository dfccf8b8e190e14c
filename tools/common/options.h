/* SPDX-License-Identifier: MIT */
/*
 * Command-line options from one table: the table is parsed, printed by --help and compared with the
 * manual page by tests/lint/manpages.py, so the three cannot drift apart.
 */
#ifndef TOOLS_COMMON_OPTIONS_H
#define TOOLS_COMMON_OPTIONS_H

#include <stdint.h>
#include <stdio.h>

struct option_def {
	int key;              /* the letter of the short option, or >= OPTION_FIRST if none */
	const char *name;     /* long option without the dashes */
	const char *argument; /* name of its argument for the help text; NULL: takes none */
	const char *help;     /* one paragraph; the default, if any, ends it: "... (default: X)" */
	const char *group;    /* heading to print before this option, or NULL */
};

/*
 * Program name, one-line synopsis (what follows the program's name), description, options, and text
 * for after the options (examples, exit codes; printed as it is, NULL for none). The table ends
 * with an entry whose name is NULL. -h, --help and --version are added by themselves.
 */
struct option_table {
	const char *program, *synopsis, *description, *epilogue;
	const struct option_def *options;
};

/* Called for each option given; returns 0, or -1 after having printed what is wrong. */
typedef int option_handler(void *data, int key, const char *argument);

enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_FIRST };

/*
 * Parse argv. Handles --help (and -h) and --version itself: prints and exits 0. On a wrong option
 * prints one line and the pointer to --help, and returns -1. On success returns the index of the
 * first argument that is no option. Options must come before the other arguments.
 */
int options_parse(const struct option_table *table, int argc, char **argv, option_handler *handle,
	void *data);

/* Print "PROGRAM: " and the message on stderr, then where to find help. Returns -1. */
int options_complain(const struct option_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What --help prints: under 100 columns. */
void options_help(const struct option_table *table, FILE *out);

/*
 * Seconds as users type them: "2", "0.25"; at most 1000000. 0 with *ms rounded up to milliseconds,
 * -EINVAL or -ERANGE.
 */
int parse_seconds(const char *text, int *ms);

#endif
