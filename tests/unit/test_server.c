/* SPDX-License-Identifier: MIT */
/* The server's rules, docs/protocol.md, section 2.8. */
#include "server/ids.h"
#include "server/queue.h"

#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct box *box_of(unsigned vectors)
{
	struct box *box = box_create(&(struct server_config){.vectors = vectors});
	assert_non_null(box);
	return box;
}

static void connect_all(struct box *box, unsigned from, unsigned to)
{
	for (unsigned c = from; c < to; c++)
		assert_int_equal(box_connect(box, c), 0);
}

static void expect_no_violation(const struct box *box)
{
	for (unsigned c = 0; c < BOX_MAX_CLIENTS; c++) {
		if (box->clients[c].violation)
			fail_msg("client %u: %s", c, box->clients[c].violation);
	}
}

static void test_ids_rotate_longest_unused_first(void **state)
{
	(void)state;
	struct ids ids;
	assert_int_equal(ids_init(&ids), 0);
	assert_int_equal(ids_take(&ids), 0);
	assert_int_equal(ids_take(&ids), 1);
	ids_return(&ids, 0);
	for (int id = 2; id < 65536; id++)
		assert_int_equal(ids_take(&ids), id);
	ids_return(&ids, 77);
	assert_int_equal(ids_take(&ids), 0);
	assert_int_equal(ids_take(&ids), 77);
	assert_int_equal(ids_take(&ids), -ENOSPC);
	ids_fini(&ids);
}

static void test_untaken_id_comes_next(void **state)
{
	(void)state;
	struct ids ids;
	assert_int_equal(ids_init(&ids), 0);
	ids_untake(&ids, (uint16_t)ids_take(&ids));
	assert_int_equal(ids_take(&ids), 0);
	for (int i = 1; i < 65536; i++)
		ids_take(&ids);
	ids_return(&ids, 5);
	ids_return(&ids, 6);
	assert_int_equal(ids_take(&ids), 5);
	ids_untake(&ids, 5);
	assert_int_equal(ids_take(&ids), 5);
	assert_int_equal(ids_take(&ids), 6);
	ids_fini(&ids);
}

static unsigned released;

static void count_release(void *data, struct member *member)
{
	(void)data;
	(void)member;
	released++;
}

static void test_queue_cancels_only_what_is_not_begun(void **state)
{
	(void)state;
	struct queue queue = {0};
	struct member a = {.id = 1}, b = {.id = 2};

	released = 0;
	assert_int_equal(queue_reserve(&queue, 3), 0);
	queue_push(&queue, ENTRY_CONNECT, &a, 4);
	queue_push(&queue, ENTRY_CONNECT, &b, 4);
	assert_int_equal(queue.messages, 8);
	queue_advance(&queue, 1, 0, count_release, NULL);
	queue_cancel_gone(&queue, 1);
	assert_int_equal(queue.messages, 7); /* both are here */
	a.gone = b.gone = true;
	queue_cancel_gone(&queue, 2);
	assert_int_equal(a.pass, 0); /* a message of it is out */
	assert_int_equal(b.pass, 2);
	assert_int_equal(queue.messages, 3);
	assert_int_equal(b.mentions, 0);
	assert_int_equal(a.connects, 1);
	queue_advance(&queue, 3, 0, count_release, NULL);
	assert_int_equal(released, 1);
	assert_int_equal(a.mentions, 0);
	assert_int_equal(queue.count, 0);
	assert_null(queue.ring); /* an idle peer holds no memory */
}

static void test_queue_not_begun_means_not_a_byte(void **state)
{
	(void)state;
	struct queue queue = {0};
	struct member a = {.id = 1, .gone = true};

	assert_int_equal(queue_reserve(&queue, 1), 0);
	queue_push(&queue, ENTRY_CONNECT, &a, 2);
	queue_advance(&queue, 0, 3, count_release, NULL);
	assert_int_equal(queue.offset, 3);
	queue_cancel_gone(&queue, 1);
	assert_int_equal(a.connects, 1);
	queue_advance(&queue, 0, 2, count_release, NULL);
	assert_int_equal(queue.offset, 5);
	queue_advance(&queue, 1, 0, count_release, NULL);
	assert_int_equal(queue.offset, 0);
	queue_clear(&queue, count_release, NULL);
}

static void test_queue_under_churn_does_not_grow(void **state)
{
	(void)state;
	struct queue queue = {0};
	struct member a = {.id = 1, .gone = true};

	for (int i = 0; i < 100000; i++) {
		assert_int_equal(queue_reserve(&queue, 1), 0);
		queue_push(&queue, ENTRY_CONNECT, &a, 8);
		queue_cancel_gone(&queue, 1);
	}
	assert_int_equal(queue.messages, 0);
	assert_in_range(queue.capacity, 1, 64);
	queue_clear(&queue, count_release, NULL);
}

