/* SPDX-License-Identifier: MIT */
/* For ever: whenever it is rung, ring "peer" (0). For measuring round trips from outside. */
#include "firmware.h"

void role_echo(void)
{
	unsigned peer = parameter("peer", 0);

	for (;;) {
		ivshmem_mmio_wait(&iv, 0);
		ivshmem_mmio_ring(&iv, peer, 0);
	}
}
