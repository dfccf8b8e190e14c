/* SPDX-License-Identifier: MIT */
/* Region headers for tests, made without the code that is tested: docs/region.md, byte by byte. */
#ifndef TESTS_HEADERPAGE_H
#define TESTS_HEADERPAGE_H

#include <stdint.h>
#include <string.h>

#define HEADER_PAGE 4096

static inline void header_word(uint8_t *page, unsigned at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		page[at + i] = (uint8_t)(value >> 8 * i);
}

/* Make it add up. */
static inline void header_seal(uint8_t page[HEADER_PAGE])
{
	uint32_t crc = UINT32_MAX;

	header_word(page, 12, 0);
	for (unsigned bit = 0; bit < HEADER_PAGE * 8; bit++) {
		uint32_t out = (crc ^ (uint32_t)page[bit / 8] >> bit % 8) & 1;
		crc = crc >> 1 ^ (out ? 0xedb88320u : 0);
	}
	header_word(page, 12, ~crc);
}

/* The header of a region of 64 KiB. Its UUID is 0f0f0f0f-0f0f-... */
static inline void header_page(uint8_t page[HEADER_PAGE], const char *name, uint32_t generation)
{
	memset(page, 0, HEADER_PAGE);
	memcpy(page, "ivsh", 4);
	header_word(page, 4, 1);
	header_word(page, 8, HEADER_PAGE);
	header_word(page, 16, generation);
	header_word(page, 24, 65536);
	memset(page + 32, 0x0f, 16);
	memcpy(page + 64, name, strlen(name));
	header_seal(page);
}

#endif
