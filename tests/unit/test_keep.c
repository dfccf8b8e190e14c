/* SPDX-License-Identifier: MIT */
/*
 * keep, with a keeper and a systemd of our own; the real keeper is in tests/e2e/test_keeper.py.
 * What belongs to them: boxes (base/fdset.h) and the messages of daemon/keeper_protocol.h.
 */
#include "../../tools/daemon/keep.h"

#include "../../tools/daemon/held.h"
#include "../../tools/daemon/keeper_protocol.h"

#include "../common/fdcheck.h"

#include "base/fdpass.h"
#include "base/fdset.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the log, descriptors that can be told from each other ---- */

static char said[512];

static void note(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	snprintf(said, sizeof(said), "%s", line);
}

static struct log test_log = {.level = LOG_LEVEL_DEBUG, .sink = note};

static void make(int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fds[i] = eventfd((unsigned)i + 1, EFD_CLOEXEC);
		assert_true(fds[i] >= 0);
	}
}

static void close_all(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++)
		assert_int_equal(close(fds[i]), 0);
}

/* Are these copies of what make() made, in that order? Their counters are read, and put back. */
static void check_order(const int *fds, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		eventfd_t value;
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
		assert_int_equal(eventfd_read(fds[i], &value), 0);
		assert_int_equal(value, i + 1);
		assert_int_equal(eventfd_write(fds[i], value), 0);
	}
}

/* ---- boxes ---- */

static void test_box_gives_what_it_got_each_time(void **state)
{
	(void)state;
	int in[FDSET_MAX], out[FDSET_MAX];

	make(in, FDSET_MAX);
	for (size_t n = 1; n <= FDSET_MAX; n += 63) {
		int box = fdset_pack(in, n);
		assert_true(box >= 0);
		for (int again = 0; again < 3; again++) {
			assert_int_equal(fdset_unpack(box, out, n), n);
			check_order(out, n);
			close_all(out, n);
		}
		assert_int_equal(fdset_unpack(box, out, n - 1), -E2BIG);
		close(box);
	}
	close_all(in, FDSET_MAX);
}

static void test_box_outlives_what_is_in_it(void **state)
{
	(void)state;
	int fds[4];

	make(fds, 4);
	int box = fdset_pack(fds, 4);
	close_all(fds, 4);
	assert_int_equal(fdset_unpack(box, fds, 4), 4);
	check_order(fds, 4);
	close_all(fds, 4);
	close(box);
}

static void test_no_box(void **state)
{
	(void)state;
	int fds[FDSET_MAX + 1], pair[2];

	make(fds, 1);
	assert_int_equal(fdset_unpack(fds[0], fds, 1), -EBADMSG);
	assert_int_equal(fdset_pack(fds, 0), -EINVAL);
	assert_int_equal(fdset_pack(fds, FDSET_MAX + 1), -EINVAL);
	close(fds[0]);
	assert_int_equal(fdset_pack((int[]){-1}, 1), -EBADF);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(fdset_unpack(pair[0], fds, 1), -EBADMSG);
	assert_int_equal(write(pair[1], "x", 1), 1);
	assert_int_equal(fdset_unpack(pair[0], fds, 1), -EBADMSG);
	close_all(pair, 2);
}

