/* SPDX-License-Identifier: MIT */
/* ELF files of firmware: what to load, and where. Pure: bytes in, segments out. */
#ifndef BOARD_IMAGE_H
#define BOARD_IMAGE_H

#include <stddef.h>
#include <stdint.h>

struct image {
	const uint8_t *bytes; /* the file, which must outlive this */
	size_t size;
	uint32_t headers; /* offset of the program headers */
	unsigned n_headers;
};

/* Bytes that have to be at an address before the firmware starts. */
struct image_segment {
	uint32_t address; /* where they are loaded, which is not always where they will run */
	const uint8_t *bytes;
	uint32_t size;
};

/*
 * Look at the file. NULL, or what is wrong with it: it is no ELF file, not one for a 32-bit
 * little-endian Arm, not a program that is ready to be loaded, or it is damaged. Each of its
 * headers is within the file afterwards.
 */
const char *image_open(struct image *image, const void *bytes, size_t size);

/* What header `number` (below image->n_headers) wants to have loaded: 1, or 0 for nothing. */
int image_segment(const struct image *image, unsigned number, struct image_segment *segment);

#endif
