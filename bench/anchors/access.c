/* SPDX-License-Identifier: MIT */
#include "access.h"

#include "common.h"

#include "ivshmem/abi.h"
#include "vfio-user/message.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define WARM_UP     200
#define MEASURED_NS 100000000
#define SAMPLES_MAX (1 << 16)
#define BURST       32 /* posted writes */
#define NOBODY      IVSHMEM_DOORBELL(IVSHMEM_MAX_ID, 0)

struct message {
	struct vfu_header header;
	struct vfu_region_access access;
	uint32_t data;
};

#define BARE_SIZE (offsetof(struct message, data)) /* read request, write reply */
#define DATA_SIZE (BARE_SIZE + sizeof(uint32_t))   /* write request, read reply */

static void request(int sock, unsigned command, uint32_t flags, uint32_t offset, uint32_t data)
{
	size_t size = command == VFU_REGION_WRITE ? DATA_SIZE : BARE_SIZE;
	struct message message = {
		.header = {.command = (uint16_t)command, .size = (uint32_t)size, .flags = flags},
		.access = {.offset = offset, .count = sizeof(data)},
		.data = data,
	};

	if (send(sock, &message, size, 0) != (ssize_t)size)
		die("sending a request");
}

static void await(int sock, size_t size)
{
	struct message message;
	ssize_t got = recv(sock, &message, size, MSG_WAITALL);

	if (got != (ssize_t)size || message.header.flags != VFU_TYPE_REPLY)
		die("receiving a reply");
}

static void do_read(int sock)
{
	request(sock, VFU_REGION_READ, 0, IVSHMEM_REG_IVPOSITION, 0);
	await(sock, DATA_SIZE);
}

static void do_write(int sock)
{
	request(sock, VFU_REGION_WRITE, 0, IVSHMEM_REG_DOORBELL, NOBODY);
	await(sock, BARE_SIZE);
}

static void do_posted(int sock)
{
	for (int i = 0; i < BURST - 1; i++)
		request(sock, VFU_REGION_WRITE, VFU_NO_REPLY, IVSHMEM_REG_DOORBELL, NOBODY);
	do_read(sock);
}

void access_measure(bool one, const char *who, int sock)
{
	static const struct {
		const char *name;
		void (*make)(int sock);
		unsigned accesses;
	} kinds[] = {{"read", do_read, 1}, {"write", do_write, 1}, {"posted", do_posted, BURST}};
	static uint64_t samples[SAMPLES_MAX];

	for (size_t kind = 0; kind < sizeof(kinds) / sizeof(*kinds); kind++) {
		char name[64];
		size_t n = 0;

		if (one)
			test_one_cpu();
		else
			test_begin();
		for (int i = 0; i < WARM_UP; i++)
			kinds[kind].make(sock);
		uint64_t start = now_ns(), before = start;
		do {
			kinds[kind].make(sock);
			uint64_t now = now_ns();
			samples[n++] = now - before;
			before = now;
		} while (n < SAMPLES_MAX && before - start < MEASURED_NS);
		if (!one)
			test_end();
		snprintf(name, sizeof(name), "access.%s.%s.%s", who, kinds[kind].name,
			one ? "one" : "two");
		emit(name, (double)quantile(samples, n, 0.5) / 1e3 / kinds[kind].accesses, "us");
	}
}
