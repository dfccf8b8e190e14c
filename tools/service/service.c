/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The loop that serves a program's real clients serves these too, and those must not wait for
 * them. So an event on a client's socket does nothing but put the client into a list; from the list
 * one client at a time gets one turn between two looks at all sockets, and a turn is little work:
 * send what fits into the socket, or make one part of an answer, or handle one call, or read once.
 * Whatever clients there are and whatever they send, anybody else waits for one turn, or two if he
 * comes at the wrong moment.
 *
 * What a client can make us keep is bounded as well: one call that is not complete, and one answer
 * that it does not read. Until that is gone nothing is read from it, so calls that it sends ahead
 * stay in its socket. What is appended out of turn (service_append()) is for its caller to bound.
 *
 * Who may connect at all is decided by the kernel's word for who it was that connected. Readers
 * together get half of the places, so that root finds one.
 */
#include "service.h"

#include "standard.h"

#include "daemon/acceptor.h"
#include "daemon/watch.h"

#include "base/clock.h"
#include "base/fdpass.h"
#include "base/loglimits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_GROUPS 65536 /* of a process: NGROUPS_MAX */

struct service {
	struct service_config config;
	uv_loop_t *loop;
	struct log *log;
	struct log_limits refusals; /* log lines */
	struct acceptor acceptor;
	uv_idle_t turns;     /* runs while somebody is in `waiting` */
	struct list clients; /* service_client.link */
	struct list waiting; /* service_client.turn */
	unsigned n_clients, n_readers;
	unsigned open_handles; /* after the stop */
};

/* ---- clients ---- */

static void turns_event(uv_idle_t *idle);

static void want_turn(struct service_client *client)
{
	struct service *service = client->service;
	if (!list_empty(&client->turn))
		return;
	list_append(&service->waiting, &client->turn);
	uv_idle_start(&service->turns, turns_event);
}

static void client_event(uv_poll_t *poll, int status, int events)
{
	struct service_client *client = poll->data;
	/* After an error libuv looks at it no more. */
	client->gone = status < 0 || events & UV_DISCONNECT;
	want_turn(client);
}

static void free_client(uv_handle_t *handle)
{
	free(handle->data);
}

static void drop_descriptor(struct service_client *client)
{
	if (client->descriptor >= 0)
		close(client->descriptor);
	client->descriptor = -1;
}

void service_attach(struct service_client *client, int fd)
{
	drop_descriptor(client);
	client->descriptor = fd;
}

static void client_close(struct service_client *client)
{
	struct service *service = client->service;

	if (service->config.closing)
		service->config.closing(client);
	service->n_clients--;
	service->n_readers -= !client->may_change;
	list_remove(&client->link);
	list_remove(&client->turn);
	varlink_reader_fini(&client->reader);
	drop_descriptor(client);
	free(client->out);
	uv_close((uv_handle_t *)&client->poll, free_client);
	close(client->sock);
	acceptor_resume(&service->acceptor);
}

/* ---- sending ---- */

static bool has_output(const struct service_client *client)
{
	return client->used > client->sent;
}

int service_append(struct service_client *client, const char *bytes, size_t n)
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
static int append_message(struct service_client *client, json_t *message)
{
	size_t n;
	char *bytes = varlink_pack(message, &n);
	int error = bytes ? service_append(client, bytes, n) : -ENOMEM;
	free(bytes);
	return error;
}

/* 0, also if not all has gone out, or -errno. */
static int flush(struct service_client *client)
{
	ssize_t n = fdpass_send(client->sock, client->out + client->sent,
		client->used - client->sent, client->descriptor);
	if (n < 0)
		return n == -EAGAIN || n == -EINTR ? 0 : (int)n;
	drop_descriptor(client);
	client->sent += (size_t)n;
	if (has_output(client))
		return 0;
	free(client->out); /* most clients say nothing most of the time */
	client->out = NULL;
	client->size = client->used = client->sent = 0;
	return 0;
}

size_t service_backlog(const struct service_client *client)
{
	return client->used - client->sent;
}

void service_wake(struct service_client *client)
{
	/* If something is there already, its turn will come or it is waited for. */
	if (!has_output(client))
		want_turn(client);
}

/* ---- turns ---- */

/* After a turn: there may be more to do at once; only after the next event; never again. */
enum turn { TURN_AGAIN, TURN_WAIT, TURN_OVER };

static enum turn answer_call(struct service_client *client, const struct varlink_call *call)
{
	json_t *message = client->service->config.call(client, call);

	if (call->oneway) {
		drop_descriptor(client);
		json_decref(message);
		return TURN_AGAIN;
	}
	return append_message(client, message) == 0 ? TURN_AGAIN : TURN_OVER;
}

static enum turn handle_message(struct service_client *client, json_t *message)
{
	struct varlink_call call;
	enum turn turn = TURN_OVER;
	if (varlink_parse_call(message, &call) == 0)
		turn = answer_call(client, &call);
	json_decref(message);
	return turn;
}

static enum turn read_some(struct service_client *client)
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

static enum turn handle_next(struct service_client *client)
{
	json_t *message;
	int result = varlink_reader_next(&client->reader, &message);

	if (result == 0)
		return read_some(client);
	return result == 1 ? handle_message(client, message) : TURN_OVER;
}

/* It has taken all that was said so far. */
static enum turn continue_answer(struct service_client *client)
{
	json_t *message = NULL;
	enum service_rest rest = client->service->config.rest(client, &message);

