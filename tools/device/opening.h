/* SPDX-License-Identifier: MIT */
/* opening - a slot with its device, made anew or taken over from an earlier process. */
#ifndef TOOLS_DEVICE_OPENING_H
#define TOOLS_DEVICE_OPENING_H

#include "config.h"
#include "slot.h"

/* What an earlier process has left cannot be gone on with: exit code. */
enum { EXIT_STATE = 3 };

struct opening {
	struct vfu_board *board;
	struct holding *holding;
	unsigned max_fds; /* of the device */
	uint64_t spin_ns;
	struct log *log;
};

/* 0; EXIT_STARTUP or EXIT_STATE after having said what is wrong: nothing is open then, and what an
 * earlier process has left stays held. `spec` must outlive the slot. */
int slot_open(struct slot *slot, struct device_spec *spec, const struct opening *opening);

/* The device is not coming back: stop listening, let go of all that is held for it. */
void slot_forget(struct slot *slot);

/* Close it. What an earlier process has left stays held, unless it has been forgotten. */
void slot_close(struct slot *slot);

/* How the slot's relay joins. */
struct relay_config slot_relay_config(const struct slot *slot);

#endif
