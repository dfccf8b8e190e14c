/* SPDX-License-Identifier: MIT */
/* A VMM and a device on a socket pair. The device is kept, if wanted. */
#ifndef TESTS_VFUPAIR_H
#define TESTS_VFUPAIR_H

#include "fdcheck.h"
#include "vfubox.h"
#include "vfukept.h"

#include "base/fdpass.h"
#include "vfio-user/connection.h"

#include <errno.h>
#include <sys/socket.h>

/* The device's end of a connection, and the VMM's. */
struct pair {
	struct vfubox box;
	struct keptbox keptbox; /* if `keeping` */
	struct vfu_connection *connection;
	int vmm;
};

static struct pair pair; /* large */

static bool keeping;

static unsigned lines;

static inline void count_line(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	(void)line;
	lines++;
}

static struct log counting = {LOG_LEVEL_WARNING, count_line};

static inline void connect_to(struct vfu_function *function)
{
	int ends[2];
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends), 0);
	if (function && function->kept)
		vfu_kept_attach(function->kept, 1);
	assert_int_equal(
		vfu_connection_create(&pair.connection, ends[0], function, "test", &counting), 0);
	pair.vmm = ends[1];
	lines = 0;
}

/* Send bytes with descriptors, which are closed on this side. */
static inline void send_fds(const void *bytes, size_t size, int *fds, size_t n_fds)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(64 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = (unsigned)CMSG_SPACE(n_fds * sizeof(int));
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = (unsigned)CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	assert_int_equal(sendmsg(pair.vmm, &msg, MSG_NOSIGNAL), size);
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
}

static inline void send_bytes(const void *bytes, size_t size)
{
	send_fds(bytes, size, NULL, 0);
}

static inline enum vfu_wait ready(unsigned expected)
{
	unsigned requests = 0;
	enum vfu_wait wait = vfu_connection_ready(pair.connection, &requests);
	assert_int_equal(requests, expected);
	return wait;
}

/* Read one reply of exactly `size` bytes and check its header; `out` gets the payload. */
static inline int receive(unsigned id, unsigned command, uint32_t error, size_t size, void *out)
{
	static uint8_t bytes[VFU_MESSAGE_MAX];
	int fds[FDPASS_RECV_MAX];
	size_t n_fds;
	struct vfu_header header;

	assert_int_equal(fdpass_recv(pair.vmm, bytes, size, fds, &n_fds), size);
	memcpy(&header, bytes, sizeof(header));
	assert_int_equal(header.id, id);
	assert_int_equal(header.command, command);
	assert_int_equal(header.error, error);
	assert_int_equal(header.size, size);
	assert_int_equal(header.flags, error ? 0x21 : 1);
	if (out)
		memcpy(out, bytes + 16, size - 16);
	assert_true(n_fds <= 1);
	return n_fds > 0 ? fds[0] : -1;
}

static inline void nothing_came(void)
{
	uint8_t byte;
	assert_int_equal(recv(pair.vmm, &byte, 1, 0), -1);
	assert_int_equal(errno, EAGAIN);
}

/* What is kept is looked at before it is taken, so what ended it may not have been read. */
static inline void has_ended(void)
{
	uint8_t byte;
	ssize_t got = recv(pair.vmm, &byte, 1, 0);
	assert_true(got == 0 || (keeping && got < 0 && errno == ECONNRESET));
}

static const struct vfu_version version = {0, 0};
enum { VERSION_REPLY = 16 + 4 + 63 };

static inline size_t add(
	uint8_t *out, unsigned id, unsigned command, const void *payload, size_t size)
{
	return vfubox_message(out, id, command, 0, payload, size);
}

static inline size_t add_set_irqs(uint8_t *out, unsigned id, uint32_t start, uint32_t count)
{
	const struct vfu_set_irqs set = {
		sizeof(set), VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER, VFU_MSIX, start, count};
	return add(out, id, VFU_SET_IRQS, &set, sizeof(set));
}

static inline void function_up(unsigned revision, unsigned vectors, int fd)
{
	assert_int_equal(vfubox_up(&pair.box, revision, vectors, fd), 0);
	if (!keeping)
		return;
	keptbox_up(&pair.keptbox, revision, vectors);
	pair.box.function.kept = pair.keptbox.kept;
}

/* The connection is destroyed. */
static inline void function_down(void)
{
	if (keeping) {
		vfu_kept_detach(pair.keptbox.kept);
		keptbox_down(&pair.keptbox);
	}
	vfu_function_fini(&pair.box.function);
}

/* Up and agreed, with MSI-X enabled. */
static inline void up(unsigned vectors, int fd)
{
	uint8_t bytes[64];

	function_up(1, vectors, fd);
	connect_to(&pair.box.function);
	send_bytes(bytes, add(bytes, 1, VFU_VERSION, &version, sizeof(version)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(1, VFU_VERSION, 0, VERSION_REPLY, NULL);
	vfubox_write(&pair.box, VFU_REGION_CONFIG, BOX_COMMAND, 2, 2);
	vfubox_write(&pair.box, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
}

static inline void down(void)
{
	vfu_connection_destroy(pair.connection);
	has_ended();
	close(pair.vmm);
	function_down();
}

/* All tests of a group, without anything that is kept and with. */
static inline int run_both_ways(const char *name, const struct CMUnitTest *tests, size_t n)
{
	int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
	keeping = true;
	return failed + _cmocka_run_group_tests("kept", tests, n, NULL, NULL);
}

#endif
