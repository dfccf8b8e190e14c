/* SPDX-License-Identifier: MIT */
/*
 * responder - a vfio-user device with nothing in it: it answers register accesses with replies of
 * the right size. One recvmsg() and one sendmsg() a request.
 *
 *     responder block|epoll|poll two|one
 *
 * "block" sleeps in recvmsg(), as a thread with nothing else to wait for can; "epoll" in
 * epoll_wait(), as one with several sockets and eventfds must; "poll" looks again and again. The
 * client and it are on two CPUs, or both on one.
 */
#include "access.h"
#include "common.h"
#include "round.h"

#include "vfio-user/message.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

struct responder {
	int sock;
	bool poll;
	int epoll; /* -1: not used */
};

/* What a client sends at once fits into `buffer`, and so no message is ever cut off. */
static ssize_t receive(const struct responder *responder, uint8_t *buffer, size_t size)
{
	char control[CMSG_SPACE(VFU_FDS_MAX * sizeof(int))];
	struct iovec iov = {buffer, size};
	struct msghdr message = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control)};
	struct epoll_event event;
	ssize_t got;

	if (responder->epoll >= 0 && epoll_wait(responder->epoll, &event, 1, -1) < 0)
		die("epoll_wait");
	do {
		got = recvmsg(responder->sock, &message, responder->poll ? MSG_DONTWAIT : 0);
	} while (got < 0 && errno == EAGAIN);
	return got;
}

static void reply(const struct responder *responder, const struct vfu_header *request)
{
	uint8_t bytes[VFU_HEADER_SIZE + sizeof(struct vfu_region_access) + sizeof(uint32_t)] = {0};
	bool read = request->command == VFU_REGION_READ;
	struct vfu_header header = {
		.id = request->id,
		.command = request->command,
		.size = (uint32_t)(sizeof(bytes) - (read ? 0 : sizeof(uint32_t))),
		.flags = VFU_TYPE_REPLY,
	};

	memcpy(bytes, &header, sizeof(header));
	struct iovec iov = {bytes, header.size};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
	if (sendmsg(responder->sock, &message, MSG_NOSIGNAL) != header.size)
		die("sending a reply");
}

static void respond(void *data)
{
	const struct responder *responder = data;
	static uint8_t buffer[VFU_MESSAGE_MAX];

	for (;;) {
		ssize_t got = receive(responder, buffer, sizeof(buffer));
		if (got <= 0)
			die("receiving");
		struct vfu_header header;
		for (ssize_t at = 0; at < got; at += header.size) {
			memcpy(&header, buffer + at, sizeof(header));
			if (!(header.flags & VFU_NO_REPLY))
				reply(responder, &header);
		}
	}
}

static struct responder make(const char *mode, int sock)
{
	struct responder responder = {.sock = sock, .epoll = -1};
	struct epoll_event event = {.events = EPOLLIN};

	responder.poll = strcmp(mode, "poll") == 0;
	if (strcmp(mode, "epoll") != 0)
		return responder;
	responder.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (responder.epoll < 0 || epoll_ctl(responder.epoll, EPOLL_CTL_ADD, sock, &event) < 0)
		die("epoll");
	return responder;
}

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 2, "responder block|epoll|poll");
	char name[32];
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		die("socketpair");
	struct responder responder = make(argv[1], socks[1]);
	pid_t other = spawn(one ? cpu_a() : cpu_b(), respond, &responder);
	snprintf(name, sizeof(name), "empty-%s", argv[1]);
	access_measure(one, name, socks[0]);
	reap(other);
	return 0;
}
