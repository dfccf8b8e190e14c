/* SPDX-License-Identifier: MIT */
/*
 * IDs 0..65535, longest unused first: fresh ones in ascending order, then the returned ones in the
 * order in which they came back. QEMU's device frees memory twice when an ID that it has seen leave
 * comes back, so reuse is put off as long as possible (docs/decisions/0003-ids-and-queues.md).
 *
 * An ID that a rule reserves is never given by ids_take(), only by its number.
 */
#ifndef SERVER_IDS_H
#define SERVER_IDS_H

#include "server/policy.h"

#include <ivshmem/abi.h>

#include <stdint.h>

#define IDS_COUNT (IVSHMEM_MAX_ID + 1)

struct ids {
	const struct policy *policy; /* reserves IDs; NULL: none. Borrowed */
	uint16_t *returned;          /* ring of IDS_COUNT; touched only once IDs come back */
	uint32_t head, count;
	uint32_t fresh; /* IDs from here on were never used, but for these: */
	uint64_t early[IDS_COUNT / 64];
};

int ids_init(struct ids *ids); /* 0 or -ENOMEM */
void ids_fini(struct ids *ids);

/* The next ID, or -ENOSPC if all are in use, in quarantine or reserved. */
int ids_take(struct ids *ids);

/* This one: 0, or -EBUSY if it is in use or in quarantine. */
int ids_take_exactly(struct ids *ids, uint16_t id);

/* Give back an ID that nobody mentions any more. */
void ids_return(struct ids *ids, uint16_t id);

/* Undo the latest ids_take(), as if it had not happened. */
void ids_untake(struct ids *ids, uint16_t id);

/*
 * As they were: of the first `n` IDs, those that are in use (bits), and those whose last holder has
 * left, at the time that left_at[] says (0: it never had one). Only right after ids_init(). 0 or
 * -ENOMEM.
 */
int ids_restore(struct ids *ids, const uint64_t *left_at, unsigned n, const uint64_t *in_use);

#endif
