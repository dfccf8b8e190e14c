/* SPDX-License-Identifier: MIT */
/*
 * `channels`: what goes on in the channels of a region, from outside.
 *
 * Theory of operation. The server gives a descriptor of the memory that can only be read, and tells
 * who is in the region; all else stands in the memory, so nobody in the region notices. One look
 * tells who is there and how full a ring is; what is stuck, and how fast it goes, takes two.
 */
#include "ctl.h"
#include "lanes.h"
#include "text.h"

#include "base/clock.h"
#include "common/jsontext.h"
#include "region/guard.h"
#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOOK_MS 1000 /* between the two looks, unless --every says otherwise */

struct view {
	const char *region;
	void *memory;
	uint64_t size;
	bool has_channels;
	struct lanes now;
	struct lane *before;            /* owned */
	uint64_t looked, looked_before; /* ms */
};

/* ---- JSON: everything that is known ---- */

static bool is_peer(json_t *peers, uint32_t id)
{
	size_t i;
	json_t *peer;

	json_array_foreach (peers, i, peer) {
		if (get_number(peer, "id") == (int64_t)id)
			return true;
	}
	return false;
}

/* `partner` is NULL for who never waits. */
static const char *state_of(
	const struct lane_end *end, const struct lane_end *partner, json_t *peers)
{
	switch (end->state) {
	case IVSHMEM_SLOT_NOBODY:
		return "nobody";
	case IVSHMEM_SLOT_CLOSED:
		return "closed";
	case IVSHMEM_SLOT_OPEN:
		break;
	}
	if (end->id <= IVSHMEM_MAX_ID && !is_peer(peers, end->id))
		return "dead";
	return partner && lane_waits(end, partner) ? "waits" : "open";
}

static json_t *describe_end(
	const struct lane_end *end, const struct lane_end *partner, json_t *peers)
{
	json_t *object = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "state",
		state_of(end, partner, peers), "generation", (json_int_t)end->generation, "vector",
		(json_int_t)end->vector, "position", (json_int_t)end->position, "messages",
		(json_int_t)end->messages, "lost", (json_int_t)end->lost);

	if (end->id <= IVSHMEM_MAX_ID)
		json_object_set_new(object, "id", json_integer(end->id));
	return object;
}

/* A reader that is there, and has not taken anything of what was there all the time. */
static bool is_stuck(const struct lanes_channel *channel, const struct lane *before,
	const struct lane *now, json_t *reader)
{
	return strcmp(get_text(reader, "state"), "open") == 0 && lane_fill(channel, before) > 0 &&
		lane_fill(channel, now) > 0 && before->reader.position == now->reader.position &&
		before->reader.generation == now->reader.generation;
}

static double rate(uint32_t before, uint32_t now, uint64_t ms)
{
	return ms > 0 ? (double)(now - before) * 1000 / (double)ms : 0;
}

static json_t *describe_lane(const struct view *view, unsigned index, json_t *peers)
{
	const struct lane *now = &view->now.lanes[index], *before = &view->before[index];
	const struct lanes_channel *channel = &view->now.channels[now->channel];
	const uint64_t ms = view->looked - view->looked_before;
	const bool same = before->writer.generation == now->writer.generation;
	/* Of a latest value, positions are numbers of values, and readers leave no trace. */
	const bool has_reader = channel->layout.shape != IVSHMEM_CHANNEL_LATEST;
	json_t *lane = json_pack("{s:o, s:f}", "writer",
		describe_end(&now->writer, has_reader ? &now->reader : NULL, peers),
		"messages_per_s",
		same ? rate(before->writer.messages, now->writer.messages, ms) : 0.0);

	if (!has_reader)
		return lane;
	const int64_t fill = lane_fill(channel, now);
	json_t *reader = describe_end(&now->reader, &now->writer, peers);
	json_object_set_new(lane, "reader", reader);
	json_object_set_new(lane, "fill", fill < 0 ? json_null() : json_integer(fill));
	json_object_set_new(lane, "bytes_per_s",
		json_real(same ? 64 * rate(before->writer.position, now->writer.position, ms) : 0));
	json_object_set_new(lane, "stuck", json_boolean(is_stuck(channel, before, now, reader)));
	return lane;
}

static const char *shape_name(uint32_t shape)
{
	static const char *const names[] = {"?", "stream", "gather", "latest", "call"};
	return shape < sizeof(names) / sizeof(names[0]) ? names[shape] : names[0];
}

static const char *policy_name(uint32_t policy)
{
	static const char *const names[] = {"wait", "drop", "overwrite"};
	return policy < sizeof(names) / sizeof(names[0]) ? names[policy] : "?";
}

