/* SPDX-License-Identifier: MIT */
#include "record.h"

#include "base/le.h"

#include <stdbool.h>
#include <string.h>

#define VERSION 1

/* The numbers of words: places in these lists, from 1 on. */
static const char *const types[] = {"message", "joined", "left", "refused", "rung", "created",
	"removed", "draining", "lost", "unwatched", NULL};
static const char *const messages[] = {"version", "id", "region", "connect", "leave", NULL};
static const char *const descriptors[] = {
	"memory", "memory_read_only", "doorbell", "dead_doorbell", NULL};

/* 0: none of them. */
static unsigned number_of(const char *const *words, json_t *event, const char *name)
{
	const char *word = json_string_value(json_object_get(event, name));
	for (unsigned i = 0; word && words[i]; i++)
		if (strcmp(words[i], word) == 0)
			return i + 1;
	return 0;
}

static void store_number(
	uint8_t *out, unsigned width, json_t *event, const char *name, uint64_t unknown)
{
	json_t *value = json_object_get(event, name);
	json_int_t number = json_integer_value(value);
	bool fits = json_is_integer(value) &&
		(width == 8 || (number >= 0 && number < (json_int_t)UINT32_MAX));
	store_le(out, width, fits ? (uint64_t)number : unknown);
}

/* A text behind what is there already; its length. */
static size_t add_text(uint8_t *out, json_t *event, const char *name, size_t max)
{
	json_t *text = json_object_get(event, name);
	size_t length = json_string_length(text);

	if (length > max)
		length = max;
	if (length > 0)
		memcpy(out, json_string_value(text), length);
	return length;
}

size_t record_encode(json_t *event, uint8_t out[RECORD_MAX])
{
	unsigned type = number_of(types, event, "event");
	bool counts = json_object_get(event, "count") != NULL;

	if (type == 0)
		return 0;
	memset(out, 0, RECORD_FIXED);
	out[0] = VERSION;
	out[1] = (uint8_t)type;
	out[2] = (uint8_t)number_of(messages, event, "message");
	out[3] = (uint8_t)number_of(descriptors, event, "descriptor");
	store_number(out + 4, 4, event, "id", UINT32_MAX);
	store_number(out + 8, 8, event, "serial", 0);
	store_number(out + 16, 8, event, counts ? "count" : "number", 0);
	store_number(out + 24, 4, event, "vector", UINT32_MAX);
	store_number(out + 28, 4, event, "uid", UINT32_MAX);
	store_number(out + 32, 4, event, "pid", 0);
	size_t region = add_text(out + RECORD_FIXED, event, "region", 255);
	size_t reason = add_text(out + RECORD_FIXED + region, event, "reason", 1024);
	out[36] = (uint8_t)region;
	store_le(out + 38, 2, reason);
	return RECORD_FIXED + region + reason;
}
