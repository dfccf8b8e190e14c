/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * docs/vfio-user.md, section 4. Every descriptor in here came from the VMM, so it is checked for
 * being an eventfd and made non-blocking before it is kept, and closed the moment it is replaced:
 * a device is one thread's at a time, so nobody can be in the middle of writing it.
 *
 * MSI-X. A vector with an eventfd is "ready" for the PCI core, which sends what has been pending.
 * VMMs take vectors away and give them back with other eventfds all the time: at every mask and
 * unmask where the kernel injects the interrupts.
 *
 * INTx is a level, an eventfd is not. One write says "asserted", then INTx masks itself; the VMM
 * unmasks it when the guest has seen to the interrupt, and if the level is still high, that is the
 * next write. There is no message that says "deasserted". Where a lost unmask would silence the
 * device for good, this file writes once too often: a new eventfd starts unmasked, and so does the
 * one that a process takes over from another. What the VMM has not read of it when it unmasks is
 * taken back, since it would raise a line that is low, and a guest that looks for the reason in the
 * status register finds none and is interrupted again, ten thousand times.
 */
#include "vfio-user/irqs.h"

#include "base/doorbell.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define RESAMPLE_TRIES 16

enum { DATA = VFU_DATA_NONE | VFU_DATA_BOOL | VFU_DATA_EVENTFD };
enum { ACTION = VFU_ACTION_MASK | VFU_ACTION_UNMASK | VFU_ACTION_TRIGGER };

static void replace(int *slot, int fd)
{
	if (*slot >= 0)
		close(*slot);
	*slot = fd;
}

static void set_resample(struct vfu_irqs *irqs, int fd)
{
	if (irqs->watch_resample && (fd >= 0 || irqs->resample >= 0))
		irqs->watch_resample(irqs->data, fd);
	replace(&irqs->resample, fd);
}

static void set_vector(struct vfu_irqs *irqs, unsigned vector, int fd)
{
	if (fd < 0 && irqs->msix[vector] < 0)
		return;
	replace(&irqs->msix[vector], fd);
	ivshmem_pci_vector_ready(irqs->pci, vector, fd >= 0);
}

static void ring(struct vfu_irqs *irqs, int fd)
{
	if (fd < 0)
		return;
	/* Fails only where the VMM gave us something odd: its own loss. */
	doorbell_ring_wary(fd, &irqs->wary);
	irqs->sent++;
}

/* Tell the VMM about the level, if it is high and not told yet. */
static void update_intx(struct vfu_irqs *irqs)
{
	if (irqs->intx < 0 || irqs->intx_masked || !ivshmem_pci_line(irqs->pci))
		return;
	irqs->intx_masked = true;
	ring(irqs, irqs->intx);
}

static void set_intx(struct vfu_irqs *irqs, int fd)
{
	replace(&irqs->intx, fd);
	irqs->intx_masked = false;
	update_intx(irqs);
}

/* The VMM unmasks. */
static void unmask_intx(struct vfu_irqs *irqs)
{
	uint64_t unread;

	if (irqs->intx >= 0)
		(void)doorbell_take(irqs->intx, &unread);
	irqs->intx_masked = false;
	update_intx(irqs);
}

int vfu_irqs_init(struct vfu_irqs *irqs, unsigned vectors)
{
	*irqs = (struct vfu_irqs){.vectors = vectors, .intx = -1, .resample = -1, .err = -1};
	if (vectors == 0)
		return 0;
	irqs->msix = malloc(vectors * sizeof(*irqs->msix));
	if (!irqs->msix)
		return -ENOMEM;
	for (unsigned i = 0; i < vectors; i++)
		irqs->msix[i] = -1;
	return 0;
}

void vfu_irqs_fini(struct vfu_irqs *irqs)
{
	vfu_irqs_clear(irqs);
	free(irqs->msix);
}

void vfu_irqs_clear(struct vfu_irqs *irqs)
{
	for (unsigned i = 0; i < irqs->vectors; i++)
		set_vector(irqs, i, -1);
	set_resample(irqs, -1);
	set_intx(irqs, -1);
	replace(&irqs->err, -1);
	irqs->wary = false;
}

unsigned vfu_irqs_count(const struct vfu_irqs *irqs, unsigned index)
{
	switch (index) {
	case VFU_INTX: /* one VMM enables INTx wherever it is counted, also next to MSI-X */
		return ivshmem_pci_has_intx(irqs->pci) ? 1 : 0;
	case VFU_MSIX:
		return irqs->vectors;
	case VFU_ERR:
		return 1;
	}
	return 0;
}

uint32_t vfu_irqs_flags(const struct vfu_irqs *irqs, unsigned index)
{
	if (vfu_irqs_count(irqs, index) == 0)
		return 0;
	return index == VFU_INTX ? VFU_IRQ_EVENTFD | VFU_IRQ_MASKABLE | VFU_IRQ_AUTOMASKED
				 : VFU_IRQ_EVENTFD;
}

/* How many may be set up. Revision 0 has an interrupt pin even where it uses MSI-X, and a VMM that
 * reads the pin sets up INTx and gives up if it can't: it gets an INTx that stays silent. */
static unsigned settable(const struct vfu_irqs *irqs, unsigned index)
{
	return index == VFU_INTX ? 1 : vfu_irqs_count(irqs, index);
}

static bool one_bit(uint32_t flags)
{
	return flags != 0 && (flags & (flags - 1)) == 0;
}

