/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Four ways of use, told apart before anything is printed:
 *
 *   dialogue   no command, no --json: help, prompt and replies as QEMU's client prints them, and
 *              like it we try for ever to connect and reconnect when the server is lost. Also when
 *              standard input is a pipe, because scripts written for QEMU's client use it that way.
 *   arguments  the words after the options are commands: no help, no prompt, errors on stderr, the
 *              first failure ends the program
 *   JSON       --json: each event and each result is an object on a line; commands come from the
 *              arguments or from standard input
 *   doctor     the only word is `doctor`: find out what is wrong, even if nothing can be opened
 *
 * The last three connect once and end with an exit code that says what went wrong.
 */
#include "tool.h"

#include "base/parse.h"
#include "common/descriptors.h"
#include "common/options.h"
#include "common/stdfds.h"
#include "guest/pci.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OPT_URI = OPTION_FIRST, OPT_PROTOCOL, OPT_TIMEOUT, OPT_CONNECT_TIMEOUT, OPT_JSON };

static const struct option_def options[] = {
	{'S', "socket", "PATH",
		"socket of the server, a path or a URI (default: " IVSHMEM_DEFAULT_SOCKET ")",
		"Where to connect"},
	{OPT_URI, "uri", "URI",
		"the same, a URI in any case: unix:PATH, region:NAME, fd:NUMBER; without a server "
		"shm:NAME, "
		"file:PATH; in a guest auto:, auto:ADDRESS, region:NAME, uio:NAME, vfio:ADDRESS, "
		"pci:ADDRESS",
		NULL},
	{OPT_PROTOCOL, "protocol", "current|pre-2.5",
		"what the server speaks: QEMU 2.5 and later, or before (default: current)", NULL},
	{OPT_CONNECT_TIMEOUT, "connect-timeout", "SECONDS",
		"keep trying to connect for so long (default: for ever to a server without COMMAND "
		"and --json, else one attempt)",
		NULL},
	{OPT_JSON, "json", NULL,
		"print each event and each result as a JSON object on a line of its own",
		"What to print and when to give up"},
	{OPT_TIMEOUT, "timeout", "SECONDS",
		"how long `wait` waits and `ping` waits for one answer (default: wait for ever, "
		"ping 5)",
		NULL},
	{'v', "verbose", NULL, "print what goes on", NULL},
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-client",
	.synopsis = "[OPTION]... [COMMAND...]",
	.description =
		"Join an ivshmem server as a peer: see who is there, ring and wait for doorbells, "
		"look at the shared memory; or be one in a guest. The words after the options are "
		"commands, separated by ';'. Without them commands come from standard input.",
	.epilogue = "Commands:\n"
		    "  dump | peers | info               who is there, what is shared\n"
		    "  int PEER VECTOR|all, int all      ring doorbells\n"
		    "  wait [VECTOR|any] [SECONDS]       until an own vector is rung\n"
		    "  watch [SECONDS]                   print events\n"
		    "  ping PEER [COUNT] [VECTOR]        round trips; the peer runs 'answer'\n"
		    "  answer [PEER|last] [SECONDS]      ring back\n"
		    "  read OFFSET LENGTH                bytes of the region in hexadecimal\n"
		    "  write OFFSET HEX|\"TEXT\"           change them\n"
		    "  fill OFFSET LENGTH BYTE\n"
		    "  help [all] | quit\n"
		    "  doctor                            alone: what is wrong and what helps; "
		    "without -S and\n"
		    "                                    --uri about this guest's device (auto:)\n"
		    "\n"
		    "Exit status: 0 success, 1 a command failed, 2 wrong usage, 3 cannot connect,\n"
		    "4 the server was lost.\n"
		    "\n"
		    "Examples:\n"
		    "  ivshmem-client -S /tmp/ivshmem_socket\n"
		    "  ivshmem-client 'int 1 0; wait 0 5'\n"
		    "  ivshmem-client --json watch 10\n"
		    "  ivshmem-client --uri auto: 'int 1 0; wait 0 5'\n"
		    "  ivshmem-client doctor\n",
	.options = options,
};

/* ---- options ---- */

