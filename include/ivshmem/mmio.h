/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/mmio.h - the driver for firmware: bare metal and small systems without an operating
 * system's driver model. Freestanding: no libc, no allocation, nothing to link.
 *
 *     static struct ivshmem_mmio iv;
 *
 *     void doorbell_0_handler(void) { ivshmem_mmio_interrupt(&iv, 0); }
 *
 *     ivshmem_mmio_init(&iv, 0x400ff000, 0x40100000, 4 << 20);   // the flat device's addresses
 *     iv.memory[64] = 'x';
 *     ivshmem_mmio_ring(&iv, other, 0);
 *     ivshmem_mmio_wait(&iv, 0);                                 // sleeps until rung
 *
 * The flat device has its registers and its memory at fixed addresses, and an interrupt line for
 * each vector. A PCI device has them in BAR0 and BAR2, once somebody has placed and enabled those
 * and set up MSI-X; from then on it is the same.
 *
 * Interrupts. The handler of a vector's interrupt calls ivshmem_mmio_interrupt(), which counts.
 * Everything else takes from that count, and shares nothing with the handler but two words that
 * have one writer each, so nothing has to be masked. The device's interrupt is a pulse: there is
 * nothing to acknowledge at it. On a device of revision 0, whose interrupt is a level (INTx), the
 * handler calls ivshmem_mmio_acknowledge() first.
 *
 * Memory order. What is written before ivshmem_mmio_ring() is there when the other is interrupted,
 * and what is read after ivshmem_mmio_take() or ivshmem_mmio_wait() is not older than the ring.
 * Stores to ordinary memory and to a device are not ordered by themselves on ARM and RISC-V: a
 * barrier between the two is (dmb sy, not ish: a device need not be in the inner shareable domain).
 * On Cortex-M the shared memory is at an address that the default memory map makes a device's
 * (0x40000000 and above), where every access has to be aligned: copy by bytes or by aligned words
 * and not by memcpy(), which may not be.
 *
 * Trust: the memory is written by others at any time. Copy a value out once, check the copy, use
 * the copy.
 *
 * Threads: one at a time may take from a vector; any may ring.
 * Source: docs/device.md, sections 3 and 4.
 */
#ifndef IVSHMEM_MMIO_H
#define IVSHMEM_MMIO_H

#include <ivshmem/abi.h>

#include <stdint.h>

/* Vectors that are counted; define it before to have more or fewer. */
#ifndef IVSHMEM_MMIO_VECTORS
#define IVSHMEM_MMIO_VECTORS 8
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ivshmem/mmio.h: the registers are little-endian, and this processor is not"
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct ivshmem_mmio {
	volatile uint32_t *registers;
	volatile unsigned char *memory;
	uint32_t size; /* bytes of memory */
	/* By vector, modulo 2^32: rung is the handler's alone, taken the taker's. */
	volatile uint32_t rung[IVSHMEM_MMIO_VECTORS];
	uint32_t taken[IVSHMEM_MMIO_VECTORS];
};

/* ---- what differs by processor ---- */

/* Nothing before it is seen after anything behind it, by nobody. */
static inline void ivshmem_mmio_barrier(void)
{
#if defined(__CC_ARM)
	__dmb(0xf);
#elif defined(__arm__) || defined(__aarch64__)
	__asm__ volatile("dmb sy" ::: "memory");
#elif defined(__riscv)
	__asm__ volatile("fence iorw, iorw" ::: "memory");
#elif defined(__i386__) || defined(__x86_64__)
	__asm__ volatile("" ::: "memory"); /* stores stay in order, device's among them */
#else
#error "ivshmem/mmio.h: which instruction orders memory and devices on this processor?"
#endif
}

/*
 * Sleep while `*word` is `value`, or a moment: may return for no reason. Between the look and the
 * sleep the interrupt is masked, else it could come just there and nobody would be woken; a masked
 * interrupt ends the sleep, too. Other processors just come back. Define IVSHMEM_MMIO_SLEEP to have
 * it in another way, for example where the program is not privileged.
 */
