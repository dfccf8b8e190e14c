/* SPDX-License-Identifier: MIT */
/*
 * kept - what of a device outlives its process, so that a VMM and its guest notice nothing when the
 * process is killed, at any instruction, and another takes over.
 *
 * A VMM cannot reconnect. Its socket, the eventfds that it has sent and this state live on in
 * somebody else's hands (tools/daemon/keep.h). docs/restart.md has the format and the argument why
 * no kill harms; kept.c has the theory of operation.
 *
 * No thread of its own: whoever has the device's turn may call, unless stated.
 */
#ifndef VFIO_USER_KEPT_H
#define VFIO_USER_KEPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Has descriptors held. Numbers are chosen by us, ascending, from 1 on; each stands for one
 * descriptor. Called by the thread of the device's VMM too, outside of any turn: must be
 * thread-safe.
 */
struct vfu_holder {
	/* A copy of these is held, under `number`, when it returns. 0 or -errno. `n` is 1. */
	int (*put)(void *data, uint64_t number, const int *fds, size_t n);
	/* The set that an earlier process has put: how many, the descriptors are the caller's;
	 * 0: there is none. -errno. `max` is 1. Each is taken once by a process. */
	int (*take)(void *data, uint64_t number, int *fds, size_t max);
	/* Let go of it; no such set is no error. */
	void (*drop)(void *data, uint64_t number);
	void *data;
};

/* What must be the same as in the process before, or the state is not for this device. */
struct vfu_kept_identity {
	uint32_t type;         /* enum vfu_device_type */
	uint32_t vectors, msi; /* as in struct vfu_device_config */
	uint32_t subsystem_id;
	uint64_t bar_size; /* of BAR2 */
};

struct vfu_kept;

/* Bytes of memory for the state of a device with `vectors` vectors; a multiple of the page. */
size_t vfu_kept_size(unsigned vectors);

/*
 * Begin anew in `memory`, which is zero, shared, page-aligned, of vfu_kept_size() bytes, and
 * outlives the object. `holder` is copied. 0 or -ENOMEM.
 */
int vfu_kept_create(struct vfu_kept **kept, void *memory, const struct vfu_kept_identity *identity,
	const struct vfu_holder *holder);

/*
 * Take over what an earlier process has left in `memory` of `size` bytes. It is looked at as
 * hostile input is, and refused whole: -EINVAL (or -ENOTSUP: of a newer version), and why->text
 * names the field. -ENOMEM. Nothing is taken from the holder here. The order of things:
 *
 *   vfu_device_create(), vfu_device_identity(), vfu_device_set_watch();
 *   vfu_kept_create() or vfu_kept_resume(), then vfu_device_keep();
 *   if vfu_kept_attached(), vfu_connection_resume() takes the VMM's connection over (connection.h),
 *   or, if that is impossible, vfu_function_release() and vfu_kept_detach() forget this VMM.
 */
struct vfu_why;
int vfu_kept_resume(struct vfu_kept **kept, void *memory, size_t size,
	const struct vfu_kept_identity *identity, const struct vfu_holder *holder,
	struct vfu_why *why);

/* The memory stays as it is. NULL is allowed. */
void vfu_kept_destroy(struct vfu_kept *kept);

/*
 * The number of the VMM's connection (as whoever accepts has them), 0: none. Committed with one
 * store: attached from then on, or (vfu_kept_detach()) not any more, with everything of this VMM
 * forgotten and its sets dropped. Attach before vfu_connection_create(); detach behind
 * vfu_function_release() and vfu_connection_destroy().
 */
uint64_t vfu_kept_attached(const struct vfu_kept *kept);
void vfu_kept_attach(struct vfu_kept *kept, uint64_t connection);
void vfu_kept_detach(struct vfu_kept *kept);

/* How often the device was taken over by another process. */
uint64_t vfu_kept_restarts(const struct vfu_kept *kept);

/*
 * Rings of the own vectors are read from eventfds and passed on as interrupts. Who is killed in
 * between has lost what was read. So a mark is set around it (vfu_device_dispatch() does so); a
 * process that finds it set sends an interrupt for each vector (vfu_connection_resume() does so):
 * one too many is harmless, one too few is not.
 */
void vfu_kept_hearing(struct vfu_kept *kept, bool hearing);
bool vfu_kept_was_hearing(const struct vfu_kept *kept);

#endif
