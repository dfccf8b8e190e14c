/* SPDX-License-Identifier: MIT */
/* Who is let in as what, who is taken out again, and what is said of it. */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include "base/fdpass.h"
#include "server/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define VECTORS 3

static struct box *make_box(void)
{
	struct box *box = box_create(&(struct server_config){.vectors = VECTORS, .max_peers = 20});
	assert_non_null(box);
	return box;
}

/* One rule, for this user. */
struct one_rule {
	struct policy_rule rule;
	struct policy policy;
};

static struct policy_rule *use_rule(struct box *box, struct one_rule *one)
{
	one->rule = (struct policy_rule)POLICY_RULE_INIT;
	one->rule.uid = getuid();
	snprintf(one->rule.origin, sizeof(one->rule.origin), "test:1");
	one->policy = (struct policy){.rules = &one->rule, .n = 1};
	server_set_policy(box->server, &one->policy);
	return &one->rule;
}

static void expect_refused(struct box *box, unsigned c, int error, int64_t code, const char *why)
{
	assert_int_equal(box_connect(box, c), error);
	box_read(box, c, 1);
	assert_int_equal(box->clients[c].refusal, code);
	if (!strstr(box->last_warning, why))
		fail_msg("not \"%s\" but \"%s\"", why, box->last_warning);
}

static void test_denied_is_one_line_with_who_and_why(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct one_rule one;
	char who[64], executable[200];

	use_rule(box, &one)->access = POLICY_DENY;
	unsigned lines = box->log_lines;
	expect_refused(box, 0, -EACCES, WIRE_REFUSAL_RULES, ": denied by test:1");
	assert_int_equal(box->log_lines, lines + 1);
	snprintf(who, sizeof(who), "refused pid %d, uid %u (", (int)getpid(), (unsigned)getuid());
	assert_non_null(strstr(box->last_warning, who));
	ssize_t length = readlink("/proc/self/exe", executable, sizeof(executable) - 1);
	assert_true(length > 0);
	executable[length] = '\0';
	assert_non_null(strstr(box->last_warning, executable));
	one.rule.uid++;
	expect_refused(box, 1, -EACCES, WIRE_REFUSAL_RULES, "no rule lets it in");
	box_destroy(box);
}

/* Count those who came by a rule, also when it stands elsewhere. */
static void test_limit_of_a_rule(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct one_rule one;
	struct policy_rule moved[2];
	const struct policy other = {.rules = moved, .n = 2};

	use_rule(box, &one)->max_peers = 2;
	assert_int_equal(box_connect(box, 0), 0);
	assert_int_equal(box_connect(box, 1), 0);
	expect_refused(box, 2, -EACCES, WIRE_REFUSAL_RULES, "max-peers = 2");
	moved[0] = moved[1] = one.rule;
	moved[0].uid++;
	moved[1].max_peers = 3;
	server_set_policy(box->server, &other);
	assert_int_equal(box_connect(box, 3), 0);
	expect_refused(box, 4, -EACCES, WIRE_REFUSAL_RULES, "max-peers = 3");
	box_disconnect(box, 0);
	box_run(box);
	assert_int_equal(box_connect(box, 5), 0);
	box_destroy(box);
}

static void test_a_reserved_id_is_for_nobody_else(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct policy_rule rules[2] = {POLICY_RULE_INIT, POLICY_RULE_INIT};
	const struct policy policy = {.rules = rules, .n = 2};

	rules[0].uid = getuid() + 1;
	rules[0].id = 1;
	server_set_policy(box->server, &policy);
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_settle(box);
	assert_int_equal(box->clients[0].id, 0);
	assert_int_equal(box->clients[1].id, 2);
	assert_int_equal(box->clients[2].id, 3);

	rules[0].uid = getuid();
	assert_int_equal(box_connect(box, 3), 0);
	box_settle(box);
	assert_int_equal(box->clients[3].id, 1);
	assert_true(box_sees_everyone(box, 0) && box_sees_everyone(box, 3));
	expect_refused(box, 4, -EBUSY, WIRE_REFUSAL_FULL, "its ID 1 is in use");
	box_destroy(box);
}