static inline void ivshmem_mmio_sleep(const volatile uint32_t *word, uint32_t value)
{
#if defined(IVSHMEM_MMIO_SLEEP)
	IVSHMEM_MMIO_SLEEP(word, value);
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && !defined(__CC_ARM)
	__asm__ volatile("cpsid i" ::: "memory");
	if (*word == value)
		__asm__ volatile("dsb sy\n\twfi" ::: "memory");
	__asm__ volatile("cpsie i\n\tisb sy" ::: "memory");
#else
	(void)word;
	(void)value;
#endif
}

/* ---- the driver ---- */

/*
 * `registers` and `memory` are addresses as the program uses them, `size` the bytes of memory.
 * Nothing is written to the device, but that an INTx is switched on (revision 0; others ignore it).
 */
static inline void ivshmem_mmio_init(
	struct ivshmem_mmio *iv, uintptr_t registers, uintptr_t memory, uint32_t size)
{
	unsigned i;

	iv->registers = (volatile uint32_t *)registers;
	iv->memory = (volatile unsigned char *)memory;
	iv->size = size;
	for (i = 0; i < IVSHMEM_MMIO_VECTORS; i++) {
		iv->rung[i] = 0;
		iv->taken[i] = 0;
	}
	iv->registers[IVSHMEM_REG_INTRMASK / 4] = 1;
}

/* Own ID, 0..65535. -1 while there is none: a PCI device whose server has not come yet. */
static inline int32_t ivshmem_mmio_id(const struct ivshmem_mmio *iv)
{
	return (int32_t)iv->registers[IVSHMEM_REG_IVPOSITION / 4];
}

/* Ring a vector of a peer. One that does not exist is ignored by the device. */
static inline void ivshmem_mmio_ring(const struct ivshmem_mmio *iv, unsigned peer, unsigned vector)
{
	ivshmem_mmio_barrier();
	iv->registers[IVSHMEM_REG_DOORBELL / 4] = IVSHMEM_DOORBELL(peer, vector);
}

/* For the handler of a vector's interrupt. */
static inline void ivshmem_mmio_interrupt(struct ivshmem_mmio *iv, unsigned vector)
{
	if (vector < IVSHMEM_MMIO_VECTORS)
		iv->rung[vector] = iv->rung[vector] + 1;
}

/* For the handler of an INTx, which may be shared: 1 if it was this device's, which has let go of
 * the line then. */
static inline int ivshmem_mmio_acknowledge(const struct ivshmem_mmio *iv)
{
	return iv->registers[IVSHMEM_REG_INTRSTATUS / 4] != 0;
}

/* Interrupts of the vector since the last call; 0 also for a vector that is not counted. Rings that
 * follow each other closely can be one interrupt. */
static inline uint32_t ivshmem_mmio_take(struct ivshmem_mmio *iv, unsigned vector)
{
	uint32_t rung, count;

	if (vector >= IVSHMEM_MMIO_VECTORS)
		return 0;
	rung = iv->rung[vector];
	count = rung - iv->taken[vector];
	iv->taken[vector] = rung;
	ivshmem_mmio_barrier();
	return count;
}

/* The same, but sleep until there is one. Interrupts have to be enabled, and not be masked by the
 * priority of the caller. 0 for a vector that is not counted. */
static inline uint32_t ivshmem_mmio_wait(struct ivshmem_mmio *iv, unsigned vector)
{
	uint32_t count;

	while ((count = ivshmem_mmio_take(iv, vector)) == 0 && vector < IVSHMEM_MMIO_VECTORS)
		ivshmem_mmio_sleep(&iv->rung[vector], iv->taken[vector]);
	return count;
}

#ifdef __cplusplus
}
#endif

#endif
