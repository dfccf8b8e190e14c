/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. One JSON object; the version comes first and is asked first, and each member
 * must be there, and no other. Whoever adds a member counts the version up: an older program then
 * says that it is too old, and does not go on with half of what a region is.
 */
#include "saved.h"

#include "base/parse.h"
#include "base/uuid.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VERSION    1
#define RINGS_SIZE 8192 /* more than any set of 2048 vectors takes as text */
#define MAX_RULES  4096

/* ---- to text ---- */

static json_t *rule_to_json(const struct policy_rule *rule)
{
	char rings[RINGS_SIZE];

	policy_vectors_format(&rule->rings, rings, sizeof(rings));
	return json_pack("{s:I, s:I, s:s, s:s, s:s, s:s, s:i, s:I, s:i, s:s, s:s}", "user",
		(json_int_t)rule->uid, "group", (json_int_t)rule->gid, "executable",
		rule->executable, "cgroup", rule->cgroup, "machine", rule->machine, "label",
		rule->label, "access", (int)rule->access, "max-peers", (json_int_t)rule->max_peers,
		"id", rule->id, "ring", rings, "origin", rule->origin);
}

static json_t *rules_to_json(const struct policy *policy)
{
	json_t *list = json_array();
	for (size_t i = 0; list && i < policy->n; i++) {
		if (json_array_append_new(list, rule_to_json(&policy->rules[i])) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static json_t *memory_to_json(const struct region_spec *spec)
{
	const struct region_config *memory = &spec->memory;
	return json_pack("{s:i, s:s, s:I, s:i, s:b, s:b, s:I, s:I, s:i, s:b}", "kind",
		(int)memory->kind, "name", spec->memory_name, "size", (json_int_t)memory->size,
		"mode", (int)memory->mode, "reuse", memory->reuse, "no-prealloc",
		memory->no_prealloc, "reserve", (json_int_t)memory->reserve, "huge-page",
		(json_int_t)memory->huge_page, "numa-node", memory->numa_node, "zero-on-last-leave",
		spec->zero_on_last_leave);
}

static json_t *socket_to_json(const struct region_spec *spec)
{
	return json_pack("{s:s, s:i, s:I, s:I}", "path", spec->socket_path, "mode",
		(int)spec->socket_mode, "user", (json_int_t)spec->socket_uid, "group",
		(json_int_t)spec->socket_gid);
}

static json_t *limits_to_json(const struct region_spec *spec)
{
	const struct server_config *server = &spec->server;
	return json_pack("{s:b, s:i, s:i, s:b, s:I, s:I, s:I}", "pre-2.5",
		server->format == &wire_pre_2_5, "vectors", (int)server->vectors, "max-peers",
		(int)server->max_peers, "max-peers-given", spec->max_peers_given,
		"max-peers-per-uid", (json_int_t)server->max_peers_per_uid, "max-queue",
		(json_int_t)server->max_queue, "stall-timeout",
		(json_int_t)server->stall_timeout_ms);
}

static json_t *life_to_json(const struct region_life *life)
{
	return json_pack("{s:I, s:I, s:i, s:b, s:b, s:I, s:I}", "created",
		(json_int_t)life->created_ms, "generation", (json_int_t)life->generation,
		"state-peers", (int)life->state_peers, "draining", life->draining, "region-created",
		life->region_created, "device", (json_int_t)life->device, "inode",
		(json_int_t)life->inode);
}

char *saved_write(const struct region_spec *spec, const struct region_life *life)
{
	char uuid[UUID_TEXT_SIZE];

	json_t *root = json_pack("{s:i, s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o}", "version",
		VERSION, "name", spec->name, "uuid", uuid_format(spec->uuid, uuid), "header",
		spec->header, "from-file", spec->from_file, "socket", socket_to_json(spec),
		"memory", memory_to_json(spec), "limits", limits_to_json(spec), "rules",
		rules_to_json(&spec->policy), "life", life_to_json(life));
	char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
	json_decref(root);
	return text;
}

/* ---- from text ---- */

static int copy_text(char *to, size_t size, const char *from)
{
	return snprintf(to, size, "%s", from) < (int)size ? 0 : -EPROTO;
}

static bool in_range(json_int_t value, json_int_t min, json_int_t max)
{
	return value >= min && value <= max;
}

static int rule_from_json(json_t *object, struct policy_rule *rule, json_error_t *error)
{
	const char *executable, *cgroup, *machine, *label, *rings, *origin;
	json_int_t uid, gid, max_peers;
	int access, id;

	if (json_unpack_ex(object, error, JSON_STRICT,
		    "{s:I, s:I, s:s, s:s, s:s, s:s, s:i, s:I, s:i, s:s, s:s}", "user", &uid,
		    "group", &gid, "executable", &executable, "cgroup", &cgroup, "machine",
		    &machine, "label", &label, "access", &access, "max-peers", &max_peers, "id",
		    &id, "ring", &rings, "origin", &origin) < 0)
		return -EPROTO;
	if (!in_range(uid, 0, UINT32_MAX) || !in_range(gid, 0, UINT32_MAX) ||
		!in_range(access, POLICY_DENY, POLICY_READ_ONLY) ||
		!in_range(max_peers, 0, UINT32_MAX) || !in_range(id, -1, IVSHMEM_MAX_ID) ||
		copy_text(rule->executable, POLICY_TEXT, executable) < 0 ||
		copy_text(rule->cgroup, POLICY_TEXT, cgroup) < 0 ||
		copy_text(rule->machine, POLICY_TEXT, machine) < 0 ||
		copy_text(rule->label, POLICY_TEXT, label) < 0 ||
		copy_text(rule->origin, POLICY_TEXT, origin) < 0 ||
		policy_vectors_parse(rings, &rule->rings) < 0) {
		snprintf(error->text, sizeof(error->text), "a rule is not possible");
		return -EPROTO;
	}
	rule->uid = (uid_t)uid;
	rule->gid = (gid_t)gid;
	rule->access = (enum policy_access)access;
	rule->max_peers = (unsigned)max_peers;
	rule->id = id;
	return 0;
}

static int rules_from_json(json_t *list, struct policy *policy, json_error_t *error)
{
	size_t n = json_array_size(list);

	if (!json_is_array(list) || n > MAX_RULES) {
		snprintf(error->text, sizeof(error->text), "rules are no list, or too long a one");
		return -EPROTO;
	}
	if (n == 0)
		return 0;
	policy->rules = calloc(n, sizeof(*policy->rules));
	if (!policy->rules)
		return -ENOMEM;
	for (; policy->n < n; policy->n++) {
		int result = rule_from_json(
			json_array_get(list, policy->n), &policy->rules[policy->n], error);
		if (result < 0)
			return result;
	}
	return 0;
}

static int memory_from_json(json_t *object, struct region_spec *spec, json_error_t *error)
{
	struct region_config *memory = &spec->memory;
	int kind, mode, node, reuse, no_prealloc, zero;
	json_int_t size, reserve, huge_page;
	const char *name;

	if (json_unpack_ex(object, error, JSON_STRICT,
		    "{s:i, s:s, s:I, s:i, s:b, s:b, s:I, s:I, s:i, s:b}", "kind", &kind, "name",
		    &name, "size", &size, "mode", &mode, "reuse", &reuse, "no-prealloc",
		    &no_prealloc, "reserve", &reserve, "huge-page", &huge_page, "numa-node", &node,
		    "zero-on-last-leave", &zero) < 0)
		return -EPROTO;
	if (!in_range(kind, REGION_MEMFD, REGION_FILE) || size < 0 || reserve < 0 ||
		huge_page < 0 || !in_range(mode, 0, 0666) ||
		copy_text(spec->memory_name, sizeof(spec->memory_name), name) < 0) {
		snprintf(error->text, sizeof(error->text), "the memory is not possible");
		return -EPROTO;
	}
	*memory = (struct region_config){
		.kind = (enum region_kind)kind,
		.name = kind == REGION_MEMFD ? NULL : spec->memory_name,
		.size = (uint64_t)size,
		.mode = (mode_t)mode,
		.reuse = reuse != 0,
		.no_prealloc = no_prealloc != 0,
		.reserve = (uint64_t)reserve,
		.huge_page = (uint64_t)huge_page,
		.numa_node = node,
	};
	spec->zero_on_last_leave = zero != 0;
	return 0;
}

static int socket_from_json(json_t *object, struct region_spec *spec, json_error_t *error)
{
	json_int_t uid, gid;
	const char *path;
	int mode;

	if (json_unpack_ex(object, error, JSON_STRICT, "{s:s, s:i, s:I, s:I}", "path", &path,
		    "mode", &mode, "user", &uid, "group", &gid) < 0)
		return -EPROTO;
	if (!in_range(mode, 0, 0777) || !in_range(uid, 0, UINT32_MAX) ||
		!in_range(gid, 0, UINT32_MAX) || path[0] == '\0' ||
		copy_text(spec->socket_path, sizeof(spec->socket_path), path) < 0) {
		snprintf(error->text, sizeof(error->text), "the socket is not possible");
		return -EPROTO;
	}
	spec->socket_mode = (mode_t)mode;
	spec->socket_uid = (uid_t)uid;
	spec->socket_gid = (gid_t)gid;
	return 0;
}

static int limits_from_json(json_t *object, struct region_spec *spec, json_error_t *error)
{
	int old, vectors, max_peers, given;
	json_int_t per_uid, queue, stall;

	if (json_unpack_ex(object, error, JSON_STRICT, "{s:b, s:i, s:i, s:b, s:I, s:I, s:I}",
		    "pre-2.5", &old, "vectors", &vectors, "max-peers", &max_peers,
		    "max-peers-given", &given, "max-peers-per-uid", &per_uid, "max-queue", &queue,
		    "stall-timeout", &stall) < 0)
		return -EPROTO;
	if (!in_range(vectors, 0, IVSHMEM_MAX_VECTORS) ||
		!in_range(max_peers, 1, IVSHMEM_MAX_ID + 1) ||
		!in_range(per_uid, 0, IVSHMEM_MAX_ID + 1) || queue < 0 || stall < 0) {
		snprintf(error->text, sizeof(error->text), "the limits are not possible");
		return -EPROTO;
	}
	spec->max_peers_given = given != 0;
	spec->server = (struct server_config){
		.format = old ? &wire_pre_2_5 : &wire_current,
		.vectors = (unsigned)vectors,
		.max_peers = (unsigned)max_peers,
		.max_peers_per_uid = (unsigned)per_uid,
		.max_queue = (uint64_t)queue,
		.stall_timeout_ms = (uint64_t)stall,
		.in_flight_limit = UINT64_MAX,
	};
	return 0;
}

static int life_from_json(json_t *object, struct region_life *life, json_error_t *error)
{
	json_int_t created, generation, device, inode;
	int draining, region_created, state_peers;

	if (json_unpack_ex(object, error, JSON_STRICT, "{s:I, s:I, s:i, s:b, s:b, s:I, s:I}",
		    "created", &created, "generation", &generation, "state-peers", &state_peers,
		    "draining", &draining, "region-created", &region_created, "device", &device,
		    "inode", &inode) < 0)
		return -EPROTO;
	if (!in_range(generation, 0, UINT32_MAX) || !in_range(state_peers, 0, IVSHMEM_MAX_ID + 1)) {
		snprintf(error->text, sizeof(error->text), "life is not possible");
		return -EPROTO;
	}
	*life = (struct region_life){
		.created_ms = (uint64_t)created,
		.generation = (uint32_t)generation,
		.state_peers = (unsigned)state_peers,
		.draining = draining != 0,
		.region_created = region_created != 0,
		.device = (dev_t)device,
		.inode = (ino_t)inode,
	};
	return 0;
}

static int parts_from_json(
	json_t *root, struct region_spec *spec, struct region_life *life, json_error_t *error)
{
	json_t *socket, *memory, *limits, *rules, *alive;
	int version, header, from_file;
	const char *name, *uuid;

	if (json_unpack_ex(root, error, JSON_STRICT,
		    "{s:i, s:s, s:s, s:b, s:b, s:o, s:o, s:o, s:o, s:o}", "version", &version,
		    "name", &name, "uuid", &uuid, "header", &header, "from-file", &from_file,
		    "socket", &socket, "memory", &memory, "limits", &limits, "rules", &rules,
		    "life", &alive) < 0)
		return -EPROTO;
	if (!name_is_valid(name) || copy_text(spec->name, sizeof(spec->name), name) < 0 ||
		uuid_parse(uuid, spec->uuid) < 0) {
		snprintf(error->text, sizeof(error->text), "name or UUID is not legal");
		return -EPROTO;
	}
	spec->header = header != 0;
	spec->from_file = from_file != 0;
	int result = socket_from_json(socket, spec, error);
	if (result == 0)
		result = memory_from_json(memory, spec, error);
	if (result == 0)
		result = limits_from_json(limits, spec, error);
	if (result == 0)
		result = rules_from_json(rules, &spec->policy, error);
	return result == 0 ? life_from_json(alive, life, error) : result;
}

int saved_read(const char *text, size_t size, struct region_spec *spec, struct region_life *life,
	char *reason)
{
	json_error_t error = {.text = ""};
	int result = -EPROTO;

	region_spec_init(spec);
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
	json_int_t version = json_integer_value(json_object_get(root, "version"));
	if (version > VERSION) {
		snprintf(reason, REASON_SIZE,
			"version %lld of what was left, this program knows %d: use the one that "
			"has left it",
			(long long)version, VERSION);
		result = -EOPNOTSUPP;
	} else if (root) {
		result = parts_from_json(root, spec, life, &error);
	}
	if (result < 0 && result != -EOPNOTSUPP)
		snprintf(reason, REASON_SIZE, "%s",
			result == -ENOMEM ? "out of memory" : error.text);
	json_decref(root);
	if (result < 0)
		region_spec_fini(spec);
	return result;
}
