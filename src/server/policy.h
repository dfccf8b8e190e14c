/* SPDX-License-Identifier: MIT */
/*
 * policy - rules that say who may join a region, and as what. Pure: identity, rules and what the
 * server knows go in, a verdict comes out.
 *
 * Rules are looked at in order; the first whose conditions all hold decides. If none does, the
 * answer is no. A list without rules (n == 0) lets everybody in who can connect, as QEMU's contrib
 * server does: the permission of the socket decides.
 */
#ifndef SERVER_POLICY_H
#define SERVER_POLICY_H

#include "server/identity.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum policy_access {
	POLICY_DENY,
	POLICY_READ_WRITE,
	POLICY_READ_ONLY, /* the descriptor of the region that it gets is read-only */
};

#define POLICY_ANY_ID   (-1) /* next free ID */
#define POLICY_TEXT     128  /* bytes of a condition's text, with its final zero */
#define POLICY_VECTORS  2048
#define POLICY_BITS(n)  (((n) + 63) / 64)
#define POLICY_NO_LIMIT 0

/* A set of vectors; `all` true: every vector, and the bits do not count. */
struct policy_vectors {
	bool all;
	uint64_t bits[POLICY_BITS(POLICY_VECTORS)];
};

/* Conditions that are not given ("" or -1) always hold. Texts are shell patterns as fnmatch(3) with
 * FNM_NOESCAPE: '*' matches '/' too, '\' is itself, "[*]" is a star. A condition on what could not
 * be learnt of the peer does not hold, but in a rule that denies it does. */
struct policy_rule {
	uid_t uid; /* (uid_t)-1: any */
	gid_t gid; /* of the process or one of its groups; (gid_t)-1: any */
	char executable[POLICY_TEXT], cgroup[POLICY_TEXT], machine[POLICY_TEXT], label[POLICY_TEXT];

	enum policy_access access;
	unsigned max_peers;          /* that this rule has let in, at a time; POLICY_NO_LIMIT */
	int id;                      /* reserved for whom this rule lets in, or POLICY_ANY_ID */
	struct policy_vectors rings; /* vectors of others that it may ring */
	char origin[POLICY_TEXT];    /* where the rule stands, for messages: "FILE:LINE" */
};

#define POLICY_RULE_INIT                                                                           \
	{                                                                                          \
		.uid = (uid_t)-1, .gid = (gid_t)-1, .access = POLICY_READ_WRITE,                   \
		.id = POLICY_ANY_ID, .rings = {                                                    \
			.all = true                                                                \
		}                                                                                  \
	}

struct policy {
	struct policy_rule *rules;
	size_t n;
};

/* What the server knows that rules ask for. */
struct policy_facts {
	void *data;
	/* How many peers that `rule` (its index) has let in are connected. */
	unsigned (*joined_by_rule)(void *data, size_t rule);
};

struct policy_verdict {
	enum policy_access access;
	size_t rule;                        /* that decided; SIZE_MAX: none did, or no rules */
	int id;                             /* to be given, or POLICY_ANY_ID */
	const struct policy_vectors *rings; /* NULL: all; borrowed from the rule */
	char reason[160];                   /* why not, when access is POLICY_DENY; else "" */
};

/* `policy` NULL: no rules. */
void policy_decide(const struct policy *policy, const struct identity *identity,
	const struct policy_facts *facts, struct policy_verdict *verdict);

/* Is this ID reserved by a rule, so that nobody else gets it? */
bool policy_reserves(const struct policy *policy, int id);

bool policy_vectors_has(const struct policy_vectors *vectors, unsigned vector);

/* "all", "none" or "0-3,7": 0, or -EINVAL. And back, for people: cut with "..." if too long. */
int policy_vectors_parse(const char *text, struct policy_vectors *vectors);
void policy_vectors_format(const struct policy_vectors *vectors, char *text, size_t size);

#endif
