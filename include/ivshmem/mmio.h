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
 * The flat device has its registers and its memory at fixed addresses. A PCI device has them in
 * BAR0 and BAR2, once somebody has placed and enabled those and set up MSI-X; from then on it is
 * the same. examples/hello-metal.c is a whole program, examples/cortex-m a board for it.
 *
 * Interrupts. There are two kinds, and one function for the handler of each:
 *
 *   pulse   an interrupt of its own for each vector, and nothing to acknowledge at the device: the
 *           flat device in its default style, as QEMU's, and MSI-X. The handler of vector v's calls
 *           ivshmem_mmio_interrupt(&iv, v).
 *   level   one for all, which stays until the status register has been read: the flat device in
 *           level style, and the INTx of a PCI device of revision 0, which knows vector 0 only. Its
 *           handler calls ivshmem_mmio_interrupts(&iv), which finds out which vectors it was.
 *
 * Both count. Everything else takes from that count, and shares nothing with the handler but two
 * words that have one writer each, so nothing has to be masked.
 *
 * Memory order. What is written before ivshmem_mmio_ring() is there when the other is interrupted,
 * and what is read after ivshmem_mmio_take() or ivshmem_mmio_wait() is not older than the ring.
 * Without doorbells the same holds from ivshmem_mmio_store() to the ivshmem_mmio_load() that sees
 * its value. All of that is one barrier, in front of each store and behind each load, and why it
 * has to be this one differs:
 *
 *   Arm        Accesses to ordinary memory are not ordered with each other, nor with those to a
 *              device; neither are those to two devices, and the registers are one and the shared
 *              memory, where it is mapped as a device's, another. DMB orders them whatever the type
 *              of the memory. DSB would also wait until they are complete: that matters before WFI,
 *              but for a doorbell only the order does. SY and not ISH: ISH orders what the inner
 *              shareable domain sees, the processors that run one system, and a device need not be
 *              in it. The compiler alone is enough for nothing but one device's own registers.
 *   RISC-V     The same: fence with memory (r, w) and devices (i, o) on both sides. A fence rw, rw
 *              says nothing of the doorbell if the registers are mapped as I/O, as they should be.
 *   x86        Stores are in order, those to devices too, and so are loads; but a store can be
 *              overtaken by a load, and those to memory mapped write-combining are in no order.
 *              MFENCE is for both.
 *
 * On the other side a doorbell is an eventfd or an interrupt, after which its owner reads: the
 * device's process orders the two, as the kernel does when it signals and wakes.
 *
 * Access. On a Cortex-M the address decides: by the default memory map 0x40000000 to 0x5fffffff
 * (where the flat device usually is) and 0xa0000000 upwards is a device's memory, where an access
 * that is not aligned is a fault. Copy by bytes or by aligned words, through volatile, and not by
 * memcpy(), which may do otherwise. The same holds on aarch64 for whatever is mapped as Device, and
 * for all there is before the MMU is on. A Cortex-M7 may cache what is at 0x60000000 to 0x9fffffff;
 * shared memory must not be cached unless everybody's caches are coherent.
 *
 * Trust: the memory is written by others at any time. Copy a value out once, check the copy, use
 * the copy.
 *
 * Threads: one at a time may take from a vector; any may ring.
 * Source: docs/device.md, sections 3 and 4; docs/firmware.md.
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

/* What comes before it is seen before what comes behind it, by everybody. */
static inline void ivshmem_mmio_barrier(void)
{
#if defined(__CC_ARM)
	__dmb(0xf);
#elif defined(__arm__) || defined(__aarch64__)
	__asm__ volatile("dmb sy" ::: "memory");
#elif defined(__riscv)
	__asm__ volatile("fence iorw, iorw" ::: "memory");
#elif defined(__i386__) || defined(__x86_64__)
	__asm__ volatile("mfence" ::: "memory");
#else
#error "ivshmem/mmio.h: which instruction orders memory and devices on this processor?"
#endif
}

/*
 * Sleep while `*word` is `value`, or a moment: may return for no reason. Between the look and the
 * sleep the interrupt is masked, else it could come just there and nobody would be woken; a masked
 * interrupt ends the sleep, too. Other processors, and armcc 5, just come back. Define
 * IVSHMEM_MMIO_SLEEP to have it in another way, for example where the program is not privileged, or
 * other tasks could run.
 */
