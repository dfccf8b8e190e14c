/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A box is the receiving end of a pair of sockets. One message with the descriptors waits in it,
 * and the sending end is closed, so nothing can follow. To read a message without taking it out
 * (MSG_PEEK) makes new copies of its descriptors each time. The kernel keeps all of it alive as
 * long as somebody has the box, be it in a message, too.
 *
 * Rejected: to keep each descriptor under a name of its own. systemd compares each new descriptor
 * with all that it has, so the thousandth costs a hundred times the tenth; and without the kernel's
 * kcmp() it takes all eventfds for one and the same.
 */
#include "base/fdset.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

union many_fds {
	struct cmsghdr header;
	char space[CMSG_SPACE(FDSET_MAX * sizeof(int))];
};

int fdset_pack(const int *fds, size_t n)
{
	union many_fds control = {0};
	char byte = 0;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = (unsigned)CMSG_SPACE(n * sizeof(int)),
	};
	int pair[2];

	if (n == 0 || n > FDSET_MAX)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = (unsigned)CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));

	int result = pair[0];
	/* By number: the sendmsg() of musl before 1.2.4 has room for 252 descriptors. */
	if (syscall(SYS_sendmsg, pair[1], &msg, MSG_NOSIGNAL | MSG_DONTWAIT) != 1) {
		result = -errno;
		close(pair[0]);
	}
	close(pair[1]);
	return result;
}

/* The descriptors of the one control message that there is. */
static size_t take_fds(struct msghdr *msg, int fds[FDSET_MAX])
{
	struct cmsghdr *header = CMSG_FIRSTHDR(msg);

	if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
		return 0;
	size_t n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(header), n * sizeof(int));
	return n;
}

int fdset_unpack(int box, int *fds, size_t max)
{
	union many_fds control;
	int found[FDSET_MAX];
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};

	if (recvmsg(box, &msg, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) < 0)
		return -EBADMSG;
	size_t n = take_fds(&msg, found);
	int result = (int)n;
	if (msg.msg_flags & MSG_CTRUNC)
		result = -EMFILE;
	else if (n == 0)
		result = -EBADMSG;
	else if (n > max)
		result = -E2BIG;
	else
		memcpy(fds, found, n * sizeof(int));
	while (result < 0 && n > 0)
		close(found[--n]);
	return result;
}
