/* SPDX-License-Identifier: MIT */
#include "wire/wire.h"

#include <assert.h>

static const char *const error_texts[] = {
	"no error",
	"server speaks another protocol version",
	"server refused the connection",
	"server sent a descriptor where none belongs",
	"server sent a number that is no ID",
	"server announced the shared memory without a descriptor",
	"server announced the shared memory twice",
	"server said that we have left",
	"server sent a message after an error",
};
static_assert(sizeof(error_texts) / sizeof(error_texts[0]) == WIRE_ERROR_COUNT, "a text each");

void wire_session_init(struct wire_session *session, const struct wire_format *format)
{
	session->state = format->has_version ? WIRE_STATE_VERSION : WIRE_STATE_ID;
	session->own_id = 0;
}

static struct wire_event fail(
	struct wire_session *session, enum wire_error error, const struct wire_message *message)
{
	session->state = WIRE_STATE_DEAD;
	return (struct wire_event){
		.type = WIRE_EVENT_ERROR,
		.error = error,
		.fd = message->fd,
		.number = message->number,
	};
}

static struct wire_event feed_version(
	struct wire_session *session, const struct wire_message *message)
{
	if (message->number < WIRE_VERSION && message->number >= WIRE_REFUSAL_LAST &&
		message->number != WIRE_REGION)
		return fail(session, WIRE_ERROR_REFUSED, message);
	if (message->number != WIRE_VERSION)
		return fail(session, WIRE_ERROR_BAD_VERSION, message);
	if (message->fd >= 0)
		return fail(session, WIRE_ERROR_STRAY_FD, message);
	session->state = WIRE_STATE_ID;
	return (struct wire_event){.type = WIRE_EVENT_VERSION, .fd = -1};
}

static struct wire_event feed_id(struct wire_session *session, const struct wire_message *message)
{
	if (message->number < 0 || message->number > WIRE_MAX_ID)
		return fail(session, WIRE_ERROR_BAD_ID, message);
	if (message->fd >= 0)
		return fail(session, WIRE_ERROR_STRAY_FD, message);
	session->own_id = (uint16_t)message->number;
	session->state = WIRE_STATE_SETUP;
	return (struct wire_event){.type = WIRE_EVENT_OWN_ID, .peer = session->own_id, .fd = -1};
}

static struct wire_event feed_region(
	struct wire_session *session, const struct wire_message *message)
{
	if (session->state == WIRE_STATE_RUN)
		return fail(session, WIRE_ERROR_SECOND_REGION, message);
	if (message->fd < 0)
		return fail(session, WIRE_ERROR_NO_REGION_FD, message);
	session->state = WIRE_STATE_RUN;
	return (struct wire_event){.type = WIRE_EVENT_REGION, .fd = message->fd};
}

static struct wire_event feed_peer(struct wire_session *session, const struct wire_message *message)
{
	if (message->number == WIRE_REGION)
		return feed_region(session, message);
	if (message->number < 0 || message->number > WIRE_MAX_ID)
		return fail(session, WIRE_ERROR_BAD_ID, message);

	bool own = message->number == session->own_id;
	if (own && message->fd < 0)
		return fail(session, WIRE_ERROR_OWN_LEFT, message);

	struct wire_event event = {.peer = (uint16_t)message->number, .fd = message->fd};
	if (message->fd < 0)
		event.type = WIRE_EVENT_PEER_LEFT;
	else
		event.type = own ? WIRE_EVENT_OWN_VECTOR : WIRE_EVENT_PEER_VECTOR;
	return event;
}

struct wire_event wire_session_feed(
	struct wire_session *session, const struct wire_message *message)
{
	switch (session->state) {
	case WIRE_STATE_VERSION:
		return feed_version(session, message);
	case WIRE_STATE_ID:
		return feed_id(session, message);
	case WIRE_STATE_SETUP:
	case WIRE_STATE_RUN:
		return feed_peer(session, message);
	case WIRE_STATE_DEAD:
	case WIRE_STATE_COUNT:
		break;
	}
	return fail(session, WIRE_ERROR_AFTER_DEATH, message);
}

const char *wire_error_text(enum wire_error error)
{
	return error < WIRE_ERROR_COUNT ? error_texts[error] : "?";
}

const char *wire_refusal_text(int64_t number)
{
	if (number == WIRE_REFUSAL_FULL)
		return "it has as many peers as it allows (--max-peers)";
	if (number == WIRE_REFUSAL_UID_FULL)
		return "this user has as much as it allows (--max-peers-per-uid and others)";
	if (number == WIRE_REFUSAL_RESOURCES)
		return "it is out of memory or descriptors";
	if (number == WIRE_REFUSAL_RULES)
		return "its rules do not let this program in; its log says why";
	return "no reason given";
}
