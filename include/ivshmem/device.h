/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/device.h - the ivshmem PCI device as pure functions, for embedding into a VMM.
 *
 * Registers, configuration space, BARs, MSI-X table and PBA, INTx: accesses go in, values and
 * callbacks come out. No system call, no allocation, no clock, no log, no libc but memcpy(),
 * memset() and memcmp(); compiles freestanding as C11 and C++17. What the device does is written in
 * docs/device.md; section numbers below refer to it.
 *
 *     struct ivshmem_pci_config config = IVSHMEM_PCI_CONFIG_INIT;
 *     config.revision = 1;
 *     config.vectors = 2;
 *     config.memory_size = 4 << 20;
 *     config.position = own_id;
 *     config.ops = &ops;
 *     void *storage = malloc(ivshmem_pci_size(config.vectors));
 *     struct ivshmem_pci *pci = ivshmem_pci_init(storage, &config);
 *
 *     ivshmem_pci_config_write(pci, offset, bytes, size);   // the guest does this
 *     ivshmem_pci_interrupt(pci, vector);                   // a peer has rung us
 *
 * The VMM does five things, one callback each: ring another peer, send an MSI-X message, set the
 * INTx line, place a BAR, and access the shared memory where the guest's accesses are trapped.
 * examples/embed-device.c is a complete one.
 *
 * Threads: the functions of one device must not run at the same time; devices are independent.
 *
 * Callbacks are the last thing that a function does for each event: the device's state is complete
 * by then, so a callback may call any of these functions, also on the same device.
 */
#ifndef IVSHMEM_DEVICE_H
#define IVSHMEM_DEVICE_H

#include <ivshmem/abi.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define IVSHMEM_PCI_CONFIG_SIZE 256u /* bytes of configuration space */
#define IVSHMEM_PCI_BARS        6u

/* What IVPosition reads while there is no ID yet (revision 0 only). */
#define IVSHMEM_POSITION_NONE 0xffffffffu

/* The address of a BAR that the guest can't reach. */
#define IVSHMEM_BAR_UNMAPPED UINT64_MAX

struct ivshmem_pci;

/* `data` is that of the configuration. A callback may be NULL: nothing happens, memory reads 0. */
struct ivshmem_pci_ops {
	/* The guest has written to its doorbell register. Neither number is checked: ignore it if
	 * nobody is there. `peer` may be the own ID. */
	void (*ring)(void *data, unsigned peer, unsigned vector);
	/* Send the MSI-X message of `vector`: write the 32-bit `value` to `address`. With
	 * external_table both are 0: the VMM knows them. */
	void (*message)(void *data, unsigned vector, uint64_t address, uint32_t value);
	/* INTx has the level `level`, 0 or 1. Called on changes only; starts as 0. */
	void (*line)(void *data, int level);
	/* BAR `bar` now answers at the guest's address `address`, or IVSHMEM_BAR_UNMAPPED. Called
	 * on changes only; starts as unmapped. Address 0 and the very end of the address range,
	 * which a BAR shows while it is sized, count as unmapped. */
	void (*place)(void *data, unsigned bar, uint64_t address);
	/* A trapped access to BAR2, within its size: read into `bytes`, or `write` from them. */
	void (*memory)(void *data, int write, uint64_t offset, void *bytes, size_t size);
};

struct ivshmem_pci_config {
	size_t struct_size;   /* sizeof(struct ivshmem_pci_config), see the initialiser */
	unsigned revision;    /* 1, or 0: the device of QEMU up to 3.1 */
	unsigned vectors;     /* MSI-X vectors, 1..2048; 0: no MSI-X. Revision 0 without MSI-X has
				 INTx, revision 1 without it has no interrupts */
	uint64_t memory_size; /* of BAR2, bytes: a power of two, at least 4096 */
	uint32_t position;  /* what IVPosition reads: the own ID, 0 on a device without a server */
	int external_table; /* the VMM keeps the MSI-X table, as with VFIO: the guest's accesses to
			       it don't come here, and ivshmem_pci_vector_ready() tells what the
			       mask bits would */
	const struct ivshmem_pci_ops *ops; /* not NULL; must outlive the device */
	void *data;                        /* handed to the callbacks */
	uint32_t subsystem_id; /* subsystem vendor in bits 31..16, subsystem in 15..0; 0 stands for
				  IVSHMEM_PCI_SUBSYSTEM_ID, by which some drivers find the device */
};

