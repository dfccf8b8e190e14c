/* SPDX-License-Identifier: MIT */
/* The commands that look: list, show, peers, watch. */
#include "show.h"

#include "ctl.h"

#include "common/jsontext.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *number(int64_t value, char out[TEXT_SIZE])
{
	snprintf(out, TEXT_SIZE, "%" PRId64, value);
	return out;
}

/* Print {name: list} or a table; releases the list. */
static void print_list(const struct ctl *ctl, const char *name, json_t *list,
	void (*print)(const struct ctl *ctl, json_t *list))
{
	if (ctl->json) {
		json_print_line(json_pack("{s:o}", name, list), stdout);
		return;
	}
	print(ctl, list);
	json_decref(list);
}

/* ---- list ---- */

const char *show_state(json_t *region)
{
	return get_flag(region, "draining") ? "draining" : "serving";
}

static void print_regions(const struct ctl *ctl, json_t *list)
{
	struct table table = TABLE_INIT(7);
	char size[TEXT_SIZE], vectors[TEXT_SIZE], peers[TEXT_SIZE], age[TEXT_SIZE];
	int64_t now = text_now();
	size_t i;
	json_t *region;

	(void)ctl;
	table_row(&table, "NAME", "SIZE", "VECTORS", "PEERS", "STATE", "CREATED", "SOCKET");
	json_array_foreach (list, i, region) {
		table_row(&table, get_text(region, "name"),
			text_size((uint64_t)get_number(json_object_get(region, "memory"), "size"),
				size),
			number(get_number(region, "vectors"), vectors),
			number(get_number(region, "peers"), peers), show_state(region),
			text_age(get_number(region, "created"), now, age),
			get_text(region, "socket"));
	}
	table_print(&table, stdout);
	table_fini(&table);
}

static void print_names(const struct ctl *ctl, json_t *list)
{
	size_t i;
	json_t *region;
	(void)ctl;
	json_array_foreach (list, i, region) {
		printf("%s\n", get_text(region, "name"));
	}
}

int command_list(struct ctl *ctl, int n, char **arguments)
{
	json_t *list;
	int result = ctl_list(ctl, "ListRegions", NULL, "regions", &list);
	(void)n;
	(void)arguments;
	if (result == 0)
		print_list(ctl, "regions", list, ctl->names ? print_names : print_regions);
	else
		json_decref(list);
	return result;
}

/* ---- show ---- */

/* A line for each member, those of objects as "memory size". */
static void add_members(struct table *table, const char *prefix, json_t *object)
{
	const char *name;
	json_t *value;
	char out[TEXT_SIZE], label[TEXT_SIZE];

	json_object_foreach (object, name, value) {
		if (json_is_object(value))
			continue;
		snprintf(label, sizeof(label), "%s%s", prefix, name);
		for (char *c = label; *c; c++)
			if (*c == '_')
				*c = ' ';
		if (json_is_string(value))
			table_row(table, label, json_string_value(value));
		else if (json_is_boolean(value))
			table_row(table, label, json_is_true(value) ? "yes" : "no");
		else if (strcmp(name, "created") == 0)
			table_row(
				table, label, text_age(json_integer_value(value), text_now(), out));
		else if (strcmp(name, "size") == 0 || strcmp(name, "page") == 0)
			table_row(
				table, label, text_size((uint64_t)json_integer_value(value), out));
		else
			table_row(table, label, number(json_integer_value(value), out));
	}
}

static bool print_region(void *data, json_t *parameters)
{
	const struct ctl *ctl = data;
	struct table table = TABLE_INIT(2);
	json_t *region = json_object_get(parameters, "region");

	if (ctl->json) {
		json_print_line(json_incref(region), stdout);
		return true;
	}
	add_members(&table, "", region);
	add_members(&table, "memory ", json_object_get(region, "memory"));
	add_members(&table, "", json_object_get(region, "counters"));
	table_print(&table, stdout);
	table_fini(&table);
	return true;
}

int command_show(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	return ctl_call(ctl, "GetRegion", json_pack("{s:o}", "name", json_text(arguments[0])),
		false, print_region, ctl);
}

/* ---- peers ---- */

const char *show_program(json_t *identity)
{
	const char *machine = get_text(identity, "machine");
	const char *path = get_text(identity, "executable"), *slash = strrchr(path, '/');
	return machine[0] ? machine : slash ? slash + 1 : path;
}

const char *show_user(json_t *identity, char out[TEXT_SIZE])
{
	json_t *uid = json_object_get(identity, "uid");
	return uid ? text_user((uid_t)json_integer_value(uid), out) : "?";
}

