/* SPDX-License-Identifier: MIT */
/*
 * What the parts of ivshmem-client share.
 *
 *   main.c      options, and which of the three ways of use it is
 *   session.c   connect, wait, and what the library's events mean to the user
 *   input.c     text to commands, pure
 *   command.c   table of commands; run one and report its result
 *   doorbell.c  the commands that look at peers and ring them
 *   waiting.c   the commands that wait for doorbells
 *   memory.c    the commands that look at the region and change it
 *   doctor.c    what is wrong, and what to do about it
 *   send.c      standard input into a channel
 *   recv.c      a channel to standard output
 *   pipe.c      what these two have in common; pipe.h
 *   crc32.c     whether what arrives is what was sent
 */
#ifndef CLIENT_TOOL_H
#define CLIENT_TOOL_H

#include "ivshmem/abi.h"
#include "ivshmem/peer.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* Exit codes (manual page, EXIT STATUS); 2 is EXIT_USAGE of common/options.h. */
enum client_exit { EXIT_OK = 0, EXIT_COMMAND = 1, EXIT_CONNECT = 3, EXIT_SERVER_LOST = 4 };

#define FOREVER (-1)

/* What a URI leads to. */
enum transport {
	TO_SERVER, /* unix: region: */
	TO_MEMORY, /* shm: file: */
	TO_DEVICE, /* auto: and in a guest region: the driver decides */
	TO_UIO,
	TO_VFIO,
	TO_PCI,
};

enum answer { ANSWER_NOBODY = -1, ANSWER_LAST = -2 /* whoever joined last */ };

/* What `send` and `recv` were told. */
struct pipe_options {
	const char *channel;
	uint64_t ring; /* bytes; 0: the default */
	bool progress;
	const char *output; /* NULL: standard output */
	bool resume, anew;
	bool no_input, no_output; /* was closed when we were started */
};

struct client {
	/* from the command line */
	const char *program;
	char *uri;         /* owned */
	const char *where; /* the same as the user wrote it */
	enum transport transport;
	int protocol;  /* enum ivshmem_protocol */
	bool dialogue; /* talk like QEMU's client: help, prompt, reconnect */
	bool json;     /* standard output is JSON lines, nothing else */
	bool verbose;
	int timeout_ms; /* of wait and ping when the command names none; -1: their default */
	int connect_ms; /* how long to try to connect; 0: once; FOREVER */
	struct pipe_options pipe;

	/* of this connection */
	struct ivshmem_peer *peer;
	bool lost;                   /* the server is gone, or in a guest the device */
	uint64_t opened_ms, news_ms; /* when it began, when the server last said something */
	int own_vectors;
	int last_joined;                    /* ID, -1: none */
	uint64_t rung[IVSHMEM_MAX_VECTORS]; /* rings that no `wait` has taken yet */

	/* of the command that runs */
	bool watching; /* print events as text */
	int answer_to; /* ring this peer back, or one of enum answer */
	uint64_t answered;
	json_t *result;  /* what it has to say, with --json */
	char error[256]; /* why it failed */

	/* for the exit code */
	bool quit, failed, ever_lost;
};

/* ---- session.c ---- */

/*
 * Connect as c->connect_ms says. 0, or -errno after having said on stderr why not: -EINVAL if the
 * URI can never work.
 */
int session_open(struct client *c);

#define SESSION_ERROR_SIZE 512

/* One attempt: 0, or -errno with one line in `error`. timeout_ms is as in struct ivshmem_params. */
int session_try(struct client *c, int timeout_ms, char error[SESSION_ERROR_SIZE]);

void session_close(struct client *c);

/* Milliseconds of `limit` that are left since `start`; FOREVER stays FOREVER. */
int time_left(uint64_t start, int limit);

enum session_wake {
	WAKE_EVENTS, /* something was handled */
	WAKE_TIMEOUT,
	WAKE_INPUT,  /* `input` is readable; only if it is not -1 */
	WAKE_SIGNAL, /* Ctrl-C, only between session_catch_signal() and session_release_signal() */
	WAKE_GONE,   /* the guest's device is gone; said once, nothing comes after it */
};

/* Wait for the library's events (and handle one batch), for `input`, for time or for Ctrl-C. */
enum session_wake session_step(struct client *c, int input, int timeout_ms);

/* While a command waits, Ctrl-C ends the command and not the program. */
void session_catch_signal(void);
void session_release_signal(void);

