/* SPDX-License-Identifier: MIT */
/* What connection and function do to what is kept. See kept.h for who may call. */
#ifndef VFIO_USER_KEPT_INTERNAL_H
#define VFIO_USER_KEPT_INTERNAL_H

#include "vfio-user/function.h"
#include "vfio-user/kept_state.h"

/* Numbers to let go of behind the next commit: a message's that went to nobody, and another's. */
#define VFU_KEPT_LOOSE_MAX (2 * VFU_FDS_MAX)

struct vfu_kept {
	struct vfu_kept_state state;
	struct vfu_holder holder;
	uint64_t changes;  /* ivshmem_pci_changes() of what was saved last */
	uint64_t saves;    /* as in the current block, which the VMM's thread may be changing */
	uint64_t *numbers; /* of the function's descriptors, as the next commit will have them */
	bool irqs_changed;
	uint64_t loose[VFU_KEPT_LOOSE_MAX];
	unsigned n_loose;
};

static inline unsigned vfu_kept_slots(const struct vfu_kept *kept)
{
	return vfu_irqs_slots(vfu_kept_msix(&kept->state.header->identity));
}

/* With a memory that is sound. NULL: no memory. */
struct vfu_kept *vfu_kept_make(const struct vfu_kept_state *state, const struct vfu_holder *holder);

/*
 * One commit: `block` with the state of the function, if that has changed. In a turn; or, with
 * `function` NULL, outside of one, and then what stands there of the function stays. Afterwards
 * the holder lets go of what is needed no more.
 */
void vfu_kept_commit(struct vfu_kept *kept, const struct vfu_kept_block *block,
	const struct vfu_function *function);

/* Have `n` descriptors held: under *first and so on. Whatever becomes of them: they are named by
 * the next commit, or vfu_kept_loosen() is told. 0 or -errno. */
int vfu_kept_put(struct vfu_kept *kept, const int *fds, size_t n, uint64_t *first);

/* Let go of these behind the next commit, but for those that the function has. */
void vfu_kept_loosen(struct vfu_kept *kept, uint64_t first, size_t n);

/* SET_IRQS is done: which of the descriptors that came with it does the function have now? */
void vfu_kept_note_irqs(struct vfu_kept *kept, const struct vfu_irqs *irqs, const int *fds,
	size_t n, uint64_t first);

/* Has a ring of `vector` been heard that no commit has? */
static inline bool vfu_kept_is_heard(const struct vfu_kept *kept, unsigned vector)
{
	return kept->state.heard[vector] == kept->saves + 1;
}

/* A peer rings `vector`: to be called around ivshmem_pci_interrupt(). */
struct vfu_kept_ring {
	uint64_t changes;
	bool known;
};
struct vfu_kept_ring vfu_kept_ring_begin(
	struct vfu_kept *kept, const struct ivshmem_pci *pci, unsigned vector);
void vfu_kept_ring_end(struct vfu_kept *kept, const struct ivshmem_pci *pci, unsigned vector,
	struct vfu_kept_ring ring);

/* A VMM's connection begins. */
void vfu_kept_begin_vmm(struct vfu_kept *kept);

/*
 * It goes on, in this order; each returns 0, or -errno with the reason. The function gets back its
 * state and its descriptors; the connection those that came with messages that are not handled yet;
 * then, with the connection as it is now, all of that is committed, the holder lets go of what
 * nobody needs, and the rings that no commit has had are passed on once more.
 */
int vfu_kept_restore(struct vfu_kept *kept, struct vfu_function *function, struct vfu_why *why);
int vfu_kept_take_fds(
	struct vfu_kept *kept, uint64_t first, size_t n, int *fds, struct vfu_why *why);
void vfu_kept_go_on(
	struct vfu_kept *kept, const struct vfu_kept_block *block, struct vfu_function *function);

#endif