#define IVSHMEM_PCI_CONFIG_INIT                                                                    \
	{                                                                                          \
		.struct_size = sizeof(struct ivshmem_pci_config)                                   \
	}

/* Bytes of storage that a device with that many vectors needs; 0 if `vectors` is over 2048. */
size_t ivshmem_pci_size(unsigned vectors);

/*
 * Make a device in `storage`, which is aligned as malloc() aligns, has ivshmem_pci_size() bytes and
 * stays the caller's, who must not move it; there is nothing to undo. The device is as after reset.
 * NULL if the configuration is impossible (`storage` is untouched).
 */
struct ivshmem_pci *ivshmem_pci_init(void *storage, const struct ivshmem_pci_config *config);

/*
 * The bus' reset: command, BARs, registers, MSI-X table, enable bits and pending bits as in the
 * beginning. IVPosition and what ivshmem_pci_vector_ready() has said stay. Section 5.
 */
void ivshmem_pci_reset(struct ivshmem_pci *pci);

/*
 * The guest reads or writes `size` bytes at `offset` of configuration space. Any offset and size is
 * allowed: what is outside reads 0, and writes to what cannot be written are dropped, byte by byte.
 * Multi-byte values are little-endian in `bytes`. Section 2.
 */
void ivshmem_pci_config_read(struct ivshmem_pci *pci, uint32_t offset, void *bytes, size_t size);
void ivshmem_pci_config_write(
	struct ivshmem_pci *pci, uint32_t offset, const void *bytes, size_t size);

/*
 * The guest reads or writes `size` bytes at `offset` of BAR `bar`. Any bar, offset and size is
 * allowed, in one sense: what does not exist reads 0, and writes to it are dropped. Sections 3, 4.
 */
void ivshmem_pci_read(
	struct ivshmem_pci *pci, unsigned bar, uint64_t offset, void *bytes, size_t size);
void ivshmem_pci_write(
	struct ivshmem_pci *pci, unsigned bar, uint64_t offset, const void *bytes, size_t size);

/*
 * A peer has rung own vector `vector`. With MSI-X the message is sent, or stays pending until
 * nothing is in its way any more (enable, function mask, the vector's mask, bus mastering); a
 * vector the device does not have is ignored. With INTx, any vector sets the status register.
 * Section 4.
 */
void ivshmem_pci_interrupt(struct ivshmem_pci *pci, unsigned vector);

/*
 * Only with external_table: the VMM can take messages of `vector` from now on (`ready` 1), or no
 * longer (0, as in the beginning). What is pending is sent at once, if MSI-X is enabled and not
 * masked as a whole.
 */
void ivshmem_pci_vector_ready(struct ivshmem_pci *pci, unsigned vector, int ready);

/*
 * The device's state as bytes, for a VMM that migrates it or whose process is replaced: what a
 * guest has changed since ivshmem_pci_init(), and what is pending. Section 11 has the format.
 *
 * ivshmem_pci_save() writes ivshmem_pci_saved_size() bytes; 0 if `vectors` is over 2048.
 *
 * ivshmem_pci_load() takes bytes of any origin. NULL: the device is in that state now, and has told
 * the VMM by callbacks where that differs from what it told last. Else the name of the field that
 * is impossible or of a device with another configuration, and nothing has changed. What is not
 * saved stays: IVPosition, which belongs to this host, and what ivshmem_pci_vector_ready() has
 * said.
 */
size_t ivshmem_pci_saved_size(unsigned vectors);
void ivshmem_pci_save(const struct ivshmem_pci *pci, void *bytes);
const char *ivshmem_pci_load(struct ivshmem_pci *pci, const void *bytes, size_t size);

/* A number that is another one whenever what ivshmem_pci_save() writes may be another: who saves
 * after each access need not if it is the same. */
uint64_t ivshmem_pci_changes(const struct ivshmem_pci *pci);

/* Change what IVPosition reads: a server was found late. */
void ivshmem_pci_set_position(struct ivshmem_pci *pci, uint32_t position);

/* Size of BAR `bar` in bytes, 0 if the device does not have it. */
uint64_t ivshmem_pci_bar_size(const struct ivshmem_pci *pci, unsigned bar);

/* Number of MSI-X vectors, 0 without MSI-X; and whether the device has an INTx pin that it uses. */
unsigned ivshmem_pci_vectors(const struct ivshmem_pci *pci);
int ivshmem_pci_has_intx(const struct ivshmem_pci *pci);

/* Level of the INTx line now, 0 or 1. */
int ivshmem_pci_line(const struct ivshmem_pci *pci);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
