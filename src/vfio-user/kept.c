/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A request is worked on in memory that dies with the process. What it has changed is then written
 * to the copy that does not count, and one store makes that copy the one that does. A kill before
 * that store undoes the request, and the next process does it again, from the same bytes; a kill
 * behind it finds it done, and its reply in the kept memory. So there is one point in each request,
 * and not a note for each thing that a request can change.
 *
 * Two things are not undone by a kill: what the kernel has taken from the VMM's socket or put into
 * it, which it notes itself (base/fdpass.h), and eventfds that were written, the VMM's and other
 * peers'. Those are written again. An eventfd that is written twice says what it says once, and a
 * doorbell does not say how often it was rung.
 *
 * A commit is made for each request, so it must be cheap: the state of the device and the numbers
 * of its descriptors are in copies of their own, which are written only when they have changed. In
 * most requests they have not.
 *
 * Peers ring outside of requests, and may do so while the VMM's thread is busy with its connection.
 * A commit of theirs would come between that connection and what the kernel notes for it. So a ring
 * does not commit: its vector is marked before it is passed on, and unmarked if that has left
 * nothing behind (the VMM's eventfd is written). Else the next commit voids the mark, by counting
 * how often the device's state was saved. Who finds a mark rings once more.
 *
 * INTx's mask is not kept: it begins unmasked, as after each new eventfd (irqs.c), and if the level
 * is high the VMM hears it once more, or not, if it unmasks before it has looked.
 *
 * Rejected: to keep the descriptors of a message as one set. It would save a few messages to the
 * holder when a VMM sets up its interrupts, and need counting who still uses the set.
 */
#include "vfio-user/kept.h"

#include "vfio-user/kept_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct vfu_kept *vfu_kept_make(const struct vfu_kept_state *state, const struct vfu_holder *holder)
{
	struct vfu_kept *kept = malloc(sizeof(*kept));
	uint64_t *numbers = calloc(vfu_irqs_slots(state->vectors), sizeof(*numbers));

	if (!kept || !numbers) {
		free(kept);
		free(numbers);
		return NULL;
	}
	*kept = (struct vfu_kept){.state = *state, .holder = *holder, .numbers = numbers};
	/* The kernel's notes must not fail for want of memory, as far as we may see to that. */
	(void)mlock(state->header, sizeof(*state->header));
	return kept;
}

int vfu_kept_create(struct vfu_kept **kept, void *memory, const struct vfu_kept_identity *identity,
	const struct vfu_holder *holder)
{
	struct vfu_kept_state state;
	size_t size = vfu_kept_lay_out(&state, memory, identity->vectors);
	uint64_t magic;

	*kept = vfu_kept_make(&state, holder);
	if (!*kept)
		return -ENOMEM;
	*state.header = (struct vfu_kept_header){
		.version = VFU_KEPT_VERSION,
		.header_size = sizeof(*state.header),
		.size = size,
		.identity = *identity,
		.take.at = UINT64_MAX,
		.send.at = UINT64_MAX,
	};
	memcpy(&magic, VFU_KEPT_MAGIC, sizeof(magic));
	kept_commit((uint64_t *)(void *)state.header->magic, magic);
	return 0;
}

void vfu_kept_destroy(struct vfu_kept *kept)
{
	if (!kept)
		return;
	free(kept->numbers);
	free(kept);
}

uint64_t vfu_kept_restarts(const struct vfu_kept *kept)
{
	return kept->state.header->restarts;
}

/*
 * Commits
 */

/* Number of the copy that does not count: 1 or 2. */
static uint8_t other_copy(uint8_t copy)
{
	return copy == 1 ? 2 : 1;
}

static bool is_loose(const struct vfu_kept *kept, uint64_t number)
{
	for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
		if (kept->numbers[slot] == number)
			return false;
	}
	return true;
}

/* What the commit before had and this one has not. A number is never in two places. */
static void drop_replaced(struct vfu_kept *kept, const uint64_t *before)
{
	for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
		if (before[slot] != 0 && before[slot] != kept->numbers[slot])
			kept->holder.drop(kept->holder.data, before[slot]);
	}
}

static void drop_loose(struct vfu_kept *kept)
{
	while (kept->n_loose > 0) {
		uint64_t number = kept->loose[--kept->n_loose];
		if (is_loose(kept, number))
			kept->holder.drop(kept->holder.data, number);
	}
}

