/* SPDX-License-Identifier: MIT */
/* A function with the real device core behind it, and a VMM's messages to it. */
#ifndef TESTS_VFUBOX_H
#define TESTS_VFUBOX_H

#include "base/le.h"
#include "vfio-user/function.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BOX_SIZE 65536u /* of BAR2 */

struct vfubox {
	struct vfu_function function;
	uint8_t memory[BOX_SIZE];
	unsigned rings, peer, vector; /* doorbells that the guest rang, and the last one */
	unsigned watches;
	int watched;    /* what the loop would watch */
	bool old_valid; /* when it was told, was what it watched before still open? */
};

static inline void vfubox_ring(void *data, unsigned peer, unsigned vector)
{
	struct vfubox *box = data;
	box->rings++;
	box->peer = peer;
	box->vector = vector;
}

static inline void vfubox_watch(void *data, int fd)
{
	struct vfubox *box = data;
	box->watches++;
	if (box->watched >= 0)
		box->old_valid = eventfd_write(box->watched, 1) == 0;
	box->watched = fd;
}

/* `fd` is what BAR2 is mapped by, or -1: trapped. 0 or -errno. */
static inline int vfubox_up(struct vfubox *box, unsigned revision, unsigned vectors, int fd)
{
	const struct vfu_function_config config = {
		.revision = revision,
		.vectors = vectors,
		.bar_size = BOX_SIZE,
		.position = 7,
		.memory = {.address = box->memory, .size = BOX_SIZE, .fd = fd},
		.ring = vfubox_ring,
		.watch_resample = vfubox_watch,
		.data = box,
	};
	memset(box, 0, sizeof(*box));
	box->watched = -1;
	return vfu_function_init(&box->function, &config);
}

/* The guest's accesses, as little as the tests need. */
static inline void vfubox_write(
	struct vfubox *box, unsigned region, uint64_t offset, uint32_t value, size_t size)
{
	uint8_t bytes[4];
	store_le(bytes, sizeof(bytes), value);
	vfu_function_write(&box->function, region, offset, bytes, size);
}

static inline uint32_t vfubox_read(
	struct vfubox *box, unsigned region, uint64_t offset, size_t size)
{
	uint8_t bytes[4] = {0};
	vfu_function_read(&box->function, region, offset, bytes, size);
	return (uint32_t)load_le(bytes, sizeof(bytes));
}

#define BOX_COMMAND      4
#define BOX_INTX_DISABLE 0x400
#define BOX_MSIX_CONTROL 0x42
#define BOX_MSIX_ENABLE  0x8000

/* A message; returns its size. */
static inline size_t vfubox_message(uint8_t *out, unsigned id, unsigned command, uint32_t flags,
	const void *payload, size_t size)
{
	const struct vfu_header header = {
		.id = (uint16_t)id,
		.command = (uint16_t)command,
		.size = (uint32_t)(VFU_HEADER_SIZE + size),
		.flags = flags,
	};
	memcpy(out, &header, sizeof(header));
	if (size > 0)
		memcpy(out + sizeof(header), payload, size);
	return header.size;
}

#endif
