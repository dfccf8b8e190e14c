/* SPDX-License-Identifier: MIT */
/*
 * ivshmctl: what goes on in an ivshmem-server, and changing it.
 *
 * Theory of operation. There is one table of commands and one of options. An option's group says
 * which command it is for, so that it can be refused with the others; --help is printed from both,
 * and the manual page and the shells' completions are compared with that.
 */
#include "arguments.h"

#include "common/jsontext.h"
#include "common/options.h"
#include "common/stdfds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct command {
	const char *name, *arguments, *help;
	int min, max;
	command_function *run;
} commands[] = {
	{"list", "", "the regions", 0, 0, command_list},
	{"show", "REGION", "all about a region", 1, 1, command_show},
	{"peers", "[REGION]", "who is in, and what it costs", 0, 1, command_peers},
	{"watch", "[REGION]", "who joins, leaves, is refused, as it happens", 0, 1, command_watch},
	{"capture", "[REGION]", "messages and doorbells, for Wireshark", 0, 1, command_capture},
	{"channels", "[REGION]", "who sends whom how much, from outside", 0, 1, command_channels},
	{"create", "NAME", "create a region; prints its socket", 1, 1, command_create},
	{"remove", "NAME", "end a region", 1, 1, command_remove},
	{"drain", "NAME", "let nobody join any more", 1, 1, command_drain},
	{"evict", "REGION PEER", "take out a peer, by its ID or by @SERIAL", 2, 2, command_evict},
	{"reload", "", "have the configuration file read again", 0, 0, command_reload},
	{"top", "", "regions and peers on a live screen", 0, 0, command_top},
	{"devices", "", "the devices of an ivshmem-device", 0, 0, command_devices},
	{"version", "", "version of this program and of the server", 0, 0, command_version},
};

#define N_COMMANDS (sizeof(commands) / sizeof(commands[0]))

/* The part of --help that comes after the options; malloc'ed, NULL without memory. */
static char *describe_commands(void)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	if (!out)
		return NULL;
	fprintf(out, "Commands:\n");
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-8s %-12s %s\n", commands[i].name, commands[i].arguments,
			commands[i].help);
	fprintf(out,
		"\n"
		"Exit status: 0 success, 1 refused or failed, 2 wrong usage, 3 no server there.\n"
		"\n"
		"Examples:\n"
		"  ivshmctl create frames --size 16M --vectors 2 --allow group=kvm\n"
		"  ivshmctl peers frames\n"
		"  ivshmctl --json watch | jq .\n"
		"  ivshmctl capture frames -w - | wireshark -k -i -\n");
	return fclose(out) == 0 ? text : NULL;
}

static bool print_server_version(void *data, json_t *parameters)
{
	const struct ctl *ctl = data;
	if (ctl->json)
		json_print_line(
			json_pack("{s:s, s:O}", "client", IVSHMEM_VERSION, "server", parameters),
			stdout);
	else
		printf("%s %s\n", get_text(parameters, "product"), get_text(parameters, "version"));
	return true;
}

int command_version(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	(void)arguments;
	if (!ctl->json)
		printf(CTL_PROGRAM " %s\n", IVSHMEM_VERSION);
	return ctl_call(ctl, "org.varlink.service.GetInfo", NULL, false, print_server_version, ctl);
}

static void set_socket(struct ctl *ctl, bool of_device)
{
	ctl->start = of_device ? "ivshmem-device with --control"
			       : "ivshmem-server with --config or --control";
	if (!ctl->socket)
		ctl->socket = of_device ? CTL_DEVICE_SOCKET : CTL_SOCKET;
}

static int run(const struct arguments *arguments, int n, char **words)
{
	const struct option_table *table = arguments->table;
	const struct command *command = commands;

	if (n == 0)
		return options_complain(table, "say what to do"), EXIT_USAGE;
	while (strcmp(command->name, words[0]) != 0)
		if (++command == commands + N_COMMANDS)
			return options_complain(table, "there is no command '%s'", words[0]),
			       EXIT_USAGE;
	if (n - 1 < command->min || n - 1 > command->max)
		return options_complain(table, "it is: %s %s%s%s", table->program, command->name,
			       command->arguments[0] ? " " : "", command->arguments),
		       EXIT_USAGE;
	const char *owner = arguments->special ? ctl_command_of(arguments->special) : command->name;
	if (strcmp(owner, command->name) != 0)
		return options_complain(table, "--%s is for '%s'", arguments->special->name, owner),
		       EXIT_USAGE;
	set_socket(arguments->ctl, command->run == command_devices);
	return command->run(arguments->ctl, n - 1, words + 1);
}

int main(int argc, char **argv)
{
	struct ctl ctl = {
		.timeout_ms = 10000,
		.interval_ms = 1000,
		.client = CLIENT_INIT,
	};
	struct option_table table = {
		.program = CTL_PROGRAM,
		.synopsis = "[OPTION]... COMMAND [ARGUMENT]...",
		.description = "See and change the regions of a running ivshmem-server, and who is "
			       "in them; see the devices of an ivshmem-device.",
		.options = ctl_options,
		.anywhere = true,
	};
	struct arguments arguments = {.ctl = &ctl, .table = &table};

	if (stdfds_open() < 0)
		return EXIT_FAILED;
	ctl.spec = json_object();
	char *epilogue = describe_commands();
	table.epilogue = epilogue;
	int first = options_parse(&table, argc, argv, ctl_set_option, &arguments);
	int code = first < 0 ? EXIT_USAGE : run(&arguments, argc - first, argv + first);
	client_close(&ctl.client);
	json_decref(ctl.spec);
	free(epilogue);
	if (code == 0 && (fflush(stdout) != 0 || ferror(stdout))) {
		fprintf(stderr, CTL_PROGRAM ": cannot write to standard output\n");
		return EXIT_FAILED;
	}
	return code;
}
