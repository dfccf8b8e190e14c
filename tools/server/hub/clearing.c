/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. What one user leaves in a region is not for the next. Clearing 16 GiB takes
 * seconds, in which other regions must be served: so it is done in steps, one in each turn of the
 * loop. Whoever joins meanwhile waits for the rest, which is then done at once; the memory is clear
 * before anybody gets it. If it cannot be cleared, nobody gets it. The loop may say that somebody
 * comes before it says that the last one has gone; so before a join the sockets are asked.
 *
 * After a kill in between, the next process finds nobody there and begins anew; or only such who
 * have been let in but not been sent anything, for whom it is not too late.
 */
#include "hosted.h"
#include "keeping.h"

#include "region/header.h"

#include <stdio.h>
#include <string.h>

#define STEP (UINT64_C(16) << 20)

/* In all turns of the loop, but not while it sleeps. */
static void busy_event(uv_idle_t *idle)
{
	(void)idle;
}

void clearing_begin(struct hosted *hosted)
{
	if (!hosted->spec.zero_on_last_leave || !hosted->used || !list_empty(&hosted->clear_link))
		return;
	hosted->cleared = 0;
	list_append(&hosted->hub->clearing, &hosted->clear_link);
	uv_idle_start(&hosted->hub->busy, busy_event);
}

static void done(struct hosted *hosted)
{
	list_remove(&hosted->clear_link);
	if (list_empty(&hosted->hub->clearing))
		uv_idle_stop(&hosted->hub->busy);
}

/* Whoever comes has it tried again, and is refused once more. */
static void cannot(struct hosted *hosted, const char *why)
{
	done(hosted);
	hosted_say(hosted, LOG_LEVEL_ERROR,
		"cannot clear the memory (%s): nobody is let in any more", why);
	server_set_draining(hosted->server, true);
}

/* The memory is new: it gets a generation of its own. That is noted first, so that no two have the
 * same one if we are killed in between. */
static void renew(struct hosted *hosted)
{
	struct region_error why;
	uint32_t last = hosted->life.generation++;

	keeping_save(hosted);
	if (hosted->spec.header && hosted_write_header(hosted, last, &why) < 0) {
		cannot(hosted, why.text);
		return;
	}
	hosted->used = false;
	done(hosted);
	hosted_say(hosted, LOG_LEVEL_INFO, "the last peer has left: the memory is zeros again");
}

void clearing_step(struct hosted *hosted)
{
	const struct region *region = &hosted->region;
	uint64_t step = STEP > region->granule ? STEP : region->granule;

	int error = region_clear(region, !hosted->spec.memory.no_prealloc, hosted->cleared, step);
	if (error < 0) {
		cannot(hosted, strerror(-error));
		return;
	}
	hosted->cleared += step;
	if (hosted->cleared >= region->size)
		renew(hosted);
}

static void finish(struct hosted *hosted)
{
	while (!list_empty(&hosted->clear_link))
		clearing_step(hosted);
}

void clearing_before_join(struct hosted *hosted)
{
	struct server_stats stats;

	if (!hosted->spec.zero_on_last_leave || !hosted->used)
		return;
	peers_notice_departures(hosted);
	server_get_stats(hosted->server, &stats);
	if (stats.peers > 0)
		return;
	clearing_begin(hosted);
	finish(hosted);
}

static bool has_been_told_nothing(void *data, const struct server_peer_info *info)
{
	bool *all = data;
	*all = info->sent == 0;
	return *all;
}

void clearing_after_resume(struct hosted *hosted)
{
	bool nobody_knows = true;

	if (!hosted->spec.zero_on_last_leave || !hosted->used)
		return;
	peers_notice_departures(hosted);
	server_visit(hosted->server, has_been_told_nothing, &nobody_knows);
	if (!nobody_knows)
		return;
	clearing_begin(hosted);
	finish(hosted);
	hosted->used = true; /* those who wait get it next */
}
