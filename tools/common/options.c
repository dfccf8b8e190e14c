/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. getopt_long() does the parsing; its arrays are built from the option table
 * for the duration of one call. A long option without a short one needs a value that is no
 * character, which is what keys from OPTION_FIRST on are.
 */
#include "common/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS     99
#define HELP_COLUMN 30

static const struct option_def builtin[] = {
	{OPTION_HELP, "help", NULL, "print this help and exit", "Information"},
	{OPTION_VERSION, "version", NULL, "print the version and exit", NULL},
	{0},
};

int options_complain(const struct option_table *table, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fprintf(stderr, "%s: ", table->program);
	vfprintf(stderr, format, args);
	fprintf(stderr, "; try '%s --help'\n", table->program);
	va_end(args);
	return -1;
}

/* Print `text` broken at blanks, from column `column` on; further lines are indented to `indent`.
 */
static void print_wrapped(FILE *out, const char *text, int column, int indent)
{
	while (*text) {
		int length = (int)strcspn(text, " \n");
		if (column > indent && column + 1 + length > COLUMNS) {
			fprintf(out, "\n%*s", indent, "");
			column = indent;
		}
		column += fprintf(out, "%s%.*s", column > indent ? " " : "", length, text);
		text += length;
		text += strspn(text, " \n");
	}
	fputc('\n', out);
}

static void print_option(FILE *out, const struct option_def *option)
{
	if (option->group)
		fprintf(out, "\n%s:\n", option->group);

	int letter = option->key == OPTION_HELP ? 'h' : option->key;
	int column =
		letter < OPTION_HELP ? fprintf(out, "  -%c, ", letter) : fprintf(out, "      ");
	column += fprintf(out, "--%s", option->name);
	if (option->argument)
		column += fprintf(out, " %s", option->argument);
	if (column + 2 > HELP_COLUMN) {
		fputc('\n', out);
		column = 0;
	}
	fprintf(out, "%*s", HELP_COLUMN - column, "");
	print_wrapped(out, option->help, HELP_COLUMN, HELP_COLUMN);
}

void options_help(const struct option_table *table, FILE *out)
{
	fprintf(out, "Usage: %s %s\n", table->program, table->synopsis);
	print_wrapped(out, table->description, 0, 0);
	for (const struct option_def *option = table->options; option->name; option++)
		print_option(out, option);
	for (const struct option_def *option = builtin; option->name; option++)
		print_option(out, option);
	if (table->epilogue)
		fprintf(out, "\n%s", table->epilogue);
}

/* getopt_long()'s two descriptions of the same options. */
struct getopt_tables {
	char *letters;
	struct option *names;
};

static void add_options(struct getopt_tables *tables, const struct option_def *options, size_t *n)
{
	char *letter = tables->letters + strlen(tables->letters);
	for (; options->name; options++) {
		tables->names[(*n)++] = (struct option){
			.name = options->name,
			.has_arg = options->argument ? required_argument : no_argument,
			.val = options->key,
		};
		if (options->key < OPTION_HELP) {
			*letter++ = (char)options->key;
			if (options->argument)
				*letter++ = ':';
		}
	}
}

static int build_tables(struct getopt_tables *tables, const struct option_table *table)
{
	const struct option_def *options = table->options;
	size_t n = sizeof(builtin) / sizeof(builtin[0]);
	for (const struct option_def *option = options; option->name; option++)
		n++;
	tables->names = calloc(n, sizeof(*tables->names));
	tables->letters = calloc(n + 2, 2);
	if (!tables->names || !tables->letters)
		return -ENOMEM;

	/* '+': stop at the first argument that is no option. ':': tell a missing argument apart. */
	const char *first = table->anywhere ? ":h" : "+:h";
	memcpy(tables->letters, first, strlen(first) + 1);
	n = 0;
	add_options(tables, options, &n);
	add_options(tables, builtin, &n);
	return 0;
}

static int complain_option(const struct option_table *table, int result, char **argv)
{
	const char *given = argv[optind - 1]; /* in musl the end of argv, for a letter at the end */
	if (result == ':' && (!given || strncmp(given, "--", 2) != 0))
		return options_complain(table, "option '-%c' needs an argument", optopt);
	if (result == ':')
		return options_complain(table, "option '%s' needs an argument", given);
	if (optopt == 0)
		return options_complain(
			table, "there is no option '%s', or it is ambiguous", given);
	if (strncmp(given, "--", 2) == 0)
		return options_complain(
			table, "option '%.*s' takes no argument", (int)strcspn(given, "="), given);
	return options_complain(table, "there is no option '-%c'", optopt);
}

static void print_and_exit(const struct option_table *table, int key)
{
	if (key == OPTION_VERSION)
		printf("%s %s\n", table->program, IVSHMEM_VERSION);
	else
		options_help(table, stdout);
	exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

int options_parse(
	const struct option_table *table, int argc, char **argv, option_handler *handle, void *data)
{
	struct getopt_tables tables = {0};
	int result = build_tables(&tables, table);
	if (result < 0) {
		options_complain(table, "no memory");
		goto out;
	}

	optind = 0; /* start over, also if somebody has parsed before */
	opterr = 0;
	int key;
	while ((key = getopt_long(argc, argv, tables.letters, tables.names, NULL)) != -1) {
		if (key == '?' || key == ':')
			result = complain_option(table, key, argv);
		else if (key == 'h' || key == OPTION_HELP || key == OPTION_VERSION)
			print_and_exit(table, key);
		else
			result = handle(data, key, optarg);
		if (result < 0)
			goto out;
	}
	result = optind;
out:
	free(tables.names);
	free(tables.letters);
	return result < 0 ? -1 : result;
}
