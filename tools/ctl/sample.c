/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include "text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE 128

/* ---- rates of a region's counters ---- */

static json_t *find_region(json_t *regions, json_t *wanted)
{
	size_t i;
	json_t *region;
	json_array_foreach (regions, i, region) {
		if (strcmp(get_text(region, "uuid"), get_text(wanted, "uuid")) == 0)
			return region;
	}
	return NULL;
}

static void add_rate(
	json_t *region, json_t *before, int64_t ms, const char *counter, const char *rate)
{
	int64_t now = get_number(json_object_get(region, "counters"), counter);
	int64_t then = get_number(json_object_get(before, "counters"), counter);
	json_object_set_new(region, rate, json_real((double)(now - then) * 1000 / (double)ms));
}

static void add_rates(json_t *region, json_t *before, int64_t ms)
{
	if (!before || ms <= 0)
		return;
	add_rate(region, before, ms, "joins", "joins_per_s");
	add_rate(region, before, ms, "leaves", "leaves_per_s");
	add_rate(region, before, ms, "messages", "messages_per_s");
}

/* ---- sums by region or peer ---- */

static void add_to(json_t *sums, const char *key, int64_t number)
{
	json_object_set_new(sums, key, json_integer(get_number(sums, key) + number));
}

/* Of which peer something is: its region's name, which has no space, and its serial number. */
static const char *peer_key(json_t *object, char out[KEY_SIZE])
{
	snprintf(out, KEY_SIZE, "%s @%" PRId64, get_text(object, "region"),
		get_number(object, "serial"));
	return out;
}

static json_t *sum_queues(json_t *peers)
{
	json_t *sums = json_object(), *peer;
	size_t i;
	json_array_foreach (peers, i, peer) {
		add_to(sums, get_text(peer, "region"), get_number(peer, "queued"));
	}
	return sums;
}

/* How many rings of each peer and of each region have been seen; nothing of which none was. */
static json_t *sum_rings(json_t *doorbells)
{
	json_t *sums = json_object(), *doorbell;
	char key[KEY_SIZE];
	size_t i;
	json_array_foreach (doorbells, i, doorbell) {
		add_to(sums, get_text(doorbell, "region"), get_number(doorbell, "seen"));
		add_to(sums, peer_key(doorbell, key), get_number(doorbell, "seen"));
	}
	return sums;
}

/* What was not seen is not said to be zero: it may be that it cannot be seen. */
static void add_rings(json_t *object, const char *key, json_t *now, json_t *before, int64_t ms)
{
	int64_t seen = get_number(now, key), since = seen - get_number(before, key);

	if (seen > 0)
		json_object_set_new(object, "doorbells_seen", json_integer(seen));
	if (since > 0 && before && ms > 0)
		json_object_set_new(
			object, "doorbells_per_s", json_real((double)since * 1000 / (double)ms));
}

/* ---- */

/* A server that cannot do this, or does it for others, shows the rest. */
static json_t *take_rings(struct ctl *ctl)
{
	json_t *doorbells;

	ctl->quiet = true;
	(void)ctl_list(ctl, "ListDoorbells", NULL, "doorbells", &doorbells);
	ctl->quiet = false;
	json_t *sums = sum_rings(doorbells);
	json_decref(doorbells);
	return sums;
}

static void complete(struct sample *now, const struct sample *before)
{
	json_t *queues = sum_queues(now->peers), *object;
	int64_t ms = now->time - before->time;
	char key[KEY_SIZE];
	size_t i;

	json_array_foreach (now->regions, i, object) {
		const char *name = get_text(object, "name");
		add_rates(object, find_region(before->regions, object), ms);
		add_rings(object, name, now->rings, before->rings, ms);
		json_object_set_new(object, "queued", json_integer(get_number(queues, name)));
	}
	json_array_foreach (now->peers, i, object) {
		add_rings(object, peer_key(object, key), now->rings, before->rings, ms);
	}
	json_decref(queues);
}

int sample_take(struct ctl *ctl, struct sample *sample)
{
	struct sample now = SAMPLE_INIT;

	int result = ctl_list(ctl, "ListRegions", NULL, "regions", &now.regions);
	now.time = text_now();
	if (result == 0)
		result = ctl_list(ctl, "ListPeers", NULL, "peers", &now.peers);
	if (result == 0) {
		now.rings = take_rings(ctl);
		complete(&now, sample);
	}
	sample_fini(sample);
	*sample = now;
	return result;
}

void sample_fini(struct sample *sample)
{
	json_decref(sample->regions);
	json_decref(sample->peers);
	json_decref(sample->rings);
	*sample = (struct sample)SAMPLE_INIT;
}
