/* SPDX-License-Identifier: MIT */
#include "arguments.h"

#include "common/jsontext.h"
#include "common/region_options.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

enum {
	OPT_JSON = OPTION_FIRST,
	OPT_TIMEOUT,
	OPT_NAMES,
	OPT_SIZE,
	OPT_VECTORS,
	OPT_UUID,
	OPT_HEADER,
	OPT_LISTEN,
	OPT_LISTEN_MODE,
	OPT_LISTEN_OWNER,
	OPT_ALLOW,
	OPT_SHM,
	OPT_DIR,
	OPT_ZERO,
	OPT_MAX_PEERS,
	OPT_MAX_PEERS_PER_UID,
	OPT_MAX_QUEUE,
	OPT_STALL_TIMEOUT,
	OPT_FORCE,
	OPT_OFF,
	OPT_REASON,
	OPT_INTERVAL,
	OPT_COUNT,
	OPT_DURATION,
	OPT_NO_DOORBELLS,
	OPT_EVERY,
};

const struct option_def ctl_options[] = {
	{'S', "socket", "PATH",
		"control socket (default: " CTL_SOCKET ", for 'devices' " CTL_DEVICE_SOCKET ")",
		"All commands"},
	{OPT_JSON, "json", NULL, "print JSON, an object on a line", NULL},
	{OPT_TIMEOUT, "timeout", "SECONDS", "wait so long for an answer (default: 10)", NULL},

	{OPT_NAMES, "names", NULL, "print the names alone, one on a line", "list"},

	{OPT_SIZE, "size", "SIZE",
		"size of the region in bytes, suffixes K M G T; rounded up to a power of two "
		"(default: 4M)",
		"create"},
	{OPT_VECTORS, "vectors", "N", "interrupt vectors of each peer, 0 to 2048 (default: 1)",
		NULL},
	{OPT_ALLOW, "allow", "RULE",
		"who may join, and as what: user=, group=, executable=, cgroup=, machine=, label=, "
		"access=read-write|read-only|deny, max-peers=, id=, ring=0-3+7, separated by "
		"commas; may be given several times, the first that fits counts (default: root "
		"and the server's user)",
		NULL},
	{OPT_UUID, "uuid", "UUID", "identity of the region (default: a random one)", NULL},
	{OPT_HEADER, "header", NULL, "write name and UUID into the region's first page", NULL},
	{OPT_LISTEN, "listen", "PATH",
		"socket of the region (default: " IVSHMEM_SOCKET_FOLDER "/NAME.sock)", NULL},
	{OPT_LISTEN_MODE, "listen-mode", "OCTAL", "permission of that socket (default: 0600)",
		NULL},
	{OPT_LISTEN_OWNER, "listen-owner", "USER[:GROUP]",
		"owner of that socket (default: the server's user)", NULL},
	{OPT_SHM, "shm", "NAME", "use a POSIX shared memory object (default: a sealed memfd)",
		NULL},
	{OPT_DIR, "dir", "DIR", "use an unnamed file in DIR, e.g. on hugetlbfs", NULL},
	REGION_OPTIONS,
	{OPT_ZERO, "zero-on-last-leave", NULL, "clear the memory when the last peer has left",
		NULL},
	{OPT_MAX_PEERS, "max-peers", "N",
		"most peers at a time (default: what the server's limit of descriptors carries)",
		NULL},
	{OPT_MAX_PEERS_PER_UID, "max-peers-per-uid", "N",
		"most peers of one user (default: no limit)", NULL},
	{OPT_MAX_QUEUE, "max-queue", "MESSAGES",
		"evict a peer that reads nothing while more messages than this wait for it "
		"(default: 0, no limit)",
		NULL},
	{OPT_STALL_TIMEOUT, "stall-timeout", "SECONDS",
		"evict a peer that reads nothing for so long; 0: never (default: 300)", NULL},

	{'w', "write", "FILE", "write a capture file; -: standard output (default: print lines)",
		"capture"},
	{OPT_COUNT, "count", "N", "end after so many records", NULL},
	{OPT_DURATION, "duration", "SECONDS", "end after this time", NULL},
	{OPT_NO_DOORBELLS, "no-doorbells", NULL,
		"do not look at doorbells, which costs a wake-up for each ring", NULL},

	{OPT_EVERY, "every", "SECONDS",
		"print again and again, so far apart (default: once, after a second)", "channels"},

	{OPT_FORCE, "force", NULL, "although peers are in", "remove"},
	{OPT_OFF, "off", NULL, "let peers join again", "drain"},
	{OPT_REASON, "reason", "TEXT", "for the log", "evict"},
	{OPT_INTERVAL, "interval", "SECONDS", "time between two looks (default: 1)", "top"},
	{0},
};

const char *ctl_command_of(const struct option_def *option)
{
	while (!option->group)
		option--;
	return option->group == ctl_options[0].group ? "" : option->group;
}

/* ---- options of `create` ---- */

