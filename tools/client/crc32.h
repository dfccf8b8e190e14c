/* SPDX-License-Identifier: MIT */
/* The CRC-32 of zlib, of bytes that come in pieces. */
#ifndef CLIENT_CRC32_H
#define CLIENT_CRC32_H

#include <stddef.h>
#include <stdint.h>

/* That of what came before (0: nothing) and these bytes. */
uint32_t crc32_add(uint32_t crc, const unsigned char *bytes, size_t n);

#endif
