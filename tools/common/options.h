/* SPDX-License-Identifier: MIT */
/*
 * Command-line options from one table: the table is parsed, printed by --help and compared with the
 * manual page by tests/lint/manpages.py, so the three cannot drift apart.
 */
#ifndef TOOLS_COMMON_OPTIONS_H
#define TOOLS_COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* Room for any path that a Unix socket can have, and the final zero. */
enum { SOCKET_PATH_SIZE = 108 };

/* Exit code of a program that was called the wrong way. */
enum { EXIT_USAGE = 2 };

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
	bool anywhere; /* options may also stand between and behind the other arguments */
};

/* Called for each option given; returns 0, or -1 after having printed what is wrong. */
typedef int option_handler(void *data, int key, const char *argument);

/* Keys of options without a letter: from OPTION_FIRST on they are the program's own, those between
 * OPTION_SHARED and it belong to rows that several programs share (daemon/startup_options.h). */
enum { OPTION_HELP = 256, OPTION_VERSION, OPTION_SHARED, OPTION_FIRST = OPTION_SHARED + 16 };

/*
 * Parse argv. Handles --help (and -h) and --version itself: prints and exits 0. On a wrong option
 * prints one line and the pointer to --help, and returns -1. On success returns the index of the
 * first argument that is no option. Options must come before the other arguments, unless the table
 * says `anywhere`: then argv is reordered so that the others come last.
 */
int options_parse(const struct option_table *table, int argc, char **argv, option_handler *handle,
	void *data);

/* Print "PROGRAM: " and the message on stderr, then where to find help. Returns -1. */
int options_complain(const struct option_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* What --help prints: under 100 columns. */
void options_help(const struct option_table *table, FILE *out);

/*
 * What arguments of options are, for use in an option_handler: 0, or -1 after having complained.
 * `option` is the option as the user knows it, with its dashes.
 */
int option_uint(const struct option_table *table, const char *option, const char *argument,
	uint64_t min, uint64_t max, uint64_t *value);
int option_size(const struct option_table *table, const char *option, const char *argument,
	uint64_t *bytes);

/* A permission in octal. */
int option_mode(const struct option_table *table, const char *option, const char *argument,
	mode_t min, mode_t max, mode_t *mode);

/* USER, USER:GROUP or :GROUP, names or numbers; what is not given stays as it is. */
int option_owner(const struct option_table *table, const char *option, const char *argument,
	uid_t *uid, gid_t *gid);

/*
 * PATH, unix:PATH or region:NAME, for a socket to listen on; the path goes to `path`. `hint` is
 * added to the complaint about any other scheme, "" for none.
 */
int option_socket(const struct option_table *table, const char *option, const char *argument,
	const char *hint, char path[SOCKET_PATH_SIZE]);

/*
 * Seconds as users type them: "2", "0.25"; at most 1000000. 0 with *ms rounded up to milliseconds,
 * -EINVAL or -ERANGE.
 */
int parse_seconds(const char *text, int *ms);

#endif