/* A name is a region of the guest's if no server of that name is here: libivshmem asks the same. */
static bool is_of_guest(const char *uri)
{
	char path[sizeof(IVSHMEM_SOCKET_FOLDER "/.sock") + 63];
	struct pci_function first;

	return strncmp(uri, "region:", strlen("region:")) == 0 &&
		socket_of_region(IVSHMEM_SOCKET_FOLDER, strchr(uri, ':') + 1, path, sizeof(path)) ==
		0 &&
		access(path, F_OK) < 0 && errno == ENOENT && pci_list(&guest_system, &first, 1) > 0;
}

static int set_uri(struct client *c, const char *where, bool bare_path)
{
	static const struct {
		const char *name;
		enum transport transport;
	} schemes[] = {
		{"unix:", TO_SERVER},
		{"region:", TO_SERVER},
		{"fd:", TO_SERVER},
		{"shm:", TO_MEMORY},
		{"file:", TO_MEMORY},
		{"auto:", TO_DEVICE},
		{"uio:", TO_UIO},
		{"vfio:", TO_VFIO},
		{"pci:", TO_PCI},
	};
	c->transport = TO_SERVER;
	for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
		if (strncmp(where, schemes[i].name, strlen(schemes[i].name)) == 0) {
			c->transport = schemes[i].transport;
			bare_path = false;
		}
	}
	if (is_of_guest(where))
		c->transport = TO_DEVICE;
	free(c->uri);
	c->where = where;
	if (asprintf(&c->uri, "%s%s", bare_path ? "unix:" : "", where) < 0) {
		c->uri = NULL;
		return options_complain(&table, "no memory");
	}
	return 0;
}

static int set_seconds(const char *option, const char *text, int *ms)
{
	if (parse_seconds(text, ms) == 0)
		return 0;
	return options_complain(
		&table, "--%s takes seconds from 0 to 1000000, not '%s'", option, text);
}

static int set_protocol(struct client *c, const char *text)
{
	if (strcmp(text, "current") == 0)
		c->protocol = IVSHMEM_PROTOCOL_CURRENT;
	else if (strcmp(text, "pre-2.5") == 0)
		c->protocol = IVSHMEM_PROTOCOL_PRE_2_5;
	else
		return options_complain(&table, "--protocol is current or pre-2.5, not '%s'", text);
	return 0;
}

static int handle_option(void *data, int key, const char *argument)
{
	struct client *c = data;
	switch (key) {
	case 'S':
		return set_uri(c, argument, true);
	case OPT_URI:
		return set_uri(c, argument, false);
	case OPT_PROTOCOL:
		return set_protocol(c, argument);
	case OPT_CONNECT_TIMEOUT:
		return set_seconds("connect-timeout", argument, &c->connect_ms);
	case OPT_TIMEOUT:
		return set_seconds("timeout", argument, &c->timeout_ms);
	case OPT_JSON:
		c->json = true;
		return 0;
	default: /* 'v': the parser lets nothing else through */
		c->verbose = true;
		return 0;
	}
}

/* ---- commands from the arguments ---- */

static char *join_words(int n, char **words)
{
	size_t size = 1;
	for (int i = 0; i < n; i++)
		size += strlen(words[i]) + 1;
	char *text = malloc(size);
	char *end = text;
	for (int i = 0; i < n && text; i++)
		end = stpcpy(stpcpy(end, words[i]), i + 1 < n ? " " : ";");
	return text;
}

/* Call for each command in `text`, until one does not succeed. */
static enum command_status for_each_command(struct client *c, struct input *input, const char *text,
	enum command_status (*function)(struct client *c, char *command))
{
	const char *end = text + strlen(text);
	bool too_long;
	enum command_status status = COMMAND_OK;
	char *command;
	while (status == COMMAND_OK && !c->quit &&
		((command = input_next(input, &text, end, &too_long)) ||
			(command = input_rest(input, &too_long))))
		status = too_long ? command_too_long(c) : function(c, command);
	return status;
}

static enum command_status check(struct client *c, char *command)
{
	return command_check(c, command) ? COMMAND_OK : COMMAND_MISUSED;
}

/* Open, and in a dialogue say so. 0 or an exit code. */
static int open_session(struct client *c)
{
	int result = session_open(c);
	if (result < 0)
		return result == -EINVAL ? EXIT_USAGE : EXIT_CONNECT;
	if (c->dialogue)
		printf("listen on server socket %d\n", ivshmem_get_fd(c->peer));
	return 0;
}