const char *show_access(json_t *peer)
{
	if (strcmp(get_text(peer, "access"), "read_only") != 0)
		return "read-write";
	return get_flag(peer, "protected") ? "read-only" : "read-only*";
}

static void print_peer(struct table *table, json_t *peer, int64_t now)
{
	json_t *identity = json_object_get(peer, "identity");
	char id[TEXT_SIZE], serial[TEXT_SIZE], user[TEXT_SIZE], pid[TEXT_SIZE], queue[TEXT_SIZE],
		descriptors[TEXT_SIZE], age[TEXT_SIZE];

	snprintf(serial, sizeof(serial), "@%" PRId64, get_number(peer, "serial"));
	table_row(table, get_text(peer, "region"), number(get_number(peer, "id"), id), serial,
		show_user(identity, user), number(get_number(identity, "pid"), pid),
		show_program(identity), show_access(peer), get_text(peer, "state"),
		number(get_number(peer, "queued"), queue),
		number(get_number(peer, "descriptors"), descriptors),
		text_age(get_number(peer, "joined"), now, age));
}

/* Rows are made as the parts of the list come, while the server makes the next. */
struct peer_table {
	struct table table;
	json_t *notes; /* the keys are */
	int64_t now;
};

static bool add_peers(void *data, json_t *parameters)
{
	struct peer_table *shown = data;
	size_t i;
	json_t *peer;

	json_array_foreach (json_object_get(parameters, "peers"), i, peer) {
		print_peer(&shown->table, peer, shown->now);
		if (strcmp(show_access(peer), "read-only*") == 0)
			json_object_set_new(
				shown->notes, get_text(peer, "protection"), json_null());
	}
	return true;
}

static int print_peers(struct ctl *ctl, json_t *parameters)
{
	struct peer_table shown = {
		.table = TABLE_INIT(11), .notes = json_object(), .now = text_now()};
	const char *note;
	json_t *nothing;

	table_row(&shown.table, "REGION", "ID", "SERIAL", "USER", "PID", "PROGRAM", "ACCESS",
		"STATE", "QUEUE", "FDS", "JOINED");
	int result = ctl_call(ctl, "ListPeers", parameters, true, add_peers, &shown);
	if (result == 0) {
		table_print(&shown.table, stdout);
		json_object_foreach (shown.notes, note, nothing) {
			printf("* %s\n", note);
		}
	}
	json_decref(shown.notes);
	table_fini(&shown.table);
	return result;
}

int command_peers(struct ctl *ctl, int n, char **arguments)
{
	json_t *list;
	json_t *parameters = n > 0 ? json_pack("{s:o}", "region", json_text(arguments[0])) : NULL;

	if (!ctl->json)
		return print_peers(ctl, parameters);
	int result = ctl_list(ctl, "ListPeers", parameters, "peers", &list);
	if (result == 0)
		json_print_line(json_pack("{s:O}", "peers", list), stdout);
	json_decref(list);
	return result;
}

/* ---- watch ---- */

static void print_event(json_t *event)
{
	json_t *identity = json_object_get(event, "identity");
	const char *what = get_text(event, "event"), *reason = get_text(event, "reason");
	char clock[TEXT_SIZE], user[TEXT_SIZE];

	printf("%s ", text_clock(get_number(event, "time"), clock));
	if (strcmp(what, "lost") == 0)
		printf("%" PRId64 " events were lost here", get_number(event, "lost"));
	else
		printf("%s %s", get_text(event, "region"), what);
	if (json_object_get(event, "id"))
		printf(" peer %" PRId64 " @%" PRId64, get_number(event, "id"),
			get_number(event, "serial"));
	if (identity)
		printf(" (%s, pid %" PRId64 "%s%s)", show_user(identity, user),
			get_number(identity, "pid"), show_program(identity)[0] ? ", " : "",
			show_program(identity));
	printf("%s%s\n", reason[0] ? ": " : "", reason);
}

static bool take_event(void *data, json_t *parameters)
{
	struct ctl *ctl = data;

	client_be_patient(&ctl->client); /* the first has come; others may take their time */
	if (ctl->json)
		json_print_line(json_incref(parameters), stdout);
	else if (strcmp(get_text(parameters, "event"), "watching") != 0)
		print_event(parameters);
	return fflush(stdout) == 0;
}

int command_watch(struct ctl *ctl, int n, char **arguments)
{
	json_t *parameters = n > 0 ? json_pack("{s:o}", "region", json_text(arguments[0])) : NULL;
	return ctl_call(ctl, "Watch", parameters, true, take_event, ctl);
}
