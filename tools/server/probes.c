/* SPDX-License-Identifier: MIT */
#include "probes.h"

#include "base/probe.h"

#include <string.h>

static void region_probe(const struct hub_event *event)
{
	if (strcmp(event->what, "created") == 0)
		PROBE(region_created, event->region);
	else if (strcmp(event->what, "removed") == 0)
		PROBE(region_removed, event->region);
}

static void probe_event(void *data, const struct hub_event *event)
{
	const struct server_news *news = event->news;

	(void)data;
	if (!news) {
		region_probe(event);
		return;
	}
	const struct identity *who = news->identity;
	switch (news->event) {
	case SERVER_JOINED:
		PROBE(peer_join, event->region, news->id, who->pid, who->uid);
		break;
	case SERVER_LEFT:
		PROBE(peer_leave, event->region, news->id, who->pid, who->uid, news->reason);
		break;
	case SERVER_REFUSED:
		PROBE(peer_refused, event->region, who->pid, who->uid, news->reason);
		break;
	}
}

void probes_attach(struct hub *hub)
{
	(void)hub_watch(hub, probe_event, NULL); /* the first watcher: there is room */
}
