/* SPDX-License-Identifier: MIT */
/* A checksum of the firmware as the processor finds it in the flash: FNV-1a, 32 bits. */
#include "firmware.h"

extern uint32_t data_load[]; /* behind the code */

void role_image(void)
{
	uint32_t size = (uint32_t)data_load, sum = 2166136261u;

	for (uint32_t at = 0; at < size; at++)
		sum = (sum ^ *(volatile uint8_t *)(uintptr_t)at) * 16777619u;
	print("size=%u\nsum=%u\n", size, sum);
}
