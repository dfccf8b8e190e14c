/* SPDX-License-Identifier: MIT */
/* vmm - the VMM that has a slot's device, and the thread that serves it. */
#ifndef TOOLS_DEVICE_VMM_H
#define TOOLS_DEVICE_VMM_H

#include "slot.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Whoever connects gets the device, or is refused. Takes `sock` over, whatever happens. */
void vmm_accepted(struct slot *slot, int sock, uint64_t number);

/*
 * Go on with the VMM that an earlier process has served, in two steps: as soon as one guest goes
 * on, it can ring another, whose device must be ready to hear it by then. `sock` -1: nobody has its
 * connection any more. Takes it over.
 */
void vmm_resume(struct slot *slot, int sock, uint64_t number);
void vmm_go_on(struct slot *slot);

/* Who has the device? False: nobody. */
struct vmm_info {
	uid_t uid; /* as the kernel knows who has connected */
	pid_t pid;
	uint64_t since_ms; /* of 1970; 0: an earlier process has served it */
};
bool vmm_get_info(const struct slot *slot, struct vmm_info *info);

/* Detach the VMM, if there is one, and say so. */
void vmm_detach(struct slot *slot);

#endif
