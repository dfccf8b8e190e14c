/* SPDX-License-Identifier: MIT */
#include "base/uuid.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

static const char form[UUID_TEXT_SIZE] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

static int digit_value(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

int uuid_parse(const char *text, uint8_t uuid[UUID_SIZE])
{
	uint8_t bytes[UUID_SIZE] = {0};
	unsigned digits = 0;

	/* The end of a text that is too short is no digit, and so nothing behind it is read. */
	for (unsigned i = 0; i < UUID_TEXT_SIZE; i++) {
		int value = digit_value(text[i]);
		if (form[i] == 'x' ? value < 0 : text[i] != form[i])
			return -EINVAL;
		if (form[i] != 'x')
			continue;
		bytes[digits / 2] = (uint8_t)(bytes[digits / 2] << 4 | value);
		digits++;
	}
	memcpy(uuid, bytes, UUID_SIZE);
	return 0;
}

const char *uuid_format(const uint8_t uuid[UUID_SIZE], char text[UUID_TEXT_SIZE])
{
	unsigned digits = 0;

	memcpy(text, form, UUID_TEXT_SIZE);
	for (unsigned i = 0; form[i]; i++) {
		if (form[i] != 'x')
			continue;
		text[i] = "0123456789abcdef"[uuid[digits / 2] >> (digits % 2 ? 0 : 4) & 0xf];
		digits++;
	}
	return text;
}

int uuid_random(uint8_t uuid[UUID_SIZE])
{
	uint8_t bytes[UUID_SIZE];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		return -errno;
	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | 0x40); /* version 4 */
	bytes[8] = (uint8_t)((bytes[8] & 0x3f) | 0x80); /* of the usual kind */
	memcpy(uuid, bytes, UUID_SIZE);
	return 0;
}

bool uuid_is_nil(const uint8_t uuid[UUID_SIZE])
{
	static const uint8_t nil[UUID_SIZE];
	return memcmp(uuid, nil, UUID_SIZE) == 0;
}
