/* SPDX-License-Identifier: MIT */
/*
 * The limit of watches is the user's, not the process', so reaching it for real would disturb
 * others. This program's own epoll_ctl() comes before the C library's, for libuv too.
 */
#include "../../tools/daemon/watch.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refused = -1; /* descriptor that there is no room for */

__attribute__((visibility("default"))) int epoll_ctl(
	int epoll, int operation, int fd, struct epoll_event *event)
{
	if (operation == EPOLL_CTL_ADD && fd == refused) {
		struct epoll_event nothing = {.data.fd = fd};
		bool known = syscall(SYS_epoll_ctl, epoll, EPOLL_CTL_MOD, fd, &nothing) == 0;
		errno = known ? EEXIST : ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epoll, operation, fd, event);
}

static void count_event(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	++*(int *)poll->data;
	uv_poll_stop(poll);
}

static void test_what_was_started_stays_watched(void **state)
{
	(void)state;
	uv_loop_t loop;
	uv_poll_t poll;
	int seen = 0;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_poll_init(&loop, &poll, fd), 0);
	poll.data = &seen;
	assert_int_equal(watch_start(&poll, UV_READABLE, count_event), 0);
	refused = fd; /* libuv would abort if it had something to add now */
	uv_run(&loop, UV_RUN_DEFAULT);
	refused = -1;
	assert_int_equal(seen, 1);
	watch_end(&loop);
	close(fd);
}

static void test_one_watch_too_many_is_an_error(void **state)
{
	(void)state;
	uv_loop_t loop;
	uv_poll_t poll;
	int seen = 0;
	int fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_poll_init(&loop, &poll, fd), 0);
	poll.data = &seen;
	refused = fd;
	assert_int_equal(watch_start(&poll, UV_READABLE, count_event), -ENOSPC);
	uv_run(&loop, UV_RUN_NOWAIT);
	assert_int_equal(seen, 0);

	/* It is as before, so a later attempt can work. */
	refused = -1;
	assert_int_equal(watch_start(&poll, UV_READABLE, count_event), 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(seen, 1);
	watch_end(&loop);
	close(fd);
}

/* libuv opens what its signals need with the first loop, once for the process. */
static int open_first_loop(void **state)
{
	uv_loop_t loop;
	(void)state;
	return uv_loop_init(&loop) < 0 || uv_loop_close(&loop) < 0 ? -1 : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_what_was_started_stays_watched),
		TEST(test_one_watch_too_many_is_an_error),
	};
	return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
