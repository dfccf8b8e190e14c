/* SPDX-License-Identifier: MIT */
/* A capture file of one interface, as draft-ietf-opsawg-pcapng has it, little-endian. */
#ifndef TOOLS_CTL_PCAPNG_H
#define TOOLS_CTL_PCAPNG_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* To be written first. `writer` is the program that does, `interface` a name for what it looks at.
 * Whether writing has worked, ferror() says. */
void pcapng_begin(FILE *out, const char *writer, const char *interface, unsigned linktype);

/* A packet; `ns` since 1970. */
void pcapng_packet(FILE *out, uint64_t ns, const uint8_t *bytes, size_t size);

#endif