/* QEMU uses freed memory when an ID comes back that it has seen leave. */
static void test_a_reserved_id_comes_back_when_nobody_remembers(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct one_rule one;

	for (unsigned c = 0; c < 2; c++)
		assert_int_equal(box_connect(box, c), 0);
	use_rule(box, &one)->id = 40;
	assert_int_equal(box_connect(box, 2), 0);
	box_settle(box);
	assert_int_equal(box->clients[2].id, 40);
	box_disconnect(box, 2);
	box_settle(box);
	expect_refused(box, 3, -EBUSY, WIRE_REFUSAL_FULL, "cannot be given again while peer 0 is");
	box_disconnect(box, 0);
	box_settle(box);
	server_set_policy(box->server, NULL);
	assert_int_equal(box_connect(box, 4), 0); /* it has seen nothing */
	server_set_policy(box->server, &one.policy);
	expect_refused(box, 5, -EBUSY, WIRE_REFUSAL_FULL, "cannot be given again while peer 1 is");
	box_disconnect(box, 1);
	box_settle(box);
	assert_int_equal(box_connect(box, 6), 0);
	box_settle(box);
	assert_int_equal(box->clients[6].id, 40);
	assert_true(box_sees_everyone(box, 4));
	box_destroy(box);
}

static void test_ids_by_number(void **state)
{
	(void)state;
	struct ids ids;

	assert_int_equal(ids_init(&ids), 0);
	assert_int_equal(ids_take_exactly(&ids, 1), 0);
	assert_int_equal(ids_take_exactly(&ids, 1), -EBUSY);
	assert_int_equal(ids_take(&ids), 0);
	assert_int_equal(ids_take(&ids), 2);
	assert_int_equal(ids_take_exactly(&ids, 2), -EBUSY);
	ids_return(&ids, 1);
	ids_return(&ids, 2);
	ids_return(&ids, 0);
	assert_int_equal(ids_take_exactly(&ids, 2), 0);
	ids_return(&ids, 2);
	assert_int_equal(ids_take_exactly(&ids, 0), 0);
	assert_int_equal(ids_take_exactly(&ids, 65535), 0);
	ids_return(&ids, 65535);
	for (int id = 3; id < 65535; id++)
		assert_int_equal(ids_take(&ids), id);
	assert_int_equal(ids_take(&ids), 1); /* of those that came back, in that order */
	assert_int_equal(ids_take(&ids), 2);
	assert_int_equal(ids_take(&ids), 65535);
	assert_int_equal(ids_take(&ids), -ENOSPC);
	ids_fini(&ids);
}

static void test_vectors_that_may_not_be_rung(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct one_rule one;

	assert_int_equal(box_connect(box, 0), 0);
	assert_int_equal(policy_vectors_parse("1-2", &use_rule(box, &one)->rings), 0);
	assert_int_equal(box_connect(box, 1), 0);
	server_set_policy(box->server, NULL);
	assert_int_equal(box_connect(box, 2), 0);
	box_settle(box);
	for (unsigned c = 0; c < 3; c++)
		assert_true(box_sees_everyone(box, c)); /* with all vectors */
	assert_false(box_rings(box, 1, 0));
	assert_false(box_rings(box, 1, 2));
	assert_true(box_rings(box, 0, 1) && box_rings(box, 2, 0));
	box_destroy(box);

	box = make_box();
	assert_int_equal(policy_vectors_parse("0", &use_rule(box, &one)->rings), 0);
	assert_int_equal(box_connect(box, 0), 0);
	assert_int_equal(box_connect(box, 1), 0);
	box_settle(box);
	assert_true(box_rings(box, 0, 1) && box_rings(box, 1, 0));
	box_destroy(box);
}

/* The third message has the descriptor of the region. */
static ino_t region_of(struct box *box, unsigned c)
{
	struct stat st = {0};

	for (unsigned i = 0; i < 3; i++) {
		uint8_t bytes[8];
		int fds[FDPASS_RECV_MAX];
		size_t n;
		assert_int_equal(fdpass_recv(box->clients[c].sock, bytes, 8, fds, &n), 8);
		if (n == 1) {
			fstat(fds[0], &st);
			close(fds[0]);
		}
	}
	return st.st_ino;
}

static void test_read_only_is_another_descriptor(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct one_rule one;
	struct stat st, own;
	int read_only = memfd_create("read-only", MFD_CLOEXEC);

	fstat(read_only, &st);
	fstat(box->region_fd, &own);
	use_rule(box, &one)->access = POLICY_READ_ONLY;
	expect_refused(box, 0, -EACCES, WIRE_REFUSAL_RULES, "may read only");
	server_set_read_only_region(box->server, read_only);
	assert_int_equal(box_connect(box, 1), 0);
	one.rule.access = POLICY_READ_WRITE;
	assert_int_equal(box_connect(box, 2), 0);
	box_run(box);
	assert_true(region_of(box, 1) == st.st_ino);
	assert_true(region_of(box, 2) == own.st_ino);
	box_destroy(box);
	close(read_only);
}

