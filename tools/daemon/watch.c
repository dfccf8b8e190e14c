/* SPDX-License-Identifier: MIT */
#include "daemon/watch.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define MORE 4096 /* bytes: small pieces stay with malloc(), and realloc() does not look there */

/*
 * libuv has an array with a place for each descriptor up to the highest one, and aborts if it can't
 * be made larger. What could be had just now can be had again. The array's size is libuv's own
 * affair, but to ask for so much memory at each start would cost more than the start.
 */
static bool has_room(const uv_loop_t *loop, int fd)
{
	size_t n = 4;

	if ((unsigned)fd < loop->nwatchers)
		return true;
	while (n < (size_t)fd + 3) /* the next power of two, with two places that libuv adds */
		n *= 2;
	void *volatile room = malloc(n * sizeof(void *) + MORE);
	bool is_there = room != NULL;
	free(room);
	return is_there;
}

int watch_start(uv_poll_t *poll, int events, uv_poll_cb callback)
{
	uv_os_fd_t fd;
	int error = uv_fileno((uv_handle_t *)poll, &fd);
	if (error == 0 && !has_room(poll->loop, fd))
		error = UV_ENOMEM;
	if (error == 0)
		error = uv_poll_start(poll, events, callback); /* takes it out of the epoll set */
	if (error < 0)
		return error;

	/* What libuv finds there already it only changes, and that needs nothing new. */
	struct epoll_event nothing = {.data.fd = fd};
	if (epoll_ctl(uv_backend_fd(poll->loop), EPOLL_CTL_ADD, fd, &nothing) < 0) {
		error = -errno;
		uv_poll_stop(poll);
	}
	return error;
}

static void close_handle(uv_handle_t *handle, void *data)
{
	(void)data;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

void watch_end(uv_loop_t *loop)
{
	uv_walk(loop, close_handle, NULL);
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
}
