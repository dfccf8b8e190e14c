/* SPDX-License-Identifier: MIT */
#include "describe.h"

#include "common/jsontext.h"

#include "base/clock.h"
#include "base/uuid.h"

#include <stdlib.h>
#include <sys/stat.h>

/* ---- identities ---- */

static void add_text(json_t *object, const char *name, const char *text)
{
	if (text[0] != '\0')
		json_object_set_new(object, name, json_text(text));
}

static json_t *describe_identity(const struct identity *identity)
{
	json_t *object = json_object();
	if (identity->uid != (uid_t)-1)
		json_object_set_new(object, "uid", json_integer(identity->uid));
	if (identity->gid != (gid_t)-1)
		json_object_set_new(object, "gid", json_integer(identity->gid));
	if (identity->pid != 0)
		json_object_set_new(object, "pid", json_integer(identity->pid));
	add_text(object, "executable", identity->executable);
	add_text(object, "cgroup", identity->cgroup);
	add_text(object, "machine", identity->machine);
	add_text(object, "label", identity->label);
	return object;
}

/* ---- regions ---- */

static const char *kind_name(enum region_kind kind)
{
	switch (kind) {
	case REGION_MEMFD:
		return "memfd";
	case REGION_SHM:
		return "shm";
	case REGION_DIR:
		return "dir";
	case REGION_FILE:
		break;
	}
	return "file";
}

static json_t *describe_memory(const struct region *region, const struct region_spec *spec)
{
	const char *warning = region_warning(region);
	json_t *memory = json_pack("{s:s, s:I, s:I, s:b, s:s}", "kind", kind_name(region->kind),
		"size", (json_int_t)region->size, "page", (json_int_t)region->granule, "sealed",
		(int)region->sealed, "protection",
		warning ? warning : "sealed: no peer can make it shorter or longer");
	add_text(memory, "name", spec->memory_name);
	return memory;
}

static json_t *describe_counters(const struct server_stats *stats)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "joins", (json_int_t)stats->joins,
		"leaves", (json_int_t)stats->leaves, "evictions", (json_int_t)stats->evictions,
		"refusals", (json_int_t)stats->refusals, "messages", (json_int_t)stats->messages,
		"restarts", (json_int_t)stats->restarts, "lost_in_accept",
		(json_int_t)stats->lost_in_accept);
}

json_t *describe_region(struct hosted *hosted)
{
	const struct region_spec *spec = hosted_spec(hosted);
	const struct server_config *limits = &spec->server;
	const struct users_limits *users = hosted_users_limits(hosted);
	const struct server *server = hosted_server(hosted);
	struct server_stats stats;
	char uuid[UUID_TEXT_SIZE];

	server_get_stats(server, &stats);
	return json_pack("{s:s, s:s, s:I, s:I, s:b, s:b, s:o, s:o,"
			 " s:i, s:i, s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:o}",
		"name", spec->name, "uuid", uuid_format(spec->uuid, uuid), "generation",
		(json_int_t)hosted_generation(hosted), "created",
		(json_int_t)hosted_created_ms(hosted), "draining", (int)server_draining(server),
		"from_file", (int)spec->from_file, "socket", json_text(spec->socket_path), "memory",
		describe_memory(hosted_region(hosted), spec),

		"vectors", (int)limits->vectors, "peers", (int)stats.peers, "quarantined_ids",
		(int)stats.quarantined, "max_peers", (int)limits->max_peers, "max_peers_per_uid",
		(int)limits->max_peers_per_uid, "max_queue", (json_int_t)limits->max_queue,
		"stall_timeout", (json_int_t)limits->stall_timeout_ms, "max_descriptors_per_uid",
		(json_int_t)users->descriptors, "max_queue_bytes_per_uid",
		(json_int_t)users->queue_bytes, "rules", (json_int_t)spec->policy.n, "counters",
		describe_counters(&stats));
}

/* ---- peers ---- */

/*
 * Whether the kernel keeps this peer from writing, and why or why not. A read-only descriptor can
 * be opened again through /proc by everybody whom the memory's permission lets write
 * (docs/security.md). The groups of a peer are not known here, so a group that may write counts as
 * its own.
 */
static bool is_protected(
	const struct region *region, const struct server_peer_info *info, const char **why)
{
	struct stat st;
	uid_t uid = info->identity->uid;
	bool is = false;

	if (!info->read_only)
		*why = "none: its descriptor can be written to";
	else if (fstat(region->fd, &st) < 0 || uid == (uid_t)-1)
		*why = "none known: read-only descriptor, but its user is unknown";
	else if (uid == 0)
		*why = "weak: read-only descriptor, but root can open it again for writing";
	else if (uid == st.st_uid)
		*why = "weak: read-only descriptor, but the memory's owner can open it again for "
		       "writing";
	else if (st.st_mode & (S_IWGRP | S_IWOTH))
		*why = "weak: read-only descriptor, but the memory's mode lets others open it for "
		       "writing";
	else
		is = true;
	if (is)
		*why = "holds: read-only descriptor, and the memory's mode does not let its user "
		       "open it again for writing; unless another peer of this user may write, or "
		       "it has CAP_DAC_OVERRIDE";
	return is;
}

json_t *describe_peer(struct hosted *hosted, const struct server_peer_info *info)
{
	const char *why;
	bool is = is_protected(hosted_region(hosted), info, &why);
	json_t *peer = json_pack("{s:s, s:i, s:I, s:I, s:i, s:s, s:b, s:s, s:o,"
				 " s:s, s:I, s:I, s:i, s:I, s:i}",
		"region", hosted_spec(hosted)->name, "id", info->id, "serial",
		(json_int_t)info->serial, "joined", (json_int_t)info->joined_ms, "vectors",
		(int)info->vectors, "access", info->read_only ? "read_only" : "read_write",
		"protected", (int)is, "protection", why, "identity",
		describe_identity(info->identity),

		"state", info->state, "queued", (json_int_t)info->queued, "sent",
		(json_int_t)info->sent, "unread", (int)info->unread, "stalled",
		(json_int_t)info->idle_ms, "descriptors", (int)info->descriptors);
	if (info->rule >= 0)
		json_object_set_new(peer, "rule", json_integer(info->rule));
	return peer;
}

json_t *describe_doorbell(const struct bell_info *bell)
{
	return json_pack("{s:s, s:i, s:I, s:i, s:I}", "region", bell->region, "id", bell->id,
		"serial", (json_int_t)bell->serial, "vector", (int)bell->vector, "seen",
		(json_int_t)bell->seen);
}

/* ---- events ---- */

json_t *describe_event(const struct hub_event *event)
{
	const struct server_news *news = event->news;
	json_t *object = json_pack("{s:s, s:I, s:s}", "event", event->what, "time",
		(json_int_t)event->time_ms, "region", event->region);
	if (!news)
		return object;
	if (news->id >= 0)
		json_object_set_new(object, "id", json_integer(news->id));
	if (news->serial != 0)
		json_object_set_new(object, "serial", json_integer((json_int_t)news->serial));
	if (news->identity)
		json_object_set_new(object, "identity", describe_identity(news->identity));
	add_text(object, "reason", news->reason);
	return object;
}

json_t *describe_notice(const char *event, uint64_t lost)
{
	json_t *object =
		json_pack("{s:s, s:I}", "event", event, "time", (json_int_t)clock_wall_ms());
	if (lost > 0)
		json_object_set_new(object, "lost", json_integer((json_int_t)lost));
	return object;
}
