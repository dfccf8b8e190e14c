/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A region comes to be in an order in which each failure leaves nothing
 * behind: its claim to descriptors, the memory, the listening socket, the server, what a keeper is
 * to hold; and only then does it accept. It ends in the reverse order, but its peers get time to
 * hear of it: it is out of the hub's table at once, and its memory goes when the last word has been
 * sent or the time is up.
 *
 * Sockets that wait in the backlog at the end are accepted and refused: QEMU hangs on one that
 * merely closes.
 */
#include "hosted.h"
#include "keeping.h"

#include "base/clock.h"
#include "base/loglimits.h"
#include "base/probe.h"
#include "base/uuid.h"
#include "region/header.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- its log ---- */

static void say_whose(struct log *log, enum log_level level, const char *line)
{
	struct hosted *hosted = container_of(log, struct hosted, log);
	log_line(hosted->hub->log, level, "%s: %s", hosted->spec.name, line);
}

static void pass_on(struct log *log, enum log_level level, const char *line)
{
	struct log *target = container_of(log, struct hosted, log)->hub->log;
	target->sink(target, level, line);
}

void hosted_say(struct hosted *hosted, enum log_level level, const char *format, ...)
{
	unsigned held_back;
	char line[REASON_SIZE];
	va_list args;

	if (!log_allow(&hosted->log_limit, uv_now(hosted->hub->loop), &held_back))
		return;
	if (held_back > 0)
		log_info(&hosted->log, "(%u lines about its memory held back)", held_back);
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_line(&hosted->log, level, "%s", line);
}

/* A log whose errors become the reason. */
struct reason_log {
	struct log log, *next;
	char reason[REASON_SIZE];
};

static void note_reason(struct log *log, enum log_level level, const char *line)
{
	struct reason_log *self = container_of(log, struct reason_log, log);
	if (level == LOG_LEVEL_ERROR)
		snprintf(self->reason, sizeof(self->reason), "%s", line);
	else
		log_line(self->next, level, "%s", line);
}

/* ---- its parts ---- */

int hosted_write_header(struct hosted *hosted, uint32_t last, struct region_error *error)
{
	struct region_identity identity = {.generation = last};

	memcpy(identity.name, hosted->spec.name, sizeof(identity.name));
	memcpy(identity.uuid, hosted->spec.uuid, sizeof(identity.uuid));
	int result = region_write_header(&hosted->region, &identity, error);
	if (result < 0)
		return result;
	memcpy(hosted->spec.uuid, identity.uuid, sizeof(identity.uuid));
	hosted->life.generation = identity.generation;
	return 0;
}

static int make_memory(struct hosted *hosted, char *reason)
{
	struct region_error why;
	int error = region_create(&hosted->region, &hosted->spec.memory, &why);
	if (error == 0 && hosted->spec.header)
		error = hosted_write_header(hosted, 0, &why);
	if (error < 0) {
		snprintf(reason, REASON_SIZE, "%s", why.text);
		return error;
	}
	if (!hosted->spec.header)
		hosted->life.generation = 1;
	hosted->life.region_created = hosted->region.created;
	if (uuid_is_nil(hosted->spec.uuid))
		error = uuid_random(hosted->spec.uuid);
	if (error < 0)
		snprintf(reason, REASON_SIZE, "cannot make a UUID: %s", strerror(-error));
	return error;
}

static int publish_memory(const struct hosted *hosted, char *reason)
{
	struct region_error why;
	int error = region_publish(&hosted->region, &why);

	if (error < 0)
		snprintf(reason, REASON_SIZE, "%s", why.text);
	return error;
}

static void configure_listener(const struct hosted *hosted, struct listen_config *config)
{
	const struct region_spec *spec = &hosted->spec;
	bool single = hosted->hub->config.single;

	*config = (struct listen_config){
		.path = spec->socket_path,
		.mode = spec->socket_mode,
		.uid = spec->socket_uid,
		.gid = spec->socket_gid,
		.option = single ? "-S" : "socket",
		.owner_option = single ? "--socket-owner" : "socket-owner",
		.what = "server",
	};
}

