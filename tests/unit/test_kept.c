/* SPDX-License-Identifier: MIT */
/* What a server keeps for the next process: that one goes on as if nothing had happened, or refuses
 * as a whole and says why. What a kill does in the middle is in tests/fault/fault_kept.c. */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include "server/kept_state.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define VECTORS 2

static struct box *kept_box(const struct server_config *config)
{
	struct box *box = box_create(config);
	assert_non_null(box);
	assert_int_equal(box_keep(box), 0);
	return box;
}

static struct box *small_box(void)
{
	return kept_box(&(struct server_config){.vectors = VECTORS, .max_peers = 16});
}

static void resume(struct box *box)
{
	char reason[160];
	int error = box_resume(box, reason);
	if (error < 0)
		fail_msg("%s: %s", strerror(-error), reason);
}

static void restart(struct box *box)
{
	box_halt(box);
	resume(box);
}

/* Everybody from `first` to `last` is in and knows it, and nobody has heard anything wrong. */
static void expect_all_well(struct box *box, unsigned first, unsigned last)
{
	box_settle(box);
	for (unsigned c = first; c <= last; c++) {
		if (box->clients[c].violation)
			fail_msg("client %u: %s", c, box->clients[c].violation);
		assert_false(box->clients[c].ended);
		if (!box_sees_everyone(box, c))
			fail_msg("client %u does not see who is there", c);
		for (unsigned to = first; to <= last; to++)
			assert_true(box_rings(box, c, to) || to == c);
	}
	assert_true(box_same_order(box));
}

static void test_nobody_notices(void **state)
{
	(void)state;
	struct box *box = small_box();
	struct server_stats stats;

	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	uint64_t heard = box->clients[0].messages;
	restart(box);
	expect_all_well(box, 0, 2);
	assert_int_equal(box->clients[0].messages, heard); /* nothing was said twice */

	assert_int_equal(box_connect(box, 3), 0);
	box_disconnect(box, 0);
	restart(box);
	expect_all_well(box, 1, 3);
	assert_int_equal(box->clients[3].id, 3);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.restarts, 2);
	assert_int_equal(stats.joins, 4);
	assert_int_equal(stats.leaves, 1);
	assert_int_equal(stats.peers, 3);
	assert_int_equal(stats.quarantined, 0);
	uint64_t messages = 0;
	for (unsigned c = 0; c < 4; c++)
		messages += box->clients[c].messages;
	assert_int_equal(stats.messages, messages);
	box_destroy(box);
}

static void test_what_happened_meanwhile_follows_in_order(void **state)
{
	(void)state;
	struct box *box = small_box();

	for (unsigned c = 0; c < 4; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	box_halt(box);
	box_disconnect(box, 1);
	box_disconnect(box, 3);
	for (unsigned c = 4; c < 6; c++) { /* accepted by the keeper */
		int sock = box_new_client(box, c);
		box_hold_socket(box, c + 1, sock);
		close(sock);
	}
	resume(box);
	box_settle(box);
	for (unsigned c = 0; c < 6; c += 2) {
		assert_null(box->clients[c].violation);
		assert_int_equal(box_sees(box, c), 3);
	}
	expect_all_well(box, 4, 5);
	assert_int_equal(box->clients[4].id, 4);
	assert_int_equal(box->clients[5].id, 5);
	assert_int_equal(server_last_serial(box->server), 6);
	box_destroy(box);
}

/* A reader is stuck in the middle of a connect; its subject leaves, others come and go. */
static void stuck_reader(struct box *box)
{
	for (unsigned c = 0; c < 6; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_run(box);
	for (unsigned c = 0; c < 5; c++) {
		while (box_read(box, c, 100) > 0)
			box_run(box);
	}
}

static void test_in_the_middle_of_a_connect(void **state)
{
	(void)state;
	for (unsigned gone = 0; gone < 5; gone++) {
		struct box *box = kept_box(&(struct server_config){
			.vectors = 3, .max_peers = 16, .in_flight_limit = 16});
		stuck_reader(box);
		box_disconnect(box, gone);
		box_run(box);
		restart(box);
		assert_int_equal(box_connect(box, 6), 0);
		box_run(box);
		restart(box);
		expect_all_well(box, 5, 6);
		assert_int_equal(box_sees(box, 5), 5);
		box_destroy(box);
	}
}

static void test_ids_and_quarantine(void **state)
{
	(void)state;
	struct box *box = kept_box(
		&(struct server_config){.vectors = 3, .max_peers = 16, .in_flight_limit = 16});
	struct server_stats stats;

	stuck_reader(box);
	for (unsigned c = 0; c < 3; c++)
		box_disconnect(box, c);
	box_run(box);
	server_get_stats(box->server, &stats);
	unsigned quarantined = stats.quarantined;
	assert_true(quarantined > 0); /* the reader has heard of some, and not yet of their leave */
	restart(box);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.quarantined, quarantined);
	box_settle(box);
	restart(box);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.quarantined, 0);
	assert_int_equal(box_connect(box, 6), 0); /* not 0, 1 or 2 */
	box_settle(box);
	assert_int_equal(box->clients[6].id, 6);
	expect_all_well(box, 3, 6);
	box_destroy(box);
}

