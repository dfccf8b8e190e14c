/* SPDX-License-Identifier: MIT */
/*
 * The command `capture`: what goes on, as a file for Wireshark, or as lines. It ends by Ctrl-C,
 * time or count, and what it has written then is whole.
 */
#include "ctl.h"

#include "pcapng.h"
#include "record.h"
#include "show.h"
#include "text.h"

#include "common/jsontext.h"
#include "common/options.h"

#include "base/clock.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define NS_IN_MS 1000000

struct taking {
	struct ctl *ctl;
	FILE *out;    /* of records; NULL: lines on standard output */
	bool begun;   /* the server captures */
	int64_t left; /* records, -1: no limit */
};

/* ---- one event ---- */

static void print_message(json_t *event)
{
	const char *with = get_text(event, "descriptor");

	printf(" <- %s %" PRId64, get_text(event, "message"), get_number(event, "number"));
	if (json_object_get(event, "vector"))
		printf(" vector %" PRId64, get_number(event, "vector"));
	if (with[0] != '\0')
		printf(" with %s", with);
}

static void print_event(json_t *event)
{
	const char *what = get_text(event, "event"), *reason = get_text(event, "reason");
	int64_t ns = get_number(event, "ns");
	char clock[TEXT_SIZE];

	printf("%s.%06" PRId64 " %s", text_clock(ns / NS_IN_MS, clock), ns / 1000 % 1000000,
		get_text(event, "region"));
	if (json_object_get(event, "id"))
		printf(" peer %" PRId64 " @%" PRId64, get_number(event, "id"),
			get_number(event, "serial"));
	if (strcmp(what, "message") == 0)
		print_message(event);
	else
		printf(" %s", what);
	if (strcmp(what, "rung") == 0)
		printf(" vector %" PRId64, get_number(event, "vector"));
	if (json_object_get(event, "count"))
		printf(" %" PRId64, get_number(event, "count"));
	if (json_object_get(event, "uid"))
		printf(" (uid %" PRId64 ", pid %" PRId64 ")", get_number(event, "uid"),
			get_number(event, "pid"));
	printf("%s%s\n", reason[0] ? ": " : "", reason);
}

static void take_event(struct taking *taking, json_t *event)
{
	uint8_t record[RECORD_MAX];
	size_t size;

	if (!taking->out && taking->ctl->json) {
		json_print_line(json_incref(event), stdout);
	} else if (!taking->out) {
		print_event(event);
	} else {
		size = record_encode(event, record);
		if (size > 0)
			pcapng_packet(taking->out, (uint64_t)get_number(event, "ns"), record, size);
	}
}

/* ---- what comes ---- */

/* An exit code; 0: go on. */
static int take_answer(struct taking *taking, json_t *answer)
{
	json_t *events = json_object_get(json_object_get(answer, "parameters"), "events"), *event;
	size_t i;
	int code = ctl_check_answer(taking->ctl, answer);

	if (code != 0)
		return code;
	if (!taking->begun && taking->out)
		pcapng_begin(
			taking->out, CTL_PROGRAM " " IVSHMEM_VERSION, "ivshmem", RECORD_LINKTYPE);
	taking->begun = true;
	json_array_foreach (events, i, event) {
		if (taking->left == 0)
			break;
		taking->left -= taking->left > 0;
		take_event(taking, event);
	}
	FILE *out = taking->out ? taking->out : stdout;
	if (fflush(out) == 0 && !ferror(out))
		return 0;
	fprintf(stderr, CTL_PROGRAM ": cannot write what was captured: %s\n", strerror(errno));
	return EXIT_FAILED;
}

/* All that is there. An exit code; 0: go on. */
static int take_all(struct taking *taking)
{
	struct client *client = &taking->ctl->client;
	json_t *answer;
	int result, code = 0;

	while (code == 0 && taking->left != 0 && (result = client_next(client, &answer)) != 0) {
		if (result < 0)
			return ctl_complain(taking->ctl, result);
		code = take_answer(taking, answer);
		json_decref(answer);
	}
	return code;
}

static int run(struct taking *taking, int signals)
{
	const struct ctl *ctl = taking->ctl;
	uint64_t end = deadline_after(ctl->duration_ms > 0 ? ctl->duration_ms : -1);
	uint64_t patience = deadline_after(ctl->timeout_ms > 0 ? ctl->timeout_ms : -1);
	int code = 0;

	while (code == 0 && taking->left != 0) {
		struct pollfd fds[] = {{.fd = signals, .events = POLLIN},
			{.fd = ctl->client.sock, .events = POLLIN}};
		int n = poll(fds, 2, deadline_left(taking->begun ? end : patience));
		if (n == 0 && !taking->begun)
			return ctl_complain(ctl, -ETIMEDOUT);
		if (n == 0 || fds[0].revents != 0)
			break;
		int error = n > 0 ? client_receive(&taking->ctl->client) : 0;
		code = error < 0 ? ctl_complain(ctl, error) : take_all(taking);
	}
	return code;
}

/* ---- */

/* 0 or -1, having said why. */
static int open_file(const struct ctl *ctl, FILE **out)
{
	bool standard = strcmp(ctl->write, "-") == 0;

	*out = NULL;
	if (ctl->json) {
		fprintf(stderr,
			CTL_PROGRAM ": --write and --json are two ways to show one thing\n");
		return -1;
	}
	if (standard && isatty(STDOUT_FILENO)) {
		fprintf(stderr,
			CTL_PROGRAM
			": a terminal cannot show this; pipe it into wireshark -k -i -\n");
		return -1;
	}
	*out = standard ? stdout : fopen(ctl->write, "wbe");
	if (!*out)
		fprintf(stderr, CTL_PROGRAM ": %s: %s\n", ctl->write, strerror(errno));
	return *out ? 0 : -1;
}

static int open_signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

int command_capture(struct ctl *ctl, int n, char **arguments)
{
	struct taking taking = {.ctl = ctl, .left = ctl->count > 0 ? ctl->count : -1};
	json_t *parameters = json_pack("{s:b}", "doorbells", !ctl->no_doorbells);

	if (n > 0)
		json_object_set_new(parameters, "region", json_text(arguments[0]));
	if (ctl->write && open_file(ctl, &taking.out) < 0) {
		json_decref(parameters);
		return EXIT_USAGE;
	}
	int signals = open_signals();
	int code = ctl_send(ctl, "Capture", parameters, true);
	if (code == 0)
		code = run(&taking, signals);
	if (signals >= 0)
		close(signals);
	if (taking.out && taking.out != stdout && fclose(taking.out) != 0 && code == 0)
		code = EXIT_FAILED;
	return code;
}