static void test_draining(void **state)
{
	(void)state;
	struct box *box = make_box();

	assert_int_equal(box_connect(box, 0), 0);
	server_set_draining(box->server, true);
	assert_true(server_draining(box->server));
	expect_refused(box, 1, -EUSERS, WIRE_REFUSAL_FULL, "drained");
	server_set_draining(box->server, false);
	assert_int_equal(box_connect(box, 2), 0);
	box_settle(box);
	assert_true(box_sees_everyone(box, 0));
	box_destroy(box);
}

struct heard {
	struct server_news news[8];
	char reasons[8][100];
	unsigned n;
};

static void hear(void *data, const struct server_news *news)
{
	struct heard *heard = data;
	assert_int_equal(news->identity->pid, getpid());
	assert_true(news->identity->executable[0] == '/');
	snprintf(heard->reasons[heard->n], sizeof(heard->reasons[0]), "%s", news->reason);
	heard->news[heard->n++] = *news;
}

static void test_evicted_and_watched(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct server_stats stats;
	struct heard heard = {.n = 0};

	server_set_watcher(box->server, hear, &heard);
	server_set_curious(box->server, true);
	for (unsigned c = 0; c < 3; c++)
		assert_int_equal(box_connect(box, c), 0);
	assert_int_equal(server_evict(box->server, 77, "x"), -ENOENT);
	assert_int_equal(server_evict(box->server, 2, "by the operator"), 0);
	assert_int_equal(server_evict(box->server, 2, "twice"), -ENOENT);
	server_set_draining(box->server, true);
	assert_int_equal(box_connect(box, 3), -EUSERS);
	box_settle(box);
	assert_true(box->clients[1].ended);
	assert_true(box_sees_everyone(box, 0) && box_sees_everyone(box, 2));
	server_get_stats(box->server, &stats);
	assert_int_equal(stats.evictions, 1);
	assert_int_equal(stats.leaves, 1);

	assert_int_equal(heard.n, 5);
	assert_int_equal(heard.news[2].event, SERVER_JOINED);
	assert_int_equal(heard.news[2].serial, 3);
	assert_int_equal(heard.news[2].id, 2);
	assert_int_equal(heard.news[3].event, SERVER_LEFT);
	assert_int_equal(heard.news[3].serial, 2);
	assert_string_equal(heard.reasons[3], "evicted: by the operator");
	assert_int_equal(heard.news[4].event, SERVER_REFUSED);
	assert_int_equal(heard.news[4].id, -1);
	server_set_watcher(box->server, NULL, NULL);
	box_disconnect(box, 0);
	box_settle(box);
	assert_int_equal(heard.n, 5);
	box_destroy(box);
}

struct seen {
	struct server_peer_info info[3];
	char executable[IDENTITY_TEXT];
	unsigned n;
};

static bool see(void *data, const struct server_peer_info *info)
{
	struct seen *seen = data;
	snprintf(seen->executable, sizeof(seen->executable), "%s", info->identity->executable);
	seen->info[seen->n++] = *info;
	return seen->n < 3;
}

struct vectors {
	unsigned n;
	int id, fd; /* of the second vector of the last one that was seen */
};

static bool see_vectors(void *data, uint64_t serial, int id, const int *fds, unsigned n)
{
	struct vectors *vectors = data;
	assert_int_equal(n, VECTORS);
	assert_int_equal(serial, id + 1);
	*vectors = (struct vectors){.n = vectors->n + 1, .id = id, .fd = fds[1]};
	return vectors->n < 2;
}

static void test_looking_inside(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct seen seen = {.n = 0};
	struct stat st, own;

	for (unsigned c = 0; c < 4; c++)
		assert_int_equal(box_connect(box, c), 0);
	box_run(box);
	server_visit(box->server, see, &seen);
	assert_int_equal(seen.n, 3); /* no more were wanted */
	for (unsigned i = 0; i < 3; i++) {
		const struct server_peer_info *info = &seen.info[i];
		assert_int_equal(info->id, i);
		assert_int_equal(info->serial, i + 1);
		assert_int_equal(info->vectors, VECTORS);
		assert_int_equal(info->rule, -1);
		assert_int_equal(info->descriptors, 1 + VECTORS);
		assert_int_equal(info->queued, 0);
		assert_int_equal(info->sent, 3 + 4 * VECTORS);
		assert_true(info->unread > 0);
		assert_string_equal(info->state, "idle");
		assert_true(info->joined_ms > UINT64_C(1500000000000));
	}
	assert_true(seen.executable[0] == '/'); /* found out now */

	struct vectors vectors = {.n = 0};
	server_visit_vectors(box->server, 1, see_vectors, &vectors);
	assert_int_equal(vectors.n, 2); /* those behind it, until it is enough */
	assert_int_equal(vectors.id, 2);
	box_settle(box);
	fstat(vectors.fd, &st);
	fstat(box->clients[2].own[1], &own);
	assert_true(st.st_ino == own.st_ino);
	uint64_t one = 1, count;
	assert_int_equal(write(vectors.fd, &one, 8), 8);
	assert_int_equal(read(box->clients[2].own[1], &count, 8), 8);
	box_destroy(box);
}

