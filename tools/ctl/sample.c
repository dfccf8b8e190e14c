/* SPDX-License-Identifier: MIT */
#include "sample.h"

#include "text.h"

#include <string.h>

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

static int64_t queue_of(json_t *peers, const char *region)
{
	int64_t queued = 0;
	size_t i;
	json_t *peer;
	json_array_foreach (peers, i, peer) {
		if (strcmp(get_text(peer, "region"), region) == 0)
			queued += get_number(peer, "queued");
	}
	return queued;
}

int sample_take(struct ctl *ctl, struct sample *sample)
{
	struct sample now = {0};
	size_t i;
	json_t *region;

	int result = ctl_list(ctl, "ListRegions", NULL, "regions", &now.regions);
	now.time = text_now();
	if (result == 0)
		result = ctl_list(ctl, "ListPeers", NULL, "peers", &now.peers);
	json_array_foreach (now.regions, i, region) {
		add_rates(region, find_region(sample->regions, region), now.time - sample->time);
		json_object_set_new(region, "queued",
			json_integer(queue_of(now.peers, get_text(region, "name"))));
	}
	sample_fini(sample);
	*sample = now;
	return result;
}

void sample_fini(struct sample *sample)
{
	json_decref(sample->regions);
	json_decref(sample->peers);
	*sample = (struct sample)SAMPLE_INIT;
}
