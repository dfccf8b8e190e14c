/* SPDX-License-Identifier: MIT */
#include "config.h"

static const struct option_def options[] = {
	{'n', "max-descriptors", "N",
		"hold at most N; further clients wait in the backlog (default: what the hard limit "
		"of open descriptors carries)",
		"Limits"},
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-keeper",
	.synopsis = "[OPTION]... [--] PROGRAM [ARGUMENT]...",
	.description =
		"Run PROGRAM, hold its descriptors, and start it again with them whenever it "
		"dies, so that its clients notice nothing. PROGRAM is one that knows how to "
		"use this, as ivshmem-server -F.",
	.options = options,
	.epilogue = "SIGHUP starts PROGRAM anew, say after an upgrade; SIGTERM and SIGINT end it "
		    "and the keeper.\n"
		    "Exit status: that of PROGRAM; 127 if it cannot be run; 1: the keeper cannot "
		    "start; 2: wrong usage.\n",
};

static int handle(void *data, int key, const char *argument)
{
	uint64_t *max = data;
	(void)key;
	return option_uint(&table, "--max-descriptors", argument, 1, *max, max);
}

char **config_parse(int argc, char **argv, uint64_t *max)
{
	int first = options_parse(&table, argc, argv, handle, max);
	if (first < 0)
		return NULL;
	if (first == argc) {
		options_complain(&table, "there is no PROGRAM to run");
		return NULL;
	}
	if (*max == 0) {
		options_complain(&table, "the hard limit of open descriptors is too low");
		return NULL;
	}
	return argv + first;
}
