/* SPDX-License-Identifier: MIT */
/* What a user may take of all servers of a process together, and what becomes of who takes more. */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include "server/users.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ALICE   1001
#define BOB     1002
#define VECTORS 8
#define EACH    (UINT64_C(1) + VECTORS) /* descriptors of a peer */
#define CROWD   60                      /* whose joins fill a socket */

static uid_t user; /* who connects */

int __real_getsockopt(int sock, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int sock, int level, int option, void *value, socklen_t *size);

int __wrap_getsockopt(int sock, int level, int option, void *value, socklen_t *size)
{
	int result = __real_getsockopt(sock, level, option, value, size);
	if (result == 0 && option == SO_PEERCRED)
		((struct ucred *)value)->uid = user;
	return result;
}

/* Two regions of one process. */
struct world {
	struct users *users;
	struct box *one, *other;
};

static void make_world(struct world *world, uint64_t descriptors, uint64_t queue_bytes)
{
	const struct users_limits limits = {descriptors, queue_bytes};

	user = ALICE;
	world->users = users_create();
	assert_non_null(world->users);
	users_set_limits(world->users, &limits);
	const struct server_config config = {
		.vectors = VECTORS, .max_peers = 200, .users = world->users};
	world->one = box_create(&config);
	world->other = box_create(&config);
	assert_true(world->one && world->other);
}

static void end_world(struct world *world)
{
	box_destroy(world->one);
	box_destroy(world->other);
	users_destroy(world->users);
}

static uint64_t descriptors_of(const struct world *world, uid_t uid)
{
	struct users_limits taken;
	users_get(world->users, uid, &taken);
	return taken.descriptors;
}

static uint64_t bytes_of(const struct world *world, uid_t uid)
{
	struct users_limits taken;
	users_get(world->users, uid, &taken);
	return taken.queue_bytes;
}

static int connect_as(struct box *box, unsigned c, uid_t uid)
{
	user = uid;
	return box_connect(box, c);
}

static void expect_refused(struct box *box, unsigned c, uid_t uid, const char *why)
{
	assert_int_equal(connect_as(box, c, uid), -EUSERS);
	box_read(box, c, 1);
	assert_int_equal(box->clients[c].refusal, WIRE_REFUSAL_UID_FULL);
	if (!strstr(box->last_warning, why))
		fail_msg("not \"%s\" but \"%s\"", why, box->last_warning);
}

static void test_descriptors_count_over_all_regions(void **state)
{
	(void)state;
	struct world world;
	make_world(&world, 3 * EACH, 0);

	assert_int_equal(connect_as(world.one, 0, ALICE), 0);
	assert_int_equal(connect_as(world.one, 1, ALICE), 0);
	assert_int_equal(connect_as(world.other, 0, ALICE), 0);
	assert_int_equal(descriptors_of(&world, ALICE), 3 * EACH);
	expect_refused(world.one, 2, ALICE, "full for this user (--max-descriptors-per-uid)");
	expect_refused(world.other, 2, ALICE, "(--max-descriptors-per-uid)");
	assert_int_equal(connect_as(world.other, 3, BOB), 0);
	assert_int_equal(descriptors_of(&world, BOB), EACH);

	box_disconnect(world.other, 0);
	box_settle(world.other);
	assert_int_equal(descriptors_of(&world, ALICE), 2 * EACH);
	assert_int_equal(connect_as(world.one, 4, ALICE), 0);

	/* Peers that are in stay. */
	const struct users_limits less = {.descriptors = 1};
	users_set_limits(world.users, &less);
	expect_refused(world.one, 5, ALICE, "(--max-descriptors-per-uid)");
	box_settle(world.one);
	assert_true(box_sees_everyone(world.one, 0));
	end_world(&world);
}

static void test_dead_doorbells_count(void **state)
{
	(void)state;
	struct world world;
	struct policy_rule rule = POLICY_RULE_INIT;
	const struct policy policy = {.rules = &rule, .n = 1};
	make_world(&world, EACH, 0);

	assert_int_equal(policy_vectors_parse("none", &rule.rings), 0);
	server_set_policy(world.one->server, &policy);
	expect_refused(world.one, 0, ALICE, "(--max-descriptors-per-uid)");
	assert_int_equal(connect_as(world.other, 0, ALICE), 0);
	end_world(&world);
}

static void test_who_failed_to_join_counts_for_nothing(void **state)
{
	(void)state;
	struct world world;
	make_world(&world, 0, 0);

	world.one->watch_fails = true;
	assert_int_equal(connect_as(world.one, 0, ALICE), -ENOMEM);
	assert_int_equal(descriptors_of(&world, ALICE), 0);
	assert_int_equal(bytes_of(&world, ALICE), 0);
	end_world(&world);
}

/* Bob joins, and he and all of Bob's before him read; client 0 does not. */
static void join_and_read(struct box *box, unsigned c)
{
	assert_int_equal(connect_as(box, c, BOB), 0);
	box_run(box);
	for (unsigned reader = 1; reader <= c; reader++)
		while (box_read(box, reader, UINT32_MAX) > 0)
			box_run(box);
}

static void fill_socket_of_client_0(struct box *box)
{
	for (unsigned c = 1; c < CROWD; c++)
		join_and_read(box, c);
}

static void wait_for_both(struct world *world, uint64_t ms)
{
	box_wait(world->one, ms);
	box_wait(world->other, ms);
}