/* IDs that came back are given in that order, by the next process as well. */
static void test_order_of_reuse(void **state)
{
	(void)state;
	struct ids ids;
	uint64_t left_at[10] = {[2] = 70, [5] = 30, [9] = 50};
	uint64_t in_use[1] = {1 << 1 | 1 << 5};

	assert_int_equal(ids_init(&ids), 0);
	assert_int_equal(ids_restore(&ids, left_at, 10, in_use), 0);
	assert_int_equal(ids_take(&ids), 0);
	for (int id = 3; id < 65536; id++) {
		if (id != 5 && id != 9)
			assert_int_equal(ids_take(&ids), id);
	}
	assert_int_equal(ids_take(&ids), 9);
	assert_int_equal(ids_take(&ids), 2);
	assert_int_equal(ids_take(&ids), -ENOSPC);
	ids_fini(&ids);
}

struct seen {
	struct server_peer_info info[4];
	struct identity identity[4];
	unsigned n;
};

static bool see(void *data, const struct server_peer_info *info)
{
	struct seen *seen = data;
	seen->info[seen->n] = *info;
	seen->identity[seen->n++] = *info->identity;
	return seen->n < 4;
}

static void test_who_they_are_and_what_they_may(void **state)
{
	(void)state;
	struct policy_rule rules[2] = {POLICY_RULE_INIT, POLICY_RULE_INIT};
	struct policy policy = {.rules = rules, .n = 2};
	struct policy other = {.rules = rules + 1, .n = 1};
	struct box *box = small_box();
	struct seen before = {.n = 0}, after = {.n = 0};
	int read_only = memfd_create("read-only", MFD_CLOEXEC);

	rules[0].uid = 4242;
	rules[1].uid = getuid();
	rules[1].access = POLICY_READ_ONLY;
	assert_int_equal(policy_vectors_parse("1", &rules[1].rings), 0);
	server_set_policy(box->server, &policy);
	server_set_read_only_region(box->server, read_only);
	for (unsigned c = 0; c < 2; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	server_visit(box->server, see, &before);
	assert_int_equal(before.info[0].rule, 1);
	assert_true(before.identity[0].executable[0] == '/');

	box_halt(box);
	resume(box);
	server_set_policy(box->server, &other); /* the same rule stands elsewhere now */
	server_set_read_only_region(box->server, read_only);
	server_visit(box->server, see, &after);
	assert_int_equal(after.n, 2);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(after.info[i].serial, i + 1);
		assert_int_equal(after.info[i].joined_ms, before.info[i].joined_ms);
		assert_int_equal(after.info[i].sent, before.info[i].sent);
		assert_true(after.info[i].read_only);
		assert_int_equal(after.info[i].rule, 0);
		assert_int_equal(after.identity[i].pid, getpid());
		assert_string_equal(after.identity[i].executable, before.identity[i].executable);
	}
	/* Whoever came before may ring what he might, also of those who come now: not vector 0. */
	server_set_policy(box->server, NULL);
	assert_int_equal(box_connect(box, 2), 0);
	box_settle(box);
	assert_false(box_rings(box, 0, 2));
	assert_true(box_rings(box, 2, 0));
	box_destroy(box);
	close(read_only);
}

static void test_a_keeper_that_fails(void **state)
{
	(void)state;
	struct box *box = small_box();

	assert_int_equal(box_connect(box, 0), 0);
	box->keep_fails = true;
	assert_int_equal(box_connect(box, 1), -ENOSPC);
	box->keep_fails = false;
	assert_int_equal(box->n_held, 2);
	box_read(box, 1, 1);
	assert_int_equal(box->clients[1].refusal, WIRE_REFUSAL_FULL);
	box_disconnect(box, 1);
	restart(box);
	assert_int_equal(box_connect(box, 2), 0);
	expect_all_well(box, 2, 2);
	assert_int_equal(box->clients[2].id, 1);
	box_destroy(box);
}

