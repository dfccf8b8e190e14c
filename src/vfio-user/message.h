/* SPDX-License-Identifier: MIT */
/*
 * message - the vfio-user protocol on the wire, pure: which bytes are a message, what its fields
 * are, how a reply looks. Everything is in the host's byte order.
 *
 * Names and layouts follow the protocol's specification, whose fixed structures are written down
 * here as C structures; none has padding. Replies are never longer than the requester's buffer
 * (docs/vfio-user.md, section 2).
 */
#ifndef VFIO_USER_MESSAGE_H
#define VFIO_USER_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VFU_HEADER_SIZE 16
#define VFU_DATA_MAX    16384 /* bytes in one region access: announced as max_data_xfer_size */
#define VFU_MESSAGE_MAX (VFU_HEADER_SIZE + 16 + VFU_DATA_MAX)
#define VFU_FDS_MAX     16 /* descriptors in one message: announced as max_msg_fds */

enum vfu_command {
	VFU_VERSION = 1,
	VFU_DMA_MAP = 2,
	VFU_DMA_UNMAP = 3,
	VFU_GET_INFO = 4,
	VFU_GET_REGION_INFO = 5,
	VFU_GET_REGION_IO_FDS = 6,
	VFU_GET_IRQ_INFO = 7,
	VFU_SET_IRQS = 8,
	VFU_REGION_READ = 9,
	VFU_REGION_WRITE = 10,
	VFU_DMA_READ = 11,
	VFU_DMA_WRITE = 12,
	VFU_RESET = 13,
	VFU_REGION_WRITE_MULTI = 15,
	VFU_FEATURE = 16,
	VFU_MIG_DATA_READ = 17,
	VFU_MIG_DATA_WRITE = 18,
};

/* Bits of vfu_header.flags; bits 0..3 are the type. */
enum {
	VFU_TYPE_MASK = 0xf,
	VFU_TYPE_COMMAND = 0,
	VFU_TYPE_REPLY = 1,
	VFU_NO_REPLY = 1 << 4,
	VFU_ERROR = 1 << 5,
};

enum { /* device info, region info, irq info */
	VFU_DEVICE_RESET = 1 << 0,
	VFU_DEVICE_PCI = 1 << 1,
	VFU_REGION_READABLE = 1 << 0,
	VFU_REGION_WRITABLE = 1 << 1,
	VFU_REGION_MMAP = 1 << 2,
	VFU_IRQ_EVENTFD = 1 << 0,
	VFU_IRQ_MASKABLE = 1 << 1,
	VFU_IRQ_AUTOMASKED = 1 << 2,
};

enum { /* vfu_set_irqs.flags: one of DATA and one of ACTION */
	VFU_DATA_NONE = 1 << 0,
	VFU_DATA_BOOL = 1 << 1,
	VFU_DATA_EVENTFD = 1 << 2,
	VFU_ACTION_MASK = 1 << 3,
	VFU_ACTION_UNMASK = 1 << 4,
	VFU_ACTION_TRIGGER = 1 << 5,
};

enum { VFU_REGION_ROM = 6, VFU_REGION_CONFIG = 7, VFU_REGION_VGA = 8, VFU_REGIONS = 9 };
enum { VFU_INTX = 0, VFU_MSI = 1, VFU_MSIX = 2, VFU_ERR = 3, VFU_REQ = 4, VFU_IRQS = 5 };

struct vfu_header {
	uint16_t id, command;
	uint32_t size; /* of the whole message */
	uint32_t flags;
	uint32_t error; /* errno, with VFU_ERROR */
};

struct vfu_version {
	uint16_t major, minor;
};

struct vfu_dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, size;
};

struct vfu_dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, size;
};

struct vfu_device_info {
	uint32_t argsz, flags, num_regions, num_irqs;
};

struct vfu_region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t size, offset;
};

struct vfu_irq_info {
	uint32_t argsz, flags, index, count;
};

struct vfu_region_io_fds {
	uint32_t argsz, flags, index, count;
};

struct vfu_set_irqs {
	uint32_t argsz, flags, index, start, count;
};

struct vfu_region_access {
	uint64_t offset;
	uint32_t region, count;
};

/* Find the first message in `have` bytes. */
enum vfu_frame {
	VFU_FRAME_MORE,  /* not complete: read on; *header is filled if that much is there */
	VFU_FRAME_WHOLE, /* *header is filled; header->size bytes are the message */
	VFU_FRAME_BAD,   /* no message at all, or one over VFU_MESSAGE_MAX: close the connection */
};
enum vfu_frame vfu_frame(const uint8_t *bytes, size_t have, struct vfu_header *header);

/*
 * Fixed structure of a payload: copies `size` bytes from the start of `payload` into `out`; false
 * if there are fewer. What follows it is the payload's `rest`.
 */
bool vfu_take(const uint8_t *payload, size_t payload_size, void *out, size_t size);

/*
 * A reply under construction, in a buffer of VFU_MESSAGE_MAX bytes.
 */
struct vfu_reply {
	uint8_t *bytes;
	size_t size; /* so far, with the header's place */
	int fd;      /* to send along, borrowed; -1: none */
};

void vfu_reply_init(struct vfu_reply *reply, uint8_t *buffer);

/* Append `size` bytes; returns where they stand, for filling in later (`bytes` may be NULL: zeros).
 * The caller keeps within VFU_MESSAGE_MAX. */
uint8_t *vfu_reply_add(struct vfu_reply *reply, const void *bytes, size_t size);

/* Write the header: a success, or an error (errno, positive) without any payload. */
void vfu_reply_finish(struct vfu_reply *reply, const struct vfu_header *request, int error);

#endif