static void test_the_slowest_goes_when_queues_are_full(void **state)
{
	(void)state;
	struct world world;
	make_world(&world, 0, 0);
	struct users *users = world.users;

	assert_int_equal(connect_as(world.one, 0, ALICE), 0);
	fill_socket_of_client_0(world.one);
	wait_for_both(&world, 100);
	assert_int_equal(connect_as(world.other, 0, ALICE), 0);
	fill_socket_of_client_0(world.other);
	uint64_t taken = bytes_of(&world, ALICE);
	assert_true(taken >= UINT64_C(320));
	assert_int_equal(bytes_of(&world, BOB), 0);

	assert_int_equal(users_run(users, world.one->now), -1);
	const struct users_limits limits = {.queue_bytes = taken - 1};
	users_set_limits(users, &limits);
	expect_refused(world.one, CROWD, ALICE, "full for this user (--max-queue-bytes-per-uid)");
	join_and_read(world.one, CROWD + 1);

	/* A second after it began to wait, and not before, and not the other one. */
	assert_int_equal(users_run(users, world.one->now), 900);
	wait_for_both(&world, 899);
	assert_int_equal(users_run(users, world.one->now), 1);
	assert_int_equal(world.one->left, 0);
	wait_for_both(&world, 1);
	assert_int_equal(users_run(users, world.one->now), 0);
	assert_int_equal(world.one->left, 1);
	assert_non_null(
		strstr(world.one->last_warning, "peer 0 left: evicted: it has read nothing"));
	assert_non_null(strstr(world.one->last_warning, "uid 1001 takes "));
	assert_non_null(strstr(world.one->last_warning, "--max-queue-bytes-per-uid"));
	assert_int_equal(users_run(users, world.one->now), -1);
	wait_for_both(&world, 5000);
	assert_int_equal(users_run(users, world.one->now), -1);
	assert_int_equal(world.other->left, 0);
	assert_true(bytes_of(&world, ALICE) < taken);
	assert_int_equal(connect_as(world.one, CROWD + 2, ALICE), 0);
	end_world(&world);
}

static void test_who_reads_a_little_stays(void **state)
{
	(void)state;
	struct world world;
	make_world(&world, 0, 1);

	assert_int_equal(connect_as(world.one, 0, ALICE), 0);
	fill_socket_of_client_0(world.one);
	assert_true(bytes_of(&world, ALICE) > 1);
	for (int i = 0; i < 10; i++) {
		wait_for_both(&world, 1000);
		box_read(world.one, 0, 1);
		(void)users_run(world.users, world.one->now);
		assert_int_equal(world.one->left, 0);
	}
	wait_for_both(&world, 1000);
	(void)users_run(world.users, world.one->now);
	assert_int_equal(world.one->left, 1);
	end_world(&world);
}

/* Nothing of it is kept: it follows from who is in. */
static void test_accounts_after_a_restart(void **state)
{
	(void)state;
	struct world world;
	char reason[160];
	make_world(&world, 3 * EACH, 0);

	assert_int_equal(box_keep(world.one), 0);
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(connect_as(world.one, c, ALICE), 0);
	box_run(world.one);
	box_halt(world.one);
	assert_int_equal(descriptors_of(&world, ALICE), 0);
	assert_int_equal(box_resume(world.one, reason), 0);
	assert_int_equal(descriptors_of(&world, ALICE), 3 * EACH);
	expect_refused(world.other, 0, ALICE, "(--max-descriptors-per-uid)");
	box_settle(world.one);
	assert_int_equal(bytes_of(&world, ALICE), 0);
	end_world(&world);
}

/* Refused, by a region in which he has nothing. */
static void knock(struct box *box, uid_t uid)
{
	assert_int_equal(connect_as(box, 0, uid), -EUSERS);
	box_disconnect(box, 0);
}

/* Who floods the log of any region does not keep lines about others out of it. */
static void test_lines_of_the_log(void **state)
{
	(void)state;
	struct world world;
	make_world(&world, 1, 0);
	struct box *box = world.one;

	box->log.level = LOG_LEVEL_INFO;
	box_run(box);
	for (unsigned i = 0; i < 50; i++) {
		knock(box, ALICE);
		knock(world.other, ALICE);
	}
	assert_in_range(box->log_lines, 5, 25);
	unsigned before = box->log_lines;
	knock(box, BOB);
	assert_int_equal(box->log_lines, before + 2);
	assert_non_null(strstr(box->last_log, "refused"));
	assert_non_null(strstr(box->last_warning, "uid 1002"));

	/* A minute later hers come again. */
	box_wait(box, 60000);
	before = box->log_lines;
	knock(box, ALICE);
	assert_true(box->log_lines > before);
	end_world(&world);
}

/* A rule would be decided on nothing, and one that denies somebody else would let it in. */
static void test_who_is_nobody_is_not_let_in_by_a_rule(void **state)
{
	(void)state;
	struct world world;
	struct policy_rule rules[2] = {POLICY_RULE_INIT, POLICY_RULE_INIT};
	const struct policy policy = {.rules = rules, .n = 2};
	make_world(&world, 0, 0);

	rules[0].access = POLICY_DENY;
	rules[0].uid = ALICE;
	assert_int_equal(connect_as(world.one, 0, (uid_t)-1), 0);
	server_set_policy(world.one->server, &policy);
	assert_int_equal(connect_as(world.one, 1, BOB), 0);
	assert_int_equal(connect_as(world.one, 2, (uid_t)-1), -EACCES);
	assert_non_null(strstr(world.one->last_warning, "it cannot be known who it is"));
	end_world(&world);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_descriptors_count_over_all_regions),
		TEST(test_dead_doorbells_count),
		TEST(test_who_failed_to_join_counts_for_nothing),
		TEST(test_the_slowest_goes_when_queues_are_full),
		TEST(test_who_reads_a_little_stays),
		TEST(test_accounts_after_a_restart),
		TEST(test_lines_of_the_log),
		TEST(test_who_is_nobody_is_not_let_in_by_a_rule),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
