/* SPDX-License-Identifier: MIT */
/*
 * keep with a systemd of our own: a notify socket, a store, and a child process that gets what is
 * in it, in the worst order. What the real one does is for the end-to-end tests.
 */
#include "../../tools/daemon/keep.h"

#include "../common/fdcheck.h"

#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORE 2000

static struct manager {
	char folder[32], path[64];
	int sock;
	pthread_t thread;
	struct {
		char name[300];
		int fd;
	} store[STORE];
	size_t n;
	unsigned barriers, ready;
} manager;

static char said[512];

static void note(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	snprintf(said, sizeof(said), "%s", line);
}

static struct log test_log = {.level = LOG_LEVEL_DEBUG, .sink = note};

/* ---- the manager ---- */

static void remove_named(const char *name)
{
	for (size_t i = 0; i < manager.n; i++)
		if (strcmp(manager.store[i].name, name) == 0) {
			close(manager.store[i].fd);
			manager.store[i--] = manager.store[--manager.n];
		}
}

/* What one message asks for; its descriptor, if any, is taken. False: to end. */
static bool obey(char *text, int fd)
{
	const char *name = "";
	bool add = false, remove = false, poll = true;

	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		add |= strcmp(line, "FDSTORE=1") == 0;
		remove |= strcmp(line, "FDSTOREREMOVE=1") == 0;
		poll &= strcmp(line, "FDPOLL=0") != 0;
		manager.ready += strcmp(line, "READY=1") == 0;
		manager.barriers += strcmp(line, "BARRIER=1") == 0;
		if (strncmp(line, "FDNAME=", 7) == 0)
			name = line + 7;
		if (strcmp(line, "END") == 0)
			return false;
	}
	if (remove)
		remove_named(name);
	if (add && !poll && fd >= 0 && manager.n < STORE) {
		manager.store[manager.n].fd = fd;
		strcpy(manager.store[manager.n++].name, name);
		return true;
	}
	if (fd >= 0)
		close(fd);
	return true;
}

static void *manage(void *data)
{
	char text[512];
	int fds[FDPASS_RECV_MAX];
	size_t n;
	ssize_t got;

	do {
		got = fdpass_await(manager.sock, text, sizeof(text) - 1, fds, &n);
		if (got < 0)
			abort();
		text[got] = '\0';
	} while (obey(text, n ? fds[0] : -1));
	return data;
}

static int setup(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	fdcheck_setup(state);
	memset(&manager, 0, sizeof(manager));
	strcpy(manager.folder, "/tmp/ivshmem-test-XXXXXX");
	assert_non_null(mkdtemp(manager.folder));
	snprintf(manager.path, sizeof(manager.path), "%s/notify", manager.folder);
	strcpy(address.sun_path, manager.path);
	manager.sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(manager.sock, (struct sockaddr *)&address, sizeof(address)), 0);
	setenv("NOTIFY_SOCKET", manager.path, 1);
	setenv("FDSTORE", "8", 1);
	return pthread_create(&manager.thread, NULL, manage, NULL);
}

/* Everything that was sent has been done when this returns. */
static void end_manager(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, manager.path);
	assert_int_equal(
		sendto(sock, "END", 3, 0, (struct sockaddr *)&address, sizeof(address)), 3);
	close(sock);
	pthread_join(manager.thread, NULL);
}

static int teardown(void **state)
{
	while (manager.n > 0)
		close(manager.store[--manager.n].fd);
	close(manager.sock);
	unlink(manager.path);
	rmdir(manager.folder);
	return fdcheck_teardown(state);
}

/* ---- the tests ---- */

static struct keep *open_keep(void)
{
	struct keep *keep;
	assert_int_equal(keep_open(&keep, &test_log), 0);
	return keep;
}

static void put(struct keep *keep, const char *name, unsigned first, size_t n, int result)
{
	int fds[KEEP_MAX_FDS];

	for (size_t i = 0; i < n; i++)
		fds[i] = eventfd(first + (unsigned)i, EFD_CLOEXEC);
	assert_int_equal(keep_put(keep, name, fds, n), result);
	for (size_t i = 0; i < n; i++)
		close(fds[i]);
}

