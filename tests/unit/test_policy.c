/* SPDX-License-Identifier: MIT */
/* Rules against identities, as tables. */
#include "server/policy.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ANY         ((uint32_t)-1)
#define ROOM(array) (sizeof(array) / sizeof((array)[0]))

static struct identity alice(void)
{
	return (struct identity){.uid = 1000,
		.gid = 100,
		.pid = 42,
		.groups = {20, 30},
		.n_groups = 2,
		.executable = "/usr/bin/qemu-system-x86_64",
		.cgroup = "/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/emulator",
		.machine = "web",
		.label = "system_u:system_r:svirt_t:s0:c1,c2"};
}

/* How many each rule has let in: the number of the array's place. */
static unsigned joined(void *data, size_t rule)
{
	return ((const unsigned *)data)[rule];
}

static struct policy_verdict decide(struct policy_rule *rules, size_t n,
	const struct identity *identity, const unsigned *counts)
{
	static const unsigned none[8];
	const struct policy policy = {.rules = rules, .n = n};
	const struct policy_facts facts = {
		.data = (void *)(uintptr_t)(counts ? counts : none), .joined_by_rule = joined};
	struct policy_verdict verdict;

	policy_decide(&policy, identity, &facts, &verdict);
	assert_true((verdict.access == POLICY_DENY) == (verdict.reason[0] != '\0'));
	return verdict;
}

static void test_no_rules_let_everybody_in(void **state)
{
	(void)state;
	struct identity nobody = IDENTITY_INIT;
	struct policy_verdict verdict = decide(NULL, 0, &nobody, NULL);
	assert_int_equal(verdict.access, POLICY_READ_WRITE);
	assert_true(verdict.rule == SIZE_MAX);
	assert_int_equal(verdict.id, POLICY_ANY_ID);
	assert_null(verdict.rings);

	struct policy_verdict without;
	policy_decide(NULL, &nobody, NULL, &without);
	assert_int_equal(without.access, POLICY_READ_WRITE);
	assert_false(policy_reserves(NULL, 0));
}

static void test_conditions(void **state)
{
	(void)state;
	static const struct {
		uid_t uid;
		gid_t gid;
		const char *executable, *cgroup, *machine, *label;
		bool holds;
	} table[] = {
		{ANY, ANY, "", "", "", "", true},
		{1000, ANY, "", "", "", "", true},
		{0, ANY, "", "", "", "", false},
		{1001, ANY, "", "", "", "", false},
		{ANY, 100, "", "", "", "", true},
		{ANY, 30, "", "", "", "", true},
		{ANY, 0, "", "", "", "", false},
		{1000, 0, "", "", "", "", false},
		{0, 100, "", "", "", "", false},
		{ANY, ANY, "/usr/bin/qemu-system-x86_64", "", "", "", true},
		{ANY, ANY, "/usr/bin/qemu-system-*", "", "", "", true},
		{ANY, ANY, "*", "", "", "", true},
		{ANY, ANY, "/usr/bin/qemu-system-x86_6", "", "", "", false},
		{ANY, ANY, "/USR/bin/qemu-system-x86_64", "", "", "", false},
		{ANY, ANY, "/usr/bin/qemu-system-x86_6[0-4]", "", "", "", true},
		/* A star goes over slashes, and a backslash is one. */
		{ANY, ANY, "", "/machine.slice/*", "", "", true},
		{ANY, ANY, "", "/machine.slice/machine-qemu\\x2d3\\x2dweb.scope*", "", "", true},
		{ANY, ANY, "", "/machine.slice/machine-qemux2d3x2dweb.scope*", "", "", false},
		{ANY, ANY, "", "/user.slice/*", "", "", false},
		{ANY, ANY, "", "", "web", "", true},
		{ANY, ANY, "", "", "we?", "", true},
		{ANY, ANY, "", "", "we", "", false},
		{ANY, ANY, "", "", "", "*:svirt_t:*", true},
		{ANY, ANY, "", "", "", "*:svirt_t", false},
		{1000, 20, "*qemu*", "*", "web", "system*", true},
		{1000, 20, "*qemu*", "*", "db", "system*", false},
	};
	struct identity identity = alice();
	for (size_t i = 0; i < ROOM(table); i++) {
		struct policy_rule rule = POLICY_RULE_INIT;
		rule.uid = table[i].uid;
		rule.gid = table[i].gid;
		strcpy(rule.executable, table[i].executable);
		strcpy(rule.cgroup, table[i].cgroup);
		strcpy(rule.machine, table[i].machine);
		strcpy(rule.label, table[i].label);
		struct policy_verdict verdict = decide(&rule, 1, &identity, NULL);
		if ((verdict.access != POLICY_DENY) != table[i].holds)
			fail_msg("row %zu", i);
		assert_true(verdict.rule == (table[i].holds ? 0 : SIZE_MAX));
	}
}