static json_t *describe_channel(const struct lanes_channel *channel)
{
	const struct ivshmem_channel *layout = &channel->layout;

	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:b, s:[]}", "name", channel->name,
		"shape", shape_name(layout->shape), "policy", policy_name(layout->policy), "flags",
		(json_int_t)layout->flags, "lines", (json_int_t)layout->lines, "largest",
		(json_int_t)layout->largest, "offset",
		(json_int_t)(layout->offset > INT64_MAX ? INT64_MAX : layout->offset), "sound",
		channel->sound, "lanes");
}

static json_t *describe_view(const struct view *view, json_t *peers)
{
	json_t *channels = json_array();

	for (unsigned i = 0; i < view->now.n_channels; i++)
		json_array_append_new(channels, describe_channel(&view->now.channels[i]));
	for (unsigned i = 0; i < view->now.n; i++) {
		json_t *channel = json_array_get(channels, view->now.lanes[i].channel);
		json_array_append_new(
			json_object_get(channel, "lanes"), describe_lane(view, i, peers));
	}
	return json_pack("{s:s, s:o, s:b}", "region", view->region, "channels",
		view->has_channels ? channels : (json_decref(channels), json_null()), "more",
		view->now.more);
}

/* ---- for people ---- */

static const char *text_end(json_t *end, char out[TEXT_SIZE])
{
	const char *state = get_text(end, "state");

	if (!end)
		return "-";
	if (json_object_get(end, "id"))
		snprintf(out, TEXT_SIZE, "%" PRId64 " %s", get_number(end, "id"), state);
	else
		snprintf(out, TEXT_SIZE, "%s", state);
	return out;
}

static const char *text_number(json_t *object, const char *name, char out[TEXT_SIZE])
{
	json_t *value = json_object_get(object, name);

	if (json_is_real(value))
		snprintf(out, TEXT_SIZE, "%.0f", json_real_value(value));
	else if (json_is_integer(value))
		snprintf(out, TEXT_SIZE, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else
		snprintf(out, TEXT_SIZE, "-");
	return out;
}

static const char *text_note(json_t *lane)
{
	if (get_flag(lane, "stuck"))
		return "the reader is stuck";
	if (json_is_null(json_object_get(lane, "fill")))
		return "the positions cannot be";
	return "";
}

static void print_lane(
	struct table *table, const char *region, json_t *channel, size_t number, json_t *lane)
{
	char place[TEXT_SIZE], writer[TEXT_SIZE], reader[TEXT_SIZE], fill[TEXT_SIZE],
		lines[TEXT_SIZE], life[TEXT_SIZE], other[TEXT_SIZE], messages[TEXT_SIZE],
		rate_text[TEXT_SIZE], bytes[TEXT_SIZE], lost[TEXT_SIZE];
	json_t *from = json_object_get(lane, "writer"), *to = json_object_get(lane, "reader");
	const double flow = json_real_value(json_object_get(lane, "bytes_per_s"));

	snprintf(place, sizeof(place), "%zu", number);
	snprintf(lost, sizeof(lost), "%" PRId64, get_number(from, "lost") + get_number(to, "lost"));
	table_row(table, region, get_text(channel, "name"), get_text(channel, "shape"), place,
		text_end(from, writer), text_number(from, "generation", life), text_end(to, reader),
		text_number(to, "generation", other), text_number(lane, "fill", fill),
		text_number(channel, "lines", lines), text_number(from, "messages", messages),
		text_number(lane, "messages_per_s", rate_text),
		text_size((uint64_t)flow >> 10 << (flow < 1024 ? 0 : 10), bytes), lost,
		text_note(lane));
}

static void print_views(json_t *views)
{
	struct table table = TABLE_INIT(15);
	json_t *view, *channel, *lane;
	size_t i, j, k;

	table_row(&table, "REGION", "CHANNEL", "SHAPE", "LANE", "WRITER", "LIFE", "READER", "LIFE",
		"FILL", "LINES", "MESSAGES", "PER-S", "BYTES-PER-S", "LOST", "NOTE");
	json_array_foreach (views, i, view) {
		const char *region = get_text(view, "region");
		json_array_foreach (json_object_get(view, "channels"), j, channel) {
			if (!get_flag(channel, "sound"))
				table_row(&table, region, get_text(channel, "name"), "?", "-", "-",
					"-", "-", "-", "-", "-", "-", "-", "-", "-",
					"the entry makes no sense");
			json_array_foreach (json_object_get(channel, "lanes"), k, lane) {
				print_lane(&table, region, channel, k, lane);
			}
		}
		if (get_flag(view, "more"))
			table_row(&table, region, "-", "-", "-", "-", "-", "-", "-", "-", "-", "-",
				"-", "-", "-", "there are more lanes");
	}
	table_print(&table, stdout);
	fflush(stdout);
	table_fini(&table);
}

/* ---- looking ---- */

static bool ignore(void *data, json_t *parameters)
{
	(void)data;
	(void)parameters;
	return true;
}

/* Map a region's memory. An exit code. */
static int open_view(struct ctl *ctl, struct view *view)
{
	bool sealed;
	int result = ctl_call(
		ctl, "OpenMemory", json_pack("{s:s}", "name", view->region), false, ignore, NULL);

	if (result != 0)
		return result;
	const int fd = client_take_descriptor(&ctl->client);
	int error =
		fd < 0 ? -EBADMSG : region_map(fd, 0, true, &view->memory, &view->size, &sealed);
	if (fd >= 0)
		close(fd);
	if (error == 0)
		return 0;
	fprintf(stderr, CTL_PROGRAM ": cannot look into the memory of region %s: %s\n",
		view->region, strerror(-error));
	return EXIT_FAILED;
}

/* The directory anew each time: who makes the channels may come later. */
static int look(struct view *view)
{
	struct lanes lanes;
	int error = lanes_init(&lanes, view->memory, view->size);

	view->looked_before = view->looked;
	view->looked = clock_ms();
	free(view->before);
	view->before = view->now.lanes;
	view->now.lanes = NULL;
	const bool same = error == 0 && view->has_channels && view->now.n == lanes.n &&
		view->now.n_channels == lanes.n_channels &&
		(lanes.n_channels == 0 ||
			view->now.channels[0].layout.key == lanes.channels[0].layout.key);
	lanes_fini(&view->now);
	view->has_channels = error == 0;
	if (error < 0)
		return error == -ENODATA ? 0 : error;
	lanes_look(&lanes);
	view->now = lanes;
	if (same)
		return 0;
	free(view->before);
	view->before = calloc(LANES_MAX, sizeof(*view->before));
	if (!view->before)
		return -ENOMEM;
	memcpy(view->before, lanes.lanes, lanes.n * sizeof(*lanes.lanes));
	return 0;
}

static int look_at_all(struct view *views, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (look(&views[i]) == 0)
			continue;
		fprintf(stderr, CTL_PROGRAM ": no memory\n");
		return EXIT_FAILED;
	}
	return 0;
}

