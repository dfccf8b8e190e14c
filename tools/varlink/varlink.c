/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A message is looked through once before jansson gets it, for how deep it is
 * and how many values it has. Depth, because jansson's parser and the release of what it has made
 * call themselves; the number of values, because a value costs an allocation: 8 KiB of "[],[],"
 * take fifty times as long as 8 KiB of text, and the server does nothing else meanwhile. The look
 * need not understand JSON: outside of strings it counts brackets and commas, and what is no JSON
 * is jansson's to refuse.
 */
#include "varlink/varlink.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 1024

void varlink_reader_init(struct varlink_reader *reader, size_t max_bytes, size_t max_values)
{
	*reader = (struct varlink_reader){.max_bytes = max_bytes, .max_values = max_values};
}

void varlink_reader_fini(struct varlink_reader *reader)
{
	free(reader->bytes);
	*reader = (struct varlink_reader){0};
}

char *varlink_reader_room(struct varlink_reader *reader, size_t *room)
{
	if (reader->used == reader->size) {
		size_t size = reader->size ? 2 * reader->size : FIRST_SIZE;
		if (size > reader->max_bytes + 1)
			size = reader->max_bytes + 1;
		char *bytes = realloc(reader->bytes, size);
		if (!bytes)
			return NULL;
		reader->bytes = bytes;
		reader->size = size;
	}
	*room = reader->size - reader->used;
	return reader->bytes + reader->used;
}

void varlink_reader_add(struct varlink_reader *reader, size_t bytes)
{
	reader->used += bytes;
}

/* 0, -EBADMSG: too deep, or -EMSGSIZE: too many values. */
static int look_through(const char *text, size_t size, size_t max_values)
{
	size_t depth = 0, values = 0;
	bool in_string = false;

	for (size_t i = 0; i < size; i++) {
		char c = text[i];
		if (in_string) {
			if (c == '\\')
				i++;
			in_string = c != '"';
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			values++;
			if (++depth > VARLINK_MAX_DEPTH)
				return -EBADMSG;
		} else if (c == '}' || c == ']') {
			depth -= depth > 0;
		} else if (c == ',') {
			values++;
		}
	}
	return values > max_values ? -EMSGSIZE : 0;
}

static int parse(const char *text, size_t size, size_t max_values, json_t **message)
{
	int error = look_through(text, size, max_values);
	if (error < 0)
		return error;
	*message = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(*message))
		return 1;
	json_decref(*message);
	*message = NULL;
	return -EBADMSG;
}

int varlink_reader_next(struct varlink_reader *reader, json_t **message)
{
	*message = NULL;
	if (reader->used == reader->scanned)
		return 0;
	const char *end =
		memchr(reader->bytes + reader->scanned, '\0', reader->used - reader->scanned);
	if (!end) {
		reader->scanned = reader->used;
		return reader->used > reader->max_bytes ? -EMSGSIZE : 0;
	}

	size_t size = (size_t)(end - reader->bytes);
	int result = parse(reader->bytes, size, reader->max_values, message);
	reader->used -= size + 1;
	reader->scanned = 0;
	memmove(reader->bytes, end + 1, reader->used);
	return result;
}

/* An optional truth value. */
static int get_flag(json_t *message, const char *name, bool *flag)
{
	json_t *value = json_object_get(message, name);
	*flag = json_is_true(value);
	return !value || json_is_boolean(value) ? 0 : -EBADMSG;
}

int varlink_parse_call(json_t *message, struct varlink_call *call)
{
	call->method = json_string_value(json_object_get(message, "method"));
	call->parameters = json_object_get(message, "parameters");
	if (!call->method || get_flag(message, "more", &call->more) < 0 ||
		get_flag(message, "oneway", &call->oneway) < 0 ||
		get_flag(message, "upgrade", &call->upgrade) < 0)
		return -EBADMSG;
	if (!call->parameters || json_is_null(call->parameters)) {
		call->parameters = json_object();
		if (json_object_set_new(message, "parameters", call->parameters) < 0)
			return -ENOMEM;
	}
	return json_is_object(call->parameters) ? 0 : -EBADMSG;
}

static json_t *or_empty(json_t *parameters)
{
	return parameters ? parameters : json_object();
}

json_t *varlink_make_call(const char *method, json_t *parameters, bool more)
{
	const char *format = more ? "{s:s, s:o, s:b}" : "{s:s, s:o}";
	return json_pack(format, "method", method, "parameters", or_empty(parameters), "more", 1);
}

json_t *varlink_make_reply(json_t *parameters, bool continues)
{
	const char *format = continues ? "{s:o, s:b}" : "{s:o}";
	return json_pack(format, "parameters", or_empty(parameters), "continues", 1);
}

json_t *varlink_make_error(const char *error, json_t *parameters)
{
	return json_pack("{s:s, s:o}", "error", error, "parameters", or_empty(parameters));
}

char *varlink_pack(json_t *message, size_t *size)
{
	char *bytes = json_dumps(message, JSON_COMPACT);
	json_decref(message);
	if (bytes)
		*size = strlen(bytes) + 1;
	return bytes;
}
