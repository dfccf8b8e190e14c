/* SPDX-License-Identifier: MIT */
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	/* strtoull skips blanks and accepts a sign; we do not. */
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long parsed = strtoull(text, &end, 0);
	if (*end != '\0')
		return -EINVAL;
	if (errno == ERANGE || parsed < min || parsed > max)
		return -ERANGE;
	*value = parsed;
	return 0;
}

static int suffix_shift(const char *suffix)
{
	static const char units[] = "BKMGTPE";
	if (suffix[0] == '\0')
		return 0;
	const char *unit = strchr(units, toupper((unsigned char)suffix[0]));
	if (!unit || suffix[1] != '\0')
		return -EINVAL;
	return (int)(unit - units) * 10;
}

int parse_size(const char *text, uint64_t *bytes)
{
	if (!isdigit((unsigned char)text[0]))
		return -EINVAL;
	char *end;
	errno = 0;
	unsigned long long whole = strtoull(text, &end, 10);
	if (errno == ERANGE)
		return -ERANGE;

	/* The fraction as a count of 2^-30 units: exact for every suffix up to G. */
	uint64_t fraction = 0;
	if (*end == '.') {
		uint64_t scale = 1;
		uint64_t digits = 0;
		const char *first = ++end;
		for (; isdigit((unsigned char)*end) && scale < 1000000000; end++, scale *= 10)
			digits = digits * 10 + (uint64_t)(*end - '0');
		if (end == first)
			return -EINVAL;
		fraction = (digits << 30) / scale;
	}

	int shift = suffix_shift(end);
	if (shift < 0)
		return shift;
	if (shift > 0 && whole > (UINT64_MAX >> shift))
		return -ERANGE;
	uint64_t value = (uint64_t)whole << shift;
	uint64_t extra = shift >= 30 ? fraction << (shift - 30) : fraction >> (30 - shift);
	if (value + extra < value)
		return -ERANGE;
	*bytes = value + extra;
	return 0;
}

const char *format_size(uint64_t bytes, char out[24])
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	unsigned unit = 0;
	while (unit < 6 && bytes >> (10 * (unit + 1)) != 0)
		unit++;
	uint64_t one = UINT64_C(1) << (10 * unit);
	uint64_t tenths = (bytes % one) / (one >= 10 ? one / 10 : 1);
	if (unit == 0 || bytes % one == 0)
		snprintf(out, 24, "%" PRIu64 " %s", bytes / one, units[unit]);
	else
		snprintf(out, 24, "%" PRIu64 ".%u %s", bytes / one,
			(unsigned)(tenths > 9 ? 9 : tenths), units[unit]);
	return out;
}

bool name_is_valid(const char *name)
{
	size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
	return n >= 1 && n <= 63 && name[n] == '\0' && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0;
}

int socket_of_region(const char *folder, const char *name, char *path, size_t size)
{
	if (!name_is_valid(name))
		return -EINVAL;
	int length = snprintf(path, size, "%s/%s.sock", folder, name);
	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

uint64_t next_power_of_two(uint64_t value)
{
	uint64_t power = 1;
	while (power < value && power != 0)
		power <<= 1;
	return power;
}
