/* SPDX-License-Identifier: MIT */
/* refusal - a VMM that connects while another one has the device. */
#ifndef TOOLS_DEVICE_REFUSAL_H
#define TOOLS_DEVICE_REFUSAL_H

#include "slot.h"

/* Tell the client on `sock` that the device is taken, once it has said its first message. Takes
 * `sock` over, whatever happens. `log` may be NULL. */
void refuse(struct slot *slot, int sock, uint64_t number, struct log *log);

#endif
