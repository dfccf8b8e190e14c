/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/flat.h - the flat ivshmem device as pure functions, for embedding: registers at an
 * address, shared memory at another, an interrupt line for each vector. For machines without PCI.
 *
 * Accesses go in, values and callbacks come out. No system call, no allocation, no clock, no log,
 * no libc but memcpy() and memset(); compiles freestanding as C11 and C++17. What the device does
 * is written in docs/firmware.md; section numbers below refer to it. The shared memory needs no
 * code: map it where the firmware expects it.
 *
 *     struct ivshmem_flat_config config = IVSHMEM_FLAT_CONFIG_INIT;
 *     config.vectors = 2;
 *     config.position = own_id;
 *     config.ops = &ops;
 *     ivshmem_flat_init(&flat, &config);
 *
 *     ivshmem_flat_write(&flat, offset, bytes, size);   // the firmware does this
 *     ivshmem_flat_interrupt(&flat, vector);            // a peer has rung us
 *
 * Interrupts come in one of two styles:
 *
 *   pulse   (the default) each vector has a line of its own. A ring raises and lowers it at once,
 *           which an interrupt controller that sees edges latches. There is nothing to acknowledge:
 *           mask and status read 0 and ignore what is written. QEMU's ivshmem-flat is such a device
 *           with one vector, and firmware for it runs unchanged.
 *   level   one line for all vectors, up while a bit is set in both INTRSTATUS and INTRMASK. Vector
 *           v sets bit v of the status, vectors above 31 set bit 31; reading the status clears it.
 *           For controllers that only see levels.
 *
 * Threads and callbacks: as in <ivshmem/device.h>.
 */
#ifndef IVSHMEM_FLAT_H
#define IVSHMEM_FLAT_H

#include <ivshmem/abi.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

#define IVSHMEM_FLAT_SIZE 16u /* bytes of the window with the registers */

/* `data` is that of the configuration. A callback may be NULL: nothing happens. */
struct ivshmem_flat_ops {
	/* The firmware has written to its doorbell register. Neither number is checked: ignore it
	 * if nobody is there. `peer` may be the own ID. */
	void (*ring)(void *data, unsigned peer, unsigned vector);
	/* Interrupt line `line` (the vector; with `level` always 0) has the level `level`, 0 or 1.
	 * All start as 0. A pulse is two calls, 1 and then 0. */
	void (*line)(void *data, unsigned line, int level);
};

struct ivshmem_flat_config {
	size_t struct_size; /* sizeof(struct ivshmem_flat_config), see the initialiser */
	unsigned vectors;   /* 0..2048; 0: it cannot be rung, and can ring all the same */
	uint32_t position;  /* what IVPosition reads: the own ID */
	int level;          /* the style: 0 pulse, 1 level */
	const struct ivshmem_flat_ops *ops; /* not NULL; must outlive the device */
	void *data;                         /* handed to the callbacks */
};

#define IVSHMEM_FLAT_CONFIG_INIT                                                                   \
	{                                                                                          \
		.struct_size = sizeof(struct ivshmem_flat_config)                                  \
	}

/* The device's state; where it lives is the caller's business, what is in it is not. */
struct ivshmem_flat {
	uint32_t mask, status, position;
	unsigned vectors;
	int level, raised;
	const struct ivshmem_flat_ops *ops;
	void *data;
};

/* Returns 0, and a device as after reset; -1 if the configuration is impossible. */
int ivshmem_flat_init(struct ivshmem_flat *flat, const struct ivshmem_flat_config *config);

/* Mask and status to 0, the line down. IVPosition stays. */
void ivshmem_flat_reset(struct ivshmem_flat *flat);

/*
 * The firmware reads or writes `size` bytes at `offset` of the window. Any offset and size is
 * allowed: a read gives the bytes that stand there, 0 outside; a write counts for the registers
 * that it covers as a whole. Multi-byte values are little-endian in `bytes`. Section 2.
 */
void ivshmem_flat_read(struct ivshmem_flat *flat, uint32_t offset, void *bytes, size_t size);
void ivshmem_flat_write(struct ivshmem_flat *flat, uint32_t offset, const void *bytes, size_t size);

/* A peer has rung own vector `vector`; one that the device does not have is ignored. Section 3. */
void ivshmem_flat_interrupt(struct ivshmem_flat *flat, unsigned vector);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
