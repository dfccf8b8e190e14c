/* SPDX-License-Identifier: MIT */
#include "base/fdpass.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loglimits.h"
#include "base/parse.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static void test_sizes(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"4096", 0, 4096},
		{"1K", 0, 1024},
		{"4m", 0, 4 << 20},
		{"1.5G", 0, UINT64_C(3) << 29},
		{"3G", 0, UINT64_C(3) << 30},
		{"99999T", 0, UINT64_C(99999) << 40},
		{"16777215T", 0, UINT64_C(16777215) << 40},
		{"16777216T", -ERANGE, 0},
		{"15E", 0, UINT64_C(15) << 60},
		{"16E", -ERANGE, 0},
		{"99999999999999999999", -ERANGE, 0},
		{"", -EINVAL, 0},
		{"-1", -EINVAL, 0},
		{" 1", -EINVAL, 0},
		{"1.", -EINVAL, 0},
		{"1KB", -EINVAL, 0},
		{"1X", -EINVAL, 0},
		{"0x10", -EINVAL, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 0;
		assert_int_equal(parse_size(cases[i].text, &bytes), cases[i].result);
		assert_true(bytes == cases[i].bytes);
	}
}

static void test_numbers(void **state)
{
	(void)state;
	uint64_t value = 7;
	assert_int_equal(parse_uint("0", 0, 10, &value), 0);
	assert_true(value == 0);
	assert_int_equal(parse_uint("0x40", 0, 64, &value), 0);
	assert_true(value == 64);
	assert_int_equal(parse_uint("65", 0, 64, &value), -ERANGE);
	assert_int_equal(parse_uint("18446744073709551616", 0, UINT64_MAX, &value), -ERANGE);
	assert_int_equal(parse_uint("-1", 0, 64, &value), -EINVAL);
	assert_int_equal(parse_uint("", 0, 64, &value), -EINVAL);
	assert_int_equal(parse_uint("1 ", 0, 64, &value), -EINVAL);
	assert_true(value == 64);
}

static void test_names_and_powers(void **state)
{
	(void)state;
	char longest[65];
	memset(longest, 'a', 64);
	longest[64] = '\0';
	assert_false(name_is_valid(longest));
	longest[63] = '\0';
	assert_true(name_is_valid(longest));
	assert_true(name_is_valid("vm-0.camera_1"));
	assert_false(name_is_valid(""));
	assert_false(name_is_valid(".."));
	assert_false(name_is_valid("Upper"));
	assert_false(name_is_valid("a/b"));

	assert_true(next_power_of_two(0) == 1);
	assert_true(next_power_of_two(4096) == 4096);
	assert_true(next_power_of_two(4097) == 8192);
	assert_true(next_power_of_two(UINT64_C(1) << 63) == UINT64_C(1) << 63);
	assert_true(next_power_of_two((UINT64_C(1) << 63) + 1) == 0);

	char text[24];
	assert_string_equal(format_size(4 << 20, text), "4 MiB");
	assert_string_equal(format_size(1536, text), "1.5 KiB");
	assert_string_equal(format_size(UINT64_MAX, text), "15.9 EiB");
}

struct number {
	struct list link;
	int value;
};

static void test_list_keeps_order_and_allows_removal(void **state)
{
	(void)state;
	struct list head;
	struct number numbers[4];
	int sum = 0;

	list_init(&head);
	assert_true(list_empty(&head));
	for (int i = 0; i < 4; i++) {
		numbers[i].value = i;
		list_append(&head, &numbers[i].link);
	}
	list_for_each_safe (node, &head) {
		if (container_of(node, struct number, link)->value % 2 == 0)
			list_remove(node);
	}
	list_for_each (node, &head)
		sum = sum * 10 + container_of(node, struct number, link)->value;
	assert_int_equal(sum, 13);
}

static char last_line[600];

static void remember(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	strcpy(last_line, line);
}

static void test_log_level_and_limit(void **state)
{
	(void)state;
	struct log log = {.level = LOG_LEVEL_INFO, .sink = remember};
	struct log_limit limit = LOG_LIMIT_INIT(2);
	unsigned suppressed = 99;

	log_debug(&log, "no");
	assert_string_equal(last_line, "");
	errno = EBADF;
	log_info(&log, "%s %d", "yes", 1);
	assert_string_equal(last_line, "yes 1");
	assert_int_equal(errno, EBADF);
	log_info(NULL, "nobody listens");

	assert_true(log_allow(&limit, 1000, &suppressed));
	assert_true(log_allow(&limit, 1000, &suppressed));
	assert_false(log_allow(&limit, 1000, &suppressed));
	assert_false(log_allow(&limit, 1999, &suppressed));
	assert_true(log_allow(&limit, 2000, &suppressed));
	assert_int_equal(suppressed, 2);
}

static unsigned count_allowed(struct log_limits *limits, uint32_t uid, uint64_t now, unsigned n)
{
	unsigned allowed = 0, held_back;
	for (unsigned i = 0; i < n; i++)
		allowed += log_allow_user(limits, uid, now, &held_back);
	return allowed;
}

static void test_log_limits_of_users(void **state)
{
	(void)state;
	struct log_limits limits;
	unsigned held_back = 99;

	log_limits_init(&limits);
	assert_int_equal(count_allowed(&limits, 1, 1000, 100), LOG_LIMITS_BURST);
	assert_true(log_allow_user(&limits, 2, 1000, &held_back));
	assert_int_equal(held_back, 100 - LOG_LIMITS_BURST);
	assert_true(log_allow_user(&limits, 2, 1000, &held_back));
	assert_int_equal(held_back, 0);
	assert_int_equal(count_allowed(&limits, 1, 1000 + LOG_LIMITS_EVERY_MS, 100), 1);

	/* Whoever is not known any more begins anew, and all together cannot do without limit. */
	log_limits_init(&limits);
	unsigned allowed = 0;
	for (uint32_t uid = 0; uid < 100000; uid++)
		allowed += count_allowed(&limits, uid, 1000, 1);
	assert_int_equal(allowed, LOG_LIMITS_ALL_BURST);
	assert_int_equal(count_allowed(&limits, 1, 1000 + LOG_LIMITS_ALL_MS, 100), 1);
}