static void test_first_peer_is_0_and_all_see_all(void **state)
{
	(void)state;
	struct box *box = box_of(3);
	connect_all(box, 0, 20);
	box_settle(box);
	for (unsigned c = 0; c < 20; c++) {
		assert_int_equal(box->clients[c].id, c);
		assert_true(box->clients[c].region_seen);
		assert_true(box_sees_everyone(box, c));
		assert_int_equal(box->clients[c].messages, 3 + 20 * 3);
	}
	assert_true(box_rings(box, 3, 17));
	assert_true(box_rings(box, 17, 3));
	assert_int_equal(box->due, -1);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_departure_is_told_once_and_frees_the_descriptors(void **state)
{
	(void)state;
	struct box *box = box_of(2);
	connect_all(box, 0, 3);
	box_settle(box);
	int before = fdcheck_count();
	box_disconnect(box, 1);
	box_settle(box);
	/* Ours of client 1 and the server's: two ends of the socket, and vectors on every side. */
	assert_int_equal(before - fdcheck_count(), 2 + 2 + 2 + 2 + 2);
	assert_int_equal(box_sees(box, 0), 1);
	assert_int_equal(box->clients[0].messages, 3 + 3 * 2 + 1);
	connect_all(box, 1, 2);
	box_settle(box);
	assert_int_equal(box->clients[1].id, 3); /* not 1 again */
	expect_no_violation(box);
	box_destroy(box);
}

static void test_no_vectors_means_no_news(void **state)
{
	(void)state;
	struct box *box = box_of(0);
	connect_all(box, 0, 3);
	box_settle(box);
	box_disconnect(box, 0);
	box_settle(box);
	/* Clients never heard of 0, so they must not hear that it left. */
	assert_int_equal(box->clients[1].messages, 3);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_pre_2_5_has_no_version_message(void **state)
{
	(void)state;
	struct box *box =
		box_create(&(struct server_config){.vectors = 1, .format = &wire_pre_2_5});
	connect_all(box, 0, 2);
	box_settle(box);
	assert_int_equal(box->clients[1].id, 1);
	assert_int_equal(box->clients[1].messages, 2 + 2);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_sleeper_catches_up_whole(void **state)
{
	(void)state;
	struct box *box = box_of(8);
	connect_all(box, 0, 40);
	box_run(box);
	/* 40 peers x 8 vectors are more than a socket holds; client 0 reads nothing. */
	for (unsigned c = 1; c < 40; c++)
		while (box_read(box, c, UINT32_MAX) > 0)
			box_run(box);
	for (unsigned c = 1; c < 40; c++)
		assert_int_equal(box_sees(box, c), 39);
	for (int round = 0; round < 5; round++) {
		for (unsigned c = 20; c < 40; c++)
			box_disconnect(box, c);
		box_run(box);
		connect_all(box, 20, 40);
		box_run(box);
	}
	box_settle(box);
	for (unsigned c = 0; c < 40; c++)
		assert_true(box_sees_everyone(box, c));
	assert_true(box_rings(box, 0, 39));
	expect_no_violation(box);
	box_destroy(box);
}

static void test_sleeper_holds_no_descriptors_of_the_departed(void **state)
{
	(void)state;
	struct box *box = box_of(8);
	connect_all(box, 0, 1);
	box_settle(box);
	int before = fdcheck_count();
	for (int i = 0; i < 200; i++) {
		connect_all(box, 1, 2);
		box_run(box);
		box_disconnect(box, 1);
		box_run(box);
	}
	struct server_stats stats;
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.peers, 1);
	/* One connect may be half sent: its descriptors, not those of all 200. */
	assert_in_range(fdcheck_count() - before, 0, 8);
	box_settle(box);
	assert_int_equal(box_sees(box, 0), 0);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.quarantined, 0);
	expect_no_violation(box);
	box_destroy(box);
}

/* 60 peers join one by one; all but client 0 read. */
static void fill_socket_of_client_0(struct box *box)
{
	for (unsigned c = 0; c < 60; c++) {
		connect_all(box, c, c + 1);
		box_run(box);
		for (unsigned reader = 1; reader <= c; reader++)
			while (box_read(box, reader, UINT32_MAX) > 0)
				box_run(box);
	}
}

static void test_max_queue_evicts_the_sleeper_with_a_reason(void **state)
{
	(void)state;
	struct box *box = box_create(&(struct server_config){.vectors = 8, .max_queue = 100});
	struct server_stats stats;
	box->log.level = LOG_LEVEL_INFO; /* as an operator has it: joins must not hide this line */
	fill_socket_of_client_0(box);
	box_wait(box, 999);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.evictions, 0);
	box_wait(box, 1);
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.evictions, 1);
	assert_non_null(strstr(box->last_warning, "peer 0 left: evicted"));
	assert_non_null(strstr(box->last_warning, "--max-queue"));
	box_settle(box);
	assert_true(box->clients[0].ended);
	assert_int_equal(box_sees(box, 59), 58);
	expect_no_violation(box);
	box_destroy(box);
}

