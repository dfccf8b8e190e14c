/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/abi.h - numbers that every side of ivshmem agrees on.
 *
 * Freestanding: no libc, no types but those of <stdint.h>; compiles as C11 and C++17. Names and
 * values follow QEMU's device specification; docs/protocol.md and the comments below give the
 * meaning. Everything on the wire and in registers is little-endian unless stated otherwise.
 */
#ifndef IVSHMEM_ABI_H
#define IVSHMEM_ABI_H

#include <stdint.h>

/* Identity of the PCI device. */
#define IVSHMEM_PCI_VENDOR_ID 0x1af4u
#define IVSHMEM_PCI_DEVICE_ID 0x1110u
/* Subsystem vendor in bits 31..16, subsystem in 15..0, unless the device was given others. */
#define IVSHMEM_PCI_SUBSYSTEM_ID 0x1af41100u

/* BARs: registers, MSI-X table and PBA (doorbell device only), the shared memory. */
#define IVSHMEM_BAR_REGISTERS 0
#define IVSHMEM_BAR_MSIX      1
#define IVSHMEM_BAR_MEMORY    2

#define IVSHMEM_REGISTERS_SIZE 256u

/* Registers in BAR0, byte offsets; each is 32 bits wide and accessed as such. */
/* The first two are for interrupts that are levels: revision 0 without MSI-X, and the flat device
 * in level style. */
#define IVSHMEM_REG_INTRMASK   0x00u
#define IVSHMEM_REG_INTRSTATUS 0x04u /* reading clears it */
#define IVSHMEM_REG_IVPOSITION 0x08u /* own ID; 0 on a device without a server */
#define IVSHMEM_REG_DOORBELL   0x0cu /* write only: peer ID in bits 31..16, vector in 15..0 */

/* Value to write to the doorbell register to ring `vector` of the peer with ID `peer`. */
#define IVSHMEM_DOORBELL(peer, vector)                                                             \
	((((uint32_t)(peer)&0xffffu) << 16) | ((uint32_t)(vector)&0xffffu))

/* IDs are 0..65535; 0 is an ordinary ID and belongs to the first peer. */
#define IVSHMEM_MAX_ID 65535u

/* MSI-X can encode 1..2048 vectors; QEMU's contrib client and flat device stop at 64. */
#define IVSHMEM_MAX_VECTORS         2048u
#define IVSHMEM_MAX_VECTORS_CONTRIB 64u

/* The client-server protocol. */
#define IVSHMEM_PROTOCOL_VERSION 0
#define IVSHMEM_DEFAULT_SOCKET   "/tmp/ivshmem_socket"

/*
 * Where ivshmem_meet() leaves word in the shared memory: a slot for each of the two seats, one
 * after the other; byte offsets of 32 bit words in it. Each is written by the slot's owner alone.
 * A session is a fresh number, not 0, that names one call; it is written after the others. While
 * it is 0 they are not valid; a slot that keeps its number while others change is as good. The peer
 * who calls rings the other again and again until that one's slot says that it has heard.
 */
enum ivshmem_meeting {
	IVSHMEM_MEETING_SESSION = 0, /* the owner's */
	IVSHMEM_MEETING_ID = 4,      /* the owner's, or IVSHMEM_MEETING_NO_ID */
	IVSHMEM_MEETING_FLAGS = 8,   /* what the owner can do, as below */
	IVSHMEM_MEETING_SEEN = 12,   /* the other's session, once its slot has been read */
	IVSHMEM_MEETING_HEARD = 16,  /* the other's session, once a doorbell of it has come */

	IVSHMEM_MEETING_SLOT = 64, /* bytes of a slot */

	IVSHMEM_MEETING_RINGS = 1, /* flag: rings doorbells */
	IVSHMEM_MEETING_HEARS = 2, /* flag: can wait for one */
	IVSHMEM_MEETING_LAST = 4,  /* flag: has no clock, and says HEARD after all else */
};
#define IVSHMEM_MEETING_NO_ID 0xffffffffu

/*
 * What the server writes into the first page of the region if it is told to: which region this is.
 * Byte offsets of 32 bit words, but for UUID and NAME, which are bytes. What is not listed is 0.
 * Who reads it copies the page, checks CHECK over the copy, and uses the copy; it is a hint, since
 * whoever may write to the region can write here (docs/region.md).
 */
enum ivshmem_header {
	IVSHMEM_HEADER_MAGIC = 0,        /* IVSHMEM_HEADER_MAGIC_VALUE, or there is no header */
	IVSHMEM_HEADER_VERSION = 4,      /* of this layout: IVSHMEM_HEADER_VERSION_VALUE */
	IVSHMEM_HEADER_BYTES = 8,        /* IVSHMEM_HEADER_SIZE: what CHECK is about */
	IVSHMEM_HEADER_CHECK = 12,       /* CRC-32 of the page, this word taken as 0 */
	IVSHMEM_HEADER_GENERATION = 16,  /* another one whenever the memory was made anew */
	IVSHMEM_HEADER_FLAGS = 20,       /* none yet; ignore those that you do not know */
	IVSHMEM_HEADER_REGION_LOW = 24,  /* bytes of the region: bits 31..0, */
	IVSHMEM_HEADER_REGION_HIGH = 28, /* 63..32 */
	IVSHMEM_HEADER_UUID = 32,        /* in the order of its text */
	IVSHMEM_HEADER_DIRECTORY = 48,   /* offset of the directory of channels, if there is one */
	IVSHMEM_HEADER_DIRECTORY_SIZE = 52, /* bytes that it may take */
	IVSHMEM_HEADER_NAME = 64,           /* [a-z0-9._-]{1,63}, then zeros */

	IVSHMEM_HEADER_SIZE = 4096, /* bytes that are taken from the region */
	IVSHMEM_HEADER_UUID_SIZE = 16,
	IVSHMEM_HEADER_NAME_SIZE = 64, /* with the zero */
};
#define IVSHMEM_HEADER_MAGIC_VALUE   0x68737669u /* "ivsh" */
#define IVSHMEM_HEADER_VERSION_VALUE 1u

/* Where region:NAME listens: this folder, the name, ".sock". */
#define IVSHMEM_SOCKET_FOLDER "/run/ivshmem"

#endif