/* A rule of a test: any user and group unless it says so. */
#define RULE(who, group, what, ...)                                                                \
	{                                                                                          \
		.uid = (who), .gid = (group), .access = (what), __VA_ARGS__                        \
	}
#define NO_ID .id = POLICY_ANY_ID

/* What could not be learnt never helps the peer. */
static void test_what_is_not_known_counts_against_the_peer(void **state)
{
	(void)state;
	static const struct policy_rule rules[] = {
		RULE(ANY, ANY, POLICY_READ_ONLY, .executable = "*"),
		RULE(ANY, ANY, POLICY_READ_ONLY, .executable = "/usr/bin/qemu*"),
		RULE(ANY, ANY, POLICY_READ_ONLY, .cgroup = "*"),
		RULE(ANY, ANY, POLICY_READ_ONLY, .machine = "*"),
		RULE(ANY, ANY, POLICY_READ_ONLY, .label = "*"),
	};
	const struct identity unknown = {.uid = 1000, .gid = 100};

	for (size_t i = 0; i < ROOM(rules); i++) {
		struct policy_rule pair[2] = {rules[i], POLICY_RULE_INIT};
		struct policy_verdict verdict = decide(pair, 1, &unknown, NULL);
		assert_int_equal(verdict.access, POLICY_DENY);
		assert_true(verdict.rule == SIZE_MAX);
		assert_string_equal(
			verdict.reason, "no rule lets it in, as far as could be learnt of it");
		pair[0].access = POLICY_DENY;
		assert_true(decide(pair, 2, &unknown, NULL).rule == 0);
	}
	/* Who is known to be in no machine is in none. */
	struct identity host = alice();
	host.machine[0] = '\0';
	struct policy_rule rule[2] = {
		RULE(ANY, ANY, POLICY_READ_ONLY, .machine = "*"), POLICY_RULE_INIT};
	assert_int_equal(decide(rule, 1, &host, NULL).access, POLICY_DENY);
	rule[0].access = POLICY_DENY;
	assert_int_equal(decide(rule, 2, &host, NULL).access, POLICY_READ_WRITE);
	/* Who has more groups than were looked at may be in any that keeps it out. */
	struct policy_rule group[2] = {RULE(ANY, 4, POLICY_READ_ONLY, NO_ID), POLICY_RULE_INIT};
	host.groups_cut = true;
	assert_int_equal(decide(group, 1, &host, NULL).access, POLICY_DENY);
	group[0].access = POLICY_DENY;
	assert_int_equal(decide(group, 2, &host, NULL).access, POLICY_DENY);
	host.groups_cut = false;
	assert_int_equal(decide(group, 2, &host, NULL).access, POLICY_READ_WRITE);
}