static int run_commands(struct client *c, struct input *input, const char *text)
{
	/* Look for mistakes first: half of a script is worse than nothing of it. */
	if (for_each_command(c, input, text, check) != COMMAND_OK)
		return EXIT_USAGE;
	int code = open_session(c);
	if (code == 0 && for_each_command(c, input, text, command_run) == COMMAND_MISUSED)
		code = EXIT_USAGE;
	return code;
}

static int run_arguments(struct client *c, int n, char **words)
{
	struct input input;
	int code = EXIT_COMMAND;
	char *text = join_words(n, words);
	if (input_init(&input) == 0 && text)
		code = run_commands(c, &input, text);
	else
		options_complain(&table, "no memory");
	input_fini(&input);
	free(text);
	return code;
}

/* ---- commands from standard input ---- */

static void run_input(struct client *c, struct input *input, const char *bytes, size_t n)
{
	const char *text = bytes;
	bool too_long;
	char *command;
	while (!c->quit && (command = input_next(input, &text, bytes + n, &too_long))) {
		if (too_long)
			command_too_long(c);
		else
			command_run(c, command);
	}
}

/* Returns false when there is nothing more to come. */
static bool read_input(struct client *c, struct input *input)
{
	char bytes[4096];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (n == 0) {
		run_input(c, input, "\n", 1); /* a last line need not end with one */
		return false;
	}
	run_input(c, input, bytes, (size_t)n);
	if (c->dialogue && !c->quit && input->used == 0) {
		printf("cmd> ");
		fflush(stdout);
	}
	return !c->quit;
}

static int run_stdin(struct client *c)
{
	struct input input;
	if (input_init(&input) < 0)
		return options_complain(&table, "no memory"), EXIT_COMMAND;
	if (c->dialogue) {
		command_help(false);
		printf("cmd> ");
		fflush(stdout);
	}

	int code = open_session(c);
	bool more = code == 0;
	while (more) {
		if (c->dialogue && c->lost && c->transport != TO_SERVER) {
			code = EXIT_SERVER_LOST;
			more = false;
		} else if (c->dialogue && c->lost) {
			printf("disconnected from server\n");
			session_close(c);
			code = open_session(c);
			more = code == 0;
		} else if (session_step(c, STDIN_FILENO, FOREVER) == WAKE_INPUT) {
			more = read_input(c, &input);
		}
	}
	input_fini(&input);
	if (c->dialogue && code == 0 && !c->quit && isatty(STDIN_FILENO))
		putchar('\n');
	return code;
}

/* ---- */

static int exit_code(const struct client *c, int code)
{
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "%s: cannot write to standard output\n", c->program);
		return EXIT_COMMAND;
	}
	if (code != 0)
		return code;
	if (c->dialogue)
		return c->failed && !isatty(STDIN_FILENO) ? EXIT_COMMAND : EXIT_OK;
	if (c->failed)
		return EXIT_COMMAND;
	return c->ever_lost ? EXIT_SERVER_LOST : EXIT_OK;
}

int main(int argc, char **argv)
{
	struct client c = {
		.program = table.program,
		.timeout_ms = FOREVER,
		.connect_ms = -2, /* not given */
		.answer_to = ANSWER_NOBODY,
	};
	if (stdfds_open() < 0)
		return EXIT_FAILURE;
	descriptors_raise();
	setvbuf(stdout, NULL, _IOLBF, 0);

	int first = options_parse(&table, argc, argv, handle_option, &c);
	bool examine = first == argc - 1 && strcmp(argv[first], "doctor") == 0;
	const char *usual = examine ? "auto:" : IVSHMEM_DEFAULT_SOCKET;
	if (first < 0 || (!c.uri && set_uri(&c, usual, !examine) < 0)) {
		free(c.uri);
		return EXIT_USAGE;
	}
	c.dialogue = first == argc && !c.json;
	if (c.connect_ms < FOREVER)
		c.connect_ms = c.dialogue && c.transport == TO_SERVER ? FOREVER : 0;

	int code = examine     ? doctor(&c)
		: first < argc ? run_arguments(&c, argc - first, argv + first)
			       : run_stdin(&c);
	if (c.peer)
		session_close(&c);
	free(c.uri);
	return exit_code(&c, code);
}
