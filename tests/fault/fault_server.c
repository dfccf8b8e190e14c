/* SPDX-License-Identifier: MIT */
/*
 * Every system call and allocation of a join and of a departure fails once. Whatever happens to the
 * one whom it concerns, the others must be served: each client that is still connected sees exactly
 * those that are, nothing leaks, and the next client gets in.
 */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"
#include "fault.h"

#include <stdlib.h>
#include <string.h>

#define BYSTANDERS 3
#define NEWCOMER   3
#define NEXT       4

static unsigned call, armed_call, armed_fault;
static const char *failed;

/* Arm in the `armed_call`th call into the server only. */
static void arm_one_call(bool entering)
{
	if (entering) {
		if (call++ == armed_call)
			fault_arm(armed_fault);
		return;
	}
	const char *name = fault_disarm();
	if (name)
		failed = name;
}

static void expect_all_consistent(struct box *box, const char *when)
{
	box_wait(box, 100); /* what was short is there again */
	box_settle(box);
	for (unsigned c = 0; c <= NEXT; c++) {
		const struct box_client *client = &box->clients[c];
		if (client->violation)
			fail_msg(
				"%s, %s failed: client %u: %s", when, failed, c, client->violation);
		if (client->sock < 0 || client->ended)
			continue;
		if (!box_sees_everyone(box, c))
			fail_msg("%s, %s failed: client %u does not see who is there", when, failed,
				c);
		if (client->id < 0 && client->refusal == 0)
			fail_msg("%s, %s failed: client %u was left waiting", when, failed, c);
	}
}

/* One join and one departure, with the armed_fault-th call failing in the armed_call-th entry. */
static void join_and_leave(unsigned vectors, unsigned long max_queue)
{
	struct box *box =
		box_create(&(struct server_config){.vectors = vectors, .max_queue = max_queue});
	assert_non_null(box);
	for (unsigned c = 0; c < BYSTANDERS; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);

	call = 0;
	box->around = arm_one_call;
	bool joined = box_connect(box, NEWCOMER) == 0;
	box_run(box);
	box_disconnect(box, 0);
	box_run(box);
	box->around = NULL;

	expect_all_consistent(box, joined ? "joined" : "refused");
	for (unsigned c = 1; c < BYSTANDERS; c++)
		/* Only the lack of memory for its own queue may cost a bystander its place. */
		if (box->clients[c].ended && strcmp(failed, "calloc") != 0)
			fail_msg("%s failed, and client %u was thrown out", failed, c);
	assert_int_equal(box_connect(box, NEXT), 0);
	expect_all_consistent(box, "afterwards");
	box_destroy(box);
}

static void test_every_fault_in_a_join_and_a_departure(void **state)
{
	(void)state;
	unsigned faults = 0, by_calloc = 0, by_eventfd = 0, by_sendmmsg = 0;
	bool any_in_call;

	for (armed_call = 0;; armed_call++) {
		any_in_call = false;
		for (armed_fault = 1;; armed_fault++) {
			int before = fdcheck_count();
			failed = NULL;
			join_and_leave(2, 0);
			assert_int_equal(fdcheck_count(), before);
			if (!failed)
				break;
			any_in_call = true;
			faults++;
			by_calloc += strcmp(failed, "calloc") == 0;
			by_eventfd += strcmp(failed, "eventfd") == 0;
			by_sendmmsg += strcmp(failed, "sendmmsg") == 0;
		}
		if (!any_in_call && armed_call > call)
			break;
	}
	/* The sweep went where it should: otherwise this is a test that cannot fail. */
	assert_in_range(by_calloc, 3, 100);
	assert_int_equal(by_eventfd, 2);
	assert_in_range(by_sendmmsg, 2, 100);
	print_message("%u faults\n", faults);
}

static void test_creation(void **state)
{
	(void)state;
	static const struct server_ops no_ops;
	struct server_config config = {.format = &wire_current, .max_peers = 1};
	struct server *server = NULL;
	unsigned n = 0;

	do {
		fault_arm(++n);
		int result = server_create(&server, &config, -1, &no_ops, NULL, NULL);
		bool fired = fault_disarm() != NULL;
		assert_int_equal(result == 0, !fired);
		if (!fired)
			break;
	} while (n < 100);
	assert_in_range(n, 4, 10);
	server_destroy(server);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_fault_in_a_join_and_a_departure),
		TEST(test_creation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
