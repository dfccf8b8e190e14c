/* SPDX-License-Identifier: MIT */
/*
 * Every system call and allocation of a take-over fails once: either nothing has been taken over,
 * and the next attempt works, or somebody lost his place and nobody else noticed.
 */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"
#include "fault.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS    4
#define NEWCOMER 4

static unsigned armed_fault;
static const char *failed;

static void arm(bool entering)
{
	if (entering)
		fault_arm(armed_fault);
	else
		failed = fault_disarm();
}

/* Three are in, one of them may ring nothing, one is stuck; one has gone, one waits to come in. */
static struct box *set_up(const struct policy *policy)
{
	struct box *box = box_create(
		&(struct server_config){.vectors = 2, .max_peers = 8, .in_flight_limit = 16});

	assert_non_null(box);
	assert_int_equal(box_keep(box), 0);
	for (unsigned c = 0; c < PEERS; c++) {
		server_set_policy(box->server, c == 1 ? policy : NULL);
		assert_int_equal(box_connect(box, c), 0);
		box_run(box);
		for (unsigned reader = 0; reader < 3; reader++) {
			while (box_read(box, reader, 100) > 0)
				box_run(box);
		}
	}
	box_disconnect(box, 0);
	box_run(box);
	box_halt(box);
	int sock = box_new_client(box, NEWCOMER);
	box_hold_socket(box, NEWCOMER + 1, sock);
	close(sock);
	return box;
}

static void expect_all_well(struct box *box)
{
	unsigned ended = 0;

	box_wait(box, 100);
	box_settle(box);
	for (unsigned c = 1; c <= NEWCOMER; c++) {
		const struct box_client *client = &box->clients[c];
		if (client->violation)
			fail_msg("%s failed: client %u: %s", failed, c, client->violation);
		ended += client->ended;
		if (!client->ended && !box_sees_everyone(box, c))
			fail_msg("%s failed: client %u does not see who is there", failed, c);
	}
	if (ended > 1)
		fail_msg("%s failed: %u clients were thrown out", failed, ended);
}

static void test_every_fault_in_a_take_over(void **state)
{
	(void)state;
	struct policy_rule rule = POLICY_RULE_INIT;
	const struct policy policy = {.rules = &rule, .n = 1};
	unsigned refused = 0, survived = 0;

	assert_int_equal(policy_vectors_parse("none", &rule.rings), 0);
	for (armed_fault = 1;; armed_fault++) {
		char reason[160];
		int before = fdcheck_count();
		struct box *box = set_up(&policy);

		box->around = arm;
		int error = box_resume(box, reason);
		box->around = NULL;
		const char *name = failed;
		if (error < 0) {
			refused++;
			assert_non_null(name);
			assert_true(reason[0] != '\0');
			box_halt(box);
			assert_int_equal(box_resume(box, reason), 0);
		} else {
			survived += name != NULL;
		}
		expect_all_well(box);
		box_destroy(box);
		assert_int_equal(fdcheck_count(), before);
		if (!name)
			break;
	}
	/* The sweep went where it should. */
	assert_true(refused >= 15 && survived >= 5);
	print_message("%u refused, %u survived\n", refused, survived);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_fault_in_a_take_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
