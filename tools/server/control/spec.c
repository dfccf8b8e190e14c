/* SPDX-License-Identifier: MIT */
#include "spec.h"

#include "base/parse.h"
#include "base/uuid.h"
#include "varlink/members.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void take_rule(struct members *members, struct policy_rule *rule)
{
	static const char *const accesses[] = {
		[POLICY_DENY] = "deny",
		[POLICY_READ_WRITE] = "read_write",
		[POLICY_READ_ONLY] = "read_only",
		NULL,
	};
	unsigned access = POLICY_DENY, id;
	char ring[POLICY_TEXT];

	if (take_choice(members, "access", accesses, &access))
		rule->access = access;
	else
		set_wrong(members, "access");
	take_unsigned(members, "uid", 0, UINT32_MAX - 1, &rule->uid);
	take_unsigned(members, "gid", 0, UINT32_MAX - 1, &rule->gid);
	take_text(members, "executable", rule->executable, sizeof(rule->executable));
	take_text(members, "cgroup", rule->cgroup, sizeof(rule->cgroup));
	take_text(members, "machine", rule->machine, sizeof(rule->machine));
	take_text(members, "label", rule->label, sizeof(rule->label));
	take_unsigned(members, "max_peers", 1, IVSHMEM_MAX_ID + 1, &rule->max_peers);
	if (take_unsigned(members, "id", 0, IVSHMEM_MAX_ID, &id))
		rule->id = (int)id;
	if (take_text(members, "ring", ring, sizeof(ring)) &&
		policy_vectors_parse(ring, &rule->rings) < 0)
		set_wrong(members, "ring");
	snprintf(rule->origin, sizeof(rule->origin), "control socket");
}

static int take_rules(struct members *members, struct region_spec *spec)
{
	struct policy *policy = &spec->policy;
	json_t *list = take(members, "allow");
	size_t n = json_array_size(list);
	int result = 0;

	if (!list)
		return region_spec_default_rules(spec);
	if (!json_is_array(list))
		set_wrong(members, "allow");
	if (n > 0 && !(policy->rules = calloc(n, sizeof(*policy->rules))))
		result = -ENOMEM;
	for (size_t i = 0; i < n && result == 0; i++) {
		struct members rule = {.object = json_array_get(list, i)};
		policy->rules[i] = (struct policy_rule)POLICY_RULE_INIT;
		policy->n = i + 1;
		take_rule(&rule, &policy->rules[i]);
		if (!members_are_right(&rule))
			set_wrong(members, "allow");
	}
	json_decref(list);
	return result;
}

static void take_memory(struct members *members, struct region_spec *spec)
{
	static const char *const kinds[] = {
		[REGION_MEMFD] = "memfd",
		[REGION_SHM] = "shm",
		[REGION_DIR] = "dir",
		[REGION_FILE] = "file",
		NULL,
	};
	struct region_config *memory = &spec->memory;
	unsigned kind, node;
	bool prealloc;

	if (take_choice(members, "backing", kinds, &kind))
		memory->kind = kind;
	if (take_text(members, "backing_name", spec->memory_name, sizeof(spec->memory_name)))
		memory->name = spec->memory_name;
	if (memory->kind == REGION_FILE)
		memory->size = 0; /* the file's own */
	take_number(members, "size", 1, INT64_MAX, &memory->size);
	take_flag(members, "reuse", &memory->reuse);
	if (take_flag(members, "prealloc", &prealloc))
		memory->no_prealloc = !prealloc;
	take_number(members, "memory_reserve", 0, INT64_MAX, &memory->reserve);
	take_number(members, "huge_page", 0, INT64_MAX, &memory->huge_page);
	if (take_unsigned(members, "numa_node", 0, INT16_MAX, &node))
		memory->numa_node = (int)node;
	take_mode(members, "region_mode", 0666, &memory->mode);
	take_flag(members, "zero_on_last_leave", &spec->zero_on_last_leave);
	if ((memory->kind == REGION_MEMFD) != (memory->name == NULL))
		set_wrong(members, "backing_name");
}

static void take_limits(struct members *members, struct region_spec *spec)
{
	struct server_config *limits = &spec->server;

	take_unsigned(members, "vectors", 0, IVSHMEM_MAX_VECTORS, &limits->vectors);
	if (take_unsigned(members, "max_peers", 1, IVSHMEM_MAX_ID + 1, &limits->max_peers))
		spec->max_peers_given = true;
	take_unsigned(
		members, "max_peers_per_uid", 0, IVSHMEM_MAX_ID + 1, &limits->max_peers_per_uid);
	take_number(members, "max_queue", 0, UINT32_MAX, &limits->max_queue);
	take_number(members, "stall_timeout", 0, INT64_MAX, &limits->stall_timeout_ms);
}

static void take_names(struct members *members, struct region_spec *spec)
{
	char uuid[UUID_TEXT_SIZE];

	if (!take_text(members, "name", spec->name, sizeof(spec->name)) ||
		!name_is_valid(spec->name))
		set_wrong(members, "name");
	if (take_text(members, "uuid", uuid, sizeof(uuid)) && uuid_parse(uuid, spec->uuid) < 0)
		set_wrong(members, "uuid");
	take_flag(members, "header", &spec->header);
	if (!take_text(members, "socket", spec->socket_path, sizeof(spec->socket_path)) &&
		socket_of_region(IVSHMEM_SOCKET_FOLDER, spec->name, spec->socket_path,
			sizeof(spec->socket_path)) < 0)
		set_wrong(members, "name");
	take_mode(members, "socket_mode", 0777, &spec->socket_mode);
	take_unsigned(members, "socket_uid", 0, UINT32_MAX - 1, &spec->socket_uid);
	take_unsigned(members, "socket_gid", 0, UINT32_MAX - 1, &spec->socket_gid);
}

int spec_from_json(json_t *object, struct region_spec *spec, const char **parameter)
{
	struct members members = {.object = object};

	take_names(&members, spec);
	take_memory(&members, spec);
	take_limits(&members, spec);
	int result = take_rules(&members, spec);
	if (members_are_right(&members))
		return result;
	*parameter = members.wrong;
	return -EINVAL;
}
