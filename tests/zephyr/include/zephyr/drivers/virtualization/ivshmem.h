/* SPDX-License-Identifier: MIT */
/* Zephyr's interface for ivshmem, without system calls. See kernel.h. */
#ifndef STUB_ZEPHYR_IVSHMEM_H
#define STUB_ZEPHYR_IVSHMEM_H

#include <zephyr/device.h>

struct ivshmem_driver_api {
	size_t (*get_mem)(const struct device *dev, uintptr_t *memmap);
	uint32_t (*get_id)(const struct device *dev);
	uint16_t (*get_vectors)(const struct device *dev);
	int (*int_peer)(const struct device *dev, uint32_t peer_id, uint16_t vector);
	int (*register_handler)(
		const struct device *dev, struct k_poll_signal *signal, uint16_t vector);
};

#define STUB_IVSHMEM(dev, function, ...)                                                           \
	(((const struct ivshmem_driver_api *)(dev)->api)->function((dev), ##__VA_ARGS__))
#define ivshmem_get_mem(dev, memmap)           STUB_IVSHMEM(dev, get_mem, memmap)
#define ivshmem_get_id(dev)                    STUB_IVSHMEM(dev, get_id)
#define ivshmem_get_vectors(dev)               STUB_IVSHMEM(dev, get_vectors)
#define ivshmem_int_peer(dev, peer_id, vector) STUB_IVSHMEM(dev, int_peer, peer_id, vector)
#define ivshmem_register_handler(dev, signal, vector)                                              \
	STUB_IVSHMEM(dev, register_handler, signal, vector)

#endif