/* Who is there often is not forgotten for 63 others. */
static void test_log_limits_forget_the_most_silent(void **state)
{
	(void)state;
	struct log_limits limits;

	log_limits_init(&limits);
	assert_int_equal(count_allowed(&limits, 7, 1000, 100), LOG_LIMITS_BURST);
	for (uint32_t uid = 100; uid < 100 + LOG_LIMITS_USERS - 1; uid++)
		assert_int_equal(count_allowed(&limits, uid, 1000, 1), 1);
	assert_int_equal(count_allowed(&limits, 7, 1000, 1), 0);
	for (uint32_t uid = 200; uid < 200 + LOG_LIMITS_USERS; uid++)
		assert_int_equal(count_allowed(&limits, uid, 1000, 1), 1);
	assert_int_equal(count_allowed(&limits, 7, 1000, 1), 1);
}

static void socket_pair(int pair[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(int pair[2])
{
	close(pair[0]);
	close(pair[1]);
}

static void test_descriptor_travels_with_its_bytes(void **state)
{
	(void)state;
	int pair[2], pipe_fds[2], fds[FDPASS_RECV_MAX];
	size_t n_fds;
	char bytes[8];

	socket_pair(pair);
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	assert_int_equal(fdpass_recv(pair[1], bytes, 8, fds, &n_fds), -EAGAIN);
	assert_int_equal(fdpass_send(pair[0], "12345678", 8, pipe_fds[1]), 8);
	/* With the first byte, as the kernel has it. */
	assert_int_equal(fdpass_recv(pair[1], bytes, 3, fds, &n_fds), 3);
	assert_int_equal(n_fds, 1);
	assert_int_equal(fcntl(fds[0], F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	assert_int_equal(write(fds[0], "x", 1), 1);
	assert_int_equal(read(pipe_fds[0], bytes, 1), 1);
	int received = fds[0];
	assert_int_equal(fdpass_recv(pair[1], bytes, 8, fds, &n_fds), 5);
	assert_int_equal(n_fds, 0);
	close(pair[0]);
	assert_int_equal(fdpass_recv(pair[1], bytes, 8, fds, &n_fds), 0);
	close(received);
	close(pair[1]);
	close_pair(pipe_fds);
}

/* What the peer would take for "that one has left" must be an error. */
static void test_no_free_slot_is_an_error_not_a_bare_number(void **state)
{
	(void)state;
	int pair[2], fds[FDPASS_RECV_MAX];
	size_t n_fds;
	char bytes[8];
	struct rlimit before, none;

	socket_pair(pair);
	assert_int_equal(fdpass_send(pair[0], "12345678", 8, pair[0]), 8);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(fdpass_recv(pair[1], bytes, 8, fds, &n_fds), -EMFILE);
	assert_int_equal(n_fds, 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	close_pair(pair);
}

static void test_batch_keeps_order_and_stops_at_a_full_socket(void **state)
{
	(void)state;
	int pair[2], fds[FDPASS_RECV_MAX];
	size_t n_fds, partial;
	unsigned total = 0;
	struct fdpass_batch *batch = fdpass_batch_create();

	socket_pair(pair);
	for (;;) {
		fdpass_batch_reset(batch);
		for (uint64_t i = 0; i < FDPASS_BATCH; i++) {
			uint64_t number = total + i;
			fdpass_batch_add(batch, &number, 8, i % 2 ? pair[0] : -1);
		}
		int sent = fdpass_batch_send(batch, pair[0], &partial);
		assert_int_equal(partial, 0);
		if (sent < 0) {
			assert_int_equal(sent, -EAGAIN);
			break;
		}
		total += (unsigned)sent;
	}
	assert_in_range(total, 64, 100000);
	for (uint64_t i = 0; i < total; i++) {
		uint64_t number;
		assert_int_equal(fdpass_recv(pair[1], &number, 8, fds, &n_fds), 8);
		assert_true(number == i);
		/* Each batch started anew: odd places of a batch carry a descriptor. */
		for (size_t k = 0; k < n_fds; k++)
			close(fds[k]);
	}
	fdpass_batch_destroy(batch);
	close_pair(pair);
}

static void test_sending_to_the_dead_is_an_error_not_a_signal(void **state)
{
	(void)state;
	int pair[2];
	size_t partial;
	struct fdpass_batch *batch = fdpass_batch_create();

	socket_pair(pair);
	close(pair[1]);
	assert_int_equal(fdpass_send(pair[0], "12345678", 8, -1), -EPIPE);
	fdpass_batch_add(batch, "12345678", 8, -1);
	assert_int_equal(fdpass_batch_send(batch, pair[0], &partial), -EPIPE);
	fdpass_batch_destroy(batch);
	close(pair[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_sizes),
		TEST(test_numbers),
		TEST(test_names_and_powers),
		TEST(test_list_keeps_order_and_allows_removal),
		TEST(test_log_level_and_limit),
		TEST(test_log_limits_of_users),
		TEST(test_log_limits_forget_the_most_silent),
		TEST(test_descriptor_travels_with_its_bytes),
		TEST(test_no_free_slot_is_an_error_not_a_bare_number),
		TEST(test_batch_keeps_order_and_stops_at_a_full_socket),
		TEST(test_sending_to_the_dead_is_an_error_not_a_signal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