static inline bool is_id(long number)
{
	return number >= 0 && number <= (long)IVSHMEM_MAX_ID;
}

/*
 * The protocol does not say how many peers and vectors there are (docs/protocol.md, section 2.4).
 * Wait until peer `id` has vector `vector`, or until the server has been quiet for long enough to
 * believe that it has told everything. Pass -1, -1 to wait for the quiet itself.
 */
bool session_await(struct client *c, long id, long vector);

/* While `answer` runs: ring back for every vector in c->rung, and forget those that it could. */
void answer_rings(struct client *c);

/* Debugging output of -v: standard output in a dialogue as QEMU's client does, else stderr. */
void say_verbose(const struct client *c, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- input.c ---- */

#define INPUT_MAX_LINE 65536u

/* Cuts a stream of bytes into commands. */
struct input {
	char *line; /* INPUT_MAX_LINE bytes, owned */
	size_t used;
	bool quoted, escaped;
	bool too_long; /* the rest of this command is being skipped */
};

int input_init(struct input *input);
void input_fini(struct input *input);

/*
 * Take bytes from *text (up to `end`) until a command is complete; it may be empty. Returns the
 * command, valid until the next call, or NULL when the bytes are used up. Commands end at newline
 * and carriage return, and at `;` outside of double quotes.
 * A command longer than INPUT_MAX_LINE - 1 bytes comes out as "" with *too_long set.
 */
char *input_next(struct input *input, const char **text, const char *end, bool *too_long);

/* The unfinished rest as a command, or NULL if there is none. */
char *input_rest(struct input *input, bool *too_long);

#define INPUT_MAX_WORDS 8

/*
 * Cut a command into words at blanks, in place. A part in double quotes belongs to one word, quotes
 * and escapes kept. Returns how many words, -E2BIG or -EINVAL (quote without its pair).
 */
int input_words(char *command, char *words[INPUT_MAX_WORDS]);

/* A decimal number with an optional minus, whole string; 0 or -EINVAL. */
int input_long(const char *text, long *value);

/*
 * An offset or a length in bytes: decimal, 0x hexadecimal, or decimal with a suffix K, M, G or T.
 * 0 or -EINVAL.
 */
int input_bytes(const char *text, uint64_t *value);

/*
 * What `write` writes: pairs of hexadecimal digits, or text in double quotes with the escapes \n,
 * \" and \\. Decodes in place; returns the number of bytes or -EINVAL.
 */
long input_data(char *text);

/* ---- command.c ---- */

/* Outcome of a command's function. */
enum command_status { COMMAND_OK, COMMAND_FAILED, COMMAND_MISUSED };

typedef enum command_status command_function(struct client *c, int n, char **words);

/* Run one command and print its result. Empty commands do nothing. */
enum command_status command_run(struct client *c, char *command);

/* Does the command exist and take so many words? Prints on stderr if not. */
bool command_check(struct client *c, const char *command);

/* Say that a command is too long. */
enum command_status command_too_long(struct client *c);

/* The four lines that QEMU's client prints, or all commands. */
void command_help(bool all);

/* For a command's function: why it fails. Returns `status`. */
enum command_status command_fail(struct client *c, enum command_status status, const char *format,
	...) __attribute__((format(printf, 3, 4)));

/* For a command's function: add members to the JSON result; takes over `members`. */
void command_result(struct client *c, json_t *members);

/* ---- doorbell.c ---- */

/* Can vector `vector` of peer `id` be rung, as far as can be known? Waits for late news; sets the
 * error if not. */
enum command_status need_vector(struct client *c, long id, long vector);

/* ---- doorbell.c, waiting.c, memory.c: words[0] is the command's name ---- */

command_function command_dump, command_int, command_peers, command_info, command_wait,
	command_watch, command_ping, command_answer;
command_function command_read, command_write, command_fill;

/* ---- memory.c ---- */

/* What the region says of itself; false if it does not. */
bool read_identity(struct client *c, struct ivshmem_identity *identity);

/* Call what touches the region; false if it was cut short because somebody has shrunk that. */
bool guarded_call(void (*function)(void *argument), void *argument);

/* ---- send.c, recv.c ---- */

/* Connected already. Exit codes. */
int pipe_send(struct client *c);
int pipe_receive(struct client *c);

/* ---- doctor.c ---- */

/* Examine what c->uri leads to and print what was found. 0 or an exit code. */
int doctor(struct client *c);

#endif
