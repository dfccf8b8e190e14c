/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Peers that are in have been promised a size, a number of vectors, a protocol
 * and their memory; none of that can change under them. Rules and limits hold for those who come.
 */
#include "hosted.h"
#include "keeping.h"

#include "base/uuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What of a region differs and cannot change, or NULL. */
static const char *what_is_fixed(const struct region_spec *now, const struct region_spec *wanted)
{
	const struct region_config *a = &now->memory, *b = &wanted->memory;

	if (a->kind != b->kind || strcmp(now->memory_name, wanted->memory_name) != 0)
		return "memory";
	if (region_round_size(a->size) != region_round_size(b->size) ||
		(a->size == 0) != (b->size == 0))
		return "size";
	if (now->server.vectors != wanted->server.vectors)
		return "vectors";
	if (now->server.format != wanted->server.format)
		return "protocol";
	if (strcmp(now->socket_path, wanted->socket_path) != 0)
		return "socket";
	if (a->huge_page != b->huge_page)
		return "huge-pages";
	if (a->numa_node != b->numa_node)
		return "numa-node";
	if (a->mode != b->mode || a->reuse != b->reuse || a->no_prealloc != b->no_prealloc)
		return "the kind of memory";
	if (now->header != wanted->header)
		return "header";
	if (!uuid_is_nil(wanted->uuid) && memcmp(now->uuid, wanted->uuid, sizeof(now->uuid)) != 0)
		return "uuid";
	return NULL;
}

bool hosted_can_become(
	const struct hosted *hosted, const struct region_spec *spec, const char **fixed)
{
	*fixed = what_is_fixed(&hosted->spec, spec);
	return *fixed == NULL;
}

static int check_limits(const struct hosted *hosted, const struct region_spec *spec, char *reason)
{
	unsigned max_peers = spec->server.max_peers;

	if (!spec->max_peers_given)
		return 0;
	if (hosted->state && max_peers > hosted->life.state_peers) {
		snprintf(reason, REASON_SIZE,
			"max-peers of region %s: what is kept of it has room for %u: remove the "
			"region and create it anew",
			spec->name, hosted->life.state_peers);
		return -EBUSY;
	}
	if (!descriptors_allow(&hosted->hub->descriptors, &hosted->spec, max_peers)) {
		snprintf(reason, REASON_SIZE,
			"max-peers %u of region %s: there are not as many descriptors left: raise "
			"their limit (ulimit -n, LimitNOFILE=)",
			max_peers, spec->name);
		return -ENOSPC;
	}
	return 0;
}

static int change_socket(struct hosted *hosted, const struct region_spec *spec, char *reason)
{
	const struct region_spec *now = &hosted->spec;

	if (now->socket_mode == spec->socket_mode && now->socket_uid == spec->socket_uid &&
		now->socket_gid == spec->socket_gid)
		return 0;
	int error = listener_permit(
		&hosted->listener, spec->socket_mode, spec->socket_uid, spec->socket_gid);
	if (error < 0)
		snprintf(reason, REASON_SIZE, "cannot change the permission of %s: %s",
			now->socket_path, strerror(-error));
	return error;
}

/* All that can change; nothing can fail any more. */
static void take_over(struct hosted *hosted, struct region_spec *spec)
{
	struct region_spec *now = &hosted->spec;
	struct descriptors *descriptors = &hosted->hub->descriptors;
	struct policy old = now->policy;

	descriptors_release(descriptors, now);
	now->server.max_peers = spec->server.max_peers;
	now->max_peers_given = spec->max_peers_given;
	descriptors_claim_again(descriptors, now);
	now->server.max_peers_per_uid = spec->server.max_peers_per_uid;
	now->server.max_queue = spec->server.max_queue;
	now->server.stall_timeout_ms = spec->server.stall_timeout_ms;
	now->zero_on_last_leave = spec->zero_on_last_leave;
	now->socket_mode = spec->socket_mode;
	now->socket_uid = spec->socket_uid;
	now->socket_gid = spec->socket_gid;
	now->from_file = spec->from_file;
	now->policy = spec->policy;
	spec->policy = (struct policy){0};
	server_set_limits(hosted->server, &now->server);
	server_set_policy(hosted->server, &now->policy);
	free(old.rules);
	hosted_touch(hosted);
	keeping_save(hosted);
}

/* Is there nothing to change? What is not said stays as it is. */
static bool is_same(const struct hosted *hosted, struct region_spec *spec)
{
	if (!spec->max_peers_given)
		spec->server.max_peers = hosted->spec.server.max_peers;
	if (uuid_is_nil(spec->uuid))
		memcpy(spec->uuid, hosted->spec.uuid, sizeof(spec->uuid));
	char *now = saved_write(&hosted->spec, &hosted->life);
	char *wanted = saved_write(spec, &hosted->life);
	bool same = now && wanted && strcmp(now, wanted) == 0;
	free(now);
	free(wanted);
	return same;
}

int hub_update(struct hosted *hosted, const struct region_spec *spec, char *reason)
{
	struct region_spec copy;
	const char *fixed;

	if (!hosted_can_become(hosted, spec, &fixed)) {
		snprintf(reason, REASON_SIZE,
			"%s of region %s cannot change: remove the region and create it anew",
			fixed, spec->name);
		return -EBUSY;
	}
	if (region_spec_copy(&copy, spec) < 0) {
		snprintf(reason, REASON_SIZE, "out of memory");
		return -ENOMEM;
	}
	if (is_same(hosted, &copy)) {
		region_spec_fini(&copy);
		return 0;
	}
	int error = check_limits(hosted, spec, reason);
	if (error == 0)
		error = change_socket(hosted, spec, reason);
	if (error == 0)
		take_over(hosted, &copy);
	region_spec_fini(&copy);
	return error;
}
