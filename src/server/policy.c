/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * What is not known is never to the peer's advantage: a condition on a text that could not be
 * learnt does not hold in a rule that lets in, and does in a rule that denies. Else a process that
 * hides its facts would slip past the rule that keeps it out to a more lenient one below.
 *
 * Backslashes in patterns stand for themselves (FNM_NOESCAPE): names of control groups are full of
 * them, and are to be copied into a rule as systemd prints them.
 */
#include "server/policy.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

static bool text_holds(const char *pattern, const char *text, bool if_not_known)
{
	if (pattern[0] == '\0')
		return true;
	if (text[0] == '\0')
		return if_not_known;
	return fnmatch(pattern, text, FNM_NOESCAPE) == 0;
}

static bool rule_holds(const struct policy_rule *rule, const struct identity *who)
{
	bool denies = rule->access == POLICY_DENY;
	bool in_no_machine = who->cgroup[0] != '\0'; /* where `machine` is empty */

	if (rule->uid != (uid_t)-1 && rule->uid != who->uid)
		return false;
	if (rule->gid != (gid_t)-1 && !identity_in_group(who, rule->gid) &&
		!(denies && who->groups_cut))
		return false;
	return text_holds(rule->executable, who->executable, denies) &&
		text_holds(rule->cgroup, who->cgroup, denies) &&
		text_holds(rule->machine, who->machine, denies && !in_no_machine) &&
		text_holds(rule->label, who->label, denies);
}

/* Does the rule not hold, maybe, only because something could not be learnt? */
static bool asks_for_unknown(const struct policy_rule *rule, const struct identity *who)
{
	bool in_cgroup = rule->cgroup[0] != '\0' || rule->machine[0] != '\0';

	return (rule->executable[0] != '\0' && who->executable[0] == '\0') ||
		(in_cgroup && who->cgroup[0] == '\0') ||
		(rule->label[0] != '\0' && who->label[0] == '\0');
}

static void decide_by(const struct policy_rule *rule, size_t index,
	const struct policy_facts *facts, struct policy_verdict *verdict)
{
	verdict->rule = index;
	if (rule->access == POLICY_DENY) {
		snprintf(verdict->reason, sizeof(verdict->reason), "denied by %s", rule->origin);
		return;
	}
	if (rule->max_peers != POLICY_NO_LIMIT &&
		facts->joined_by_rule(facts->data, index) >= rule->max_peers) {
		snprintf(verdict->reason, sizeof(verdict->reason), "%s: max-peers = %u reached",
			rule->origin, rule->max_peers);
		return;
	}
	verdict->access = rule->access;
	verdict->id = rule->id;
	if (!rule->rings.all)
		verdict->rings = &rule->rings;
}

void policy_decide(const struct policy *policy, const struct identity *identity,
	const struct policy_facts *facts, struct policy_verdict *verdict)
{
	*verdict = (struct policy_verdict){
		.access = POLICY_DENY, .rule = SIZE_MAX, .id = POLICY_ANY_ID};
	if (!policy || policy->n == 0) {
		verdict->access = POLICY_READ_WRITE;
		return;
	}
	bool in_doubt = false;
	for (size_t i = 0; i < policy->n; i++) {
		if (rule_holds(&policy->rules[i], identity)) {
			decide_by(&policy->rules[i], i, facts, verdict);
			return;
		}
		in_doubt = in_doubt || asks_for_unknown(&policy->rules[i], identity);
	}
	snprintf(verdict->reason, sizeof(verdict->reason), "no rule lets it in%s",
		in_doubt ? ", as far as could be learnt of it" : "");
}

bool policy_reserves(const struct policy *policy, int id)
{
	for (size_t i = 0; policy && i < policy->n; i++) {
		if (policy->rules[i].access != POLICY_DENY && policy->rules[i].id == id)
			return id != POLICY_ANY_ID;
	}
	return false;
}

/*
 * Sets of vectors
 */

static bool bit(const struct policy_vectors *vectors, unsigned vector)
{
	return vectors->bits[vector / 64] >> (vector % 64) & 1;
}

bool policy_vectors_has(const struct policy_vectors *vectors, unsigned vector)
{
	return vectors->all || (vector < POLICY_VECTORS && bit(vectors, vector));
}

/* A decimal number of a vector at *text, which moves behind it; -EINVAL. */
static int parse_vector(const char **text)
{
	const char *at = *text;
	int number = 0;

	for (; *at >= '0' && *at <= '9'; at++) {
		number = number * 10 + (*at - '0');
		if (number >= POLICY_VECTORS)
			return -EINVAL;
	}
	if (at == *text)
		return -EINVAL;
	*text = at;
	return number;
}

int policy_vectors_parse(const char *text, struct policy_vectors *vectors)
{
	struct policy_vectors parsed = {.all = strcmp(text, "all") == 0};

	if (!parsed.all && strcmp(text, "none") != 0) {
		do {
			int first = parse_vector(&text);
			int last = first;
			if (*text == '-') {
				text++;
				last = parse_vector(&text);
			}
			if (first < 0 || last < first)
				return -EINVAL;
			for (int i = first; i <= last; i++)
				parsed.bits[i / 64] |= UINT64_C(1) << (i % 64);
		} while (*text++ == ',');
		if (text[-1] != '\0')
			return -EINVAL;
	}
	*vectors = parsed;
	return 0;
}

/* Append to what is in `text`; false, with nothing changed, if "..." would not fit behind it. */
static bool append_range(char *text, size_t size, unsigned first, unsigned last)
{
	char range[16];
	size_t used = strlen(text);
	const char *comma = used > 0 ? "," : "";

	if (first == last)
		snprintf(range, sizeof(range), "%s%u", comma, first);
	else
		snprintf(range, sizeof(range), "%s%u-%u", comma, first, last);
	if (used + strlen(range) + sizeof(",...") > size)
		return false;
	memcpy(text + used, range, strlen(range) + 1);
	return true;
}

void policy_vectors_format(const struct policy_vectors *vectors, char *text, size_t size)
{
	text[0] = '\0';
	for (unsigned first = 0; first < POLICY_VECTORS && !vectors->all; first++) {
		if (!bit(vectors, first))
			continue;
		unsigned last = first;
		while (last + 1 < POLICY_VECTORS && bit(vectors, last + 1))
			last++;
		if (!append_range(text, size, first, last)) {
			snprintf(text + strlen(text), size - strlen(text), "%s...",
				text[0] != '\0' ? "," : "");
			return;
		}
		first = last;
	}
	if (text[0] == '\0')
		snprintf(text, size, "%s", vectors->all ? "all" : "none");
}