	client->listens = rest == SERVICE_LATER;
	switch (rest) {
	case SERVICE_GOES_ON:
		return append_message(client, message) == 0 ? TURN_AGAIN : TURN_OVER;
	case SERVICE_LATER:
		return TURN_WAIT;
	case SERVICE_OVER:
		break;
	}
	return handle_next(client);
}

static enum turn take_turn(struct service_client *client)
{
	if (client->gone)
		return TURN_OVER;
	if (!has_output(client))
		return continue_answer(client);
	if (flush(client) < 0)
		return TURN_OVER;
	return has_output(client) ? TURN_WAIT : TURN_AGAIN;
}

/* What has to happen before it needs the next turn? */
static void await_event(struct service_client *client)
{
	int events = has_output(client) ? UV_WRITABLE
		: client->listens       ? UV_DISCONNECT
					: UV_READABLE;
	if (events == client->watched)
		return;
	client->watched = events;
	/* Not watch_start(): libuv takes it out and puts it back, in the place that this frees. */
	uv_poll_start(&client->poll, events, client_event);
}

static void turns_event(uv_idle_t *idle)
{
	struct service *service = idle->data;
	struct service_client *client =
		container_of(service->waiting.next, struct service_client, turn);

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
	if (list_empty(&service->waiting))
		uv_idle_stop(idle);
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

/* Who is there? 0, or -EACCES with what is known of him. */
static int identify(const struct service *service, int sock, struct service_client *who)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	who->uid = (uid_t)-1;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -EACCES;
	who->uid = cred.uid;
	who->pid = cred.pid;
	who->may_change = cred.uid == 0 || cred.uid == geteuid();
	gid_t group = service->config.read_group;
	if (who->may_change || (group != (gid_t)-1 && has_group(sock, cred.gid, group)))
		return 0;
	return -EACCES;
}

/* Say why, as far as it can be said without waiting. */
static void turn_away(struct service *service, int sock, const struct service_client *who,
	const char *error, const char *reason)
{
	char name[64];
	unsigned suppressed;
	size_t n;

	snprintf(name, sizeof(name), "%s.%s", service->config.interface, error);
	char *bytes = varlink_pack(standard_refuse(name, reason), &n);
	if (bytes)
		(void)send(sock, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	free(bytes);
	close(sock);
	if (!log_allow_user(&service->refusals, who->uid, clock_ms(), &suppressed))
		return;
	if (suppressed > 0)
		log_warning(service->log, "control: (%u refusals held back)", suppressed);
	log_warning(
		service->log, "control: refused uid %u (pid %d): %s", who->uid, who->pid, reason);
}

static bool is_full(const struct service *service, const struct service_client *who)
{
	unsigned max = service->config.max_clients;
	return service->n_clients >= max ||
		(!who->may_change && service->n_readers >= (max + 1) / 2);
}

/* Takes over `sock` if it returns 0. */
static int client_create(struct service *service, int sock, const struct service_client *who)
{
	struct service_client *client = calloc(1, service->config.client_size);
	if (!client)
		return -ENOMEM;
	*client = *who;
	client->descriptor = -1;
	int error = uv_poll_init(service->loop, &client->poll, sock);
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
	client->sock = sock;
	client->watched = UV_READABLE;
	varlink_reader_init(&client->reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	list_append(&service->clients, &client->link);
	list_init(&client->turn);
	service->n_clients++;
	service->n_readers += !client->may_change;
	return 0;
}

static void accepted(void *data, int sock)
{
	struct service *service = data;
	struct service_client who = {.service = service, .data = service->config.data};

	if (identify(service, sock, &who) < 0)
		turn_away(service, sock, &who, "NotPermitted",
			"neither root nor the user that this runs as nor in the group that may "
			"read");
	else if (is_full(service, &who))
		turn_away(service, sock, &who, "TooManyClients",
			"there are as many clients as are served at a time");
	else if (client_create(service, sock, &who) < 0)
		turn_away(service, sock, &who, "NotEnough",
			"no memory, or no watch left for this user");
}

/* ---- */

int service_start(struct service **out, const struct service_config *config, int listen_fd,
	uv_loop_t *loop, struct log *log)
{
	struct service *service = calloc(1, sizeof(*service));
	if (!service)
		return -ENOMEM;
	service->config = *config;
	service->loop = loop;
	service->log = log;
	log_limits_init(&service->refusals);
	list_init(&service->clients);
	list_init(&service->waiting);
	int error = acceptor_init(&service->acceptor, loop, listen_fd, accepted, service, log);
	if (error < 0) {
		free(service);
		return error;
	}
	uv_idle_init(loop, &service->turns);
	service->turns.data = service;
	acceptor_resume(&service->acceptor);
	*out = service;
	return 0;
}

static void handle_closed(uv_handle_t *handle)
{
	struct service *service = handle->data;
	if (--service->open_handles == 0)
		free(service);
}

void service_stop(struct service *service)
{
	uv_handle_t *const handles[] = {
		(uv_handle_t *)&service->acceptor.poll,
		(uv_handle_t *)&service->acceptor.pause,
		(uv_handle_t *)&service->turns,
	};

	acceptor_stop(&service->acceptor);
	list_for_each_safe (node, &service->clients)
		client_close(container_of(node, struct service_client, link));
	for (size_t i = 0; i < sizeof(handles) / sizeof(handles[0]); i++) {
		handles[i]->data = service;
		service->open_handles++;
		uv_close(handles[i], handle_closed);
	}
}