/* Does the request make sense? (All but whether the descriptors are eventfds.) */
static bool is_valid(
	const struct vfu_irqs *irqs, const struct vfu_set_irqs *set, size_t rest_size, size_t n_fds)
{
	if (set->index >= VFU_IRQS || (set->flags & ~(uint32_t)(DATA | ACTION)) ||
		!one_bit(set->flags & DATA) || !one_bit(set->flags & ACTION))
		return false;
	unsigned limit = settable(irqs, set->index);
	if (set->start > limit || set->count > limit - set->start)
		return false;
	if (!(set->flags & VFU_ACTION_TRIGGER) && set->index != VFU_INTX)
		return false; /* only INTx is maskable */
	if (set->flags & VFU_DATA_BOOL)
		return rest_size >= set->count;
	if (!(set->flags & VFU_DATA_EVENTFD))
		return true;
	if (set->flags & VFU_ACTION_MASK)
		return false; /* nobody masks by eventfd; the kernel doesn't have it either */
	return n_fds == 0 || n_fds == set->count;
}

static bool are_eventfds(const int *fds, size_t n_fds)
{
	for (size_t i = 0; i < n_fds; i++) {
		if (doorbell_prepare(fds[i]) < 0)
			return false;
	}
	return true;
}

/* DATA_EVENTFD: set up the range, or take it away (no descriptors). Takes the descriptors over. */
static void assign(struct vfu_irqs *irqs, const struct vfu_set_irqs *set, const int *fds)
{
	for (uint32_t i = 0; i < set->count; i++) {
		int fd = fds ? fds[i] : -1;
		if (set->index == VFU_MSIX)
			set_vector(irqs, set->start + i, fd);
		else if (set->index == VFU_ERR)
			replace(&irqs->err, fd);
		else if (set->flags & VFU_ACTION_UNMASK)
			set_resample(irqs, fd);
		else
			set_intx(irqs, fd);
	}
}

/* DATA_NONE and DATA_BOOL: mask, unmask or trigger this one now. */
static void act(struct vfu_irqs *irqs, const struct vfu_set_irqs *set, unsigned number)
{
	if (set->flags & VFU_ACTION_MASK)
		irqs->intx_masked = true;
	else if (set->flags & VFU_ACTION_UNMASK)
		unmask_intx(irqs);
	else if (set->index == VFU_MSIX)
		vfu_irqs_message(irqs, number);
	else if (set->index == VFU_INTX)
		ring(irqs, irqs->intx);
	/* ERR would stop the virtual machine. */
}

/* DATA_NONE, ACTION_TRIGGER, count 0: nothing of this kind is to be used any more. */
static void disable(struct vfu_irqs *irqs, unsigned index)
{
	switch (index) {
	case VFU_INTX:
		set_resample(irqs, -1);
		set_intx(irqs, -1);
		break;
	case VFU_MSIX:
		for (unsigned i = 0; i < irqs->vectors; i++)
			set_vector(irqs, i, -1);
		break;
	case VFU_ERR:
		replace(&irqs->err, -1);
		break;
	}
}

int vfu_irqs_set(struct vfu_irqs *irqs, const struct vfu_set_irqs *set, const uint8_t *rest,
	size_t rest_size, const int *fds, size_t n_fds)
{
	bool valid = is_valid(irqs, set, rest_size, n_fds);

	if (valid && (set->flags & VFU_DATA_EVENTFD)) {
		if (are_eventfds(fds, n_fds)) {
			assign(irqs, set, n_fds > 0 ? fds : NULL);
			return 0;
		}
		valid = false;
	}
	for (size_t i = 0; i < n_fds; i++)
		close(fds[i]);
	if (!valid)
		return -EINVAL;

	if (set->count == 0 && set->flags == (VFU_DATA_NONE | VFU_ACTION_TRIGGER))
		disable(irqs, set->index);
	for (uint32_t i = 0; i < set->count; i++) {
		if (!(set->flags & VFU_DATA_BOOL) || rest[i])
			act(irqs, set, set->start + i);
	}
	return 0;
}

void vfu_irqs_message(struct vfu_irqs *irqs, unsigned vector)
{
	ring(irqs, irqs->msix[vector]);
}

void vfu_irqs_line(struct vfu_irqs *irqs, int level)
{
	if (level)
		update_intx(irqs);
}

void vfu_irqs_resampled(struct vfu_irqs *irqs)
{
	uint64_t count;
	bool any = false;
	int taken = 1;

	if (irqs->resample < 0)
		return;
	/* An honest one is empty after the first. What is no eventfd after all, or one that counts
	 * down in single steps, would be readable for ever. */
	for (int i = 0; taken > 0 && i < RESAMPLE_TRIES; i++) {
		taken = doorbell_take(irqs->resample, &count);
		any |= taken > 0;
	}
	if (taken != 0)
		set_resample(irqs, -1);
	/* Last: the next event may come as soon as the VMM sees this interrupt. */
	if (any)
		unmask_intx(irqs);
}

enum { SLOT_INTX, SLOT_RESAMPLE, SLOT_ERR }; /* behind the vectors */

int vfu_irqs_fd(const struct vfu_irqs *irqs, unsigned slot)
{
	if (slot < irqs->vectors)
		return irqs->msix[slot];
	switch (slot - irqs->vectors) {
	case SLOT_INTX:
		return irqs->intx;
	case SLOT_RESAMPLE:
		return irqs->resample;
	case SLOT_ERR:
		return irqs->err;
	}
	return -1;
}

void vfu_irqs_restore(struct vfu_irqs *irqs, unsigned slot, int fd)
{
	if (slot < irqs->vectors) {
		set_vector(irqs, slot, fd);
		return;
	}
	switch (slot - irqs->vectors) {
	case SLOT_INTX:
		set_intx(irqs, fd);
		break;
	case SLOT_RESAMPLE:
		set_resample(irqs, fd);
		break;
	case SLOT_ERR:
		replace(&irqs->err, fd);
		break;
	}
}
