/* SPDX-License-Identifier: MIT */
#include "apply.h"

#include "hosted.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static bool is_empty(const struct hosted *hosted)
{
	struct server_stats stats;
	server_get_stats(hosted->server, &stats);
	return stats.peers == 0;
}

static bool is_among(const char *name, const struct region_spec *specs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(specs[i].name, name) == 0)
			return true;
	}
	return false;
}

/* Would anything have to change under somebody's feet? Nothing is touched yet. */
static int check(struct hub *hub, const struct region_spec *specs, size_t n, char *reason)
{
	for (size_t i = 0; i < n; i++) {
		struct hosted *hosted = hub_find(hub, specs[i].name);
		const char *fixed;
		if (!hosted || is_empty(hosted) || hosted_can_become(hosted, &specs[i], &fixed))
			continue;
		snprintf(reason, REASON_SIZE,
			"region %s: %s cannot change while peers are in: drain it first; nothing "
			"has been changed",
			specs[i].name, fixed);
		return -EBUSY;
	}
	return 0;
}

static void remove_others(struct hub *hub, const struct region_spec *specs, size_t n)
{
	unsigned i = 0;

	while (i < hub->n) {
		struct hosted *hosted = hub->hosted[i];
		const char *name = hosted->spec.name;
		if (!hosted->spec.from_file || is_among(name, specs, n)) {
			i++;
		} else if (is_empty(hosted)) {
			log_info(hub->log, "region %s is not in the configuration: removed", name);
			(void)hub_remove(hub, hosted, false);
		} else {
			if (!hosted->remove_when_empty)
				log_info(hub->log,
					"region %s is not in the configuration: nobody joins any "
					"more, and it goes with its last peer",
					name);
			hosted->remove_when_empty = true;
			hub_drain(hosted, true);
			i++;
		}
	}
}

/* Those that must be made anew, and are empty: what they have may be another one's now. */
static void remove_changed(struct hub *hub, const struct region_spec *specs, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct hosted *hosted = hub_find(hub, specs[i].name);
		const char *fixed;
		if (!hosted || hosted_can_become(hosted, &specs[i], &fixed))
			continue;
		log_info(hub->log, "region %s: %s has changed: made anew", specs[i].name, fixed);
		(void)hub_remove(hub, hosted, false);
	}
}

static void stay(struct hosted *hosted)
{
	if (!hosted->remove_when_empty)
		return;
	hosted->remove_when_empty = false;
	hub_drain(hosted, false);
}

static int apply_one(struct hub *hub, const struct region_spec *spec, char *reason)
{
	struct hosted *hosted = hub_find(hub, spec->name);

	if (!hosted)
		return hub_add(hub, spec, reason);
	stay(hosted);
	return hub_update(hosted, spec, reason);
}

/* Regions that will share what descriptors are left, and one more for those created later. */
static unsigned count_sharers(struct hub *hub, const struct region_spec *specs, size_t n)
{
	unsigned sharers = hub->config.grows ? 1 : 0;
	for (size_t i = 0; i < n; i++)
		sharers += !specs[i].max_peers_given && !hub_find(hub, specs[i].name);
	return sharers;
}

static int apply_and_say(struct hub *hub, const struct region_spec *spec, char *reason)
{
	bool shares = !spec->max_peers_given && !hub_find(hub, spec->name);
	int error = apply_one(hub, spec, reason);

	hub->sharers -= shares;
	if (error < 0 && !hub->config.single)
		log_error(hub->log, "region %s: %s", spec->name, reason);
	return error;
}

/* Those with a number first: what they need is not there to be shared. */
static int apply_all(struct hub *hub, const struct region_spec *specs, size_t n, char *reason)
{
	char why[REASON_SIZE];
	int result = 0;

	hub->sharers = count_sharers(hub, specs, n);
	for (size_t i = 0; i < 2 * n; i++) {
		const struct region_spec *spec = &specs[i % n];
		if (spec->max_peers_given != (i < n))
			continue;
		int error = apply_and_say(hub, spec, why);
		if (error < 0 && result == 0) {
			memcpy(reason, why, REASON_SIZE);
			result = error;
		}
	}
	hub->sharers = 0;
	return result;
}

int hub_apply(struct hub *hub, const struct region_spec *specs, size_t n, char *reason)
{
	int error = check(hub, specs, n, reason);
	if (error < 0)
		return error;
	remove_others(hub, specs, n);
	remove_changed(hub, specs, n);
	return apply_all(hub, specs, n, reason);
}