static void test_box_without_descriptors_left(void **state)
{
	(void)state;
	struct rlimit before, low;
	int fds[8], out[8];

	make(fds, 8);
	int box = fdset_pack(fds, 8);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	for (rlim_t room = 0; room < 8; room++) {
		low = (struct rlimit){(rlim_t)box + 1 + room, before.rlim_max};
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		assert_int_equal(fdset_unpack(box, out, 8), -EMFILE);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(fdset_unpack(box, out, 8), 8);
	close_all(out, 8);
	close_all(fds, 8);
	close(box);
}

/* ---- a keeper of our own: the other end of the socket ---- */

static int keeper_end;
static uint32_t version = KEEPER_VERSION;

static void say(uint32_t op, const char *name, uint64_t number, int fd)
{
	struct keeper_message m = {.op = op, .version = version, .number = number};
	snprintf(m.name, sizeof(m.name), "%s", name);
	assert_int_equal(fdpass_send(keeper_end, &m, sizeof(m), fd), sizeof(m));
}

/* Start to be the keeper; what the worker is to be told follows. */
static void begin_keeper(void)
{
	char number[12];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	keeper_end = pair[0];
	snprintf(number, sizeof(number), "%d", pair[1]);
	setenv(KEEPER_VARIABLE, number, 1);
}

static struct keep *open_keep(void)
{
	struct keep *keep;
	assert_int_equal(keep_open(&keep, &test_log), 0);
	assert_null(getenv(KEEPER_VARIABLE));
	return keep;
}

/* Nothing is held, and three names may be. */
static struct keep *open_empty(void)
{
	begin_keeper();
	say(KEEPER_END, "", 3, -1);
	return open_keep();
}

static void expect(enum keeper_op op, const char *name, int *fd)
{
	struct keeper_message m;
	int got;

	assert_int_equal(keeper_receive(keeper_end, false, &m, &got), 1);
	assert_int_equal(m.op, op);
	assert_string_equal(m.name, name);
	assert_int_equal(got >= 0, fd != NULL);
	if (fd)
		*fd = got;
}

static void expect_nothing(void)
{
	struct keeper_message m;
	int fd;
	assert_int_equal(keeper_receive(keeper_end, false, &m, &fd), -EAGAIN);
}

static void end(struct keep *keep)
{
	expect_nothing();
	keep_close(keep);
	close(keeper_end);
}

static bool count_name(void *data, const char *name, size_t n)
{
	char *text = data;
	size_t used = strlen(text);
	snprintf(text + used, 256 - used, "%s:%zu ", name, n);
	return true;
}

static bool only_one(void *data, const char *name, size_t n)
{
	count_name(data, name, n);
	return false;
}

static void test_nobody_holds(void **state)
{
	(void)state;
	struct keep *keep = open_keep();
	char listener[KEEP_NAME_SIZE], names[256] = "";
	uint64_t number;
	int fd;

	assert_int_equal(keep_holder(keep), KEEP_NOBODY);
	assert_int_equal(keep_take(keep, "x", &fd, 1), 0);
	assert_int_equal(keep_put(keep, "x", (int[]){0}, 1), -ENOTSUP);
	assert_int_equal(keep_accept(keep, "x", "y", 0), -ENOTSUP);
	assert_int_equal(keep_accepted(keep, listener, &number, &fd), 0);
	assert_int_equal(keep_get_fd(keep), -1);
	assert_int_equal(keep_in_flight(keep, 4), 0);
	keep_visit(keep, count_name, names);
	assert_string_equal(names, "");
	keep_stop_accepting(keep, "x");
	keep_drop(keep, "x");
	keep_ready(keep);
	keep_close(keep);
	keep_close(NULL);
}

static void test_take_over_from_a_keeper(void **state)
{
	(void)state;
	int fds[4], out[4];
	char names[256] = "", first[256] = "";

	make(fds, 4);
	int box = fdset_pack(fds, 4);
	begin_keeper();
	say(KEEPER_HELD, "s.region.1", 0, fds[0]);
	say(KEEPER_HELD, "v.region.1+4", 0, box);
	say(KEEPER_HELD, "s.region.2", 0, fds[0]);
	say(KEEPER_END, "", 100, -1);
	close_all(fds, 4);
	close(box);

	struct keep *keep = open_keep();
	assert_int_equal(keep_holder(keep), KEEP_KEEPER);
	assert_int_equal(keep_in_flight(keep, 4), 4);
	assert_int_equal(keep_in_flight(keep, 1), 0);
	keep_visit(keep, count_name, names);
	assert_string_equal(names, "s.region.1:1 v.region.1:4 s.region.2:1 ");
	keep_visit(keep, only_one, first);
	assert_string_equal(first, "s.region.1:1 ");
	assert_int_equal(keep_take(keep, "v.region.1", out, 3), -E2BIG);
	assert_int_equal(keep_take(keep, "v.region.1", out, 4), 4);
	check_order(out, 4);
	close_all(out, 4);
	assert_int_equal(keep_take(keep, "v.region.1", out, 4), 0);
	assert_int_equal(keep_take(keep, "s.region.1", out, 4), 1);
	check_order(out, 1);
	close(out[0]);
	names[0] = '\0';
	keep_visit(keep, count_name, names);
	assert_string_equal(names, "s.region.2:1 ");
	/* It is still held; only the drop ends that. */
	assert_int_equal(keep_put(keep, "v.region.1", (int[]){0}, 1), -EEXIST);
	keep_drop(keep, "v.region.1");
	expect(KEEPER_DROP, "v.region.1+4", NULL);
	keep_drop(keep, "v.region.1");
	end(keep);
}

static void test_put_at_a_keeper(void **state)
{
	(void)state;
	struct keep *keep = open_empty();
	int fds[3], box, out[3];
	char name[KEEP_NAME_SIZE + 1];

	make(fds, 3);
	assert_int_equal(keep_put(keep, "v.x.0", fds, 3), 0);
	expect(KEEPER_PUT, "v.x.0+3", &box);
	assert_int_equal(fdset_unpack(box, out, 3), 3);
	check_order(out, 3);
	close_all(out, 3);
	close(box);
	assert_int_equal(keep_put(keep, "v.x.0", fds, 1), -EEXIST);
	assert_int_equal(keep_put(keep, "", fds, 1), -EINVAL);
	assert_int_equal(keep_put(keep, "a+2", fds, 1), -EINVAL);
	assert_int_equal(keep_put(keep, "none", fds, 0), -EINVAL);
	assert_int_equal(keep_put(keep, "many", fds, KEEP_MAX_FDS + 1), -EINVAL);
	memset(name, 'n', KEEP_NAME_SIZE);
	name[KEEP_NAME_SIZE] = '\0';
	assert_int_equal(keep_put(keep, name, fds, 1), -EINVAL);
	name[KEEP_NAME_SIZE - 1] = '\0';
	assert_int_equal(keep_put(keep, name, fds, 1), 0);
	expect(KEEPER_PUT, name, &out[0]);
	close(out[0]);
	assert_int_equal(keep_put(keep, "bad", (int[]){-1, -1}, 2), -EBADF);
	assert_int_equal(keep_put(keep, "bad", fds, 1), 0);
	expect(KEEPER_PUT, "bad", &out[0]);
	close(out[0]);
	assert_int_equal(keep_put(keep, "full", fds, 1), -ENOSPC);
	keep_drop(keep, "bad");
	expect(KEEPER_DROP, "bad", NULL);
	assert_int_equal(keep_put(keep, "fits", fds, 1), 0);
	expect(KEEPER_PUT, "fits", &out[0]);
	close(out[0]);
	keep_ready(keep);
	expect(KEEPER_READY, "", NULL);
	close_all(fds, 3);
	end(keep);
}

static void test_accept_by_a_keeper(void **state)
{
	(void)state;
	struct keep *keep = open_empty();
	char listener[KEEP_NAME_SIZE], prefix[HELD_PREFIX_SIZE + 1];
	uint64_t number;
	int fd, copy;

	make(&fd, 1);
	assert_int_equal(keep_accept(keep, "listen.a.b", "s.a.b", 5), -ENOENT);
	assert_int_equal(keep_put(keep, "listen.a.b", &fd, 1), 0);
	expect(KEEPER_PUT, "listen.a.b", &copy);
	close(copy);
	memset(prefix, 'p', sizeof(prefix));
	prefix[HELD_PREFIX_SIZE] = '\0';
	assert_int_equal(keep_accept(keep, "listen.a.b", prefix, 5), -EINVAL);
	assert_int_equal(keep_accept(keep, "listen.a.b", "", 5), -EINVAL);
	assert_int_equal(keep_accept(keep, "listen.a.b", "s.a.b", 5), 0);
	expect(KEEPER_ACCEPT, "listen.a.b", NULL);
	assert_int_equal(keep_accepted(keep, listener, &number, &copy), 0);
	say(KEEPER_HELD, "s.a.b.18446744073709551615", 0, fd);
	assert_int_equal(keep_accepted(keep, listener, &number, &copy), 1);
	assert_string_equal(listener, "listen.a.b");
	assert_true(number == UINT64_MAX);
	check_order(&copy, 1);
	close(copy);
	assert_int_equal(keep_put(keep, "s.a.b.18446744073709551615", &fd, 1), -EEXIST);
	/* One that was on its way when accepting ended; then one of nobody's. */
	keep_stop_accepting(keep, "listen.a.b");
	expect(KEEPER_ACCEPT, "listen.a.b", NULL);
	say(KEEPER_HELD, "s.a.b.7", 0, fd);
	assert_int_equal(keep_accepted(keep, listener, &number, &copy), 1);
	close(copy);
	keep_drop(keep, "listen.a.b");
	expect(KEEPER_DROP, "listen.a.b", NULL);
	say(KEEPER_HELD, "s.a.b.8", 0, fd);
	assert_int_equal(keep_accepted(keep, listener, &number, &copy), 1);
	assert_string_equal(listener, "");
	close(copy);
	expect(KEEPER_DROP, "s.a.b.8", NULL);
	assert_int_equal(keep_accepted(keep, listener, &number, &copy), 0);
	close(fd);
	end(keep);
}

static void test_keeper_that_is_gone(void **state)
{
	(void)state;
	struct keep *keep = open_empty();
	char listener[KEEP_NAME_SIZE];
	uint64_t number;
	int fd;

	close(keeper_end);
	assert_int_equal(keep_put(keep, "x", (int[]){0}, 1), -EPIPE);
	assert_int_equal(keep_accepted(keep, listener, &number, &fd), -EPIPE);
	keep_drop(keep, "x");
	keep_ready(keep);
	keep_close(keep);
}

static void fails_to_open(int error, const char *why)
{
	struct keep *keep;
	said[0] = '\0';
	assert_int_equal(keep_open(&keep, &test_log), error);
	assert_non_null(strstr(said, why));
}

static void test_keeper_that_is_wrong(void **state)
{
	(void)state;
	int fd;

	setenv(KEEPER_VARIABLE, "4000", 1);
	fails_to_open(-EINVAL, "4000");
	setenv(KEEPER_VARIABLE, "much", 1);
	fails_to_open(-EINVAL, "much");
	begin_keeper();
	close(keeper_end);
	fails_to_open(-EPIPE, "gone");
	begin_keeper();
	version++;
	say(KEEPER_END, "", 1, -1);
	version--;
	fails_to_open(-EPROTO, "version");
	close(keeper_end);
	begin_keeper();
	assert_int_equal(fdpass_send(keeper_end, "x", 1, -1), 1);
	fails_to_open(-EPROTO, "ivshmem-keeper");
	close(keeper_end);
	make(&fd, 1);
	begin_keeper();
	say(KEEPER_HELD, "twice", 0, fd);
	say(KEEPER_HELD, "twice", 0, fd);
	fails_to_open(-EEXIST, "twice");
	close(fd);
	close(keeper_end);
	unsetenv(KEEPER_VARIABLE);
}

/* The kernel tells of a death with unread messages first, and of what the dead one has sent then.
 */
static void test_what_the_dead_have_sent_counts(void **state)
{
	(void)state;
	struct keep *keep = open_empty();
	struct keeper_message m;
	int fd;

	make(&fd, 1);
	assert_int_equal(keep_put(keep, "last.words", &fd, 1), 0);
	say(KEEPER_HELD, "unread", 0, fd);
	close(fd);
	keep_close(keep);
	expect(KEEPER_PUT, "last.words", &fd);
	check_order(&fd, 1);
	close(fd);
	assert_int_equal(keeper_receive(keeper_end, false, &m, &fd), 0);
	close(keeper_end);
}

int main(void)
{
	unsetenv("NOTIFY_SOCKET");
	const struct CMUnitTest tests[] = {
		TEST(test_box_gives_what_it_got_each_time),
		TEST(test_box_outlives_what_is_in_it),
		TEST(test_no_box),
		TEST(test_box_without_descriptors_left),
		TEST(test_nobody_holds),
		TEST(test_take_over_from_a_keeper),
		TEST(test_put_at_a_keeper),
		TEST(test_accept_by_a_keeper),
		TEST(test_keeper_that_is_gone),
		TEST(test_keeper_that_is_wrong),
		TEST(test_what_the_dead_have_sent_counts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
