/* SPDX-License-Identifier: MIT */
/*
 * capture - what one client captures: the messages that peers get, who comes and goes, doorbells
 * that are seen. It is kept until the client takes it, up to a limit; what is lost is counted.
 */
#ifndef TOOLS_SERVER_CONTROL_CAPTURE_H
#define TOOLS_SERVER_CONTROL_CAPTURE_H

#include "hub/hub.h"

#include <jansson.h>
#include <stdbool.h>

#define CAPTURE_ROOM 32768 /* events that are kept */
#define CAPTURE_PART 32    /* events of one reply at most */
#define CAPTURES     8     /* at a time */

struct capture;

/* Of one region, "": of all. 0 or -errno: -EUSERS if too many look at doorbells. */
int capture_create(struct capture **out, struct hub *hub, const char *region, bool doorbells);
void capture_destroy(struct capture *capture);

/* To be called whenever there is something more. Else nothing is. */
void capture_listen(struct capture *capture, void (*news)(void *data), void *data);

/* What happens anywhere. */
void capture_message(
	struct capture *capture, const char *region, const struct server_message *message);
void capture_event(struct capture *capture, const struct hub_event *event);

/* The parameters of the next reply; NULL: nothing to be said now, or, with *error, no memory. */
json_t *capture_next(struct capture *capture, int *error);

#endif