static inline void ivshmem_mmio_sleep_while(const volatile uint32_t *word, uint32_t value)
{
	(void)word; /* some have no use for them */
	(void)value;
#if defined(IVSHMEM_MMIO_SLEEP)
	IVSHMEM_MMIO_SLEEP(word, value);
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M' && !defined(__CC_ARM)
	__asm__ volatile("cpsid i" ::: "memory");
	if (*word == value)
		__asm__ volatile("dsb sy\n\twfi" ::: "memory");
	__asm__ volatile("cpsie i\n\tisb sy" ::: "memory");
#endif
}

/* ---- the device ---- */

/*
 * `registers` and `memory` are addresses as the program uses them, `size` the bytes of memory. All
 * that is written to the device is its interrupt mask, for the devices that have one: everything
 * on.
 */
static inline void ivshmem_mmio_init(
	struct ivshmem_mmio *iv, uintptr_t registers, uintptr_t memory, uint32_t size)
{
	unsigned i;

	/* NOLINTBEGIN(performance-no-int-to-ptr): machines have devices at numbers. */
	iv->registers = (volatile uint32_t *)registers;
	iv->memory = (volatile unsigned char *)memory;
	/* NOLINTEND(performance-no-int-to-ptr) */
	iv->size = size;
	for (i = 0; i < IVSHMEM_MMIO_VECTORS; i++) {
		iv->rung[i] = 0;
		iv->taken[i] = 0;
	}
	ivshmem_mmio_barrier(); /* what is switched on may interrupt at once */
	iv->registers[IVSHMEM_REG_INTRMASK / 4] = 0xffffffffu;
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

/* ---- for handlers ---- */

/* For the handler of a vector's own interrupt. */
static inline void ivshmem_mmio_interrupt(struct ivshmem_mmio *iv, unsigned vector)
{
	if (vector < IVSHMEM_MMIO_VECTORS)
		iv->rung[vector] = iv->rung[vector] + 1;
}

/* Make the device let go of an interrupt line that is a level, which it has when this returns.
 * Returns the status, in which bit v is set if vector v has been rung since the last time: 0 if
 * this was another device's interrupt. */
static inline uint32_t ivshmem_mmio_acknowledge(const struct ivshmem_mmio *iv)
{
	return iv->registers[IVSHMEM_REG_INTRSTATUS / 4];
}

/* For the handler of an interrupt that is a level: acknowledges and counts. Bit 31 may stand for
 * higher vectors than 31, and counts for 31. Returns the status, too. */
static inline uint32_t ivshmem_mmio_interrupts(struct ivshmem_mmio *iv)
{
	const uint32_t status = ivshmem_mmio_acknowledge(iv);
	unsigned vector;

	for (vector = 0; vector < 32; vector++)
		if ((status >> vector & 1) != 0)
			ivshmem_mmio_interrupt(iv, vector);
	return status;
}

/* ---- waiting ---- */

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

/* Sleep until there is one to take, or any interrupt comes, or a moment. Interrupts have to be
 * enabled, and not be masked by the priority of the caller. */
static inline void ivshmem_mmio_sleep(const struct ivshmem_mmio *iv, unsigned vector)
{
	if (vector < IVSHMEM_MMIO_VECTORS)
		ivshmem_mmio_sleep_while(&iv->rung[vector], iv->taken[vector]);
}

/* Sleep until there is one, and take it. 0 for a vector that is not counted. */
static inline uint32_t ivshmem_mmio_wait(struct ivshmem_mmio *iv, unsigned vector)
{
	uint32_t count;

	while ((count = ivshmem_mmio_take(iv, vector)) == 0 && vector < IVSHMEM_MMIO_VECTORS)
		ivshmem_mmio_sleep(iv, vector);
	return count;
}

/* ---- words of the memory ---- */

/* The word at a byte offset, which is a multiple of 4 and lies in the memory. */
static inline volatile uint32_t *ivshmem_mmio_word(const struct ivshmem_mmio *iv, uint32_t offset)
{
	return (volatile uint32_t *)(volatile void *)(iv->memory + offset);
}

/* Read a word: what is read after it is not older than its value. */
static inline uint32_t ivshmem_mmio_load(const struct ivshmem_mmio *iv, uint32_t offset)
{
	const uint32_t value = *ivshmem_mmio_word(iv, offset);

	ivshmem_mmio_barrier();
	return value;
}

/* Write a word: whoever reads its value reads also what was written before. */
static inline void ivshmem_mmio_store(
	const struct ivshmem_mmio *iv, uint32_t offset, uint32_t value)
{
	ivshmem_mmio_barrier();
	*ivshmem_mmio_word(iv, offset) = value;
}

/* ---- which region this is ---- */

/*
 * The name in the header that a server may have written at the start of the memory. Returns 0, or
 * -1 if there is none, or one that does not add up: it may just be being written, so look again. A
 * hint, as whoever can write to the memory can write there. A device's memory is read once, word by
 * word: 4096 bytes, and some hundred thousand instructions.
 * Source: enum ivshmem_header in <ivshmem/abi.h>, docs/region.md.
 */
static inline int ivshmem_mmio_name(
	const struct ivshmem_mmio *iv, char name[IVSHMEM_HEADER_NAME_SIZE])
{
	uint32_t crc = 0xffffffffu, check = 0, offset, word;
	unsigned i;

	if (iv->size < IVSHMEM_HEADER_SIZE)
		return -1;
	for (offset = 0; offset < IVSHMEM_HEADER_SIZE; offset += 4) {
		word = *ivshmem_mmio_word(iv, offset);
		if (offset == IVSHMEM_HEADER_MAGIC && word != IVSHMEM_HEADER_MAGIC_VALUE)
			return -1;
		if (offset == IVSHMEM_HEADER_VERSION && word != IVSHMEM_HEADER_VERSION_VALUE)
			return -1;
		if (offset == IVSHMEM_HEADER_CHECK) {
			check = word;
			word = 0;
		}
		if (offset >= IVSHMEM_HEADER_NAME &&
			offset < IVSHMEM_HEADER_NAME + IVSHMEM_HEADER_NAME_SIZE)
			for (i = 0; i < 4; i++)
				name[offset - IVSHMEM_HEADER_NAME + i] =
					(char)(word >> (8 * i) & 0xff);
		crc ^= word;
		for (i = 0; i < 32; i++)
			crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
	}
	return ~crc == check && name[IVSHMEM_HEADER_NAME_SIZE - 1] == '\0' ? 0 : -1;
}

/* ---- meeting another peer ---- */

/*
 * Two peers that may start in any order find each other: ivshmem_meet() of <ivshmem/peer.h> for
 * firmware. The other one can be anything that meets this way.
 *
 *     ivshmem_mmio_meet_start(&meeting, &iv, 4096, 1, 0);   // both: same place, other seat, vector
 *     while (!ivshmem_mmio_meet(&meeting))
 *             ivshmem_mmio_sleep(&iv, 0);
 *     ivshmem_mmio_ring(&iv, meeting.other, 0);
 *
 * ivshmem_mmio_meet() never waits. Call it again after each interrupt of the vector, or by a tick;
 * each call may ring the other. If that is the library, no tick is needed: the library rings again
 * and again, at most 100 ms apart, until our slot says that it was heard, and we say so last of
 * all, when there is nothing left for us to wait for. So no ring that gets lost, because somebody
 * was not known yet, leaves us asleep. Of two firmwares one has to call by a tick, as neither rings
 * without being woken, and a first ring into nothing is lost; and so has one that meets a peer
 * without doorbells.
 *
 * Numbers of sessions. The library draws them, so that who names mine has read it since I began.
 * Here it is the one in the own slot plus one, and not one that the other's slot names. That is as
 * fresh: only this seat writes the slot, it is never taken back to 0, and so no earlier number is
 * met again before 2^32 meetings, unless somebody clears the memory while the other is in a
 * meeting.
 */
struct ivshmem_mmio_meeting {
	struct ivshmem_mmio *iv;
	uint32_t mine, theirs; /* offsets of the slots */
	unsigned vector;
	uint32_t session; /* own */
	uint32_t seen;    /* the other's, 0: none yet */
	uint32_t heard;   /* a doorbell has come since */
	uint32_t other;   /* once they have met: the other's ID, or IVSHMEM_MEETING_NO_ID */
};

/* Write the own slot, all of it each time, as whoever starts may clear the memory. At the start
 * SEEN is 0 before the rest changes, and so nobody takes a mixture of two lives for an answer;
 * there is no need to take the session to 0 meanwhile, and its number with it. */
static inline void ivshmem_mmio_meet_say(const struct ivshmem_mmio_meeting *meeting, uint32_t heard)
{
	const struct ivshmem_mmio *iv = meeting->iv;
	const uint32_t slot = meeting->mine;

	ivshmem_mmio_store(iv, slot + IVSHMEM_MEETING_SEEN, meeting->seen);
	ivshmem_mmio_store(iv, slot + IVSHMEM_MEETING_HEARD, heard);
	ivshmem_mmio_store(iv, slot + IVSHMEM_MEETING_ID, (uint32_t)ivshmem_mmio_id(iv));
	ivshmem_mmio_store(iv, slot + IVSHMEM_MEETING_FLAGS,
		IVSHMEM_MEETING_RINGS | IVSHMEM_MEETING_HEARS | IVSHMEM_MEETING_LAST);
	ivshmem_mmio_store(iv, slot + IVSHMEM_MEETING_SESSION, meeting->session);
	ivshmem_mmio_barrier();
}

/*
 * Begin, in the 128 bytes at `offset` (a multiple of 64), on `seat` 0 or 1, with the doorbell
 * `vector` of both. Returns 0, or -1 if there is no such place, seat or vector.
 */
static inline int ivshmem_mmio_meet_start(struct ivshmem_mmio_meeting *meeting,
	struct ivshmem_mmio *iv, uint32_t offset, unsigned seat, unsigned vector)
{
	uint32_t seen, heard;