static int make_listener(struct hosted *hosted, char *reason)
{
	struct listen_config config;
	struct reason_log log = {
		.log = {.level = hosted->hub->log->level, .sink = note_reason},
		.next = &hosted->log,
	};

	configure_listener(hosted, &config);
	bool listens = keeping_take_listener(hosted) ||
		listener_open(&hosted->listener, &config, &log.log) == 0;
	/* What is in the way may be left of a region that was renamed. */
	if (!listens && keeping_settle(hosted->hub) > 0)
		listens = listener_open(&hosted->listener, &config, &log.log) == 0;
	if (listens) {
		hosted->life.device = hosted->listener.device;
		hosted->life.inode = hosted->listener.inode;
		return 0;
	}
	snprintf(reason, REASON_SIZE, "%s", log.reason);
	return access(config.path, F_OK) == 0 ? -EEXIST : -EADDRNOTAVAIL;
}

static void news(void *data, const struct server_news *news)
{
	static const char *const words[] = {
		[SERVER_JOINED] = "joined", [SERVER_LEFT] = "left", [SERVER_REFUSED] = "refused"};
	hub_tell(data, words[news->event], news);
}

static void tapped(void *data, const struct server_message *message)
{
	const struct hosted *hosted = data;
	hosted->hub->tap(hosted->hub->tap_data, hosted->spec.name, message);
}

void hosted_set_tap(struct hosted *hosted)
{
	server_set_tap(hosted->server, hosted->hub->tap ? tapped : NULL, hosted);
}

static void accepted(void *data, int sock)
{
	hosted_admit(data, sock, 0);
}

static void accepting(void *data, bool on)
{
	struct hosted *hosted = data;
	server_accepting(hosted->server, on);
}

/* What is alike for a new region and one that was left. */
static int make_server(struct hosted *hosted, char *reason)
{
	struct hub *hub = hosted->hub;
	struct server_config config = hosted->spec.server;

	config.users = hub->users;
	if (hosted->life.state_peers > 0)
		config.max_peers = hosted->life.state_peers;
	/* Without it those who may only read are refused, and told so. */
	hosted->read_only_fd = region_open_read_only(&hosted->region);
	int error = server_create(
		&hosted->server, &config, hosted->region.fd, &peer_ops, hosted, &hosted->log);
	if (error == 0)
		error = acceptor_init(&hosted->acceptor, hub->loop, hosted->listener.fd, accepted,
			hosted, &hosted->log);
	if (error < 0) {
		snprintf(reason, REASON_SIZE, "cannot start serving: %s", uv_strerror(error));
		return error;
	}
	acceptor_note(&hosted->acceptor, accepting);
	uv_timer_init(hub->loop, &hosted->due);
	uv_timer_init(hub->loop, &hosted->deadline);
	hosted->due.data = hosted->deadline.data = hosted;
	hosted->has_handles = true;
	server_set_read_only_region(hosted->server, hosted->read_only_fd);
	server_set_policy(hosted->server, &hosted->spec.policy);
	server_set_watcher(hosted->server, news, hosted);
	server_set_curious(hosted->server, hub->curious);
	server_set_draining(hosted->server, hosted->life.draining);
	hosted_set_tap(hosted);
	return 0;
}

/* Without any of its parts. NULL without memory. */
static struct hosted *hosted_alloc(struct hub *hub, const struct region_spec *spec)
{
	struct hosted *hosted = calloc(1, sizeof(*hosted));
	if (!hosted)
		return NULL;
	*hosted = (struct hosted){
		.hub = hub,
		.region = REGION_INIT,
		.listener = LISTENER_INIT,
		.read_only_fd = -1,
		.log_limit = LOG_LIMIT_EVERY(LOG_LIMITS_BURST, LOG_LIMITS_EVERY_MS),
		.log = {.level = hub->log->level, .sink = hub->config.grows ? say_whose : pass_on},
	};
	list_init(&hosted->dirty_link);
	list_init(&hosted->removed_link);
	list_init(&hosted->clear_link);
	list_init(&hosted->watches);
	if (region_spec_copy(&hosted->spec, spec) < 0) {
		free(hosted);
		return NULL;
	}
	return hosted;
}

