/* SPDX-License-Identifier: MIT */
/* UUIDs: 16 bytes, in the order in which their text has them. */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_SIZE      16
#define UUID_TEXT_SIZE 37 /* 8-4-4-4-12 hexadecimal digits and the zero */

/* The text form, digits of either case; nothing before or behind it. 0 or -EINVAL. */
int uuid_parse(const char *text, uint8_t uuid[UUID_SIZE]);

/* In lower case. Returns `text`. */
const char *uuid_format(const uint8_t uuid[UUID_SIZE], char text[UUID_TEXT_SIZE]);

/* A new one, random (version 4). 0 or -errno. */
int uuid_random(uint8_t uuid[UUID_SIZE]);

/* Is it all zero, which stands for none? */
bool uuid_is_nil(const uint8_t uuid[UUID_SIZE]);

#endif
