/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Rules can be replaced while peers are in, here or by the next process, and each peer counts for
 * the rule that let it in. So that rule must be found among the new ones, where it may stand at
 * another place: it is the one with the same conditions, and has the same key.
 */
#include "server/internal.h"

#include <string.h>

/* FNV-1a */
static uint64_t hash(uint64_t key, const void *data, size_t size)
{
	const uint8_t *bytes = data;

	for (size_t i = 0; i < size; i++)
		key = (key ^ bytes[i]) * UINT64_C(0x100000001b3);
	return key;
}

uint64_t server_rule_key(const struct policy_rule *rule)
{
	uint64_t key = UINT64_C(0xcbf29ce484222325);
	const char *const texts[] = {rule->executable, rule->cgroup, rule->machine, rule->label};

	key = hash(key, &rule->uid, sizeof(rule->uid));
	key = hash(key, &rule->gid, sizeof(rule->gid));
	key = hash(key, &rule->access, sizeof(rule->access));
	key = hash(key, &rule->id, sizeof(rule->id));
	for (unsigned i = 0; i < 4; i++)
		key = hash(key, texts[i], strlen(texts[i]) + 1);
	return key;
}

int server_find_rule(const struct server *server, int was_at, uint64_t key)
{
	const struct policy *policy = server->policy;
	size_t n = policy ? policy->n : 0;

	if (was_at >= 0 && (size_t)was_at < n && server_rule_key(&policy->rules[was_at]) == key)
		return was_at;
	for (size_t i = 0; i < n; i++) {
		if (server_rule_key(&policy->rules[i]) == key)
			return (int)i;
	}
	return -1;
}

void server_set_policy(struct server *server, const struct policy *policy)
{
	server->policy = policy;
	server->ids.policy = policy;
	list_for_each (node, &server->peers) {
		struct server_peer *peer = container_of(node, struct server_peer, link);
		peer->rule = server_find_rule(server, peer->rule, peer->rule_key);
	}
}

void server_set_read_only_region(struct server *server, int fd)
{
	server->read_only_fd = fd;
}

void server_set_draining(struct server *server, bool draining)
{
	server->draining = draining;
}

bool server_draining(const struct server *server)
{
	return server->draining;
}