/* In the copies that do not count; says in `next` that they do. */
static void write_function(
	struct vfu_kept *kept, struct vfu_kept_block *next, const struct vfu_function *function)
{
	if (ivshmem_pci_changes(function->pci) != kept->changes) {
		next->core = other_copy(next->core);
		kept->saves++; /* which voids all marks of rings: this copy has them */
		ivshmem_pci_save(function->pci, kept->state.cores[next->core - 1]);
		kept->changes = ivshmem_pci_changes(function->pci);
	}
	if (kept->irqs_changed) {
		next->irqs = other_copy(next->irqs);
		memcpy(kept->state.irqs[next->irqs - 1], kept->numbers,
			vfu_kept_slots(kept) * sizeof(*kept->numbers));
	}
}

void vfu_kept_commit(struct vfu_kept *kept, const struct vfu_kept_block *block,
	const struct vfu_function *function)
{
	struct vfu_kept_header *header = kept->state.header;
	const struct vfu_kept_block *before = vfu_kept_current(&kept->state);
	struct vfu_kept_block *next = &header->blocks[(header->current + 1) % 2];
	bool irqs_changed = function && kept->irqs_changed;

	*next = *block;
	next->numbered = header->last_number;
	next->core = before->core;
	next->irqs = before->irqs;
	if (function)
		write_function(kept, next, function);
	next->saves = kept->saves;
	kept_commit(&header->current, header->current + 1);

	if (irqs_changed) {
		kept->irqs_changed = false;
		if (before->irqs > 0)
			drop_replaced(kept, kept->state.irqs[before->irqs - 1]);
	}
	drop_loose(kept);
}

/*
 * Descriptors
 */

int vfu_kept_put(struct vfu_kept *kept, const int *fds, size_t n, uint64_t *first)
{
	uint64_t *last = &kept->state.header->last_number;

	*first = *last + 1;
	for (size_t i = 0; i < n; i++) {
		kept_commit(last, *last + 1); /* never given twice, whatever becomes of this one */
		int error = kept->holder.put(kept->holder.data, *last, &fds[i], 1);
		if (error < 0)
			return error;
	}
	return 0;
}

void vfu_kept_loosen(struct vfu_kept *kept, uint64_t first, size_t n)
{
	assert(n <= VFU_KEPT_LOOSE_MAX - kept->n_loose);
	for (size_t i = 0; i < n; i++)
		kept->loose[kept->n_loose++] = first + i;
}

/* All of them were open when the request came, so a descriptor that is none of `fds` is an old one
 * and has its number. */
void vfu_kept_note_irqs(struct vfu_kept *kept, const struct vfu_irqs *irqs, const int *fds,
	size_t n, uint64_t first)
{
	for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
		int fd = vfu_irqs_fd(irqs, slot);
		uint64_t number = fd < 0 ? 0 : kept->numbers[slot];

		for (size_t i = 0; fd >= 0 && i < n; i++) {
			if (fds[i] == fd)
				number = first + i;
		}
		kept->irqs_changed |= kept->numbers[slot] != number;
		kept->numbers[slot] = number;
	}
}

/*
 * Rings
 */

struct vfu_kept_ring vfu_kept_ring_begin(
	struct vfu_kept *kept, const struct ivshmem_pci *pci, unsigned vector)
{
	struct vfu_kept_ring ring = {.changes = ivshmem_pci_changes(pci), .known = true};

	if (vector < kept->state.vectors) {
		ring.known = vfu_kept_is_heard(kept, vector);
		kept_commit(&kept->state.heard[vector], kept->saves + 1);
	}
	return ring;
}

void vfu_kept_ring_end(struct vfu_kept *kept, const struct ivshmem_pci *pci, unsigned vector,
	struct vfu_kept_ring ring)
{
	if (!ring.known && ivshmem_pci_changes(pci) == ring.changes)
		kept_commit(&kept->state.heard[vector], 0);
}

void vfu_kept_hearing(struct vfu_kept *kept, bool hearing)
{
	kept_commit(&kept->state.header->hearing, hearing);
}

bool vfu_kept_was_hearing(const struct vfu_kept *kept)
{
	return kept->state.header->hearing;
}
