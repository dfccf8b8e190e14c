/* SPDX-License-Identifier: MIT */
/*
 * The handshake machine: whatever the server says, the states go forward only, every descriptor
 * comes out exactly once, events carry IDs in range, and nothing follows death.
 *
 * Input: first byte: bit 0 generation. Then records of 9 bytes: 8 of a little-endian number, one
 * whose bit 0 says whether a descriptor comes with it.
 */
#include "wire/wire.h"

#include "base/le.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_event(const struct wire_session *session, enum wire_state before,
	const struct wire_message *message, const struct wire_event *event)
{
	if (event->fd != message->fd)
		abort(); /* neither lost nor invented */
	if (session->state < before)
		abort();
	switch (event->type) {
	case WIRE_EVENT_VERSION:
	case WIRE_EVENT_OWN_ID:
	case WIRE_EVENT_PEER_LEFT:
		if (event->fd >= 0)
			abort();
		break;
	case WIRE_EVENT_REGION:
		if (event->fd < 0 || session->state != WIRE_STATE_RUN)
			abort();
		break;
	case WIRE_EVENT_OWN_VECTOR:
	case WIRE_EVENT_PEER_VECTOR:
		if (event->fd < 0 || before < WIRE_STATE_SETUP ||
			(event->peer == session->own_id) != (event->type == WIRE_EVENT_OWN_VECTOR))
			abort();
		break;
	case WIRE_EVENT_ERROR:
		if (session->state != WIRE_STATE_DEAD || event->error == WIRE_ERROR_NONE ||
			wire_error_text(event->error)[0] == '?')
			abort();
		break;
	}
	if (before == WIRE_STATE_DEAD && event->type != WIRE_EVENT_ERROR)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_session session;
	int next_fd = 100;

	if (size < 1)
		return 0;
	wire_session_init(&session, data[0] & 1 ? &wire_current : &wire_pre_2_5);
	for (size_t at = 1; at + 9 <= size; at += 9) {
		struct wire_message message = {
			.number = (int64_t)load_le(data + at, 8),
			.fd = data[at + 8] & 1 ? next_fd++ : -1,
		};
		enum wire_state before = session.state;
		struct wire_event event = wire_session_feed(&session, &message);
		check_event(&session, before, &message, &event);
	}
	return 0;
}
