/* SPDX-License-Identifier: MIT */
/*
 * A device in a box: a PCI device whose VMM writes down what it is told.
 *
 *     struct vmm vmm = {0};
 *     make_plainly(&vmm, 1, 2);
 *     set(&vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_DOORBELL, 4, 0x00030001);
 *     assert_told(&vmm, "ring 3 1;");
 *     drop(&vmm);
 */
#ifndef TESTS_PCIBOX_H
#define TESTS_PCIBOX_H

#include "fdcheck.h"

#include <ivshmem/device.h>

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	COMMAND = 0x04,
	STATUS = 0x06,
	BAR0 = 0x10,
	BAR1 = 0x14,
	BAR2 = 0x18,
	CONTROL = 0x42, /* of MSI-X */
	MEMORY = 2,
	MASTER = 4,
	INTX_DISABLE = 0x400,
	ENABLE = 0x8000,
	FUNCTION_MASK = 0x4000,
	PBA = 0x800, /* with up to 128 vectors */
	MIB = 1 << 20,
};

/* A VMM that writes down what it is told, and can do something the first time it is. */
struct vmm {
	struct ivshmem_pci *pci;
	char told[4096], copy[4096];
	void (*react)(struct vmm *vmm);
	uint8_t memory[4096];
};

__attribute__((format(printf, 2, 3))) static inline void note(
	struct vmm *vmm, const char *format, ...)
{
	size_t length = strlen(vmm->told);
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(vmm->told + length, sizeof(vmm->told) - length, format, arguments);
	va_end(arguments);
	void (*react)(struct vmm *) = vmm->react;
	vmm->react = NULL;
	if (react)
		react(vmm);
}

static inline void on_ring(void *data, unsigned peer, unsigned vector)
{
	note(data, "ring %u %u;", peer, vector);
}

static inline void on_message(void *data, unsigned vector, uint64_t address, uint32_t value)
{
	note(data, "message %u %" PRIx64 " %" PRIx32 ";", vector, address, value);
}

static inline void on_line(void *data, int level)
{
	note(data, "line %d;", level);
}

static inline void on_place(void *data, unsigned bar, uint64_t address)
{
	note(data, "place %u %" PRIx64 ";", bar, address);
}

static inline void on_memory(void *data, int write, uint64_t offset, void *bytes, size_t size)
{
	struct vmm *vmm = data;
	uint8_t *at = vmm->memory + offset % sizeof(vmm->memory);
	memcpy(write ? at : bytes, write ? bytes : at, size);
	note(vmm, "%s %" PRIx64 " %zu;", write ? "store" : "load", offset, size);
}

static const struct ivshmem_pci_ops pcibox_ops = {.ring = on_ring,
	.message = on_message,
	.line = on_line,
	.place = on_place,
	.memory = on_memory};

/* What the VMM was told since the last call. */
static const char *told(struct vmm *vmm)
{
	memcpy(vmm->copy, vmm->told, sizeof(vmm->copy));
	vmm->told[0] = '\0';
	return vmm->copy;
}

#define assert_told(vmm, text) assert_string_equal(told(vmm), text)

static inline struct ivshmem_pci_config config_of(
	struct vmm *vmm, unsigned revision, unsigned vectors)
{
	struct ivshmem_pci_config config = IVSHMEM_PCI_CONFIG_INIT;
	config.revision = revision;
	config.vectors = vectors;
	config.memory_size = MIB;
	config.position = 7;
	config.ops = &pcibox_ops;
	config.data = vmm;
	return config;
}

static inline void make(struct vmm *vmm, const struct ivshmem_pci_config *config)
{
	/* Exactly as large as promised, so that a sanitizer sees what goes beyond; and dirty. */
	size_t size = ivshmem_pci_size(config->vectors);
	void *storage = malloc(size);
	assert_non_null(storage);
	memset(storage, 0xa5, size);
	vmm->pci = ivshmem_pci_init(storage, config);
	assert_ptr_equal(vmm->pci, storage);
	assert_told(vmm, "");
}

static inline void make_plainly(struct vmm *vmm, unsigned revision, unsigned vectors)
{
	struct ivshmem_pci_config config = config_of(vmm, revision, vectors);
	make(vmm, &config);
}

static inline void drop(struct vmm *vmm)
{
	free(vmm->pci);
	vmm->pci = NULL;
}

static inline uint64_t from_bytes(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;
	while (size-- > 0)
		value = value << 8 | bytes[size];
	return value;
}

static const uint8_t *to_bytes(uint64_t value, uint8_t bytes[8])
{
	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	return bytes;
}

static inline uint64_t get_config(struct vmm *vmm, uint32_t offset, size_t size)
{
	uint8_t bytes[8];
	ivshmem_pci_config_read(vmm->pci, offset, bytes, size);
	return from_bytes(bytes, size);
}

static inline void set_config(struct vmm *vmm, uint32_t offset, size_t size, uint64_t value)
{
	uint8_t bytes[8];
	ivshmem_pci_config_write(vmm->pci, offset, to_bytes(value, bytes), size);
}

static inline uint64_t get(struct vmm *vmm, unsigned bar, uint64_t offset, size_t size)
{
	uint8_t bytes[8];
	ivshmem_pci_read(vmm->pci, bar, offset, bytes, size);
	return from_bytes(bytes, size);
}

static inline void set(struct vmm *vmm, unsigned bar, uint64_t offset, size_t size, uint64_t value)
{
	uint8_t bytes[8];
	ivshmem_pci_write(vmm->pci, bar, offset, to_bytes(value, bytes), size);
}

#endif