static int show(struct ctl *ctl, const struct view *views, size_t n)
{
	json_t *list = json_array(), *peers = NULL;
	int result = 0;

	for (size_t i = 0; i < n && result == 0; i++) {
		result = ctl_list(ctl, "ListPeers", json_pack("{s:s}", "region", views[i].region),
			"peers", &peers);
		if (result == 0)
			json_array_append_new(list, describe_view(&views[i], peers));
		json_decref(peers);
	}
	if (result == 0 && ctl->json)
		json_print_line(
			json_pack("{s:I, s:O}", "time", (json_int_t)text_now(), "regions", list),
			stdout);
	else if (result == 0)
		print_views(list);
	json_decref(list);
	return result;
}

static int look_and_show(struct ctl *ctl, struct view *views, size_t n)
{
	const int ms = ctl->every_ms > 0 ? ctl->every_ms : LOOK_MS;
	int result = look_at_all(views, n);

	do {
		poll(NULL, 0, ms);
		if (result == 0)
			result = look_at_all(views, n);
		if (result == 0)
			result = show(ctl, views, n);
	} while (result == 0 && ctl->every_ms > 0 && !ferror(stdout));
	return result;
}

static void close_views(struct view *views, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		region_unmap(views[i].memory, views[i].size);
		lanes_fini(&views[i].now);
		free(views[i].before);
	}
	free(views);
}

static int run(struct ctl *ctl, json_t *regions)
{
	const size_t n = json_array_size(regions);
	struct view *views = calloc(n + 1, sizeof(*views));
	int result = views ? 0 : EXIT_FAILED;

	for (size_t i = 0; i < n && result == 0; i++) {
		views[i].region = get_text(json_array_get(regions, i), "name");
		result = open_view(ctl, &views[i]);
	}
	if (result == 0)
		result = look_and_show(ctl, views, n);
	close_views(views, views ? n : 0);
	return result;
}

int command_channels(struct ctl *ctl, int n, char **arguments)
{
	json_t *regions = NULL;
	int result = 0;

	if (n > 0)
		regions = json_pack("[{s:o}]", "name", json_text(arguments[0]));
	else
		result = ctl_list(ctl, "ListRegions", NULL, "regions", &regions);
	if (result == 0 && region_guard_install() < 0)
		result = EXIT_FAILED;
	if (result == 0)
		result = run(ctl, regions);
	json_decref(regions);
	return result;
}
