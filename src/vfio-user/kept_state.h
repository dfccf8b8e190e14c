/* SPDX-License-Identifier: MIT */
/*
 * The memory of a kept device, as structures; docs/restart.md has it byte by byte. All numbers are
 * in the host's byte order but for those of the device's own state: the memory never leaves the
 * machine.
 */
#ifndef VFIO_USER_KEPT_STATE_H
#define VFIO_USER_KEPT_STATE_H

#include "base/commit.h"
#include "base/fdpass.h"
#include "vfio-user/device.h"
#include "vfio-user/kept.h"
#include "vfio-user/message.h"

#define VFU_KEPT_MAGIC   "ivshdevk"
#define VFU_KEPT_VERSION 1u

/* A message that is incomplete begins in the first half of the buffer, so all of it has room. */
#define VFU_KEPT_IN_SIZE ((size_t)2 * VFU_MESSAGE_MAX)

/* Descriptors that have come with the message that begins at in[owner]: held as `first` and so on.
 */
struct vfu_kept_fds {
	uint64_t first;
	uint32_t owner, n;
};

/* All that one commit changes. All zero: a VMM that has said nothing yet. */
struct vfu_kept_block {
	uint64_t numbered; /* the highest number of a descriptor so far */
	uint64_t saves;    /* how often the device's state was saved for this VMM */
	struct vfu_kept_fds early, late;
	uint32_t at, have;               /* requests that are not handled yet: in[at .. have) */
	uint32_t reply_size, reply_sent; /* of the reply in `out`; 0: there is none */
	uint32_t guest_restarts;
	uint8_t reply_with_fd, closing;
	uint8_t agreed, configured, trapped;
	uint8_t core; /* which copy of the device's state: 1 or 2, or 0: as after reset */
	uint8_t irqs; /* which copy of the descriptors' numbers: 1 or 2, or 0: all are 0 */
	uint8_t unused[5];
};

/* A read, or a write, that the kernel notes. It was begun behind commit `at`, or is over. */
struct vfu_kept_take {
	uint64_t at;
	uint64_t size;     /* bytes that were looked at */
	uint64_t first, n; /* descriptors that came with them */
	struct fdpass_note note;
};

struct vfu_kept_send {
	uint64_t at;
	struct fdpass_note note;
};

struct vfu_kept_header {
	char magic[8];
	uint32_t version;
	uint32_t header_size; /* of this structure */
	uint64_t size;        /* of the whole memory */
	struct vfu_kept_identity identity;
	uint64_t restarts;
	uint64_t attached;    /* number of the VMM's connection, or 0 */
	uint64_t current;     /* number of the last commit: blocks[current % 2] is true */
	uint64_t last_number; /* the highest number of a descriptor that was ever put */
	uint64_t hearing;     /* 0 or 1 */
	struct vfu_kept_take take;
	struct vfu_kept_send send;
	struct vfu_kept_block blocks[2];
};

/* The parts of a memory. */
struct vfu_kept_state {
	struct vfu_kept_header *header;
	uint64_t *heard;   /* for each vector `saves` + 1: a ring that this copy has not */
	uint64_t *irqs[2]; /* number of each descriptor, in the order of vfu_irqs_fd(); 0: none */
	uint8_t *cores[2]; /* ivshmem_pci_save() */
	uint8_t *in, *out;
	unsigned vectors;
};

/* Where the parts are, in a memory for so many vectors; returns its size. */
size_t vfu_kept_lay_out(struct vfu_kept_state *state, void *memory, unsigned vectors);

/* Of the function that has this identity; with fewer, its parts are not used to their end. */
unsigned vfu_kept_msix(const struct vfu_kept_identity *identity);

/* Is all of it possible? 0, or an error of vfu_kept_resume() and the field that is not. */
int vfu_kept_check(struct vfu_kept_state *state, void *memory, size_t size,
	const struct vfu_kept_identity *identity, struct vfu_why *why);

static inline struct vfu_kept_block *vfu_kept_current(const struct vfu_kept_state *state)
{
	return &state->header->blocks[state->header->current % 2];
}

/* Where the bytes of a read go: behind what is there, or to the front if all of it is handled. */
static inline uint32_t vfu_kept_from(const struct vfu_kept_block *block)
{
	return block->at == block->have ? 0 : block->have;
}

#endif
