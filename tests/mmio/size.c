/* SPDX-License-Identifier: MIT */
/* One of each, as functions: what the driver in <ivshmem/mmio.h> takes of a firmware's flash. */
#include <ivshmem/mmio.h>

int32_t get_id(const struct ivshmem_mmio *iv);
void ring(const struct ivshmem_mmio *iv, unsigned peer, unsigned vector);
uint32_t wait_for(struct ivshmem_mmio *iv, unsigned vector);
void handle(struct ivshmem_mmio *iv, unsigned vector);
int meet(struct ivshmem_mmio_meeting *meeting, struct ivshmem_mmio *iv, unsigned seat);

int32_t get_id(const struct ivshmem_mmio *iv)
{
	return ivshmem_mmio_id(iv);
}

void ring(const struct ivshmem_mmio *iv, unsigned peer, unsigned vector)
{
	ivshmem_mmio_ring(iv, peer, vector);
}

uint32_t wait_for(struct ivshmem_mmio *iv, unsigned vector)
{
	return ivshmem_mmio_wait(iv, vector);
}

void handle(struct ivshmem_mmio *iv, unsigned vector)
{
	ivshmem_mmio_interrupt(iv, vector);
}

#ifdef WITH_MEETING
int meet(struct ivshmem_mmio_meeting *meeting, struct ivshmem_mmio *iv, unsigned seat)
{
	if (ivshmem_mmio_meet_start(meeting, iv, 4096, seat, 0) < 0)
		return -1;
	while (!ivshmem_mmio_meet(meeting))
		ivshmem_mmio_sleep(iv, 0);
	return 0;
}
#endif
