/* SPDX-License-Identifier: MIT */
#include "pcapng.h"

#include "base/le.h"

#include <string.h>

enum {
	BLOCK_SECTION = 0x0a0d0d0a,
	BLOCK_INTERFACE = 1,
	BLOCK_PACKET = 6,
	SECTION_WRITER = 4, /* options */
	INTERFACE_NAME = 2,
	INTERFACE_RESOLUTION = 9,
};

static void put(FILE *out, unsigned width, uint64_t value)
{
	uint8_t bytes[8];
	store_le(bytes, width, value);
	fwrite(bytes, 1, width, out);
}

static size_t padded(size_t size)
{
	return (size + 3) & ~(size_t)3;
}

static void put_bytes(FILE *out, const void *bytes, size_t size)
{
	fwrite(bytes, 1, size, out);
	put(out, (unsigned)(padded(size) - size), 0);
}

static void put_option(FILE *out, unsigned code, const void *value, size_t size)
{
	put(out, 2, code);
	put(out, 2, size);
	put_bytes(out, value, size);
}

/* Header, body, all options and their end, and the length again. */
#define BLOCK_FRAME 12
#define END_OPTION  4

void pcapng_begin(FILE *out, const char *writer, const char *interface, unsigned linktype)
{
	const uint8_t nanoseconds = 9;
	size_t size = BLOCK_FRAME + 16 + 4 + padded(strlen(writer)) + END_OPTION;

	put(out, 4, BLOCK_SECTION);
	put(out, 4, size);
	put(out, 4, 0x1a2b3c4d);
	put(out, 2, 1);
	put(out, 2, 0);
	put(out, 8, UINT64_MAX); /* how long it will be, nobody knows */
	put_option(out, SECTION_WRITER, writer, strlen(writer));
	put(out, END_OPTION, 0);
	put(out, 4, size);

	size = BLOCK_FRAME + 8 + 4 + padded(strlen(interface)) + 8 + END_OPTION;
	put(out, 4, BLOCK_INTERFACE);
	put(out, 4, size);
	put(out, 2, linktype);
	put(out, 2, 0);
	put(out, 4, 0); /* packets are whole */
	put_option(out, INTERFACE_NAME, interface, strlen(interface));
	put_option(out, INTERFACE_RESOLUTION, &nanoseconds, 1);
	put(out, END_OPTION, 0);
	put(out, 4, size);
}

void pcapng_packet(FILE *out, uint64_t ns, const uint8_t *bytes, size_t size)
{
	size_t block = BLOCK_FRAME + 20 + padded(size);

	put(out, 4, BLOCK_PACKET);
	put(out, 4, block);
	put(out, 4, 0); /* the interface */
	put(out, 4, ns >> 32);
	put(out, 4, ns & UINT32_MAX);
	put(out, 4, size);
	put(out, 4, size);
	put_bytes(out, bytes, size);
	put(out, 4, block);
}
