/* SPDX-License-Identifier: MIT */
/* Parameters of test guests and firmware: words name=value, separated by blanks. Freestanding. */
#ifndef TESTS_WORDS_H
#define TESTS_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/* The text behind "name=" in `line`, which ends with a blank or the line; NULL where it is absent.
 */
static inline const char *words_find(const char *line, const char *name)
{
	while (*line != '\0') {
		const char *letter = name;
		for (; *letter != '\0' && *letter == *line; letter++)
			line++;
		if (*letter == '\0' && *line == '=')
			return line + 1;
		while (*line != '\0' && *line != ' ')
			line++;
		while (*line == ' ')
			line++;
	}
	return NULL;
}

/* The number given for `name`, decimal or 0x...; `otherwise` where it is absent. */
static inline unsigned words_number(const char *line, const char *name, unsigned otherwise)
{
	const char *text = words_find(line, name);
	unsigned base = 10;
	unsigned value = 0;

	if (text == NULL)
		return otherwise;
	if (text[0] == '0' && text[1] == 'x') {
		base = 16;
		text += 2;
	}
	for (; *text != '\0' && *text != ' '; text++)
		value = value * base + (unsigned)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
	return value;
}

static inline bool words_are(const char *line, const char *name, const char *value)
{
	const char *text = words_find(line, name);

	if (text == NULL)
		return false;
	while (*value != '\0' && *value == *text) {
		value++;
		text++;
	}
	return *value == '\0' && (*text == '\0' || *text == ' ');
}

#endif