struct hosted *hosted_create(
	struct hub *hub, const struct region_spec *spec, int *error, char *reason)
{
	struct hosted *hosted = hosted_alloc(hub, spec);
	if (!hosted) {
		*error = -ENOMEM;
		snprintf(reason, REASON_SIZE, "out of memory");
		return NULL;
	}
	hosted->life.created_ms = clock_wall_ms();
	/* By default a region that is created at run time leaves as much as it takes. */
	unsigned sharers = hub->sharers > 0 ? hub->sharers : hub->config.grows ? 2 : 1;
	*error = descriptors_claim(&hub->descriptors, &hosted->spec, sharers, reason);
	hosted->claimed = *error == 0;
	if (*error == 0)
		*error = make_memory(hosted, reason);
	if (*error == 0)
		*error = make_listener(hosted, reason);
	if (*error == 0)
		*error = make_server(hosted, reason);
	if (*error == 0)
		*error = keeping_begin(hosted, reason);
	if (*error == 0)
		*error = publish_memory(hosted, reason);
	if (*error == 0)
		*error = keeping_complete(hosted, reason);
	if (*error == 0)
		return hosted;
	keeping_end(hosted);
	if (hosted->listener_held && hosted->listener.inode == 0) { /* a reload may try again */
		keeping_give_listener_back(hosted, hosted->listener.fd);
		hosted->listener.fd = -1;
	}
	hosted_free(hosted);
	return NULL;
}

struct hosted *hosted_adopt(struct hub *hub, const struct region_spec *spec,
	const struct region_life *life, int region_fd, int listen_fd, int *error, char *reason)
{
	struct region_error why = {.text = "out of memory"};
	struct hosted *hosted = hosted_alloc(hub, spec);

	*error = -ENOMEM;
	if (hosted)
		*error = region_adopt(&hosted->region, region_fd, &hosted->spec.memory,
			life->region_created, &why);
	if (*error < 0) {
		snprintf(reason, REASON_SIZE, "%s", why.text);
		close(region_fd);
		close(listen_fd);
		hosted_free(hosted);
		return NULL;
	}
	hosted->life = *life;
	hosted->listener = (struct listener){
		.fd = listen_fd,
		.path = hosted->spec.socket_path,
		.device = life->device,
		.inode = life->inode,
	};
	descriptors_claim_again(&hub->descriptors, &hosted->spec);
	hosted->claimed = true;
	*error = make_server(hosted, reason);
	if (*error == 0)
		return hosted;
	hosted_disown(hosted);
	hosted_free(hosted);
	return NULL;
}

/* ---- its life ---- */

void hosted_start(struct hosted *hosted)
{
	hosted_touch(hosted);
	keeping_accept(hosted);
}

void hosted_accept_itself(struct hosted *hosted)
{
	acceptor_resume(&hosted->acceptor);
}

void hosted_touch(struct hosted *hosted)
{
	users_set_time(hosted->hub->users, uv_now(hosted->hub->loop));
	if (list_empty(&hosted->dirty_link))
		list_append(&hosted->hub->dirty, &hosted->dirty_link);
}

void hosted_admit(struct hosted *hosted, int sock, uint64_t serial)
{
	clearing_before_join(hosted);
	hosted_touch(hosted);
	(void)server_admit(hosted->server, sock, serial);
}

static void due_event(uv_timer_t *timer)
{
	hosted_touch(timer->data);
}

/* What is to be done once nobody is in. */
static void look_after_empty(struct hosted *hosted)
{
	if (hosted->remove_when_empty) {
		log_info(hosted->hub->log,
			"region %s is not in the configuration any more, and "
			"empty: removed",
			hosted->spec.name);
		(void)hub_remove(hosted->hub, hosted, false);
	} else {
		clearing_begin(hosted);
	}
}

