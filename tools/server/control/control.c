/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The loop that serves the peers serves these clients too, and a peer must not wait for them. So an
 * event on a client's socket does nothing but put the client into a list; from the list one client
 * at a time gets one turn between two looks at all sockets, and a turn is little work: send what
 * fits into the socket, or make one part of a listing, or handle one call, or read once. Whatever
 * clients there are and whatever they send, a join waits for one turn, or two if it comes at the
 * wrong moment.
 *
 * What a client can make us keep is bounded as well: one call that is not complete, and one answer
 * that it does not read. Until that is gone nothing is read from it, so calls that it sends ahead
 * stay in its socket. Events are the exception, as they come when they come: a watcher that does
 * not read has WATCH_BACKLOG of them, loses the others, and is told how many.
 *
 * Who may connect at all is decided by the kernel's word for who it was that connected. Readers
 * together get half of the places, so that root finds one.
 */
#include "control.h"

#include "describe.h"
#include "methods.h"

#include "daemon/acceptor.h"
#include "daemon/watch.h"

#include "base/list.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define WATCH_BACKLOG    (64u << 10) /* bytes of events for one watcher */
#define MAX_GROUPS       65536       /* of a process: NGROUPS_MAX */
#define BURST_OF_DENIALS 10          /* log lines */

struct control {
	struct control_config config;
	struct methods methods;
	uv_loop_t *loop;
	struct log *log;
	struct acceptor acceptor;
	uv_idle_t turns;     /* runs while somebody is in `waiting` */
	struct list clients; /* client.link */
	struct list waiting; /* client.turn */
	unsigned n_clients, n_readers, n_watchers;
	unsigned open_handles; /* after the stop */
	struct log_limit denials;
};

struct client {
	struct list link, turn;
	struct control *control;
	uv_poll_t poll;
	int sock, watched; /* owned; UV_READABLE... */
	struct caller caller;

	struct varlink_reader reader;
	bool ended; /* it sends nothing more, */
	bool gone;  /* or is not there at all */
	char *out;  /* what it has not taken yet: from `sent` to `used` */
	size_t size, used, sent;

	struct listing *listing; /* the rest of an answer, or NULL */
	bool watching;
	char region[HUB_NAME_SIZE]; /* that it watches; "": all */
	uint64_t lost;              /* events since it was told */
};

/* ---- clients ---- */

static void client_event(uv_poll_t *poll, int status, int events);
static void turns_event(uv_idle_t *idle);

static void want_turn(struct client *client)
{
	struct control *control = client->control;
	if (!list_empty(&client->turn))
		return;
	list_append(&control->waiting, &client->turn);
	uv_idle_start(&control->turns, turns_event);
}

static void client_event(uv_poll_t *poll, int status, int events)
{
	struct client *client = poll->data;
	/* After an error libuv looks at it no more. */
	client->gone = status < 0 || events & UV_DISCONNECT;
	want_turn(client);
}

static void free_client(uv_handle_t *handle)
{
	free(handle->data);
}

static void client_close(struct client *client)
{
	struct control *control = client->control;

	control->n_clients--;
	control->n_readers -= !client->caller.may_change;
	control->n_watchers -= client->watching;
	hub_set_curious(control->methods.hub, control->n_watchers > 0);
	list_remove(&client->link);
	list_remove(&client->turn);
	listing_destroy(client->listing);
	varlink_reader_fini(&client->reader);
	free(client->out);
	uv_close((uv_handle_t *)&client->poll, free_client);
	close(client->sock);
	acceptor_resume(&control->acceptor);
}

/* ---- sending ---- */

static bool has_output(const struct client *client)
{
	return client->used > client->sent;
}

static int append(struct client *client, const char *bytes, size_t n)
{
	if (client->used + n > client->size && client->sent > 0) {
		client->used -= client->sent;
		memmove(client->out, client->out + client->sent, client->used);
		client->sent = 0;
	}
	if (client->used + n > client->size) {
		size_t size =
			client->used + n > 2 * client->size ? client->used + n : 2 * client->size;
		char *out = realloc(client->out, size);
		if (!out)
			return -ENOMEM;
		client->out = out;
		client->size = size;
	}
	memcpy(client->out + client->used, bytes, n);
	client->used += n;
	return 0;
}

/* Releases the message. 0 or -ENOMEM. */
static int append_message(struct client *client, json_t *message)
{
	size_t n;
	char *bytes = varlink_pack(message, &n);
	int error = bytes ? append(client, bytes, n) : -ENOMEM;
	free(bytes);
	return error;
}

