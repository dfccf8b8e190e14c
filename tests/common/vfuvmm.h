/* SPDX-License-Identifier: MIT */
/* A session with a function behind it, asked message by message. No socket. */
#ifndef TESTS_VFUVMM_H
#define TESTS_VFUVMM_H

#include "fdcheck.h"
#include "vfubox.h"

#include "vfio-user/session.h"

#include <stdio.h>

struct vmm {
	struct vfubox box;
	struct vfu_session session;
	struct vfu_reply reply;
	uint8_t buffer[VFU_MESSAGE_MAX];
	uint8_t request[VFU_MESSAGE_MAX];
};

static struct vmm vmm; /* large */

static unsigned lines;
static char last_line[512];

static inline void count_line(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	lines++;
	snprintf(last_line, sizeof(last_line), "%s", line);
}

static struct log counting = {LOG_LEVEL_WARNING, count_line};

/* Send a message; the reply, if there is one, must fit its own header. */
static inline enum vfu_outcome send_with(unsigned command, uint32_t flags, const void *payload,
	size_t size, const int *fds, size_t n_fds)
{
	static unsigned id;
	struct vfu_request request = {.fds = fds, .n_fds = n_fds};
	struct vfu_header header;

	vfubox_message(vmm.request, ++id, command, flags, payload, size);
	memcpy(&request.header, vmm.request, sizeof(request.header));
	request.payload = vmm.request + VFU_HEADER_SIZE;
	memset(vmm.buffer, 0xee, sizeof(vmm.buffer));
	vfu_reply_init(&vmm.reply, vmm.buffer);
	enum vfu_outcome outcome = vfu_session_handle(&vmm.session, &request, &vmm.reply);
	if (outcome != VFU_SEND && outcome != VFU_SEND_AND_CLOSE)
		return outcome;

	memcpy(&header, vmm.buffer, sizeof(header));
	assert_int_equal(header.id, id & 0xffff);
	assert_int_equal(header.command, command);
	assert_int_equal(header.size, vmm.reply.size);
	assert_int_equal(header.flags, header.error ? 0x21 : 1);
	return outcome;
}

/* The usual case: no descriptors, a reply; returns its errno. */
static inline uint32_t ask(unsigned command, const void *payload, size_t size)
{
	assert_int_equal(send_with(command, 0, payload, size, NULL, 0), VFU_SEND);
	struct vfu_header header;
	memcpy(&header, vmm.buffer, sizeof(header));
	if (header.error != 0)
		assert_int_equal(vmm.reply.size, 16);
	return header.error;
}

#define ASK(command, structure) ask(command, &(structure), sizeof(structure))

/* The reply's payload, which has exactly that size. */
#define ANSWER(type)                                                                               \
	(assert_int_equal(vmm.reply.size, 16 + sizeof(type)),                                      \
		*(type *)memcpy(&(type){0}, vmm.buffer + 16, sizeof(type)))

static inline void up(unsigned revision, unsigned vectors, int fd)
{
	const struct vfu_version version = {0, 0};

	assert_int_equal(vfubox_up(&vmm.box, revision, vectors, fd), 0);
	vfu_session_init(&vmm.session, &vmm.box.function, "test", &counting);
	assert_int_equal(ASK(VFU_VERSION, version), 0);
	lines = 0;
}

static inline void down(void)
{
	vfu_function_fini(&vmm.box.function);
}

#endif
