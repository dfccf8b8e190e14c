/* SPDX-License-Identifier: MIT */
/* How a relay begins: by joining the server, or with what an earlier process has left. */
#include "holding.h"
#include "relay_internal.h"

#include "base/clock.h"
#include "client/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAIR_BYTES 8192 /* doubled by the kernel: some 20 words */

static struct relay *allocate(const struct relay_config *config)
{
	struct relay *relay = calloc(1, sizeof(*relay));

	if (!relay)
		return NULL;
	relay->config = *config;
	relay->server = relay->pair = relay->peer = relay->fd = -1;
	return relay;
}

static int make_pair(struct relay *relay)
{
	int pair[2], size = PAIR_BYTES;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	relay->pair = pair[0];
	relay->peer = pair[1];
	setsockopt(relay->pair, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

static int measure_region(struct relay *relay, int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	relay->region_size = (uint64_t)st.st_size;
	return 0;
}

/* One word of the opening, which is in `state`. 1: it was the region; 0; -errno, explained. */
static int read_opening(struct relay *relay, struct client_error *why)
{
	const char *path = relay->config.path;
	enum wire_state state = relay->session.state;
	struct wire_event event;
	struct wire_message message;

	int result = relay_read(relay);
	if (result == -EAGAIN || result == 0)
		return 0;
	if (result < 0)
		return client_explain_loss(why, path, result);
	result = relay_take(relay, &event, &message);
	if (result == -EPROTO)
		return client_explain_event(why, path, true, state, &event);
	if (result > 0 && !relay_tell(relay, message.number, message.fd))
		result = -ENOBUFS; /* who names so many peers before the region is no server */
	if (result >= 0 && event.type == WIRE_EVENT_REGION)
		result = measure_region(relay, message.fd);
	relay_close_word(relay);
	if (result < 0)
		return client_explain_loss(why, path, result);
	return event.type == WIRE_EVENT_REGION;
}

static int shake_hands(struct relay *relay, uint64_t deadline, struct client_error *why)
{
	struct pollfd entry = {.fd = relay->server, .events = POLLIN};
	int result = 0;

	while (result == 0) {
		if (poll(&entry, 1, deadline_left(deadline)) == 0)
			return client_explain_loss(why, relay->config.path, -ETIMEDOUT);
		result = read_opening(relay, why);
	}
	return result < 0 ? result : 0;
}

static int have_held(struct relay *relay)
{
	const struct relay_config *config = &relay->config;

	relay->memory_size = told_size(config->slots);
	int fd = holding_make_memory(&relay->memory_size, &relay->memory);
	if (fd < 0)
		return fd;
	told_begin(&relay->told, relay->memory, config->slots, config->path);
	told_session(&relay->told, &relay->session);
	int error = holding_put(config->holding, "told", config->name, 0, &fd, 1);
	close(fd);
	if (error == 0)
		error = holding_put(config->holding, "server", config->name, 0, &relay->server, 1);
	return error;
}

static int join(struct relay *relay, struct client_error *why)
{
	uint64_t deadline = deadline_after(relay->config.timeout_ms);

	relay->server = client_connect(relay->config.path, deadline, why);
	if (relay->server < 0)
		return relay->server;
	int error = have_held(relay);
	if (error == 0)
		error = make_pair(relay);
	if (error == 0)
		return shake_hands(relay, deadline, why);
	snprintf(why->text, sizeof(why->text), "cannot have the connection to the server held: %s",
		strerror(-error));
	return error;
}

int relay_join(struct relay **out, const struct relay_config *config, struct relay_error *why)
{
	struct client_error reason = {"no memory"};
	struct relay *relay = allocate(config);

	int error = relay ? join(relay, &reason) : -ENOMEM;
	if (error < 0) {
		memcpy(why->text, reason.text, sizeof(reason.text));
		relay_forget(relay);
		return error;
	}
	*out = relay;
	return 0;
}

/* ---- going on ---- */

/* The region first, then by number. */
static int compare_words(const void *a, const void *b)
{
	const struct told_entry *one = &((const struct kept_word *)a)->entry;
	const struct told_entry *other = &((const struct kept_word *)b)->entry;

	if ((one->value == WIRE_REGION) != (other->value == WIRE_REGION))
		return one->value == WIRE_REGION ? -1 : 1;
	return one->number < other->number ? -1 : one->number > other->number;
}

static int list_words(struct relay *relay)
{
	const struct told_entry *entries;
	uint32_t n = told_entries(&relay->told, &entries);

	relay->words = calloc(n + 1, sizeof(*relay->words));
	if (!relay->words)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++) {
		if (entries[i].number)
			relay->words[relay->n_words++] = (struct kept_word){entries[i], -1};
	}
	qsort(relay->words, relay->n_words, sizeof(*relay->words), compare_words);
	return 0;
}

/* The one descriptor of a set, or -errno. */
static int take_one(const struct relay *relay, const char *part, uint64_t number)
{
	const struct relay_config *config = &relay->config;
	int fd;
	int n = holding_take(config->holding, part, config->name, number, &fd, 1);
	return n == 1 ? fd : n < 0 ? n : -ENOENT;
}

static int take_held(struct relay *relay)
{
	uint64_t number = told_descriptor(&relay->told);

	relay->server = take_one(relay, "server", 0);
	int error = relay->server < 0 ? relay->server : list_words(relay);
	for (uint32_t i = 0; i < relay->n_words && error >= 0; i++)
		error = relay->words[i].fd = take_one(relay, "w", relay->words[i].entry.number);
	if (error >= 0 && number && number != TOLD_UNKEPT)
		error = relay->fd = take_one(relay, "w", number);
	return error < 0 ? error : 0;
}

/* As a server would greet a newcomer. */
static int greet(struct relay *relay)
{
	int64_t opening[2];
	const struct kept_word *region = &relay->words[0];

	int error = make_pair(relay);
	if (error == 0)
		error = measure_region(relay, region->fd);
	told_opening(&relay->told, opening);
	if (error == 0 &&
		(!relay_tell(relay, opening[0], -1) || !relay_tell(relay, opening[1], -1) ||
			!relay_tell(relay, WIRE_REGION, region->fd)))
		error = -EIO;
	relay->said = 1;
	close(region->fd);
	return error;
}

/* It had not joined, or there was none. */
static void discard(const struct relay_config *config)
{
	uint64_t number = 0;

	holding_drop(config->holding, "told", config->name, 0);
	holding_drop(config->holding, "server", config->name, 0);
	while ((number = holding_next(config->holding, "w", config->name, number)) != 0)
		holding_drop(config->holding, "w", config->name, number);
}

static int resume(struct relay *relay, struct relay_error *why)
{
	const struct relay_config *config = &relay->config;
	const char *field = "told";

	int result = holding_take_memory(
		config->holding, "told", config->name, &relay->memory, &relay->memory_size);
	if (result > 0)
		result = told_resume(
			&relay->told, relay->memory, relay->memory_size, relay_drop, relay, &field);
	else if (result == 0)
		return 0;
	if (result < 0) {
		snprintf(why->text, sizeof(why->text),
			"what its server has said cannot be understood: %s: %s", field,
			result == -ENOTSUP ? "of a newer version" : strerror(-result));
		return result;
	}
	told_session(&relay->told, &relay->session);
	if (relay->session.state != WIRE_STATE_RUN)
		return 0;
	if (strcmp(told_path(&relay->told), config->path) != 0) {
		snprintf(why->text, sizeof(why->text), "it has joined the server on %s, not on %s",
			told_path(&relay->told), config->path);
		return -EINVAL;
	}
	result = take_held(relay);
	if (result == 0)
		result = greet(relay);
	if (result < 0)
		snprintf(why->text, sizeof(why->text),
			"what its server has sent is not all there: %s", strerror(-result));
	return result < 0 ? result : 1;
}

int relay_resume(struct relay **out, const struct relay_config *config, struct relay_error *why)
{
	struct relay *relay = allocate(config);

	snprintf(why->text, sizeof(why->text), "no memory");
	int result = relay ? resume(relay, why) : -ENOMEM;
	if (result > 0) {
		*out = relay;
		return 1;
	}
	relay_close(relay);
	if (result == 0)
		discard(config);
	return result;
}
