/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The flat device behind Zephyr's own interface for ivshmem, so that applications for its PCI
 * driver run on it. A vector has an interrupt of its own and, once registered, a signal, which its
 * handler raises with the vector's number; as there, who has registered none is not told later.
 *
 * Any vector can be rung, not only as many as we have ourselves: those are the other's.
 *
 * Threads in user mode can't call it: Zephyr builds the handlers of these system calls only
 * together with its PCI driver.
 */
#define DT_DRV_COMPAT ivshmem_flat

/* Of <ivshmem/mmio.h> no vector is counted: signals take the place of that. */
#define IVSHMEM_MMIO_VECTORS 1

#include <errno.h>
#include <ivshmem/mmio.h>
#include <zephyr/device.h>
#include <zephyr/devicetree.h>
#include <zephyr/drivers/virtualization/ivshmem.h>
#include <zephyr/irq.h>
#include <zephyr/kernel.h>

struct vector {
	struct k_poll_signal *signal; /* the application's, NULL: none */
	uint16_t number;
};

struct ivshmem_flat_config {
	DEVICE_MMIO_NAMED_ROM(registers);
	DEVICE_MMIO_NAMED_ROM(memory);
	uint32_t size;
	struct vector *vectors;
	uint16_t n_vectors;
	void (*connect)(void);
};

struct ivshmem_flat_data {
	DEVICE_MMIO_NAMED_RAM(registers);
	DEVICE_MMIO_NAMED_RAM(memory);
	struct ivshmem_mmio iv;
};

/* Zephyr's macros above want these two. */
#define DEV_CFG(dev)  ((const struct ivshmem_flat_config *)(dev)->config)
#define DEV_DATA(dev) ((struct ivshmem_flat_data *)(dev)->data)

static __maybe_unused void on_doorbell(const void *argument)
{
	const struct vector *vector = argument;
	struct k_poll_signal *signal = vector->signal;

	ivshmem_mmio_barrier(); /* what is read from now on is not older than the ring */
	if (signal != NULL)
		k_poll_signal_raise(signal, vector->number);
}

static size_t get_mem(const struct device *dev, uintptr_t *memmap)
{
	*memmap = (uintptr_t)DEV_DATA(dev)->iv.memory;
	return DEV_CFG(dev)->size;
}

static uint32_t get_id(const struct device *dev)
{
	return (uint32_t)ivshmem_mmio_id(&DEV_DATA(dev)->iv);
}

static uint16_t get_vectors(const struct device *dev)
{
	return DEV_CFG(dev)->n_vectors;
}

static int int_peer(const struct device *dev, uint32_t peer_id, uint16_t vector)
{
	if (peer_id > IVSHMEM_MAX_ID)
		return -EINVAL;
	ivshmem_mmio_ring(&DEV_DATA(dev)->iv, peer_id, vector);
	return 0;
}

static int register_handler(const struct device *dev, struct k_poll_signal *signal, uint16_t vector)
{
	if (vector >= DEV_CFG(dev)->n_vectors)
		return -EINVAL;
	DEV_CFG(dev)->vectors[vector].signal = signal;
	return 0;
}

static const struct ivshmem_driver_api api = {
	.get_mem = get_mem,
	.get_id = get_id,
	.get_vectors = get_vectors,
	.int_peer = int_peer,
	.register_handler = register_handler,
};

static int init(const struct device *dev)
{
	const struct ivshmem_flat_config *config = DEV_CFG(dev);

	DEVICE_MMIO_NAMED_MAP(dev, registers, K_MEM_CACHE_NONE);
	DEVICE_MMIO_NAMED_MAP(dev, memory, K_MEM_CACHE_WB);
	ivshmem_mmio_init(&DEV_DATA(dev)->iv, DEVICE_MMIO_NAMED_GET(dev, registers),
		DEVICE_MMIO_NAMED_GET(dev, memory), config->size);
	for (uint16_t i = 0; i < config->n_vectors; i++)
		config->vectors[i].number = i;
	config->connect();
	return 0;
}

/* Some interrupt controllers have to be told of edges, by a cell of that name. */
#define FLAGS(i, n)                                                                                \
	COND_CODE_1(                                                                               \
		DT_INST_IRQ_HAS_CELL_AT_IDX(n, i, flags), (DT_INST_IRQ_BY_IDX(n, i, flags)), (0))

#define CONNECT(i, n)                                                                              \
	IRQ_CONNECT(DT_INST_IRQN_BY_IDX(n, i), DT_INST_IRQ_BY_IDX(n, i, priority), on_doorbell,    \
		&vectors_##n[i], FLAGS(i, n));                                                     \
	irq_enable(DT_INST_IRQN_BY_IDX(n, i))

#define DEFINE(n)                                                                                  \
	static struct vector vectors_##n[DT_NUM_IRQS(DT_DRV_INST(n)) + 1]; /* one is not used */   \
	static void connect_##n(void)                                                              \
	{                                                                                          \
		LISTIFY(DT_NUM_IRQS(DT_DRV_INST(n)), CONNECT, (;), n);                             \
	}                                                                                          \
	static const struct ivshmem_flat_config config_##n = {                                     \
		DEVICE_MMIO_NAMED_ROM_INIT_BY_NAME(registers, DT_DRV_INST(n)),                     \
		DEVICE_MMIO_NAMED_ROM_INIT_BY_NAME(memory, DT_DRV_INST(n)),                        \
		.size = DT_INST_REG_SIZE_BY_NAME(n, memory),                                       \
		.vectors = vectors_##n,                                                            \
		.n_vectors = DT_NUM_IRQS(DT_DRV_INST(n)),                                          \
		.connect = connect_##n,                                                            \
	};                                                                                         \
	static struct ivshmem_flat_data data_##n;                                                  \
	DEVICE_DT_INST_DEFINE(n, init, NULL, &data_##n, &config_##n, POST_KERNEL,                  \
		CONFIG_KERNEL_INIT_PRIORITY_DEVICE, &api);

DT_INST_FOREACH_STATUS_OKAY(DEFINE)
