/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Messages are captured as they are sent, and who waits for them must not wait
 * for a description of them besides: so all that is done then is to copy a few numbers to the end
 * of a ring. JSON is made of them in the client's turns, some at a time. When the ring is full the
 * rest is lost, and counted, until the client has taken what is in the ring: then it is told how
 * many, which is in the right place.
 */
#include "capture.h"

#include "common/jsontext.h"
#include "hub/bells.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct captured {
	const char *what; /* static */
	uint64_t ns;
	uint64_t serial; /* 0: not about a peer */
	int id;
	int vector;                 /* -1: none */
	const char *message, *with; /* static: its kind, its descriptor; NULL: is none, has none */
	int64_t number;             /* of a message */
	uint64_t count;             /* of "lost" and the like; 0: is none of these */
	bool known;                 /* who it was: */
	uid_t uid;
	pid_t pid;
	char *reason;               /* owned; NULL: none */
	char region[HUB_NAME_SIZE]; /* "": not about a region */
};

struct capture {
	char region[HUB_NAME_SIZE]; /* "": all */
	struct bells *bells;
	void (*news)(void *data);
	void *data;
	struct captured *ring;
	unsigned first, n;
	uint64_t lost; /* since it was told */
	bool told_full;
};

/* ---- in ---- */

static bool wants(const struct capture *capture, const char *region)
{
	return capture->region[0] == '\0' || strcmp(capture->region, region) == 0;
}

/* Room for one more, with what all have filled in; NULL: it is lost. */
static struct captured *push(struct capture *capture, const char *what, const char *region)
{
	if (capture->news)
		capture->news(capture->data);
	if (capture->lost > 0 || capture->n == CAPTURE_ROOM) {
		capture->lost++;
		return NULL;
	}
	struct captured *captured = &capture->ring[(capture->first + capture->n++) % CAPTURE_ROOM];
	*captured = (struct captured){.what = what, .ns = clock_wall_ns(), .id = -1, .vector = -1};
	memcpy(captured->region, region, strnlen(region, sizeof(captured->region) - 1));
	return captured;
}

void capture_message(
	struct capture *capture, const char *region, const struct server_message *message)
{
	static const char *const kinds[] = {
		[SERVER_SENT_VERSION] = "version",
		[SERVER_SENT_ID] = "id",
		[SERVER_SENT_REGION] = "region",
		[SERVER_SENT_CONNECT] = "connect",
		[SERVER_SENT_LEAVE] = "leave",
	};
	static const char *const descriptors[] = {
		[SERVER_NO_FD] = NULL,
		[SERVER_FD_MEMORY] = "memory",
		[SERVER_FD_MEMORY_READ_ONLY] = "memory_read_only",
		[SERVER_FD_DOORBELL] = "doorbell",
		[SERVER_FD_DEAD_DOORBELL] = "dead_doorbell",
	};
	struct captured *captured =
		wants(capture, region) ? push(capture, "message", region) : NULL;
	if (!captured)
		return;
	captured->serial = message->serial;
	captured->id = message->id;
	captured->message = kinds[message->kind];
	captured->with = descriptors[message->fd];
	captured->number = message->number;
	captured->vector = message->vector;
}

void capture_event(struct capture *capture, const struct hub_event *event)
{
	const struct server_news *news = event->news;
	struct captured *captured =
		wants(capture, event->region) ? push(capture, event->what, event->region) : NULL;
	if (!captured || !news)
		return;
	captured->serial = news->serial;
	captured->id = news->id;
	captured->known = news->identity->uid != (uid_t)-1;
	captured->uid = news->identity->uid;
	captured->pid = news->identity->pid;
	captured->reason = news->reason[0] != '\0' ? strdup(news->reason) : NULL;
}

static void bell_rung(void *data, const struct bell_info *bell)
{
	struct captured *captured = push(data, "rung", bell->region);
	if (!captured)
		return;
	captured->serial = bell->serial;
	captured->id = bell->id;
	captured->vector = (int)bell->vector;
}