/* 0, also if not all has gone out, or -errno. */
static int flush(struct client *client)
{
	ssize_t n = send(client->sock, client->out + client->sent, client->used - client->sent,
		MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	client->sent += (size_t)n;
	if (has_output(client))
		return 0;
	free(client->out); /* most clients say nothing most of the time */
	client->out = NULL;
	client->size = client->used = client->sent = 0;
	return 0;
}

/* ---- turns ---- */

/* After a turn: there may be more to do at once; only after the next event; never again. */
enum turn { TURN_AGAIN, TURN_WAIT, TURN_OVER };

static enum turn answer_call(struct client *client, const struct varlink_call *call)
{
	struct answer answer;

	methods_call(&client->control->methods, &client->caller, call, &answer);
	if (call->oneway) {
		json_decref(answer.message);
		listing_destroy(answer.listing);
		return TURN_AGAIN;
	}
	client->listing = answer.listing;
	if (answer.watch) {
		client->watching = true;
		client->control->n_watchers++;
		hub_set_curious(client->control->methods.hub, true);
		memcpy(client->region, answer.region, sizeof(client->region));
	}
	return append_message(client, answer.message) == 0 ? TURN_AGAIN : TURN_OVER;
}

static enum turn handle_message(struct client *client, json_t *message)
{
	struct varlink_call call;
	enum turn turn = TURN_OVER;
	if (varlink_parse_call(message, &call) == 0)
		turn = answer_call(client, &call);
	json_decref(message);
	return turn;
}

static enum turn read_some(struct client *client)
{
	size_t room;
	char *to = client->ended ? NULL : varlink_reader_room(&client->reader, &room);
	if (!to)
		return TURN_OVER;
	ssize_t n = recv(client->sock, to, room, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? TURN_WAIT : TURN_OVER;
	client->ended = n == 0;
	varlink_reader_add(&client->reader, (size_t)n);
	return TURN_AGAIN;
}

static enum turn continue_listing(struct client *client)
{
	bool more;
	json_t *part = listing_next(client->listing, &more);
	int error = append_message(client, part ? varlink_make_reply(part, more) : NULL);

	if (!more) {
		listing_destroy(client->listing);
		client->listing = NULL;
	}
	return error == 0 ? TURN_AGAIN : TURN_OVER;
}

/* It has read all events so far. */
static enum turn continue_watch(struct client *client)
{
	if (client->lost == 0)
		return TURN_WAIT;
	json_t *notice = describe_notice("lost", client->lost);
	client->lost = 0;
	int error = append_message(client, varlink_make_reply(notice, true));
	return error == 0 ? TURN_AGAIN : TURN_OVER;
}

static enum turn take_turn(struct client *client)
{
	json_t *message;

	if (client->gone)
		return TURN_OVER;
	if (has_output(client)) {
		if (flush(client) < 0)
			return TURN_OVER;
		return has_output(client) ? TURN_WAIT : TURN_AGAIN;
	}
	if (client->listing)
		return continue_listing(client);
	if (client->watching)
		return continue_watch(client);
	int result = varlink_reader_next(&client->reader, &message);
	if (result == 0)
		return read_some(client);
	return result == 1 ? handle_message(client, message) : TURN_OVER;
}

/* What has to happen before it needs the next turn? */
static void await_event(struct client *client)
{
	int events = has_output(client) ? UV_WRITABLE
		: client->watching      ? UV_DISCONNECT
					: UV_READABLE;
	if (events == client->watched)
		return;
	client->watched = events;
	/* Not watch_start(): libuv takes it out and puts it back, in the place that this frees. */
	uv_poll_start(&client->poll, events, client_event);
}

static void turns_event(uv_idle_t *idle)
{
	struct control *control = idle->data;
	struct client *client = container_of(control->waiting.next, struct client, turn);

	list_remove(&client->turn);
	switch (take_turn(client)) {
	case TURN_AGAIN:
		want_turn(client);
		break;
	case TURN_WAIT:
		await_event(client);
		break;
	case TURN_OVER:
		client_close(client);
		break;
	}
	if (list_empty(&control->waiting))
		uv_idle_stop(idle);
}

/* ---- events ---- */

/* `bytes` NULL: there was no memory for it. */
static void send_event(struct client *client, const char *bytes, size_t n)
{
	/* If something is there already, its turn will come or it is waited for. */
	if (!has_output(client))
		want_turn(client);
	if (!bytes || client->lost > 0 || client->used - client->sent + n > WATCH_BACKLOG ||
		append(client, bytes, n) < 0)
		client->lost++;
}

static void hub_event(void *data, const struct hub_event *event)
{
	struct control *control = data;
	char *bytes = NULL;
	size_t n = 0;

	if (control->n_watchers == 0)
		return;
	json_t *object = describe_event(event);
	if (object)
		bytes = varlink_pack(varlink_make_reply(object, true), &n);
	list_for_each (node, &control->clients) {
		struct client *client = container_of(node, struct client, link);
		bool all = client->region[0] == '\0';
		if (client->watching && (all || strcmp(client->region, event->region) == 0))
			send_event(client, bytes, n);
	}
	free(bytes);
}

/* ---- who comes ---- */

static bool has_group(int sock, gid_t primary, gid_t wanted)
{
	gid_t few[64], *groups = few;
	socklen_t size = sizeof(few);
	bool found = primary == wanted;

	int result = getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &size);
	if (result < 0 && errno == ERANGE && size <= MAX_GROUPS * sizeof(gid_t)) {
		groups = malloc(size);
		result = groups ? getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, groups, &size) : -1;
	}
	for (size_t i = 0; result == 0 && i < size / sizeof(gid_t); i++)
		found |= groups[i] == wanted;
	if (groups != few)
		free(groups);
	return found;
}

