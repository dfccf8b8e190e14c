/* SPDX-License-Identifier: MIT */
/*
 * irqs - the VMM's eventfds: which we have, when they are written, when they are closed.
 *
 * MSI-X vectors come and go one by one; the PCI core is told which are there and latches what comes
 * meanwhile. INTx is a level that masks itself: docs/vfio-user.md, section 4.
 */
#ifndef VFIO_USER_IRQS_H
#define VFIO_USER_IRQS_H

#include "vfio-user/message.h"

#include <ivshmem/device.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct vfu_irqs {
	struct ivshmem_pci *pci;
	unsigned vectors; /* of MSI-X */
	int *msix;        /* eventfd of each vector, owned; -1: none */
	int intx;         /* eventfd, owned; -1: none */
	int resample;     /* the VMM writes it to unmask INTx, owned; -1: none */
	int err;          /* kept for as long as the VMM is there, never written */
	bool wary;        /* the VMM has made one of them block: see base/doorbell.h */
	bool intx_masked; /* by the VMM, or by ourselves after the last interrupt */
	/* Watch `resample` for reading from now on, or nothing (-1). The old one is still open. */
	void (*watch_resample)(void *data, int fd);
	void *data;
	uint64_t sent; /* eventfd writes */
};

/* 0 or -ENOMEM. `pci` is borrowed and may be set later. */
int vfu_irqs_init(struct vfu_irqs *irqs, unsigned vectors);
void vfu_irqs_fini(struct vfu_irqs *irqs);

/* The VMM is gone: close everything. The core hears that no vector is ready. */
void vfu_irqs_clear(struct vfu_irqs *irqs);

/* How many interrupts of kind `index` (VFU_INTX ..) there are, and VFU_IRQ_ flags of it. */
unsigned vfu_irqs_count(const struct vfu_irqs *irqs, unsigned index);
uint32_t vfu_irqs_flags(const struct vfu_irqs *irqs, unsigned index);

/*
 * SET_IRQS. `rest` are the bytes behind the structure (for DATA_BOOL). Takes over all `n_fds`
 * descriptors whatever happens. 0, or -errno: -EINVAL for what makes no sense.
 */
int vfu_irqs_set(struct vfu_irqs *irqs, const struct vfu_set_irqs *set, const uint8_t *rest,
	size_t rest_size, const int *fds, size_t n_fds);

/* What the PCI core's callbacks `message` and `line` want. */
void vfu_irqs_message(struct vfu_irqs *irqs, unsigned vector);
void vfu_irqs_line(struct vfu_irqs *irqs, int level);

/* `resample` is readable: take the event, unmask INTx. */
void vfu_irqs_resampled(struct vfu_irqs *irqs);

/*
 * All of them by number, for who keeps them: the vectors of MSI-X, then INTx, resample, err. What
 * is restored is taken over and has been prepared (doorbell_prepare()); an interrupt that is due
 * is sent.
 */
static inline unsigned vfu_irqs_slots(unsigned vectors)
{
	return vectors + 3;
}
int vfu_irqs_fd(const struct vfu_irqs *irqs, unsigned slot);
void vfu_irqs_restore(struct vfu_irqs *irqs, unsigned slot, int fd);

#endif