/* ---- out ---- */

static void add_number(json_t *object, const char *name, int64_t number)
{
	json_object_set_new(object, name, json_integer(number));
}

static void add_text(json_t *object, const char *name, const char *text)
{
	if (text && text[0] != '\0')
		json_object_set_new(object, name, json_text(text));
}

static json_t *describe(const struct captured *captured)
{
	json_t *object = json_object();

	add_text(object, "event", captured->what);
	add_number(object, "ns", (int64_t)captured->ns);
	add_text(object, "region", captured->region);
	if (captured->id >= 0)
		add_number(object, "id", captured->id);
	if (captured->serial > 0)
		add_number(object, "serial", (int64_t)captured->serial);
	add_text(object, "message", captured->message);
	if (captured->message)
		add_number(object, "number", captured->number);
	if (captured->vector >= 0)
		add_number(object, "vector", captured->vector);
	add_text(object, "descriptor", captured->with);
	if (captured->known) {
		add_number(object, "uid", captured->uid);
		add_number(object, "pid", captured->pid);
	}
	add_text(object, "reason", captured->reason);
	if (captured->count > 0)
		add_number(object, "count", (int64_t)captured->count);
	return object;
}

static json_t *describe_count(const char *what, uint64_t count)
{
	return describe(&(struct captured){
		.what = what, .ns = clock_wall_ns(), .id = -1, .vector = -1, .count = count});
}

static void pop(struct capture *capture, json_t *events)
{
	struct captured *captured = &capture->ring[capture->first];

	json_array_append_new(events, describe(captured));
	free(captured->reason);
	capture->first = (capture->first + 1) % CAPTURE_ROOM;
	capture->n--;
}

/* What is to be said besides the events, at their end. */
static void add_remarks(struct capture *capture, json_t *events)
{
	uint64_t watched, unwatched;

	if (capture->lost > 0)
		json_array_append_new(events, describe_count("lost", capture->lost));
	capture->lost = 0;
	if (!capture->bells || capture->told_full || !bells_full(capture->bells))
		return;
	bells_count(capture->bells, &watched, &unwatched);
	json_array_append_new(events, describe_count("unwatched", unwatched));
	capture->told_full = true;
}

json_t *capture_next(struct capture *capture, int *error)
{
	json_t *events = json_array();

	for (unsigned i = 0; i < CAPTURE_PART && capture->n > 0; i++)
		pop(capture, events);
	if (capture->n == 0)
		add_remarks(capture, events);
	*error = events ? 0 : -ENOMEM;
	if (json_array_size(events) > 0)
		return json_pack("{s:o}", "events", events);
	json_decref(events);
	return NULL;
}

/* ---- */

int capture_create(struct capture **out, struct hub *hub, const char *region, bool doorbells)
{
	struct capture *capture = calloc(1, sizeof(*capture));
	if (!capture)
		return -ENOMEM;
	snprintf(capture->region, sizeof(capture->region), "%s", region);
	/* Large, so that it is not there before it is used. */
	capture->ring = calloc(CAPTURE_ROOM, sizeof(*capture->ring));
	int error = capture->ring ? 0 : -ENOMEM;
	if (error == 0 && doorbells)
		error = bells_start(&capture->bells, hub, region[0] != '\0' ? region : NULL,
			bell_rung, capture);
	if (error == 0)
		*out = capture;
	else
		capture_destroy(capture);
	return error;
}

void capture_listen(struct capture *capture, void (*news)(void *data), void *data)
{
	capture->news = news;
	capture->data = data;
}

void capture_destroy(struct capture *capture)
{
	if (!capture)
		return;
	bells_stop(capture->bells);
	for (unsigned i = 0; capture->ring && i < capture->n; i++)
		free(capture->ring[(capture->first + i) % CAPTURE_ROOM].reason);
	free(capture->ring);
	free(capture);
}