/* In the child: the set is there, whole and in order. */
static bool is_right(struct keep *keep, const char *name, unsigned first, size_t n)
{
	int fds[KEEP_MAX_FDS];
	eventfd_t value = 0;

	if (keep_take(keep, name, fds, KEEP_MAX_FDS) != (int)n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (fcntl(fds[i], F_GETFD) != FD_CLOEXEC || eventfd_read(fds[i], &value) < 0 ||
			value != first + i)
			return false;
	return true;
}

/* What systemd does at the next start, the last first. Then `check` says whether all is there. */
static void start_again(bool (*check)(struct keep *keep))
{
	static char names[STORE * 300];
	char number[24];
	int status = -1;

	pid_t child = fork();
	if (child == 0) {
		for (size_t i = 0; i < manager.n; i++) /* out of the way of 3 and so on */
			manager.store[i].fd = fcntl(manager.store[i].fd, F_DUPFD, 100);
		for (size_t i = 0; i < manager.n; i++) {
			dup2(manager.store[manager.n - 1 - i].fd, 3 + (int)i);
			strcat(strcat(names, i ? ":" : ""), manager.store[manager.n - 1 - i].name);
		}
		snprintf(number, sizeof(number), "%zu", manager.n);
		setenv("LISTEN_FDS", number, 1);
		setenv("LISTEN_FDNAMES", names, 1);
		snprintf(number, sizeof(number), "%d", (int)getpid());
		setenv("LISTEN_PID", number, 1);
		struct keep *keep;
		bool good = keep_open(&keep, &test_log) == 0 && !getenv("LISTEN_FDS") &&
			!getenv("FDSTORE") && check(keep);
		if (!good)
			fprintf(stderr, "in the child: %s\n", said);
		_exit(good ? 0 : 1);
	}
	assert_true(child > 0 && waitpid(child, &status, 0) == child);
	assert_int_equal(status, 0);
}

static bool three_sets(struct keep *keep)
{
	return is_right(keep, "s.x.1", 50, 1) && is_right(keep, "v.x.1", 1, KEEP_MAX_FDS) &&
		is_right(keep, "v.x.2", 7, 2) && !is_right(keep, "gone", 0, 1) &&
		keep_take(keep, "v.x.2", (int[2]){0}, 2) == 0;
}

static void test_sets_come_back_whole_and_in_order(void **state)
{
	(void)state;
	struct keep *keep = open_keep();

	assert_int_equal(keep_holder(keep), KEEP_SYSTEMD);
	put(keep, "v.x.1", 1, KEEP_MAX_FDS, 0);
	assert_int_equal(manager.n, 1); /* it has it when put() returns */
	assert_int_equal(manager.barriers, 1);
	put(keep, "gone", 1, 3, 0);
	put(keep, "s.x.1", 50, 1, 0);
	put(keep, "v.x.2", 7, 2, 0);
	put(keep, "v.x.2", 7, 2, -EEXIST);
	keep_drop(keep, "gone");
	keep_ready(keep);
	assert_int_equal(keep_accept(keep, "v.x.2", "s", 0), -ENOTSUP);
	assert_int_equal(keep_get_fd(keep), -1);
	keep_close(keep);
	end_manager();
	assert_int_equal(manager.ready, 1);
	assert_int_equal(manager.n, 3);
	start_again(three_sets);
}

static void test_no_more_than_the_store_takes(void **state)
{
	(void)state;
	struct keep *keep = open_keep();
	char name[16];

	for (unsigned i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "x.%u", i);
		put(keep, name, 1, 1 + i, 0);
	}
	put(keep, "more", 1, 1, -ENOSPC);
	keep_drop(keep, "x.3");
	put(keep, "more", 1, 1, 0);
	keep_close(keep);
	end_manager();
	assert_int_equal(manager.n, 8);
}

/* The kernel would not start a program with more. */
static void test_names_that_are_too_long_for_the_environment(void **state)
{
	(void)state;
	char name[KEEP_NAME_SIZE];
	int fd = eventfd(0, EFD_CLOEXEC), result = 0;
	size_t size = 0, n = 0;

	setenv("FDSTORE", "100000", 1);
	struct keep *keep = open_keep();
	for (; result == 0; n++) {
		snprintf(name, sizeof(name), "%0*zu", KEEP_NAME_SIZE - 1, n);
		result = keep_put(keep, name, &fd, 1);
		if (result == 0)
			size += sizeof(name);
	}
	assert_int_equal(result, -ENOSPC);
	assert_in_range(size, 100 * 1024, 128 * 1024 - 1024);
	close(fd);
	keep_close(keep);
	end_manager();
}

static bool sockets_of_units(struct keep *keep)
{
	return keep_holder(keep) == KEEP_NOBODY && is_right(keep, "Some@unit.socket", 1, 1) &&
		is_right(keep, "listen.x", 2, 1) && keep_put(keep, "y", (int[]){0}, 1) == -ENOTSUP;
}

static void test_sockets_of_units_without_a_store(void **state)
{
	(void)state;
	unsetenv("FDSTORE");
	end_manager();
	manager.n = 2;
	manager.store[0].fd = eventfd(1, 0);
	strcpy(manager.store[0].name, "Some@unit.socket");
	manager.store[1].fd = eventfd(2, 0);
	strcpy(manager.store[1].name, "listen.x");
	start_again(sockets_of_units);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(
			test_sets_come_back_whole_and_in_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_more_than_the_store_takes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_names_that_are_too_long_for_the_environment, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_sockets_of_units_without_a_store, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
