/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A firmware's file is read, not trusted: all that the file says about itself
 * is checked once, in image_open(), against the size that it really has. The structures are those
 * of <elf.h> in the C library, copied out of the bytes, which may lie at any address.
 */
#include "image.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

static Elf32_Phdr header_at(const struct image *image, unsigned number)
{
	Elf32_Phdr header;

	memcpy(&header, image->bytes + image->headers + (size_t)number * sizeof(header),
		sizeof(header));
	return header;
}

static bool is_within(const struct image *image, uint64_t offset, uint64_t size)
{
	return offset <= image->size && size <= image->size - offset;
}

static const char *check_headers(const struct image *image)
{
	if (!is_within(image, image->headers, (uint64_t)image->n_headers * sizeof(Elf32_Phdr)))
		return "the file is cut off";
	for (unsigned i = 0; i < image->n_headers; i++) {
		Elf32_Phdr header = header_at(image, i);
		if (header.p_type != PT_LOAD)
			continue;
		if (!is_within(image, header.p_offset, header.p_filesz))
			return "the file is cut off";
		if (header.p_paddr + (uint64_t)header.p_filesz > UINT32_MAX)
			return "a segment ends behind the address space";
	}
	return NULL;
}

const char *image_open(struct image *image, const void *bytes, size_t size)
{
	Elf32_Ehdr header;

	*image = (struct image){.bytes = bytes, .size = size};
	if (size < sizeof(header) || memcmp(bytes, ELFMAG, SELFMAG) != 0)
		return "it is not an ELF file";
	memcpy(&header, bytes, sizeof(header));
	if (header.e_ident[EI_CLASS] != ELFCLASS32 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
		header.e_machine != EM_ARM)
		return "it is not for a little-endian 32-bit Arm processor";
	if (header.e_type != ET_EXEC)
		return "it is not linked to fixed addresses";
	if (header.e_phnum == 0 || header.e_phentsize != sizeof(Elf32_Phdr))
		return "it has nothing to load";
	image->headers = header.e_phoff;
	image->n_headers = header.e_phnum;
	return check_headers(image);
}

int image_segment(const struct image *image, unsigned number, struct image_segment *segment)
{
	Elf32_Phdr header = header_at(image, number);

	if (header.p_type != PT_LOAD || header.p_filesz == 0)
		return 0;
	segment->address = header.p_paddr;
	segment->bytes = image->bytes + header.p_offset;
	segment->size = header.p_filesz;
	return 1;
}
