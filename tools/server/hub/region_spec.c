/* SPDX-License-Identifier: MIT */
#include "hub.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void region_spec_init(struct region_spec *spec)
{
	*spec = (struct region_spec){
		.socket_mode = 0600,
		.socket_uid = (uid_t)-1,
		.socket_gid = (gid_t)-1,
		.memory = {.size = UINT64_C(4) << 20,
			.reserve = REGION_DEFAULT_RESERVE,
			.numa_node = REGION_NUMA_ANY},
		.server = {.format = &wire_current, .vectors = 1, .stall_timeout_ms = 300000},
	};
}

int region_spec_default_rules(struct region_spec *spec)
{
	const uid_t users[] = {0, geteuid()};
	size_t n = users[1] == 0 ? 1 : 2;

	struct policy_rule *rules = calloc(n, sizeof(*rules));
	if (!rules)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		rules[i] = (struct policy_rule)POLICY_RULE_INIT;
		rules[i].uid = users[i];
		strcpy(rules[i].origin, "default: root and the server's own user");
	}
	free(spec->policy.rules);
	spec->policy = (struct policy){.rules = rules, .n = n};
	return 0;
}

int region_spec_copy(struct region_spec *to, const struct region_spec *from)
{
	struct policy_rule *rules = NULL;

	if (from->policy.n > 0) {
		rules = calloc(from->policy.n, sizeof(*rules));
		if (!rules)
			return -ENOMEM;
		memcpy(rules, from->policy.rules, from->policy.n * sizeof(*rules));
	}
	*to = *from;
	to->policy.rules = rules;
	to->memory.name = from->memory.kind == REGION_MEMFD ? NULL : to->memory_name;
	return 0;
}

void region_spec_fini(struct region_spec *spec)
{
	free(spec->policy.rules);
	spec->policy = (struct policy){0};
}