/* Many can join or leave at once, and who reads must not suffer for it. */
static void test_max_queue_does_not_hit_who_reads(void **state)
{
	(void)state;
	struct box *box = box_create(&(struct server_config){.vectors = 8, .max_queue = 10});
	connect_all(box, 0, 60);
	box_run(box);
	for (int i = 0; i < 100; i++) {
		for (unsigned c = 0; c < 60; c++)
			box_read(box, c, 10); /* few at a time, for ten seconds */
		box_wait(box, 100);
	}
	box_settle(box);
	for (unsigned c = 0; c < 60; c++)
		assert_true(box_sees_everyone(box, c));
	for (unsigned c = 1; c < 59; c++)
		box_disconnect(box, c);
	box_settle(box);
	assert_int_equal(box_sees(box, 0), 1);
	assert_int_equal(box_sees(box, 59), 1);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_stall_timeout_evicts_with_a_reason(void **state)
{
	(void)state;
	struct box *box =
		box_create(&(struct server_config){.vectors = 8, .stall_timeout_ms = 5000});
	fill_socket_of_client_0(box);
	assert_in_range(box->due, 1, 5000);
	box_wait(box, 4999);
	assert_int_equal(box->left, 0);
	box_wait(box, 1);
	assert_int_equal(box->left, 1);
	assert_non_null(strstr(box->last_warning, "peer 0 left: evicted"));
	assert_non_null(strstr(box->last_log, "--stall-timeout"));
	box_settle(box);
	assert_int_equal(box_sees(box, 5), 58);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_slow_progress_is_progress(void **state)
{
	(void)state;
	struct box *box =
		box_create(&(struct server_config){.vectors = 8, .stall_timeout_ms = 5000});
	fill_socket_of_client_0(box);
	for (int i = 0; i < 4; i++) {
		box_read(box, 0, 250);
		box_wait(box, 4900);
	}
	assert_int_equal(box->left, 0);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_sleeper_holds_few_descriptors_in_flight(void **state)
{
	(void)state;
	struct box *box =
		box_create(&(struct server_config){.vectors = 8, .in_flight_limit = 1024});
	fill_socket_of_client_0(box);
	/* It joined when there was room for many; what counts is how many peers there are now. */
	assert_in_range(box_read(box, 0, UINT32_MAX), 3, 80);
	box_settle(box);
	for (unsigned c = 0; c < 60; c++)
		assert_true(box_sees_everyone(box, c));
	/* Who reads gets the whole socket: the last one's 483 messages in a few turns. */
	assert_int_equal(box_connect(box, 60), 0);
	unsigned turns = 0;
	do {
		box_run(box);
		turns++;
	} while (box_read(box, 60, UINT32_MAX) > 0);
	assert_int_equal(box_sees(box, 60), 60);
	assert_in_range(turns, 2, 9);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_speaking_client_is_dropped(void **state)
{
	(void)state;
	struct box *box = box_of(1);
	connect_all(box, 0, 2);
	box_settle(box);
	assert_int_equal(write(box->clients[0].sock, "x", 1), 1);
	box_settle(box);
	assert_int_equal(box->left, 1);
	assert_non_null(strstr(box->last_log, "it sent data"));
	assert_int_equal(box_sees(box, 1), 0);
	box_destroy(box);
}

/* A byte out of band does not show on an ordinary read, and poll() would report it for ever. */
static void test_speaking_out_of_band_is_speaking(void **state)
{
	(void)state;
	struct box *box = box_of(1);
	connect_all(box, 0, 1);
	box_settle(box);
	assert_int_equal(send(box->clients[0].sock, "x", 1, MSG_OOB), 1);
	box_settle(box);
	assert_int_equal(box->left, 1);
	box_destroy(box);
}

/* What one client can make the server log is limited, whatever it does. */
static void test_a_client_cannot_flood_the_log(void **state)
{
	(void)state;
	struct box *box = box_of(1);
	box->log.level = LOG_LEVEL_INFO;
	for (int i = 0; i < 500; i++) {
		connect_all(box, 0, 1);
		assert_int_equal(write(box->clients[0].sock, "x", 1), 1);
		box_run(box);
		box_disconnect(box, 0);
	}
	assert_in_range(box->log_lines, 1, 201); /* joins and warnings, a hundred each */
	box_wait(box, 2000);
	connect_all(box, 0, 1);
	assert_non_null(strstr(box->last_log, "joined"));
	assert_in_range(box->log_lines, 3, 205);
	box_destroy(box);
}

static void test_mass_departure_of_sleepers(void **state)
{
	(void)state;
	struct box *box = box_of(2);
	connect_all(box, 0, 2);
	box_settle(box);
	connect_all(box, 2, 200); /* none of them reads */
	box_run(box);
	for (unsigned c = 2; c < 200; c++)
		box_disconnect(box, c);
	box_settle(box);
	assert_int_equal(box_sees(box, 0), 1);
	assert_int_equal(box_sees(box, 1), 1);
	struct server_stats stats;
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.quarantined, 0);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_gone_before_it_was_served(void **state)
{
	(void)state;
	struct box *box = box_of(4);
	connect_all(box, 0, 2);
	box_settle(box);
	for (int i = 0; i < 50; i++) {
		connect_all(box, 2, 3);
		box_disconnect(box, 2);
	}
	box_settle(box);
	assert_int_equal(box_sees(box, 0), 1);
	expect_no_violation(box);
	box_destroy(box);
}

static void test_refusals_say_why(void **state)
{
	(void)state;
	struct box *box = box_create(&(struct server_config){.vectors = 1, .max_peers = 2});
	connect_all(box, 0, 2);
	assert_int_equal(box_connect(box, 2), -EUSERS);
	box_settle(box);
	assert_int_equal(box->clients[2].refusal, WIRE_REFUSAL_FULL);
	assert_true(box->clients[2].ended);
	assert_int_equal(box_sees(box, 0), 1);
	box_disconnect(box, 2);
	box_disconnect(box, 1);
	box_settle(box);
	connect_all(box, 1, 2);
	box_destroy(box);

	box = box_create(&(struct server_config){.vectors = 1, .max_peers_per_uid = 1});
	connect_all(box, 0, 1);
	assert_int_equal(box_connect(box, 1), -EUSERS);
	box_settle(box);
	assert_int_equal(box->clients[1].refusal, WIRE_REFUSAL_UID_FULL);
	box_destroy(box);
}

static void test_failed_join_leaves_no_trace(void **state)
{
	(void)state;
	struct box *box = box_of(4);
	connect_all(box, 0, 2);
	box_settle(box);
	box->watch_fails = true;
	assert_int_equal(box_connect(box, 2), -ENOMEM);
	box->watch_fails = false;
	box_settle(box);
	assert_int_equal(box->clients[2].refusal, WIRE_REFUSAL_RESOURCES);
	assert_int_equal(box->clients[0].messages, 3 + 2 * 4);
	connect_all(box, 3, 4);
	box_settle(box);
	assert_int_equal(box->clients[3].id, 2); /* the ID was not used up */
	expect_no_violation(box);
	box_destroy(box);
}

static void test_farewell_tells_everyone_of_everyone(void **state)
{
	(void)state;
	struct box *box = box_of(2);
	connect_all(box, 0, 30);
	box_settle(box);
	server_farewell(box->server);
	assert_int_equal(box_connect(box, 30), -EUSERS);
	box_settle(box);
	assert_true(server_flushed(box->server));
	for (unsigned c = 0; c < 30; c++)
		assert_int_equal(box_sees(box, c), 0);
	expect_no_violation(box);
	box_destroy(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_ids_rotate_longest_unused_first),
		TEST(test_untaken_id_comes_next),
		TEST(test_queue_cancels_only_what_is_not_begun),
		TEST(test_queue_not_begun_means_not_a_byte),
		TEST(test_queue_under_churn_does_not_grow),
		TEST(test_first_peer_is_0_and_all_see_all),
		TEST(test_departure_is_told_once_and_frees_the_descriptors),
		TEST(test_no_vectors_means_no_news),
		TEST(test_pre_2_5_has_no_version_message),
		TEST(test_sleeper_catches_up_whole),
		TEST(test_sleeper_holds_no_descriptors_of_the_departed),
		TEST(test_max_queue_evicts_the_sleeper_with_a_reason),
		TEST(test_max_queue_does_not_hit_who_reads),
		TEST(test_stall_timeout_evicts_with_a_reason),
		TEST(test_slow_progress_is_progress),
		TEST(test_sleeper_holds_few_descriptors_in_flight),
		TEST(test_speaking_client_is_dropped),
		TEST(test_speaking_out_of_band_is_speaking),
		TEST(test_a_client_cannot_flood_the_log),
		TEST(test_mass_departure_of_sleepers),
		TEST(test_gone_before_it_was_served),
		TEST(test_refusals_say_why),
		TEST(test_failed_join_leaves_no_trace),
		TEST(test_farewell_tells_everyone_of_everyone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