/* 0, or -EACCES with *caller filled as far as it is known. */
static int identify(const struct control *control, int sock, struct caller *caller)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	*caller = (struct caller){.uid = (uid_t)-1};
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -EACCES;
	*caller = (struct caller){
		.uid = cred.uid,
		.pid = cred.pid,
		.may_change = cred.uid == 0 || cred.uid == geteuid(),
	};
	gid_t group = control->config.read_group;
	if (caller->may_change || (group != (gid_t)-1 && has_group(sock, cred.gid, group)))
		return 0;
	return -EACCES;
}

/* Say why, as far as it can be said without waiting. */
static void turn_away(struct control *control, int sock, const struct caller *caller,
	const char *error, const char *reason)
{
	unsigned suppressed;
	size_t n;
	char *bytes = varlink_pack(methods_refuse(error, reason), &n);

	if (bytes)
		(void)send(sock, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(bytes);
	close(sock);
	if (!log_allow(&control->denials, uv_now(control->loop), &suppressed))
		return;
	if (suppressed > 0)
		log_warning(control->log, "control: (%u refusals held back)", suppressed);
	log_warning(control->log, "control: refused uid %u (pid %d): %s", caller->uid, caller->pid,
		reason);
}

static bool is_full(const struct control *control, const struct caller *caller)
{
	unsigned max = control->config.max_clients;
	return control->n_clients >= max ||
		(!caller->may_change && control->n_readers >= (max + 1) / 2);
}

/* Takes over `sock` if it returns 0. */
static int client_create(struct control *control, int sock, const struct caller *caller)
{
	struct client *client = calloc(1, sizeof(*client));
	if (!client)
		return -ENOMEM;
	int error = uv_poll_init(control->loop, &client->poll, sock);
	if (error < 0) {
		free(client);
		return error;
	}
	client->poll.data = client;
	error = watch_start(&client->poll, UV_READABLE, client_event);
	if (error < 0) {
		uv_close((uv_handle_t *)&client->poll, free_client);
		return error;
	}
	client->control = control;
	client->sock = sock;
	client->watched = UV_READABLE;
	client->caller = *caller;
	varlink_reader_init(&client->reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	list_append(&control->clients, &client->link);
	list_init(&client->turn);
	control->n_clients++;
	control->n_readers += !caller->may_change;
	return 0;
}

static void accepted(void *data, int sock)
{
	struct control *control = data;
	struct caller caller;

	if (identify(control, sock, &caller) < 0)
		turn_away(control, sock, &caller, "ivshmem.Control.NotPermitted",
			"neither root nor the server's user nor in the group that may read");
	else if (is_full(control, &caller))
		turn_away(control, sock, &caller, "ivshmem.Control.TooManyClients",
			"there are as many clients as the server serves");
	else if (client_create(control, sock, &caller) < 0)
		turn_away(control, sock, &caller, "ivshmem.Control.NotEnough",
			"no memory, or no watch left for this user");
}

/* ---- */

int control_start(struct control **out, const struct control_config *config, int listen_fd,
	struct hub *hub, uv_loop_t *loop, struct log *log)
{
	struct control *control = calloc(1, sizeof(*control));
	if (!control)
		return -ENOMEM;
	control->config = *config;
	control->methods = (struct methods){
		.hub = hub,
		.config = &control->config,
		.log = log,
		.denials = LOG_LIMIT_INIT(BURST_OF_DENIALS),
	};
	control->loop = loop;
	control->log = log;
	control->denials = (struct log_limit)LOG_LIMIT_INIT(BURST_OF_DENIALS);
	list_init(&control->clients);
	list_init(&control->waiting);
	int error = hub_watch(hub, hub_event, control);
	if (error < 0)
		goto free_control;
	error = acceptor_init(&control->acceptor, loop, listen_fd, accepted, control, log);
	if (error < 0)
		goto unwatch;
	uv_idle_init(loop, &control->turns);
	control->turns.data = control;
	acceptor_resume(&control->acceptor);
	*out = control;
	return 0;

unwatch:
	hub_unwatch(hub, hub_event, control);
free_control:
	free(control);
	return error;
}

static void handle_closed(uv_handle_t *handle)
{
	struct control *control = handle->data;
	if (--control->open_handles == 0)
		free(control);
}

void control_stop(struct control *control)
{
	uv_handle_t *const handles[] = {
		(uv_handle_t *)&control->acceptor.poll,
		(uv_handle_t *)&control->acceptor.pause,
		(uv_handle_t *)&control->turns,
	};

	hub_unwatch(control->methods.hub, hub_event, control);
	acceptor_stop(&control->acceptor);
	list_for_each_safe (node, &control->clients)
		client_close(container_of(node, struct client, link));
	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
		handles[i]->data = control;
		control->open_handles++;
		uv_close(handles[i], handle_closed);
	}
}