/* What becomes a member just so. */
static const struct {
	int key;
	enum { NUMBER, SIZE, TEXT, MODE, YES, NO } type;
	const char *member;
	uint64_t max;
} members[] = {
	{OPT_SIZE, SIZE, "size", 0},
	{OPT_VECTORS, NUMBER, "vectors", IVSHMEM_MAX_VECTORS},
	{OPT_UUID, TEXT, "uuid", 0},
	{OPT_HEADER, YES, "header", 0},
	{OPT_LISTEN, TEXT, "socket", 0},
	{OPT_LISTEN_MODE, MODE, "socket_mode", 0777},
	{REGION_OPT_REUSE, YES, "reuse", 0},
	{REGION_OPT_NO_PREALLOC, NO, "prealloc", 0},
	{REGION_OPT_MEMORY_RESERVE, SIZE, "memory_reserve", 0},
	{REGION_OPT_HUGE_PAGES, SIZE, "huge_page", 0},
	{REGION_OPT_NUMA_NODE, NUMBER, "numa_node", INT16_MAX},
	{REGION_OPT_MODE, MODE, "region_mode", 0666},
	{OPT_ZERO, YES, "zero_on_last_leave", 0},
	{OPT_MAX_PEERS, NUMBER, "max_peers", IVSHMEM_MAX_ID + 1},
	{OPT_MAX_PEERS_PER_UID, NUMBER, "max_peers_per_uid", IVSHMEM_MAX_ID + 1},
	{OPT_MAX_QUEUE, NUMBER, "max_queue", UINT32_MAX},
};

#define N_MEMBERS (sizeof(members) / sizeof(members[0]))

static json_t *value_of(
	const struct option_table *table, size_t row, const char *option, const char *argument)
{
	uint64_t number;
	mode_t mode;

	switch (members[row].type) {
	case NUMBER:
		if (option_uint(table, option, argument, 0, members[row].max, &number) < 0)
			return NULL;
		return json_integer((json_int_t)number);
	case SIZE:
		if (option_size(table, option, argument, &number) < 0)
			return NULL;
		return json_integer((json_int_t)(number > INT64_MAX ? INT64_MAX : number));
	case MODE:
		if (option_mode(table, option, argument, 0, (mode_t)members[row].max, &mode) < 0)
			return NULL;
		return json_text(argument);
	case TEXT:
		return json_text(argument);
	case YES:
		return json_true();
	case NO:
		break;
	}
	return json_false();
}

static int set_backing(json_t *spec, const char *backing, const char *name)
{
	json_object_set_new(spec, "backing", json_string(backing));
	return json_object_set_new(spec, "backing_name", json_text(name));
}

/* ---- rules ---- */

static int bad_rule(const struct option_table *table, const char *part, const char *wanted)
{
	return options_complain(table, "--allow: %s: %s", part, wanted);
}

/* A user or group, by name or number, as the server wants it: it looks nobody up. */
static int set_id(const struct option_table *table, json_t *rule, const char *key, const char *text)
{
	uint64_t id;
	if (strcmp(key, "user") == 0) {
		const struct passwd *user = getpwnam(text);
		if (user)
			id = user->pw_uid;
		else if (parse_uint(text, 0, UINT32_MAX - 1, &id) < 0)
			return bad_rule(table, text, "no such user");
		return json_object_set_new(rule, "uid", json_integer((json_int_t)id));
	}
	const struct group *group = getgrnam(text);
	if (group)
		id = group->gr_gid;
	else if (parse_uint(text, 0, UINT32_MAX - 1, &id) < 0)
		return bad_rule(table, text, "no such group");
	return json_object_set_new(rule, "gid", json_integer((json_int_t)id));
}

static int set_number(const struct option_table *table, json_t *rule, const char *member,
	const char *text, uint64_t max)
{
	uint64_t number;
	if (parse_uint(text, 0, max, &number) < 0)
		return bad_rule(table, text, "give a number");
	return json_object_set_new(rule, member, json_integer((json_int_t)number));
}

static int replace(json_t *rule, const char *member, char *text, char from, char to)
{
	for (char *c = text; *c; c++)
		if (*c == from)
			*c = to;
	return json_object_set_new(rule, member, json_text(text));
}

static int set_condition(const struct option_table *table, json_t *rule, char *part)
{
	static const char *const patterns[] = {"executable", "cgroup", "machine", "label"};
	char *value = strchr(part, '=');

	if (!value)
		return bad_rule(table, part, "give what it is and a value, such as user=alice");
	*value++ = '\0';
	for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
		if (strcmp(part, patterns[i]) == 0)
			return json_object_set_new(rule, part, json_text(value));
	if (strcmp(part, "user") == 0 || strcmp(part, "group") == 0)
		return set_id(table, rule, part, value);
	if (strcmp(part, "access") == 0)
		return replace(rule, "access", value, '-', '_');
	if (strcmp(part, "ring") == 0)
		return replace(rule, "ring", value, '+', ',');
	if (strcmp(part, "id") == 0)
		return set_number(table, rule, "id", value, IVSHMEM_MAX_ID);
	if (strcmp(part, "max-peers") == 0)
		return set_number(table, rule, "max_peers", value, IVSHMEM_MAX_ID + 1);
	return bad_rule(table, part, "no such condition");
}