	if (offset % IVSHMEM_MEETING_SLOT != 0 || iv->size < 2 * IVSHMEM_MEETING_SLOT ||
		offset > iv->size - 2 * IVSHMEM_MEETING_SLOT || seat > 1 ||
		vector >= IVSHMEM_MMIO_VECTORS)
		return -1;
	meeting->iv = iv;
	meeting->mine = offset + seat * IVSHMEM_MEETING_SLOT;
	meeting->theirs = offset + (1 - seat) * IVSHMEM_MEETING_SLOT;
	meeting->vector = vector;
	meeting->seen = 0;
	meeting->heard = 0;
	meeting->other = IVSHMEM_MEETING_NO_ID;
	meeting->session = ivshmem_mmio_load(iv, meeting->mine + IVSHMEM_MEETING_SESSION);
	seen = ivshmem_mmio_load(iv, meeting->theirs + IVSHMEM_MEETING_SEEN);
	heard = ivshmem_mmio_load(iv, meeting->theirs + IVSHMEM_MEETING_HEARD);
	do
		meeting->session++;
	while (meeting->session == 0 || meeting->session == seen || meeting->session == heard);
	ivshmem_mmio_meet_say(meeting, 0);
	return 0;
}

/* Go on. Returns 1 once they have met, and 0 until then. */
static inline int ivshmem_mmio_meet(struct ivshmem_mmio_meeting *meeting)
{
	struct ivshmem_mmio *iv = meeting->iv;
	const uint32_t slot = meeting->theirs;
	/* Taken before looking: who rings after it has written is not slept through. */
	const uint32_t rings = ivshmem_mmio_take(iv, meeting->vector);
	const uint32_t session = ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_SESSION);
	const uint32_t id = ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_ID);
	const uint32_t flags = ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_FLAGS);
	const uint32_t seen = ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_SEEN);
	const uint32_t heard = ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_HEARD);
	const int can_ring = (flags & IVSHMEM_MEETING_HEARS) != 0 && id <= IVSHMEM_MAX_ID;
	int told, met;

	if (session == 0 || ivshmem_mmio_load(iv, slot + IVSHMEM_MEETING_SESSION) != session ||
		(id > IVSHMEM_MAX_ID && id != IVSHMEM_MEETING_NO_ID)) {
		/* Nobody there, or writing just now. */
		ivshmem_mmio_meet_say(meeting, 0);
		return 0;
	}
	/* What has been rung until now was not for a session that is new. */
	meeting->heard = session == meeting->seen && (meeting->heard != 0 || rings != 0);
	meeting->seen = session;
	meeting->other = id;

	/* Does the other know all that it waits for, but that we have heard it? */
	told = seen == meeting->session && (heard == meeting->session || !can_ring);
	met = told && (meeting->heard != 0 || (flags & IVSHMEM_MEETING_RINGS) == 0);
	if ((flags & IVSHMEM_MEETING_LAST) != 0)
		told = 1; /* it rings only when it is woken: nothing is gained by keeping it back */
	ivshmem_mmio_meet_say(meeting, meeting->heard != 0 && told ? session : 0);
	/* Each time, as that is what makes the other look again, and try to be heard again, and the
	 * last time, too: it may be asleep without a clock. */
	if (can_ring)
		ivshmem_mmio_ring(iv, id, meeting->vector);
	return met;
}

#ifdef __cplusplus
}
#endif

#endif
