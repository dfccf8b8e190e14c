/* SPDX-License-Identifier: MIT */
/* What the files of ivshmctl share: what was asked for, and asking the server. */
#ifndef TOOLS_CTL_CTL_H
#define TOOLS_CTL_CTL_H

#include "client.h"

#include <ivshmem/abi.h>

#include <stdbool.h>
#include <stdint.h>

#define CTL_PROGRAM "ivshmctl"
#define CTL_SOCKET  IVSHMEM_SOCKET_FOLDER "/control.sock"

/* That of ivshmem-device, for the commands that ask it. */
#define CTL_DEVICE_SOCKET IVSHMEM_SOCKET_FOLDER "/control-device.sock"

/* Exit codes; see also EXIT_USAGE in common/options.h. */
enum { EXIT_FAILED = 1, EXIT_NO_SERVER = 3 };

struct ctl {
	const char *socket; /* NULL while parsing: the command's default */
	const char *start;  /* what has that socket: for who finds nobody there */
	int timeout_ms;
	bool json;
	bool quiet; /* for a while: an error that the server answers with is not said */
	struct client client;

	/* options of single commands */
	bool names, force, off;
	const char *reason;
	int interval_ms;
	json_t *spec;      /* what `create` was told; owned */
	const char *write; /* where `capture` writes, NULL: nowhere */
	int64_t count;     /* of what it captures, 0: no limit */
	int duration_ms;   /* 0: no limit */
	bool no_doorbells;
	int every_ms; /* of `channels`, 0: once */
};

/*
 * Call a method, of ivshmem.Control unless its name has a dot, and hand the parameters of each
 * answer to `take`, until it returns false. An exit code; what went wrong has been said.
 */
typedef bool answer_taker(void *data, json_t *parameters);
int ctl_call(struct ctl *ctl, const char *method, json_t *parameters, bool more, answer_taker *take,
	void *data);

/* The same in parts, for who handles the answers himself: the call, with an exit code; whether an
 * answer is an error, which has been said then, with an exit code; and to say what went wrong. */
int ctl_send(struct ctl *ctl, const char *method, json_t *parameters, bool more);
int ctl_check_answer(const struct ctl *ctl, json_t *answer);
int ctl_complain(const struct ctl *ctl, int error);

/* Call a method that answers with a list called `name`, and collect it; *list is the caller's. */
int ctl_list(
	struct ctl *ctl, const char *method, json_t *parameters, const char *name, json_t **list);

/* Members of objects from the server: "" or 0 if it has none of that name. */
const char *get_text(json_t *object, const char *name);
int64_t get_number(json_t *object, const char *name);
bool get_flag(json_t *object, const char *name);

/* The commands: arguments after the name, as many as the table in main.c says. Exit codes. */
typedef int command_function(struct ctl *ctl, int n, char **arguments);
command_function command_list, command_show, command_peers, command_watch, command_create,
	command_remove, command_capture, command_drain, command_evict, command_reload, command_top,
	command_devices, command_channels, command_version;

#endif