/* Each message that has gone out, as in "1:C0.1d ": to whom, what, its number, the vector, and
 * which descriptor came along. */
struct tapped {
	char text[512];
	size_t used;
};

static void hear_message(void *data, const struct server_message *message)
{
	static const char kinds[] = {[SERVER_SENT_VERSION] = 'V',
		[SERVER_SENT_ID] = 'I',
		[SERVER_SENT_REGION] = 'R',
		[SERVER_SENT_CONNECT] = 'C',
		[SERVER_SENT_LEAVE] = 'L'};
	static const char *const fds[] = {[SERVER_NO_FD] = "",
		[SERVER_FD_MEMORY] = "m",
		[SERVER_FD_MEMORY_READ_ONLY] = "r",
		[SERVER_FD_DOORBELL] = "d",
		[SERVER_FD_DEAD_DOORBELL] = "x"};
	struct tapped *tapped = data;
	char vector[16] = "";

	assert_int_equal(message->serial, message->id + 1);
	if (message->vector >= 0)
		snprintf(vector, sizeof(vector), ".%d", message->vector);
	tapped->used += (size_t)snprintf(tapped->text + tapped->used,
		sizeof(tapped->text) - tapped->used, "%d:%c%lld%s%s ", message->id,
		kinds[message->kind], (long long)message->number, vector, fds[message->fd]);
}

static void expect_tapped(struct tapped *tapped, const char *text)
{
	assert_string_equal(tapped->text, text);
	*tapped = (struct tapped){.used = 0};
}

static void test_every_message_is_told_once_it_has_gone_out(void **state)
{
	(void)state;
	struct box *box = make_box();
	struct tapped tapped = {.used = 0};
	struct one_rule one;

	server_set_tap(box->server, hear_message, &tapped);
	assert_int_equal(box_connect(box, 0), 0);
	expect_tapped(&tapped, "");
	box_settle(box);
	expect_tapped(&tapped, "0:V0 0:I0 0:R-1m 0:C0.0d 0:C0.1d 0:C0.2d ");

	use_rule(box, &one)->access = POLICY_READ_ONLY;
	assert_int_equal(policy_vectors_parse("1", &one.rule.rings), 0);
	server_set_read_only_region(box->server, box->region_fd);
	assert_int_equal(box_connect(box, 1), 0);
	box_settle(box);
	expect_tapped(&tapped,
		"0:C1.0d 0:C1.1d 0:C1.2d "
		"1:V0 1:I1 1:R-1r 1:C0.0x 1:C0.1d 1:C0.2x 1:C1.0d 1:C1.1d 1:C1.2d ");

	box_disconnect(box, 0);
	box_settle(box);
	expect_tapped(&tapped, "1:L0 ");
	server_set_tap(box->server, NULL, NULL);
	assert_int_equal(box_connect(box, 2), 0);
	box_settle(box);
	expect_tapped(&tapped, "");
	box_destroy(box);
}

static void test_serial_numbers_ascend(void **state)
{
	(void)state;
	struct box *box = make_box();

	int sock = box_new_client(box, 0);
	assert_int_equal(server_admit(box->server, sock, 5), 0);
	sock = box_new_client(box, 1);
	assert_int_equal(server_admit(box->server, sock, 5), -EINVAL);
	assert_int_equal(box_connect(box, 2), 0);
	assert_int_equal(server_last_serial(box->server), 6);
	assert_int_equal(server_evict(box->server, 6, "test"), 0);
	box_destroy(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_denied_is_one_line_with_who_and_why),
		TEST(test_limit_of_a_rule),
		TEST(test_a_reserved_id_is_for_nobody_else),
		TEST(test_a_reserved_id_comes_back_when_nobody_remembers),
		TEST(test_ids_by_number),
		TEST(test_vectors_that_may_not_be_rung),
		TEST(test_read_only_is_another_descriptor),
		TEST(test_draining),
		TEST(test_evicted_and_watched),
		TEST(test_looking_inside),
		TEST(test_every_message_is_told_once_it_has_gone_out),
		TEST(test_serial_numbers_ascend),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