static void test_first_that_holds_decides(void **state)
{
	(void)state;
	struct policy_rule rules[] = {
		RULE(7, ANY, POLICY_READ_ONLY, NO_ID),
		RULE(1000, ANY, POLICY_READ_ONLY, .id = 5),
		RULE(1000, ANY, POLICY_READ_WRITE, .id = 6),
		RULE(ANY, ANY, POLICY_DENY, .origin = "regions.conf:12"),
		RULE(8, ANY, POLICY_READ_WRITE, NO_ID),
	};
	struct identity identity = alice();

	assert_int_equal(policy_vectors_parse("1", &rules[1].rings), 0);
	struct policy_verdict verdict = decide(rules, ROOM(rules), &identity, NULL);
	assert_int_equal(verdict.access, POLICY_READ_ONLY);
	assert_true(verdict.rule == 1);
	assert_int_equal(verdict.id, 5);
	assert_ptr_equal(verdict.rings, &rules[1].rings);

	rules[1].rings.all = true;
	assert_null(decide(rules, ROOM(rules), &identity, NULL).rings);

	identity.uid = 8; /* the rule that denies everybody stands above */
	verdict = decide(rules, ROOM(rules), &identity, NULL);
	assert_int_equal(verdict.access, POLICY_DENY);
	assert_true(verdict.rule == 3);
	assert_string_equal(verdict.reason, "denied by regions.conf:12");
	assert_int_equal(verdict.id, POLICY_ANY_ID);

	identity.uid = 9;
	verdict = decide(rules, 3, &identity, NULL);
	assert_true(verdict.rule == SIZE_MAX);
	assert_string_equal(verdict.reason, "no rule lets it in");
}

/* A full rule is a no: the next one, which also would hold, is not asked. */
static void test_rule_lets_in_so_many(void **state)
{
	(void)state;
	struct policy_rule rules[] = {
		RULE(1000, ANY, POLICY_READ_ONLY, .max_peers = 2, .id = 3, .origin = "a.conf:3"),
		RULE(ANY, ANY, POLICY_READ_WRITE, NO_ID),
	};
	struct identity identity = alice();

	assert_true(decide(rules, 2, &identity, (unsigned[]){1, 9}).rule == 0);
	assert_int_equal(decide(rules, 2, &identity, (unsigned[]){1, 9}).access, POLICY_READ_ONLY);
	struct policy_verdict verdict = decide(rules, 2, &identity, (unsigned[]){2, 0});
	assert_int_equal(verdict.access, POLICY_DENY);
	assert_true(verdict.rule == 0);
	assert_string_equal(verdict.reason, "a.conf:3: max-peers = 2 reached");
	assert_int_equal(verdict.id, POLICY_ANY_ID);
	/* After a reload there may be more than the limit. */
	assert_int_equal(decide(rules, 2, &identity, (unsigned[]){3, 0}).access, POLICY_DENY);
	rules[0].max_peers = POLICY_NO_LIMIT;
	assert_int_equal(
		decide(rules, 2, &identity, (unsigned[]){9999, 0}).access, POLICY_READ_ONLY);
}

static void test_longest_origin_fits_the_reason(void **state)
{
	(void)state;
	struct policy_rule rule = RULE(ANY, ANY, POLICY_READ_ONLY, .max_peers = UINT32_MAX);
	struct identity identity = alice();
	const unsigned many = UINT32_MAX;

	memset(rule.origin, 'o', sizeof(rule.origin) - 1);
	struct policy_verdict verdict = decide(&rule, 1, &identity, &many);
	assert_non_null(strstr(verdict.reason, " = 4294967295 reached"));
}

static void test_reserved_ids(void **state)
{
	(void)state;
	struct policy_rule rules[] = {
		RULE(ANY, ANY, POLICY_READ_ONLY, .id = 7),
		RULE(ANY, ANY, POLICY_READ_ONLY, .id = POLICY_ANY_ID),
		RULE(ANY, ANY, POLICY_READ_WRITE, .id = 0),
		RULE(ANY, ANY, POLICY_DENY, .id = 9),
	};
	const struct policy policy = {.rules = rules, .n = ROOM(rules)};

	assert_true(policy_reserves(&policy, 7));
	assert_true(policy_reserves(&policy, 0));
	assert_false(policy_reserves(&policy, 1));
	assert_false(policy_reserves(&policy, 9));
	assert_false(policy_reserves(&policy, POLICY_ANY_ID));
}

