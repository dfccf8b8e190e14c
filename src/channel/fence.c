/* SPDX-License-Identifier: MIT */
/* Is this processor emulated by QEMU? */
#include "channel/fence.h"

#if defined(__x86_64__) || defined(__i386__)

#include <cpuid.h>
#include <stdint.h>
#include <string.h>

#define HYPERVISOR_BIT  (UINT32_C(1) << 31) /* of leaf 1, ecx */
#define HYPERVISOR_LEAF 0x40000000u

bool channel_emulated;

void channel_fence_init(void)
{
	unsigned eax, name[3] = {0};

	if (!__get_cpuid(1, &eax, &name[0], &name[1], &name[2]) || !(name[1] & HYPERVISOR_BIT))
		return;
	__cpuid(HYPERVISOR_LEAF, eax, name[0], name[1], name[2]);
	if (memcmp(name, "TCGTCGTCGTCG", sizeof(name)) == 0)
		__atomic_store_n(&channel_emulated, true, __ATOMIC_RELAXED);
}

#endif
