/* SPDX-License-Identifier: MIT */
#include "../../tools/daemon/listen.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the log, a folder, a path in it ---- */

static char last_line[512];

static void note(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct log test_log = {.level = LOG_LEVEL_DEBUG, .sink = note};

static char folder[64], path[80];

static int setup(void **state)
{
	last_line[0] = '\0';
	snprintf(folder, sizeof(folder), "/tmp/ivshmem-test-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/socket", folder);
	return fdcheck_setup(state);
}

static int teardown(void **state)
{
	unlink(path);
	assert_int_equal(rmdir(folder), 0); /* so nothing else was left */
	return fdcheck_teardown(state);
}

#define LISTEN_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

static struct listen_config config_of(const char *where)
{
	return (struct listen_config){
		.path = where,
		.mode = 0640,
		.uid = (uid_t)-1,
		.gid = (gid_t)-1,
		.option = "--here",
		.owner_option = "--whose",
		.what = "thing",
	};
}

/* connect() to the path: 0 or -errno. */
static int knock(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(sock >= 0);
	int result = connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ? -errno : 0;
	close(sock);
	return result;
}

static bool exists(void)
{
	struct stat st;
	return lstat(path, &st) == 0;
}

/* What a program that was killed leaves behind. */
static void leave_stale_socket(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	close(sock);
}

/* ---- */

static void test_listens_with_its_permission_until_closed(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener listener = LISTENER_INIT;
	struct stat st;

	mode_t mask = umask(0077);
	assert_int_equal(listener_open(&listener, &config, &test_log), 0);
	assert_int_equal(umask(mask), 0077); /* it is the process', and was only borrowed */
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	assert_int_equal(knock(), 0);
	int flags = fcntl(listener.fd, F_GETFL);
	assert_true(flags & O_NONBLOCK);

	listener_close(&listener);
	listener_close(&listener);
	assert_false(exists());
}

static void test_stale_socket_is_replaced(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener listener = LISTENER_INIT;

	leave_stale_socket();
	assert_int_equal(knock(), -ECONNREFUSED);
	assert_int_equal(listener_open(&listener, &config, &test_log), 0);
	assert_non_null(strstr(last_line, "removed the stale socket"));
	assert_int_equal(knock(), 0);
	listener_close(&listener);
}

static void test_socket_in_use_is_left_alone(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener first = LISTENER_INIT;
	struct listener second = LISTENER_INIT;

	assert_int_equal(listener_open(&first, &config, &test_log), 0);
	assert_int_equal(listener_open(&second, &config, &test_log), -1);
	assert_int_equal(second.fd, -1);
	/* The words are the program's own. */
	assert_ptr_equal(strstr(last_line, "--here /tmp/"), last_line);
	assert_non_null(strstr(last_line, "another thing is listening there"));
	assert_int_equal(knock(), 0);

	/* That knock is all that the first one has seen: no probe of the second. */
	int visitor = accept4(first.fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(visitor >= 0);
	close(visitor);
	assert_int_equal(accept4(first.fd, NULL, NULL, SOCK_CLOEXEC), -1);
	listener_close(&first);
}

static void test_file_in_the_way_is_not_removed(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener listener = LISTENER_INIT;

	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	assert_int_equal(listener_open(&listener, &config, &test_log), -1);
	assert_non_null(strstr(last_line, "it is no socket"));
	assert_true(exists());
}

static void test_folder_that_does_not_exist(void **state)
{
	(void)state;
	char nowhere[96];
	snprintf(nowhere, sizeof(nowhere), "%s/no/socket", folder);
	struct listen_config config = config_of(nowhere);
	struct listener listener = LISTENER_INIT;

	assert_int_equal(listener_open(&listener, &config, &test_log), -1);
	assert_int_equal(listener.fd, -1);
	assert_non_null(strstr(last_line, "--here /tmp/"));
}

/* Root gives it away; others cannot, and then nothing is left behind. */
static void test_owner(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener listener = LISTENER_INIT;
	struct stat st;

	config.uid = 12345;
	if (listener_open(&listener, &config, &test_log) == 0) {
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_uid, 12345);
		listener_close(&listener);
	} else {
		assert_ptr_equal(strstr(last_line, "--whose: "), last_line);
	}
	assert_false(exists());
}

static void test_close_leaves_the_socket_of_a_successor(void **state)
{
	(void)state;
	struct listen_config config = config_of(path);
	struct listener listener = LISTENER_INIT;
	char aside[96];

	/* The first inode is kept busy, so that the successor's is another. */
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(listener_open(&listener, &config, &test_log), 0);
	assert_int_equal(rename(path, aside), 0);
	leave_stale_socket();
	listener_close(&listener);
	assert_true(exists());
	assert_int_equal(unlink(aside), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		LISTEN_TEST(test_listens_with_its_permission_until_closed),
		LISTEN_TEST(test_stale_socket_is_replaced),
		LISTEN_TEST(test_socket_in_use_is_left_alone),
		LISTEN_TEST(test_file_in_the_way_is_not_removed),
		LISTEN_TEST(test_folder_that_does_not_exist),
		LISTEN_TEST(test_owner),
		LISTEN_TEST(test_close_leaves_the_socket_of_a_successor),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