static int add_rule(const struct option_table *table, json_t *spec, const char *argument)
{
	json_t *list = json_object_get(spec, "allow");
	json_t *rule = json_pack("{s:s}", "access", "read_write");
	char *text = strdup(argument), *rest = text;
	int result = text ? 0 : options_complain(table, "no memory");

	for (char *part; result == 0 && (part = strsep(&rest, ","));)
		result = set_condition(table, rule, part);
	free(text);
	if (!list) {
		list = json_array();
		json_object_set_new(spec, "allow", list);
	}
	json_array_append_new(list, rule);
	return result;
}

/* ---- */

static int set_owner(const struct option_table *table, json_t *spec, const char *argument)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	if (option_owner(table, "--listen-owner", argument, &uid, &gid) < 0)
		return -1;
	if (uid != (uid_t)-1)
		json_object_set_new(spec, "socket_uid", json_integer(uid));
	if (gid != (gid_t)-1)
		json_object_set_new(spec, "socket_gid", json_integer(gid));
	return 0;
}

static int set_seconds(
	const struct option_table *table, const char *option, const char *argument, int *ms)
{
	if (parse_seconds(argument, ms) == 0)
		return 0;
	return options_complain(table, "%s takes seconds, not '%s'", option, argument);
}

/* A time that may not be none. */
static int set_time(
	const struct option_table *table, const char *option, const char *argument, int *ms)
{
	if (set_seconds(table, option, argument, ms) < 0)
		return -1;
	return *ms > 0 ? 0 : options_complain(table, "%s takes more than 0 seconds", option);
}

static int set_count(const struct option_table *table, int64_t *count, const char *argument)
{
	uint64_t number;
	if (parse_uint(argument, 1, INT64_MAX, &number) < 0)
		return options_complain(table, "--count takes a number, not '%s'", argument);
	*count = (int64_t)number;
	return 0;
}

/* Options of `create`; 1 if it is none. */
static int set_spec_option(const struct option_table *table, json_t *spec,
	const struct option_def *option, const char *argument)
{
	char name[32];
	int ms;

	snprintf(name, sizeof(name), "--%s", option->name);
	for (size_t i = 0; i < N_MEMBERS; i++) {
		if (members[i].key != option->key)
			continue;
		json_t *value = value_of(table, i, name, argument);
		return value ? json_object_set_new(spec, members[i].member, value) : -1;
	}
	switch (option->key) {
	case OPT_ALLOW:
		return add_rule(table, spec, argument);
	case OPT_LISTEN_OWNER:
		return set_owner(table, spec, argument);
	case OPT_SHM:
		return set_backing(spec, "shm", argument);
	case OPT_DIR:
		return set_backing(spec, "dir", argument);
	case REGION_OPT_FILE:
		return set_backing(spec, "file", argument);
	case OPT_STALL_TIMEOUT:
		if (set_seconds(table, name, argument, &ms) < 0)
			return -1;
		return json_object_set_new(spec, "stall_timeout", json_integer(ms));
	}
	return 1;
}

static int set_other_option(
	const struct option_table *table, struct ctl *ctl, int key, const char *argument)
{
	switch (key) {
	case 'S':
		ctl->socket = argument;
		return 0;
	case OPT_JSON:
		ctl->json = true;
		return 0;
	case OPT_TIMEOUT:
		return set_seconds(table, "--timeout", argument, &ctl->timeout_ms);
	case OPT_NAMES:
		ctl->names = true;
		return 0;
	case OPT_FORCE:
		ctl->force = true;
		return 0;
	case OPT_OFF:
		ctl->off = true;
		return 0;
	case OPT_REASON:
		ctl->reason = argument;
		return 0;
	case 'w':
		ctl->write = argument;
		return 0;
	case OPT_COUNT:
		return set_count(table, &ctl->count, argument);
	case OPT_DURATION:
		return set_time(table, "--duration", argument, &ctl->duration_ms);
	case OPT_EVERY:
		return set_time(table, "--every", argument, &ctl->every_ms);
	case OPT_NO_DOORBELLS:
		ctl->no_doorbells = true;
		return 0;
	}
	return set_time(table, "--interval", argument, &ctl->interval_ms);
}

int ctl_set_option(void *data, int key, const char *argument)
{
	struct arguments *arguments = data;
	const struct option_def *option = ctl_options;
	while (option->key != key) /* the parser lets nothing else through */
		option++;
	const char *command = ctl_command_of(option);
	if (command[0] != '\0') {
		if (arguments->special && ctl_command_of(arguments->special) != command)
			return options_complain(arguments->table, "--%s is for '%s', --%s for '%s'",
				option->name, command, arguments->special->name,
				ctl_command_of(arguments->special));
		arguments->special = option;
	}
	int result = set_spec_option(arguments->table, arguments->ctl->spec, option, argument);
	return result > 0 ? set_other_option(arguments->table, arguments->ctl, key, argument)
			  : result;
}
