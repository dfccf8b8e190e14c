/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include "common/jsontext.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct command {
	const char *name, *arguments, *help;
	int min, max; /* words after the name */
	command_function *function;
};

static command_function run_help, run_quit;

static const struct command commands[] = {
	{"dump", "", "list own ID, peers, vectors and their descriptors", 0, 0, command_dump},
	{"int", "PEER VECTOR|all, int all", "ring one vector, all of a peer, or all peers but us",
		1, 2, command_int},
	{"peers", "", "list the other peers and how many vectors each has", 0, 0, command_peers},
	{"info", "", "own ID, region, server", 0, 0, command_info},
	{"wait", "[VECTOR|any] [SECONDS]", "until an own vector is rung (default: any, for ever)",
		0, 2, command_wait},
	{"watch", "[SECONDS]", "print events until time is up or Ctrl-C", 0, 1, command_watch},
	{"ping", "PEER [COUNT] [VECTOR]",
		"round trips to a peer that runs `answer` (1000, vector 0)", 1, 3, command_ping},
	{"answer", "[PEER|last] [SECONDS]",
		"ring back each doorbell (default: to the last that joined)", 0, 2, command_answer},
	{"read", "OFFSET LENGTH", "print bytes of the region in hexadecimal", 2, 2, command_read},
	{"write", "OFFSET HEX|\"TEXT\"", "write bytes to the region", 2, 2, command_write},
	{"fill", "OFFSET LENGTH BYTE", "set bytes of the region to one value", 3, 3, command_fill},
	{"help", "[all]", "the commands of QEMU's client, or all", 0, 1, run_help},
	{"?", NULL, NULL, 0, 1, run_help},
	{"quit", "", "leave", 0, 0, run_quit},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

void command_help(bool all)
{
	if (!all) {
		printf("dump: dump peers (including us)\n"
		       "int <peer> <vector>: notify one vector on a peer\n"
		       "int <peer> all: notify all vectors of a peer\n"
		       "int all: notify all vectors of all peers (excepting us)\n");
		return;
	}
	for (size_t i = 0; i < N_COMMANDS; i++) {
		char usage[64];
		if (!commands[i].help)
			continue;
		snprintf(usage, sizeof(usage), "%s %s", commands[i].name, commands[i].arguments);
		printf("  %-31s %s\n", usage, commands[i].help);
	}
}

static enum command_status run_help(struct client *c, int n, char **words)
{
	if (n == 2 && strcmp(words[1], "all") != 0)
		return command_fail(c, COMMAND_MISUSED, "invalid command, type help");
	if (!c->json) {
		command_help(n == 2 || !c->dialogue);
		return COMMAND_OK;
	}
	json_t *list = json_array();
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (commands[i].help)
			json_array_append_new(list,
				json_pack("{s:s, s:s, s:s}", "name", commands[i].name, "arguments",
					commands[i].arguments, "help", commands[i].help));
	command_result(c, json_pack("{s:o}", "commands", list));
	return COMMAND_OK;
}

static enum command_status run_quit(struct client *c, int n, char **words)
{
	(void)n;
	(void)words;
	c->quit = true;
	return COMMAND_OK;
}

enum command_status command_fail(
	struct client *c, enum command_status status, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(c->error, sizeof(c->error), format, args);
	va_end(args);
	return status;
}

void command_result(struct client *c, json_t *members)
{
	json_object_update(c->result, members);
	json_decref(members);
}

static bool is_contribs(const char *name)
{
	return strcmp(name, "int") == 0 || strcmp(name, "dump") == 0 || strcmp(name, "help") == 0;
}

/* The command that the words name, or NULL with c->error set. */
static const struct command *find(struct client *c, int n, char **words)
{
	if (n == -EINVAL) {
		command_fail(c, COMMAND_MISUSED, "a quote (\") is not closed");
		return NULL;
	}
	for (size_t i = 0; i < N_COMMANDS && n > 0; i++) {
		const struct command *command = &commands[i];
		if (strcmp(words[0], command->name) != 0)
			continue;
		if (n - 1 >= command->min && n - 1 <= command->max)
			return command;
		/* What QEMU's client has is answered as it does. */
		if (!command->help || (c->dialogue && is_contribs(command->name)))
			break;
		command_fail(c, COMMAND_MISUSED, "usage: %s %s", command->name, command->arguments);
		return NULL;
	}
	command_fail(c, COMMAND_MISUSED, "invalid command, %s",
		c->dialogue ? "type help" : "see --help");
	return NULL;
}

/* Print what came out of a command; `text` is the command as it was given. */
static enum command_status report(struct client *c, const char *text, enum command_status status)
{
	c->failed |= status != COMMAND_OK;
	if (c->json) {
		json_t *line = json_pack(
			"{s:o, s:b}", "command", json_text(text), "ok", status == COMMAND_OK);
		if (status != COMMAND_OK)
			json_object_set_new(line, "error", json_text(c->error));
		json_object_update(line, c->result);
		json_print_line(line, stdout);
	} else if (status != COMMAND_OK) {
		if (c->dialogue)
			printf("%s\n", c->error);
		else
			fprintf(stderr, "%s: %s: %s\n", c->program, text, c->error);
	}
	return status;
}

enum command_status command_run(struct client *c, char *command)
{
	char *words[INPUT_MAX_WORDS];
	char *text = strdup(command + strspn(command, " \t"));
	if (!text) {
		command_fail(c, COMMAND_FAILED, "no memory");
		return report(c, "", COMMAND_FAILED);
	}

	enum command_status status = COMMAND_OK;
	int n = input_words(command, words);
	if (n != 0) {
		c->result = json_object();
		const struct command *found = find(c, n, words);
		status = found ? found->function(c, n, words) : COMMAND_MISUSED;
		report(c, text, status);
		json_decref(c->result);
		c->result = NULL;
	}
	free(text);
	return status;
}

bool command_check(struct client *c, const char *command)
{
	char *words[INPUT_MAX_WORDS];
	char *copy = strdup(command);
	if (!copy)
		return false;
	int n = input_words(copy, words);
	bool good = n == 0 || find(c, n, words);
	if (!good)
		fprintf(stderr, "%s: %s: %s\n", c->program, command + strspn(command, " \t"),
			c->error);
	free(copy);
	return good;
}

enum command_status command_too_long(struct client *c)
{
	return report(c, "",
		command_fail(c, COMMAND_MISUSED, "command longer than %u bytes; use several",
			INPUT_MAX_LINE - 1));
}
