/* SPDX-License-Identifier: MIT */
#include "daemon/watch.h"

#include <errno.h>
#include <sys/epoll.h>

int watch_start(uv_poll_t *poll, int events, uv_poll_cb callback)
{
	uv_os_fd_t fd;
	int error = uv_fileno((uv_handle_t *)poll, &fd);
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