void hosted_run(struct hosted *hosted)
{
	struct hub *hub = hosted->hub;
	struct server_stats stats;

	list_remove(&hosted->dirty_link);
	int wait = server_run(hosted->server, uv_now(hub->loop));
	server_get_stats(hosted->server, &stats);
	uint64_t sent = stats.messages - hosted->messages;
	if (sent > 0)
		PROBE(messages_sent, hosted->spec.name, sent);
	hub->messages += sent;
	hosted->messages = stats.messages;
	if (hosted->ending && server_flushed(hosted->server)) {
		hosted_free(hosted);
		return;
	}
	if (wait >= 0)
		uv_timer_start(&hosted->due, due_event, (uint64_t)wait, 0);
	else
		uv_timer_stop(&hosted->due);
	if (!hosted->ending && stats.peers == 0)
		look_after_empty(hosted);
}

/* ---- its end ---- */

static void deadline_event(uv_timer_t *timer)
{
	struct hosted *hosted = timer->data;
	(void)server_run(hosted->server, uv_now(hosted->hub->loop));
	if (!server_flushed(hosted->server))
		log_warning(&hosted->log, "some peers have not read that the others left");
	hosted_free(hosted);
}

void hosted_end(struct hosted *hosted)
{
	bool is_units = hosted->listener.inode == 0;

	hosted->ending = true;
	keeping_end(hosted);
	region_unpublish(&hosted->region); /* nobody else joins, and a new one may take the name */
	list_append(&hosted->hub->removed, &hosted->removed_link);
	acceptor_stop(&hosted->acceptor);
	server_farewell(hosted->server);
	acceptor_drain(&hosted->acceptor, !is_units);
	if (is_units)
		keeping_give_listener_back(hosted, fcntl(hosted->listener.fd, F_DUPFD_CLOEXEC, 0));
	listener_close(&hosted->listener);
	uv_timer_start(&hosted->deadline, deadline_event, hosted->hub->config.exit_timeout_ms, 0);
	hosted_touch(hosted);
}

void hosted_disown(struct hosted *hosted)
{
	if (hosted->listener.fd >= 0)
		close(hosted->listener.fd);
	hosted->listener.fd = -1;
	free(hosted->region.name);
	hosted->region.name = NULL;
}

static void free_hosted(uv_handle_t *handle)
{
	struct hosted *hosted = handle->data;
	if (--hosted->handles == 0)
		free(hosted);
}

static void close_handle(struct hosted *hosted, void *handle)
{
	((uv_handle_t *)handle)->data = hosted;
	hosted->handles++;
	uv_close(handle, free_hosted);
}

void hosted_add_stats(const struct hosted *hosted, struct server_stats *totals)
{
	struct server_stats stats;

	server_get_stats(hosted->server, &stats);
	totals->joins += stats.joins;
	totals->leaves += stats.leaves;
	totals->evictions += stats.evictions;
	totals->refusals += stats.refusals;
	totals->messages += stats.messages;
}

void hosted_free(struct hosted *hosted)
{
	if (!hosted)
		return;
	struct hub *hub = hosted->hub;

	if (hosted->server)
		hosted_add_stats(hosted, &hub->totals);
	server_destroy(hosted->server); /* whose peers touch it as they go */
	list_remove(&hosted->dirty_link);
	list_remove(&hosted->removed_link);
	list_remove(&hosted->clear_link);
	keeping_fini(hosted);
	listener_close(&hosted->listener);
	if (hosted->read_only_fd >= 0)
		close(hosted->read_only_fd);
	region_fini(&hosted->region);
	if (hosted->claimed)
		descriptors_release(&hub->descriptors, &hosted->spec);
	region_spec_fini(&hosted->spec);
	if (!hosted->has_handles) {
		free(hosted);
		return;
	}
	close_handle(hosted, &hosted->acceptor.poll);
	close_handle(hosted, &hosted->acceptor.pause);
	close_handle(hosted, &hosted->due);
	close_handle(hosted, &hosted->deadline);
}
