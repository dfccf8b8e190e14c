/* SPDX-License-Identifier: MIT */
#include "receive.h"

#include "common.h"

#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS   256
#define MESSAGES 64 /* of one socket before the next gets its turn */

void receive_add(int epoll, int sock)
{
	struct epoll_event event = {.events = EPOLLIN, .data.fd = sock};
	if (fcntl(sock, F_SETFL, O_NONBLOCK) < 0 ||
		epoll_ctl(epoll, EPOLL_CTL_ADD, sock, &event) < 0)
		die("watching a socket");
}

/* Returns whether there was a message. */
static int receive_one(int sock)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	int64_t number;
	struct iovec iov = {.iov_base = &number, .iov_len = sizeof(number)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control.space),
	};
	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC) != sizeof(number))
		return 0;
	const struct cmsghdr *header = CMSG_FIRSTHDR(&msg);
	if (header) {
		int fd;
		memcpy(&fd, CMSG_DATA(header), sizeof(fd));
		close(fd);
	}
	return 1;
}

uint64_t receive_ready(int epoll, int timeout_ms)
{
	static struct epoll_event events[EVENTS];
	uint64_t messages = 0;
	int n = epoll_wait(epoll, events, EVENTS, timeout_ms);

	for (int i = 0; i < n; i++)
		for (int k = 0; k < MESSAGES && receive_one(events[i].data.fd); k++)
			messages++;
	return messages;
}
