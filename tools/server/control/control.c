/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. service/service.h has the clients and their calls; this is what the hub adds
 * to it. An answer that has more than one message goes on in one of three ways: a listing, part by
 * part; a capture, which keeps what happens until it is taken; or events as they come. What does
 * not read bounds the first two by itself. Of events a watcher that does not read has
 * WATCH_BACKLOG, loses the others, and is told how many.
 */
#include "control.h"

#include "describe.h"
#include "methods.h"

#include "service/service.h"
#include "service/standard.h"

#include "base/list.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_BACKLOG (64u << 10) /* bytes of events for one watcher */

struct control {
	struct control_config config;
	struct methods methods;
	struct service *service;
	struct list watching;  /* client.watching */
	struct list capturing; /* client.capturing */
};

struct client {
	struct service_client base;
	struct caller caller;
	struct listing *listing; /* the rest of an answer, or NULL */
	struct capture *capture; /* that it is told bit by bit, or NULL */
	struct list capturing;
	bool watches;
	struct list watching;
	char region[HUB_NAME_SIZE]; /* that it watches; "": all */
	uint64_t lost;              /* events since it was told */
};

/* ---- captures ---- */

static void capture_news(void *data)
{
	service_wake(data);
}

static void message_sent(void *data, const char *region, const struct server_message *message)
{
	struct control *control = data;
	list_for_each (node, &control->capturing)
		capture_message(
			container_of(node, struct client, capturing)->capture, region, message);
}

static void begin_capture(struct control *control, struct client *client, struct capture *capture)
{
	client->capture = capture;
	capture_listen(capture, capture_news, &client->base);
	list_append(&control->capturing, &client->capturing);
	control->methods.n_captures++;
	hub_set_tap(control->methods.hub, message_sent, control);
}

static void end_capture(struct control *control, struct client *client)
{
	if (!client->capture)
		return;
	list_remove(&client->capturing);
	capture_destroy(client->capture);
	control->methods.n_captures--;
	if (list_empty(&control->capturing))
		hub_set_tap(control->methods.hub, NULL, NULL);
}

/* ---- watchers ---- */

static void begin_watch(struct control *control, struct client *client, const char *region)
{
	client->watches = true;
	memcpy(client->region, region, sizeof(client->region));
	list_append(&control->watching, &client->watching);
	hub_set_curious(control->methods.hub, true);
}

static void end_watch(struct control *control, struct client *client)
{
	if (!client->watches)
		return;
	list_remove(&client->watching);
	hub_set_curious(control->methods.hub, !list_empty(&control->watching));
}

/* `bytes` NULL: there was no memory for it. */
static void send_event(struct client *client, const char *bytes, size_t n)
{
	service_wake(&client->base);
	if (!bytes || client->lost > 0 || service_backlog(&client->base) + n > WATCH_BACKLOG ||
		service_append(&client->base, bytes, n) < 0)
		client->lost++;
}

static void hub_event(void *data, const struct hub_event *event)
{
	struct control *control = data;
	char *bytes = NULL;
	size_t n = 0;

	list_for_each (node, &control->capturing)
		capture_event(container_of(node, struct client, capturing)->capture, event);
	if (list_empty(&control->watching))
		return;
	json_t *object = describe_event(event);
	if (object)
		bytes = varlink_pack(varlink_make_reply(object, true), &n);
	list_for_each (node, &control->watching) {
		struct client *client = container_of(node, struct client, watching);
		if (client->region[0] == '\0' || strcmp(client->region, event->region) == 0)
			send_event(client, bytes, n);
	}
	free(bytes);
}

/* ---- what the service asks for ---- */

/* A descriptor of the answer's own: the region may go while nobody reads. */
static json_t *attach(struct service_client *client, const struct answer *answer)
{
	const int fd = fcntl(answer->descriptor, F_DUPFD_CLOEXEC, 0);

	if (fd < 0) {
		json_decref(answer->message);
		return standard_refuse("ivshmem.Control.NotEnough", "no descriptor left for this");
	}
	service_attach(client, fd);
	return answer->message;
}

static json_t *answer_call(struct service_client *base, const struct varlink_call *call)
{
	struct client *client = container_of(base, struct client, base);
	struct control *control = base->data;
	struct answer answer;

	client->caller.uid = base->uid;
	client->caller.pid = base->pid;
	client->caller.may_change = base->may_change;
	methods_call(&control->methods, &client->caller, call, &answer);
	if (call->oneway) {
		listing_destroy(answer.listing);
		capture_destroy(answer.capture);
		return answer.message;
	}
	if (answer.descriptor >= 0)
		return attach(base, &answer);
	client->listing = answer.listing;
	if (answer.capture)
		begin_capture(control, client, answer.capture);
	if (answer.watch)
		begin_watch(control, client, answer.region);
	return answer.message;
}

static enum service_rest continue_listing(struct client *client, json_t **message)
{
	bool more;
	json_t *part = listing_next(client->listing, &more);

	*message = part ? varlink_make_reply(part, more) : NULL;
	if (!more) {
		listing_destroy(client->listing);
		client->listing = NULL;
	}
	return SERVICE_GOES_ON;
}

static enum service_rest continue_capture(struct client *client, json_t **message)
{
	int error;
	json_t *part = capture_next(client->capture, &error);

	*message = part ? varlink_make_reply(part, true) : NULL;
	return part || error < 0 ? SERVICE_GOES_ON : SERVICE_LATER;
}

static enum service_rest continue_watch(struct client *client, json_t **message)
{
	if (client->lost == 0)
		return SERVICE_LATER;
	*message = varlink_make_reply(describe_notice("lost", client->lost), true);
	client->lost = 0;
	return SERVICE_GOES_ON;
}

static enum service_rest continue_answer(struct service_client *base, json_t **message)
{
	struct client *client = container_of(base, struct client, base);

	if (client->listing)
		return continue_listing(client, message);
	if (client->capture)
		return continue_capture(client, message);
	if (client->watches)
		return continue_watch(client, message);
	return SERVICE_OVER;
}

static void client_closing(struct service_client *base)
{
	struct client *client = container_of(base, struct client, base);
	struct control *control = base->data;

	listing_destroy(client->listing);
	end_capture(control, client);
	end_watch(control, client);
	bells_stop(client->caller.bells);
}

/* ---- */

int control_start(struct control **out, const struct control_config *config, int listen_fd,
	struct hub *hub, uv_loop_t *loop, struct log *log)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	const struct service_config service = {
		.interface = "ivshmem.Control",
		.read_group = config->read_group,
		.max_clients = config->max_clients,
		.client_size = sizeof(struct client),
		.call = answer_call,
		.rest = continue_answer,
		.closing = client_closing,
		.data = control,
	};
	control->config = *config;
	control->methods = (struct methods){
		.hub = hub,
		.config = &control->config,
		.log = log,
	};
	log_limits_init(&control->methods.denials);
	list_init(&control->watching);
	list_init(&control->capturing);
	int error = hub_watch(hub, hub_event, control);
	if (error < 0)
		goto free_control;
	error = service_start(&control->service, &service, listen_fd, loop, log);
	if (error < 0)
		goto unwatch;
	*out = control;
	return 0;

unwatch:
	hub_unwatch(hub, hub_event, control);
free_control:
	free(control);
	return error;
}

void control_stop(struct control *control)
{
	hub_unwatch(control->methods.hub, hub_event, control);
	service_stop(control->service);
	free(control);
}
