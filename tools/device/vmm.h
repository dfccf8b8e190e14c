/* SPDX-License-Identifier: MIT */
/* vmm - the VMM that has a slot's device, and the thread that serves it. */
#ifndef TOOLS_DEVICE_VMM_H
#define TOOLS_DEVICE_VMM_H

#include "slot.h"

/* Whoever connects gets the device, or is refused. Takes `sock` over, whatever happens. */
void vmm_accepted(struct slot *slot, int sock);

/* Detach the VMM, if there is one, and say so. */
void vmm_detach(struct slot *slot);

#endif
