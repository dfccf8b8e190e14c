/* SPDX-License-Identifier: MIT */
#include "settings.h"

#include "base/parse.h"
#include "base/uuid.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBVIRT_SOCKET "/var/lib/libvirt/shmem-%s-sock"

static int give(char wanted[WANTED_SIZE], const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static int give(char wanted[WANTED_SIZE], const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(wanted, WANTED_SIZE, format, args);
	va_end(args);
	return -EINVAL;
}

/* ---- kinds of values ---- */

static int set_bool(bool *value, const char *text, char wanted[WANTED_SIZE])
{
	if (strcmp(text, "yes") == 0 || strcmp(text, "true") == 0 || strcmp(text, "on") == 0)
		*value = true;
	else if (strcmp(text, "no") == 0 || strcmp(text, "false") == 0 || strcmp(text, "off") == 0)
		*value = false;
	else
		return give(wanted, "give yes or no");
	return 0;
}

static int set_number(
	uint64_t *value, const char *text, uint64_t min, uint64_t max, char wanted[WANTED_SIZE])
{
	if (parse_uint(text, min, max, value) == 0)
		return 0;
	return give(wanted, "give a number from %llu to %llu", (unsigned long long)min,
		(unsigned long long)max);
}

static int set_unsigned(
	unsigned *value, const char *text, unsigned min, unsigned max, char wanted[WANTED_SIZE])
{
	uint64_t number;
	int error = set_number(&number, text, min, max, wanted);
	if (error == 0)
		*value = (unsigned)number;
	return error;
}

static int set_size(uint64_t *value, const char *text, char wanted[WANTED_SIZE])
{
	int error = parse_size(text, value);
	if (error == 0 && *value <= INT64_MAX)
		return 0;
	if (error == -EINVAL)
		return give(wanted, "give a size in bytes, e.g. 65536, 64K, 4M, 1G");
	return give(wanted, "too large: no file can have that");
}

static int set_mode(mode_t *value, const char *text, mode_t max, char wanted[WANTED_SIZE])
{
	char *end;
	unsigned long mode = strtoul(text, &end, 8);
	if (text[0] < '0' || text[0] > '7' || *end != '\0' || mode > max)
		return give(wanted, "give a permission in octal within %04o, e.g. 0660", max);
	*value = (mode_t)mode;
	return 0;
}

static int set_text(char *value, size_t size, const char *text, char wanted[WANTED_SIZE])
{
	if (text[0] == '\0')
		return give(wanted, "give a text, or leave it out");
	if (snprintf(value, size, "%s", text) >= (int)size)
		return give(wanted, "at most %zu bytes", size - 1);
	return 0;
}

/* By name or by number; not the last one, which stands for none. */
static int set_user(uid_t *value, const char *text, char wanted[WANTED_SIZE])
{
	uint64_t number;
	const struct passwd *entry = getpwnam(text);
	if (entry)
		*value = entry->pw_uid;
	else if (parse_uint(text, 0, UINT32_MAX - 1, &number) == 0)
		*value = (uid_t)number;
	else
		return give(wanted, "there is no such user: give the name or number of one");
	return 0;
}

static int set_group(gid_t *value, const char *text, char wanted[WANTED_SIZE])
{
	uint64_t number;
	const struct group *entry = getgrnam(text);
	if (entry)
		*value = entry->gr_gid;
	else if (parse_uint(text, 0, UINT32_MAX - 1, &number) == 0)
		*value = (gid_t)number;
	else
		return give(wanted, "there is no such group: give the name or number of one");
	return 0;
}

static int set_socket(char path[SOCKET_PATH_SIZE], const char *text, char wanted[WANTED_SIZE])
{
	if (text[0] != '/')
		return give(wanted, "give the path of a socket, from / on");
	return set_text(path, SOCKET_PATH_SIZE, text, wanted);
}

/* ---- control ---- */

static int control_socket(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct file_config *config = target;
	if (strcmp(text, "none") != 0)
		return set_socket(config->control_path, text, wanted);
	config->control_path[0] = '\0';
	return 0;
}

static int control_group(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct file_config *config = target;
	return set_group(&config->control_group, text, wanted);
}

static int control_clients(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct file_config *config = target;
	return set_unsigned(&config->control_clients, text, 2, 1024, wanted);
}

const struct setting control_settings[] = {
	{"socket", control_socket},
	{"group", control_group},
	{"max-clients", control_clients},
	{NULL, NULL},
};

/* ---- limits ---- */

static int limits_descriptors(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct file_config *config = target;
	return set_number(&config->users.descriptors, text, 0, UINT32_MAX, wanted);
}

static int limits_queue_bytes(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct file_config *config = target;
	return set_size(&config->users.queue_bytes, text, wanted);
}

const struct setting limits_settings[] = {
	{"max-descriptors-per-uid", limits_descriptors},
	{"max-queue-bytes-per-uid", limits_queue_bytes},
	{NULL, NULL},
};

/* ---- region ---- */

static int region_uuid(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	if (uuid_parse(text, spec->uuid) == 0 && !uuid_is_nil(spec->uuid))
		return 0;
	return give(wanted, "give a UUID: 32 hexadecimal digits as 8-4-4-4-12, not all zero");
}

static int region_header(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_bool(&spec->header, text, wanted);
}

static int region_socket(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	if (strcmp(text, "libvirt") != 0)
		return set_socket(spec->socket_path, text, wanted);
	snprintf(spec->socket_path, sizeof(spec->socket_path), LIBVIRT_SOCKET, spec->name);
	return 0;
}

static int region_socket_mode(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_mode(&spec->socket_mode, text, 0777, wanted);
}

static int region_socket_owner(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	char user[64];
	size_t length = strcspn(text, ":");
	int error = 0;

	if (length >= sizeof(user) || text[0] == '\0')
		return give(wanted, "give USER, USER:GROUP or :GROUP");
	memcpy(user, text, length);
	user[length] = '\0';
	if (length > 0)
		error = set_user(&spec->socket_uid, user, wanted);
	if (error == 0 && text[length] == ':' && text[length + 1] != '\0')
		error = set_group(&spec->socket_gid, text + length + 1, wanted);
	return error;
}

static int region_size(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	int error = set_size(&spec->memory.size, text, wanted);
	if (error == 0 && region_round_size(spec->memory.size) == 0)
		return give(wanted, "too large: no file can have that");
	if (error == 0 && spec->memory.size == 0)
		return give(wanted, "a region has at least one byte");
	return error;
}

static int region_vectors(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_unsigned(&spec->server.vectors, text, 0, IVSHMEM_MAX_VECTORS, wanted);
}

static int region_huge_pages(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	uint64_t size;
	if (strcmp(text, "no") == 0)
		size = 0;
	else if (parse_size(text, &size) < 0 || (size != 2u << 20 && size != 1u << 30))
		return give(wanted, "give 2M, 1G or no");
	spec->memory.huge_page = size;
	return 0;
}

static int region_numa_node(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	unsigned node;
	int error = set_unsigned(&node, text, 0, 1023, wanted);
	if (error == 0)
		spec->memory.numa_node = (int)node;
	return error;
}

static int region_memory(void *target, const char *text, char wanted[WANTED_SIZE])
{
	static const char *const prefixes[] = {
		[REGION_SHM] = "shm:", [REGION_DIR] = "dir:", [REGION_FILE] = "file:"};
	struct region_spec *spec = target;

	if (strcmp(text, "memfd") == 0)
		return 0;
	for (unsigned kind = REGION_SHM; kind <= REGION_FILE; kind++) {
		size_t length = strlen(prefixes[kind]);
		if (strncmp(text, prefixes[kind], length) != 0 || text[length] == '\0')
			continue;
		spec->memory.kind = (enum region_kind)kind;
		spec->memory.name = spec->memory_name;
		return set_text(
			spec->memory_name, sizeof(spec->memory_name), text + length, wanted);
	}
	return give(wanted, "give memfd, shm:NAME, file:PATH or dir:PATH");
}

static int region_mode(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_mode(&spec->memory.mode, text, 0666, wanted);
}

static int region_reuse(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_bool(&spec->memory.reuse, text, wanted);
}

static int region_prealloc(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	bool prealloc = true;
	int error = set_bool(&prealloc, text, wanted);
	if (error == 0)
		spec->memory.no_prealloc = !prealloc;
	return error;
}

static int region_reserve(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_size(&spec->memory.reserve, text, wanted);
}

static int region_zero(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_bool(&spec->zero_on_last_leave, text, wanted);
}

static int region_max_peers(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	spec->max_peers_given = true;
	return set_unsigned(&spec->server.max_peers, text, 1, IVSHMEM_MAX_ID + 1, wanted);
}

static int region_max_peers_per_uid(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_unsigned(&spec->server.max_peers_per_uid, text, 1, IVSHMEM_MAX_ID + 1, wanted);
}

static int region_max_queue(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	return set_number(&spec->server.max_queue, text, 0, UINT32_MAX, wanted);
}

static int region_stall_timeout(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	uint64_t seconds;
	int error = set_number(&seconds, text, 0, UINT64_C(86400) * 365, wanted);
	if (error == 0)
		spec->server.stall_timeout_ms = seconds * 1000;
	return error;
}

static int region_protocol(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct region_spec *spec = target;
	if (strcmp(text, "current") == 0)
		spec->server.format = &wire_current;
	else if (strcmp(text, "pre-2.5") == 0)
		spec->server.format = &wire_pre_2_5;
	else
		return give(wanted, "give current or pre-2.5");
	return 0;
}

const struct setting region_settings[] = {
	{"uuid", region_uuid},
	{"header", region_header},
	{"socket", region_socket},
	{"socket-mode", region_socket_mode},
	{"socket-owner", region_socket_owner},
	{"protocol", region_protocol},
	{"size", region_size},
	{"memory", region_memory},
	{"reuse", region_reuse},
	{"prealloc", region_prealloc},
	{"memory-reserve", region_reserve},
	{"huge-pages", region_huge_pages},
	{"numa-node", region_numa_node},
	{"region-mode", region_mode},
	{"zero-on-last-leave", region_zero},
	{"vectors", region_vectors},
	{"max-peers", region_max_peers},
	{"max-peers-per-uid", region_max_peers_per_uid},
	{"max-queue", region_max_queue},
	{"stall-timeout", region_stall_timeout},
	{NULL, NULL},
};

/* ---- allow and deny ---- */

static int rule_user(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_user(&rule->uid, text, wanted);
}

static int rule_group(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_group(&rule->gid, text, wanted);
}

static int rule_executable(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_text(rule->executable, sizeof(rule->executable), text, wanted);
}

static int rule_cgroup(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_text(rule->cgroup, sizeof(rule->cgroup), text, wanted);
}

static int rule_machine(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_text(rule->machine, sizeof(rule->machine), text, wanted);
}

static int rule_label(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_text(rule->label, sizeof(rule->label), text, wanted);
}

static int rule_access(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	if (strcmp(text, "read-write") == 0)
		rule->access = POLICY_READ_WRITE;
	else if (strcmp(text, "read-only") == 0)
		rule->access = POLICY_READ_ONLY;
	else
		return give(wanted, "give read-write or read-only");
	return 0;
}

static int rule_max_peers(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	return set_unsigned(&rule->max_peers, text, 1, IVSHMEM_MAX_ID + 1, wanted);
}

static int rule_id(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	unsigned id;
	int error = set_unsigned(&id, text, 0, IVSHMEM_MAX_ID, wanted);
	if (error == 0)
		rule->id = (int)id;
	return error;
}

static int rule_ring(void *target, const char *text, char wanted[WANTED_SIZE])
{
	struct policy_rule *rule = target;
	if (policy_vectors_parse(text, &rule->rings) == 0)
		return 0;
	return give(wanted, "give all, none, or vectors from 0 to %u, e.g. \"0-3,7\"",
		POLICY_VECTORS - 1);
}

#define CONDITIONS                                                                                 \
	{"user", rule_user}, {"group", rule_group}, {"executable", rule_executable},               \
		{"cgroup", rule_cgroup}, {"machine", rule_machine},                                \
	{                                                                                          \
		"label", rule_label                                                                \
	}

const struct setting allow_settings[] = {
	CONDITIONS,
	{"access", rule_access},
	{"max-peers", rule_max_peers},
	{"id", rule_id},
	{"ring", rule_ring},
	{NULL, NULL},
};

const struct setting deny_settings[] = {
	CONDITIONS,
	{NULL, NULL},
};
