/* SPDX-License-Identifier: MIT */
/*
 * IDs 0..65535, longest unused first: fresh ones in ascending order, then the returned ones in the
 * order in which they came back. QEMU's device frees memory twice when an ID that it has seen leave
 * comes back, so reuse is put off as long as possible (docs/decisions/0003-ids-and-queues.md).
 */
#ifndef SERVER_IDS_H
#define SERVER_IDS_H

#include <ivshmem/abi.h>

#include <stdint.h>

#define IDS_COUNT (IVSHMEM_MAX_ID + 1)

struct ids {
	uint16_t *returned; /* ring of IDS_COUNT; touched only once IDs come back */
	uint32_t head, count;
	uint32_t fresh; /* IDs from here on were never used */
};

int ids_init(struct ids *ids); /* 0 or -ENOMEM */
void ids_fini(struct ids *ids);

/* The next ID, or -ENOSPC if all are in use or in quarantine. */
int ids_take(struct ids *ids);

/* Give back an ID that nobody mentions any more. */
void ids_return(struct ids *ids, uint16_t id);

/* Undo the latest ids_take(), as if it had not happened. */
void ids_untake(struct ids *ids, uint16_t id);

#endif
