/* SPDX-License-Identifier: MIT */
/*
 * Bytes of a client or a server through reader and parser. Whatever comes, and in whatever pieces:
 * the same messages come out, what comes out can be packed and read again, and nothing is kept
 * beyond the limit.
 *
 * Input: a byte that says how long the pieces are, then what is on the wire.
 */
#include "../../tools/varlink/varlink.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES 4096

struct history {
	unsigned messages;
	int end; /* the error that ended it, 0: none */
	size_t hash;
};

/* As much as fits; how much that was. */
static size_t add_some(struct varlink_reader *reader, const uint8_t *data, size_t size)
{
	size_t room;
	char *to = varlink_reader_room(reader, &room);
	if (!to || room == 0 || reader->size > MAX_BYTES + 1)
		abort();
	if (size > room)
		size = room;
	memcpy(to, data, size);
	varlink_reader_add(reader, size);
	return size;
}

/* What is read can be sent, and is the same again. */
static void check_message(json_t *message)
{
	size_t size;
	char *bytes = varlink_pack(json_incref(message), &size);
	json_t *again = bytes ? json_loads(bytes, 0, NULL) : NULL;
	if (!again || strlen(bytes) + 1 != size || !json_equal(again, message))
		abort();
	json_decref(again);
	free(bytes);

	struct varlink_call call;
	int result = varlink_parse_call(message, &call);
	if (result == 0 && (!call.method || !json_is_object(call.parameters)))
		abort();
	if (result != 0 && result != -EBADMSG)
		abort();
}

/* Read all messages that are there; false once the connection must end. */
static bool read_all(struct varlink_reader *reader, struct history *history)
{
	json_t *message;
	int result;
	while ((result = varlink_reader_next(reader, &message)) == 1) {
		if (!json_is_object(message))
			abort();
		history->messages++;
		history->hash = history->hash * 31 + json_object_size(message);
		check_message(message);
		json_decref(message);
	}
	if (message || (result != 0 && result != -EBADMSG && result != -EMSGSIZE))
		abort();
	history->end = result;
	return result == 0;
}

static struct history dialogue(const uint8_t *data, size_t size, size_t piece)
{
	struct history history = {0};
	struct varlink_reader reader;
	bool open = true;

	varlink_reader_init(&reader, MAX_BYTES, VARLINK_MAX_VALUES);
	for (size_t at = 0; at < size && open;) {
		at += add_some(&reader, data + at, size - at < piece ? size - at : piece);
		open = read_all(&reader, &history);
	}
	varlink_reader_fini(&reader);
	return history;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	struct history pieces = dialogue(data + 1, size - 1, 1 + data[0] % 64);
	struct history bytes = dialogue(data + 1, size - 1, 1);
	if (pieces.messages != bytes.messages || pieces.hash != bytes.hash ||
		pieces.end != bytes.end)
		abort();
	return 0;
}