/* Whoever is out sees it at once, although somebody else has his connection, too. */
static void test_a_keeper_that_does_not_let_go(void **state)
{
	(void)state;
	struct box *box = small_box();

	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	box->forget_fails = true;
	assert_int_equal(server_evict(box->server, 2, "test"), 0);
	server_set_draining(box->server, true);
	assert_int_equal(box_connect(box, 3), -EUSERS);
	int sock = box_new_client(box, 4);
	box_hold_socket(box, 5, sock);
	assert_int_equal(server_admit(box->server, sock, 5), -EUSERS);
	box_settle(box);
	for (unsigned c = 1; c < 5; c += 2)
		assert_true(box->clients[c].ended);
	assert_true(box->clients[4].ended);
	assert_true(box->n_held > 4);

	box->forget_fails = false;
	restart(box);
	assert_int_equal(box->n_held, 4);
	box_disconnect(box, 1);
	expect_all_well(box, 2, 2);
	assert_true(box_sees_everyone(box, 0));
	box_destroy(box);
}

/* The clients from `first` on read all that there is. */
static void settle_from(struct box *box, unsigned first, unsigned last)
{
	unsigned moved;
	do {
		moved = 0;
		box_run(box);
		for (unsigned c = first; c <= last; c++)
			moved += box_read(box, c, UINT32_MAX);
	} while (moved > 0);
}

/* Client `c` knows all who are there, hears no more, and then they leave. */
static int stop_and_leave(struct box *box, unsigned c, unsigned others, unsigned *next)
{
	unsigned first = *next;
	int error = box_connect(box, c);

	while (error == 0 && *next < first + others)
		error = box_connect(box, (*next)++);
	settle_from(box, c, c);
	settle_from(box, first, *next - 1);
	for (unsigned i = 0; i < 10 && error == 0; i++) { /* what fills its socket */
		error = box_connect(box, *next);
		box_run(box);
		box_disconnect(box, *next);
		box_run(box);
	}
	for (unsigned other = first; other < *next; other++)
		box_disconnect(box, other);
	box_run(box);
	return error;
}

static void test_the_table_is_full_of_the_departed(void **state)
{
	(void)state;
	struct box *box = kept_box(
		&(struct server_config){.vectors = 1, .max_peers = 24, .in_flight_limit = 16});
	struct server_stats stats;
	unsigned stopped = 0, next = 24;
	int error = 0;

	for (; stopped < 12 && error == 0; stopped++)
		error = stop_and_leave(box, stopped, 11, &next);
	assert_int_equal(error, -ENOSPC);
	assert_non_null(strstr(box->last_warning, "not everybody knows"));
	server_get_stats(box->server, &stats);
	assert_in_range(stats.quarantined, box->config.max_peers, kept_slots(&box->config));
	restart(box);
	settle_from(box, 0, stopped); /* they read on */
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.quarantined, 0);
	assert_int_equal(box_connect(box, next), 0);
	box_disconnect(box, next);
	expect_all_well(box, 0, stopped - 2);
	box_destroy(box);
}

static void test_farewell_is_the_end(void **state)
{
	(void)state;
	struct box *box = small_box();
	char reason[160];

	for (unsigned c = 0; c < 2; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	server_farewell(box->server);
	box_settle(box);
	box_halt(box);
	assert_int_equal(box->n_held, 0); /* and nobody holds anything */
	assert_int_equal(box_resume(box, reason), -ESHUTDOWN);
	assert_non_null(strstr(reason, "ending"));
	for (unsigned c = 0; c < 2; c++) {
		box_read(box, c, 100);
		assert_true(box->clients[c].ended);
	}
	box_destroy(box);
}

static void test_a_lost_connection_is_a_departure(void **state)
{
	(void)state;
	struct box *box = small_box();

	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	box_halt(box);
	for (unsigned i = 0; i < box->n_held; i++) {
		struct kept_descriptors *set = &box->held[i];
		if (set->kind == SERVER_KEPT_SOCKET && set->serial == 1) {
			close(set->fds[0]);
			free(set->fds);
			*set = box->held[--box->n_held];
		}
	}
	resume(box);
	box_settle(box);
	assert_true(box->clients[0].ended);
	expect_all_well(box, 1, 2);
	box_destroy(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nobody_notices),
		TEST(test_what_happened_meanwhile_follows_in_order),
		TEST(test_in_the_middle_of_a_connect),
		TEST(test_ids_and_quarantine),
		TEST(test_order_of_reuse),
		TEST(test_who_they_are_and_what_they_may),
		TEST(test_a_keeper_that_fails),
		TEST(test_a_keeper_that_does_not_let_go),
		TEST(test_the_table_is_full_of_the_departed),
		TEST(test_farewell_is_the_end),
		TEST(test_a_lost_connection_is_a_departure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
