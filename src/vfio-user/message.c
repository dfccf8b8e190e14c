/* SPDX-License-Identifier: MIT */
#include "vfio-user/message.h"

#include <assert.h>
#include <string.h>

static_assert(sizeof(struct vfu_header) == VFU_HEADER_SIZE, "as on the wire");
static_assert(sizeof(struct vfu_version) == 4, "as on the wire");
static_assert(sizeof(struct vfu_dma_map) == 32, "as on the wire");
static_assert(sizeof(struct vfu_dma_unmap) == 24, "as on the wire");
static_assert(sizeof(struct vfu_device_info) == 16, "as on the wire");
static_assert(sizeof(struct vfu_region_info) == 32, "as on the wire");
static_assert(sizeof(struct vfu_irq_info) == 16, "as on the wire");
static_assert(sizeof(struct vfu_region_io_fds) == 16, "as on the wire");
static_assert(sizeof(struct vfu_set_irqs) == 20, "as on the wire");
static_assert(sizeof(struct vfu_region_access) == 16, "as on the wire");

enum vfu_frame vfu_frame(const uint8_t *bytes, size_t have, struct vfu_header *header)
{
	if (have < VFU_HEADER_SIZE)
		return VFU_FRAME_MORE;
	memcpy(header, bytes, VFU_HEADER_SIZE);
	if (header->size < VFU_HEADER_SIZE || header->size > VFU_MESSAGE_MAX)
		return VFU_FRAME_BAD;
	return have < header->size ? VFU_FRAME_MORE : VFU_FRAME_WHOLE;
}

bool vfu_take(const uint8_t *payload, size_t payload_size, void *out, size_t size)
{
	if (payload_size < size)
		return false;
	memcpy(out, payload, size);
	return true;
}

void vfu_reply_init(struct vfu_reply *reply, uint8_t *buffer)
{
	reply->bytes = buffer;
	reply->size = VFU_HEADER_SIZE;
	reply->fd = -1;
}

uint8_t *vfu_reply_add(struct vfu_reply *reply, const void *bytes, size_t size)
{
	uint8_t *place = reply->bytes + reply->size;

	assert(size <= VFU_MESSAGE_MAX - reply->size);
	if (bytes)
		memcpy(place, bytes, size);
	else
		memset(place, 0, size);
	reply->size += size;
	return place;
}

void vfu_reply_finish(struct vfu_reply *reply, const struct vfu_header *request, int error)
{
	if (error != 0) {
		reply->size = VFU_HEADER_SIZE;
		reply->fd = -1;
	}
	const struct vfu_header header = {
		.id = request->id,
		.command = request->command,
		.size = (uint32_t)reply->size,
		.flags = error != 0 ? VFU_TYPE_REPLY | VFU_ERROR : VFU_TYPE_REPLY,
		.error = (uint32_t)error,
	};
	memcpy(reply->bytes, &header, sizeof(header));
}
