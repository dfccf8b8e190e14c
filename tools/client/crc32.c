/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Eight bytes at a time, which is some five times as fast as one: row k of the
 * table says what a byte does to the sum once k more bytes have come behind it, so that the eight
 * do not have to wait for each other.
 */
#include "crc32.h"

#include "base/le.h"

#define POLYNOMIAL 0xedb88320u /* lowest bit first */

static uint32_t table[8][256];

static void fill_table(void)
{
	for (uint32_t byte = 0; byte < 256; byte++) {
		uint32_t crc = byte;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
		table[0][byte] = crc;
	}
	for (unsigned row = 1; row < 8; row++)
		for (unsigned byte = 0; byte < 256; byte++)
			table[row][byte] =
				table[row - 1][byte] >> 8 ^ table[0][table[row - 1][byte] & 0xff];
}

uint32_t crc32_add(uint32_t crc, const unsigned char *bytes, size_t n)
{
	if (table[0][1] == 0)
		fill_table();
	crc = ~crc;
	for (; n >= 8; n -= 8, bytes += 8) {
		const uint32_t low = crc ^ (uint32_t)load_le(bytes, 4);
		crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^
			table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^ table[3][bytes[4]] ^
			table[2][bytes[5]] ^ table[1][bytes[6]] ^ table[0][bytes[7]];
	}
	for (; n > 0; n--, bytes++)
		crc = crc >> 8 ^ table[0][(crc ^ *bytes) & 0xff];
	return ~crc;
}
