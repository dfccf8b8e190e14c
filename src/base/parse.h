/* SPDX-License-Identifier: MIT */
/* Parsing of what users type: strict, overflow-checked, whole string or nothing. */
#ifndef BASE_PARSE_H
#define BASE_PARSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal, 0x hexadecimal or 0 octal. 0, -EINVAL (not a number) or -ERANGE (outside min..max). */
int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *value);

/*
 * A size in bytes: a decimal number, optionally with a fraction, and one of the suffixes
 * B K M G T P E (powers of 1024, either case). 0, -EINVAL or -ERANGE (does not fit 64 bits).
 */
int parse_size(const char *text, uint64_t *bytes);

/* "1536 KiB"-style text for messages: exact if it divides, else with one decimal. */
const char *format_size(uint64_t bytes, char out[24]);

/* Is `name` a legal region name, [a-z0-9._-]{1,63}, and not "." or ".."? */
bool name_is_valid(const char *name);

/* Where the server of a named region listens: FOLDER/NAME.sock. 0, -EINVAL for a name that is not
 * legal, or -ENAMETOOLONG. */
int socket_of_region(const char *folder, const char *name, char *path, size_t size);

/* Smallest power of two that is >= value; 0 if that does not fit 64 bits. */
uint64_t next_power_of_two(uint64_t value);

#endif
