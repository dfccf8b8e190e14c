/* SPDX-License-Identifier: MIT */
#include "members.h"

#include <stdlib.h>
#include <string.h>

void set_wrong(struct members *members, const char *name)
{
	if (!members->wrong)
		members->wrong = name;
}

bool members_are_right(struct members *members)
{
	if (json_object_size(members->object) > 0)
		set_wrong(members, json_object_iter_key(json_object_iter(members->object)));
	return !members->wrong;
}

json_t *take(struct members *members, const char *name)
{
	json_t *value = json_incref(json_object_get(members->object, name));
	json_object_del(members->object, name);
	if (!json_is_null(value))
		return value;
	json_decref(value);
	return NULL;
}

bool take_number(
	struct members *members, const char *name, uint64_t min, uint64_t max, uint64_t *number)
{
	json_t *value = take(members, name);
	json_int_t given = json_integer_value(value);
	bool right = json_is_integer(value) && given >= 0 && (uint64_t)given >= min &&
		(uint64_t)given <= max;

	if (right)
		*number = (uint64_t)given;
	else if (value)
		set_wrong(members, name);
	json_decref(value);
	return right;
}

bool take_unsigned(
	struct members *members, const char *name, unsigned min, unsigned max, unsigned *number)
{
	uint64_t value;
	bool right = take_number(members, name, min, max, &value);
	if (right)
		*number = (unsigned)value;
	return right;
}

bool take_flag(struct members *members, const char *name, bool *flag)
{
	json_t *value = take(members, name);
	bool right = json_is_boolean(value);

	if (right)
		*flag = json_is_true(value);
	else if (value)
		set_wrong(members, name);
	json_decref(value);
	return right;
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == '\x7f')
			return false;
	return true;
}

bool take_text(struct members *members, const char *name, char *text, size_t size)
{
	json_t *value = take(members, name);
	bool right = json_is_string(value) && json_string_length(value) > 0 &&
		json_string_length(value) < size && is_printable(json_string_value(value));

	if (right)
		memcpy(text, json_string_value(value), json_string_length(value) + 1);
	else if (value)
		set_wrong(members, name);
	json_decref(value);
	return right;
}

bool take_choice(
	struct members *members, const char *name, const char *const *choices, unsigned *choice)
{
	char text[16];
	if (!take_text(members, name, text, sizeof(text)))
		return false;
	for (unsigned i = 0; choices[i]; i++) {
		if (strcmp(text, choices[i]) == 0) {
			*choice = i;
			return true;
		}
	}
	set_wrong(members, name);
	return false;
}

bool take_mode(struct members *members, const char *name, mode_t max, mode_t *mode)
{
	char text[8];
	if (!take_text(members, name, text, sizeof(text)))
		return false;
	unsigned long value = strtoul(text, NULL, 8);
	bool right = text[strspn(text, "01234567")] == '\0' && value <= max;
	if (right)
		*mode = (mode_t)value;
	else
		set_wrong(members, name);
	return right;
}