static void test_vectors_are_read_and_written(void **state)
{
	(void)state;
	static const struct {
		const char *text, *back;
		unsigned has, has_not;
	} table[] = {
		{"0", "0", 0, 1},
		{"0-3,7", "0-3,7", 7, 4},
		{"7,0-3", "0-3,7", 3, 6},
		{"1,2,3", "1-3", 2, 0},
		{"63,64", "63-64", 64, 65},
		{"2047", "2047", 2047, 2046},
		{"0-2047", "0-2047", 2047, 2048},
		{"007", "7", 7, 0},
		{"5-5", "5", 5, 6},
		{"1-3,2-4", "1-4", 4, 5},
	};
	struct policy_vectors vectors;
	char text[64];
	for (size_t i = 0; i < ROOM(table); i++) {
		assert_int_equal(policy_vectors_parse(table[i].text, &vectors), 0);
		policy_vectors_format(&vectors, text, sizeof(text));
		assert_string_equal(text, table[i].back);
		assert_true(policy_vectors_has(&vectors, table[i].has));
		assert_false(policy_vectors_has(&vectors, table[i].has_not));
	}
	assert_int_equal(policy_vectors_parse("all", &vectors), 0);
	assert_true(policy_vectors_has(&vectors, 2047));
	policy_vectors_format(&vectors, text, sizeof(text));
	assert_string_equal(text, "all");
	assert_int_equal(policy_vectors_parse("none", &vectors), 0);
	assert_false(policy_vectors_has(&vectors, 0));
	policy_vectors_format(&vectors, text, sizeof(text));
	assert_string_equal(text, "none");
}

static void test_bad_vectors_change_nothing(void **state)
{
	(void)state;
	static const char *const bad[] = {"", " ", "0 ", " 0", "-", "-1", "1-", "1--2", "3-1", ",",
		"1,", ",1", "1,,2", "1-2-3", "2048", "0-2048", "99999999999999999999", "4294967296",
		"0x1", "+1", "a", "all,1", "1,all", "none,1", "ALL", "1;2", "1-2,3-x", NULL};
	struct policy_vectors vectors, before;
	assert_int_equal(policy_vectors_parse("3,99", &vectors), 0);
	before = vectors;
	for (size_t i = 0; bad[i]; i++) {
		if (policy_vectors_parse(bad[i], &vectors) != -EINVAL)
			fail_msg("'%s' is taken", bad[i]);
		assert_memory_equal(&vectors, &before, sizeof(vectors));
	}
}

static void test_long_sets_are_cut(void **state)
{
	(void)state;
	struct policy_vectors vectors = {0};
	char text[64];
	for (unsigned i = 0; i < POLICY_VECTORS; i += 2)
		vectors.bits[i / 64] |= UINT64_C(1) << (i % 64);
	for (size_t size = 5; size < sizeof(text); size++) {
		memset(text, 'x', sizeof(text));
		policy_vectors_format(&vectors, text, size);
		assert_true(strlen(text) < size);
		assert_string_equal(text + strlen(text) - 3, "...");
		assert_int_equal(text[size], 'x');
	}
	policy_vectors_format(&vectors, text, 12);
	assert_string_equal(text, "0,2,4,6,...");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_rules_let_everybody_in),
		TEST(test_conditions),
		TEST(test_what_is_not_known_counts_against_the_peer),
		TEST(test_first_that_holds_decides),
		TEST(test_rule_lets_in_so_many),
		TEST(test_longest_origin_fits_the_reason),
		TEST(test_reserved_ids),
		TEST(test_vectors_are_read_and_written),
		TEST(test_bad_vectors_change_nothing),
		TEST(test_long_sets_are_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
