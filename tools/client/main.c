/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Five ways of use, told apart before anything is printed:
 *
 *   dialogue   no command, no --json: help, prompt and replies as QEMU's client prints them, and
 *              like it we try for ever to connect and reconnect when the server is lost. Also when
 *              standard input is a pipe, because scripts written for QEMU's client use it that way.
 *   arguments  the words after the options are commands: no help, no prompt, errors on stderr, the
 *              first failure ends the program
 *   JSON       --json: each event and each result is an object on a line; commands come from the
 *              arguments or from standard input
 *   doctor     the only word is `doctor`: find out what is wrong, even if nothing can be opened
 *   pipe       the first word is `send` or `recv`, and what follows are options: standard input or
 *              output is data
 *
 * The last four connect once and end with an exit code that says what went wrong.
 */
#include "tool.h"

#include "base/parse.h"
#include "common/descriptors.h"
#include "common/options.h"
#include "common/stdfds.h"
#include "guest/pci.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	OPT_URI = OPTION_FIRST,
	OPT_PROTOCOL,
	OPT_TIMEOUT,
	OPT_CONNECT_TIMEOUT,
	OPT_JSON,
	OPT_CHANNEL,
	OPT_RING,
	OPT_PROGRESS,
	OPT_OUTPUT,
	OPT_RESUME,
	OPT_ANEW,
};

#define DEFAULT_CHANNEL "pipe"
#define RING_LIMIT      (UINT64_C(1) << 30)

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
		"ping 5); `send` and `recv`: give up when nothing has moved for so long (default: "
		"never)",
		NULL},
	{'v', "verbose", NULL, "print what goes on", NULL},
	{OPT_CHANNEL, "channel", "NAME",
		"the channel (default: " DEFAULT_CHANNEL "); NAME.back is the way back",
		"send and recv"},
	{OPT_RING, "ring", "SIZE",
		"how much the channel holds, if there is none yet: a power of two, the same on "
		"both "
		"sides (default: 4M, or what fits the region)",
		NULL},
	{OPT_PROGRESS, "progress", NULL, "say on standard error how far it is", NULL},
	{OPT_OUTPUT, "output", "FILE", "recv: write there instead of to standard output", NULL},
	{OPT_RESUME, "resume", NULL,
		"recv: go on in FILE, where another one has been killed in the middle", NULL},
	{OPT_ANEW, "anew", NULL,
		"recv: throw away what is left of a transfer that another one has begun, and wait "
		"for the next",
		NULL},
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
		    "  send [OPTION]...                  alone: standard input through a channel\n"
		    "  recv [OPTION]...                  alone: and out of it, to standard output\n"
		    "\n"
		    "Exit status: 0 success, 1 a command failed, 2 wrong usage, 3 cannot connect,\n"
		    "4 the server was lost.\n"
		    "\n"
		    "Examples:\n"
		    "  ivshmem-client -S /tmp/ivshmem_socket\n"
		    "  ivshmem-client 'int 1 0; wait 0 5'\n"
		    "  ivshmem-client --json watch 10\n"
		    "  ivshmem-client --uri auto: 'int 1 0; wait 0 5'\n"
		    "  ivshmem-client doctor\n"
		    "  tar c . | ivshmem-client --uri auto: send\n"
		    "  ivshmem-client --uri auto: recv | tar x\n",
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
	case OPT_CHANNEL:
		c->pipe.channel = argument;
		return 0;
	case OPT_RING:
		return option_size(&table, "--ring", argument, &c->pipe.ring);
	case OPT_PROGRESS:
		c->pipe.progress = true;
		return 0;
	case OPT_OUTPUT:
		c->pipe.output = argument;
		return 0;
	case OPT_RESUME:
		c->pipe.resume = true;
		return 0;
	case OPT_ANEW:
		c->pipe.anew = true;
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

/* ---- send and recv ---- */

static bool is_pipe_word(const char *word)
{
	return strcmp(word, "send") == 0 || strcmp(word, "recv") == 0;
}

static bool has_pipe_options(const struct client *c)
{
	return c->pipe.channel || c->pipe.ring > 0 || c->pipe.progress || c->pipe.output ||
		c->pipe.resume || c->pipe.anew;
}

/* 0, or -1 after having complained. */
static int check_pipe(struct client *c, bool sends)
{
	if (c->json)
		return options_complain(&table, "--json is not for send and recv");
	if (sends && (c->pipe.output || c->pipe.resume || c->pipe.anew))
		return options_complain(&table, "--output, --resume and --anew are for recv");
	if (c->pipe.resume && (!c->pipe.output || c->pipe.anew))
		return options_complain(&table, "--resume wants --output, and not --anew");
	if (sends ? c->pipe.no_input : c->pipe.no_output && !c->pipe.output)
		return options_complain(&table, "standard %s is closed: %s",
			sends ? "input" : "output",
			sends ? "nothing to send (of nothing, </dev/null)" : "give --output FILE");
	if (c->pipe.ring > RING_LIMIT)
		return options_complain(&table, "--ring: at most 1G");
	if (!c->pipe.channel)
		c->pipe.channel = DEFAULT_CHANNEL;
	return 0;
}

/* The word, and behind it options again. */
static int run_pipe(struct client *c, int n, char **words)
{
	const bool sends = strcmp(words[0], "send") == 0;
	const int parsed = options_parse(&table, n, words, handle_option, c);

	if (parsed >= 0 && parsed < n)
		options_complain(&table,
			"%s is a command of its own: nothing but options may "
			"follow, not '%s'",
			words[0], words[parsed]);
	if (parsed != n || check_pipe(c, sends) < 0)
		return EXIT_USAGE;
	int code = open_session(c);
	if (code != 0)
		return code;
	return sends ? pipe_send(c) : pipe_receive(c);
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
	/* What is closed reads as an empty file from here on, and takes whatever is written. */
	c.pipe.no_input = fcntl(STDIN_FILENO, F_GETFD) < 0;
	c.pipe.no_output = fcntl(STDOUT_FILENO, F_GETFD) < 0;
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
	bool pipes = first < argc && is_pipe_word(argv[first]);
	if (!pipes && has_pipe_options(&c)) {
		options_complain(&table,
			"--channel, --ring, --progress, --output, --resume and "
			"--anew are for send and recv");
		free(c.uri);
		return EXIT_USAGE;
	}
	c.dialogue = first == argc && !c.json;
	if (c.connect_ms < FOREVER)
		c.connect_ms = c.dialogue && c.transport == TO_SERVER ? FOREVER : 0;

	int code = examine     ? doctor(&c)
		: pipes        ? run_pipe(&c, argc - first, argv + first)
		: first < argc ? run_arguments(&c, argc - first, argv + first)
			       : run_stdin(&c);
	if (c.peer)
		session_close(&c);
	free(c.uri);
	return exit_code(&c, code);
}
