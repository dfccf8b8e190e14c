/* SPDX-License-Identifier: MIT */
/*
 * A VMM comes, goes, or is taken over from an earlier process.
 *
 * Theory of operation
 *
 * A holder cannot be asked what it holds, and need not be. What may be held without need was put
 * behind the commit before the last one, or was named by it; and the copies that do not count still
 * have what it named. If they are half overwritten, then what the last commit has left is gone
 * already, and what is written in its place is being put. So all numbers that stand anywhere are
 * let go of, unless the last commit names them. To do that twice does no harm.
 */
#include "vfio-user/kept_internal.h"

#include "base/doorbell.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/*
 * What nobody needs
 */

static bool is_among(const struct vfu_kept_fds *fds, uint64_t number)
{
	return number >= fds->first && number - fds->first < fds->n;
}

/* `block` NULL: nobody needs anything. The number may be out of a copy that nobody has checked. */
static void drop_unless_needed(
	struct vfu_kept *kept, const struct vfu_kept_block *block, uint64_t number)
{
	if (number == 0 || number > kept->state.header->last_number)
		return;
	if (block) {
		if (is_among(&block->early, number) || is_among(&block->late, number))
			return;
		for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
			if (kept->numbers[slot] == number)
				return;
		}
	}
	kept->holder.drop(kept->holder.data, number);
}

static void drop_range(
	struct vfu_kept *kept, const struct vfu_kept_block *block, uint64_t first, uint64_t n)
{
	for (uint64_t i = 0; i < n && i < VFU_FDS_MAX; i++)
		drop_unless_needed(kept, block, first + i);
}

static void sweep(struct vfu_kept *kept, const struct vfu_kept_block *needed)
{
	const struct vfu_kept_header *header = kept->state.header;
	uint64_t numbered = vfu_kept_current(&kept->state)->numbered;

	drop_range(kept, needed, numbered + 1, header->last_number - numbered);
	for (unsigned i = 0; i < 2; i++) {
		const struct vfu_kept_block *block = &header->blocks[i];
		drop_range(kept, needed, block->early.first, block->early.n);
		drop_range(kept, needed, block->late.first, block->late.n);
		if (block->numbered < numbered && numbered - block->numbered <= VFU_FDS_MAX)
			drop_range(kept, needed, block->numbered + 1, numbered - block->numbered);
		for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
			drop_unless_needed(kept, needed, kept->state.irqs[i][slot]);
		}
	}
}

/*
 * Coming and going
 */

uint64_t vfu_kept_attached(const struct vfu_kept *kept)
{
	return kept->state.header->attached;
}

static void forget_rings(struct vfu_kept *kept)
{
	memset(kept->state.heard, 0, kept->state.vectors * sizeof(*kept->state.heard));
	vfu_kept_hearing(kept, false);
}

void vfu_kept_attach(struct vfu_kept *kept, uint64_t connection)
{
	struct vfu_kept_header *header = kept->state.header;

	forget_rings(kept);
	for (unsigned i = 0; i < 2; i++) {
		header->blocks[i] = (struct vfu_kept_block){.numbered = header->last_number};
		memset(kept->state.irqs[i], 0, vfu_kept_slots(kept) * sizeof(uint64_t));
	}
	kept_commit(&header->current, header->current + 1); /* what was noted is over */
	kept_commit(&header->attached, connection);
}

void vfu_kept_detach(struct vfu_kept *kept)
{
	kept_commit(&kept->state.header->attached, 0);
	sweep(kept, NULL);
	forget_rings(kept);
}

void vfu_kept_begin_vmm(struct vfu_kept *kept)
{
	kept->changes = 0; /* as after ivshmem_pci_init(): anything else is saved */
	memset(kept->numbers, 0, vfu_kept_slots(kept) * sizeof(*kept->numbers));
	kept->saves = 0;
	kept->irqs_changed = false;
	kept->n_loose = 0;
}

/*
 * Going on
 */

int vfu_kept_resume(struct vfu_kept **kept, void *memory, size_t size,
	const struct vfu_kept_identity *identity, const struct vfu_holder *holder,
	struct vfu_why *why)
{
	struct vfu_kept_state state;
	int error = vfu_kept_check(&state, memory, size, identity, why);

	if (error < 0)
		return error;
	*kept = vfu_kept_make(&state, holder);
	if (!*kept) {
		snprintf(why->text, sizeof(why->text), "out of memory");
		return -ENOMEM;
	}
	kept_commit(&state.header->restarts, state.header->restarts + 1);
	if (state.header->attached == 0)
		sweep(*kept, NULL);
	return 0;
}

int vfu_kept_take_fds(
	struct vfu_kept *kept, uint64_t first, size_t n, int *fds, struct vfu_why *why)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t number = first + i;
		int taken = kept->holder.take(kept->holder.data, number, &fds[i], 1);
		if (taken == 1)
			continue;
		snprintf(why->text, sizeof(why->text), "descriptor %llu of the VMM: %s",
			(unsigned long long)number,
			taken == 0 ? "it is not held any more" : strerror(-taken));
		while (i > 0)
			close(fds[--i]);
		return taken == 0 ? -ENOENT : taken;
	}
	return 0;
}

static int restore_irqs(struct vfu_kept *kept, struct vfu_irqs *irqs, struct vfu_why *why)
{
	for (unsigned slot = 0; slot < vfu_kept_slots(kept); slot++) {
		int fd;

		if (kept->numbers[slot] == 0)
			continue;
		int error = vfu_kept_take_fds(kept, kept->numbers[slot], 1, &fd, why);
		if (error < 0)
			return error;
		error = doorbell_prepare(fd);
		if (error < 0) {
			close(fd);
			snprintf(why->text, sizeof(why->text),
				"descriptor %llu of the VMM: it is no eventfd",
				(unsigned long long)kept->numbers[slot]);
			return error;
		}
		vfu_irqs_restore(irqs, slot, fd);
	}
	return 0;
}

int vfu_kept_restore(struct vfu_kept *kept, struct vfu_function *function, struct vfu_why *why)
{
	const struct vfu_kept_block *block = vfu_kept_current(&kept->state);

	vfu_kept_begin_vmm(kept);
	if (block->core > 0) {
		/* It was tried out: see kept_state.c. */
		(void)ivshmem_pci_load(function->pci, kept->state.cores[block->core - 1],
			ivshmem_pci_saved_size(ivshmem_pci_vectors(function->pci)));
		kept->changes = ivshmem_pci_changes(function->pci);
	}
	if (block->irqs > 0)
		memcpy(kept->numbers, kept->state.irqs[block->irqs - 1],
			vfu_kept_slots(kept) * sizeof(*kept->numbers));
	kept->saves = block->saves;
	function->trapped = block->trapped;
	return restore_irqs(kept, &function->irqs, why);
}

/* The rings that no commit has. */
static void ring_again(struct vfu_kept *kept, struct vfu_function *function)
{
	for (unsigned vector = 0; vector < kept->state.vectors; vector++) {
		if (vfu_kept_is_heard(kept, vector) || vfu_kept_was_hearing(kept))
			vfu_function_interrupt(function, vector);
	}
	vfu_kept_hearing(kept, false);
}

void vfu_kept_go_on(
	struct vfu_kept *kept, const struct vfu_kept_block *block, struct vfu_function *function)
{
	ring_again(kept, function);
	sweep(kept, block);
	vfu_kept_commit(kept, block, function);
}
