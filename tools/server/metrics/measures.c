/* SPDX-License-Identifier: MIT */
/*
 * Names once given stay: dashboards and alerts are built on them. Those of the process are not the
 * usual process_*, because in a file for node_exporter those would clash with node_exporter's own,
 * and it would then report nothing at all.
 */
#include "measures.h"

#include "base/clock.h"

#define GAUGE   OPENMETRICS_GAUGE, false, NULL
#define COUNTER OPENMETRICS_COUNTER, false, NULL
#define BYTES   OPENMETRICS_GAUGE, false, "bytes"
#define SECONDS OPENMETRICS_GAUGE, true, "seconds"

/* ---- each region ---- */

enum region_metric {
	REGION_PEERS,
	REGION_MAX_PEERS,
	REGION_VECTORS,
	REGION_SIZE,
	REGION_JOINS,
	REGION_LEAVES,
	REGION_EVICTIONS,
	REGION_REFUSALS,
	REGION_MESSAGES,
	REGION_QUEUED,
	REGION_WAITING,
	REGION_STALLED,
	REGION_QUARANTINED,
	REGION_RESTARTS,
	REGION_LOST_IN_ACCEPT,
	REGION_DRAINING,
	REGION_METRICS,
};

static const struct openmetrics_family of_regions[REGION_METRICS] = {
	[REGION_PEERS] = {"ivshmem_region_peers", GAUGE, "Peers that are connected."},
	[REGION_MAX_PEERS] = {"ivshmem_region_max_peers", GAUGE, "Peers that may be connected."},
	[REGION_VECTORS] = {"ivshmem_region_vectors", GAUGE, "Interrupt vectors of each peer."},
	[REGION_SIZE] = {"ivshmem_region_size_bytes", BYTES, "Size of the shared memory."},
	[REGION_JOINS] = {"ivshmem_region_joins", COUNTER, "Peers that have joined."},
	[REGION_LEAVES] = {"ivshmem_region_leaves", COUNTER,
		"Peers that have left, for whatever reason."},
	[REGION_EVICTIONS] = {"ivshmem_region_evictions", COUNTER,
		"Peers that had to leave: they read nothing, or somebody evicted them."},
	[REGION_REFUSALS] = {"ivshmem_region_refusals", COUNTER, "Clients that were not let in."},
	[REGION_MESSAGES] = {"ivshmem_region_messages", COUNTER, "Messages sent to peers."},
	[REGION_QUEUED] = {"ivshmem_region_queued_messages", GAUGE,
		"Messages that wait until peers read."},
	[REGION_WAITING] = {"ivshmem_region_waiting_peers", GAUGE,
		"Peers for which messages wait."},
	[REGION_STALLED] = {"ivshmem_region_stalled_seconds", SECONDS,
		"How long a peer for which messages wait has taken none; the longest of all."},
	[REGION_QUARANTINED] = {"ivshmem_region_quarantined_ids", GAUGE,
		"IDs of peers that have left and that somebody is still to be told of."},
	[REGION_RESTARTS] = {"ivshmem_region_restarts", COUNTER,
		"Restarts of the server that the region has lived through."},
	[REGION_LOST_IN_ACCEPT] = {"ivshmem_region_lost_in_accept", COUNTER,
		"Clients that may have been lost because the server was killed while it accepted; "
		"at most."},
	[REGION_DRAINING] = {"ivshmem_region_draining", GAUGE,
		"1 if nobody is let in any more, else 0."},
};
const struct measures region_measures = {of_regions, REGION_METRICS};

static uint64_t backlog_value(enum region_metric metric, const struct server *server)
{
	struct server_backlog backlog;

	server_get_backlog(server, clock_ms(), &backlog);
	return metric == REGION_QUEUED     ? backlog.queued
		: metric == REGION_WAITING ? backlog.waiting
					   : backlog.oldest_ms;
}

uint64_t measure_region(unsigned family, struct hosted *hosted)
{
	const struct server *server = hosted_server(hosted);
	struct server_stats stats;

	server_get_stats(server, &stats);
	switch ((enum region_metric)family) {
	case REGION_PEERS:
		return stats.peers;
	case REGION_MAX_PEERS:
		return hosted_spec(hosted)->server.max_peers;
	case REGION_VECTORS:
		return hosted_spec(hosted)->server.vectors;
	case REGION_SIZE:
		return hosted_region(hosted)->size;
	case REGION_JOINS:
		return stats.joins;
	case REGION_LEAVES:
		return stats.leaves;
	case REGION_EVICTIONS:
		return stats.evictions;
	case REGION_REFUSALS:
		return stats.refusals;
	case REGION_MESSAGES:
		return stats.messages;
	case REGION_QUEUED:
	case REGION_WAITING:
	case REGION_STALLED:
		return backlog_value((enum region_metric)family, server);
	case REGION_QUARANTINED:
		return stats.quarantined;
	case REGION_RESTARTS:
		return stats.restarts;
	case REGION_LOST_IN_ACCEPT:
		return stats.lost_in_accept;
	case REGION_DRAINING:
		return server_draining(server);
	case REGION_METRICS:
		break;
	}
	return 0;
}

/* ---- each peer ---- */

enum peer_metric { PEER_QUEUED, PEER_SENT, PEER_STALLED, PEER_DESCRIPTORS, PEER_METRICS };

static const struct openmetrics_family of_peers[PEER_METRICS] = {
	[PEER_QUEUED] = {"ivshmem_peer_queued_messages", GAUGE,
		"Messages that wait until this peer reads."},
	[PEER_SENT] = {"ivshmem_peer_messages", COUNTER, "Messages sent to this peer."},
	[PEER_STALLED] = {"ivshmem_peer_stalled_seconds", SECONDS,
		"How long it has taken none although messages wait."},
	[PEER_DESCRIPTORS] = {"ivshmem_peer_descriptors", GAUGE,
		"Descriptors that the server holds for this peer."},
};
const struct measures peer_measures = {of_peers, PEER_METRICS};

uint64_t measure_peer(unsigned family, const struct server_load *load)
{
	switch ((enum peer_metric)family) {
	case PEER_QUEUED:
		return load->queued;
	case PEER_SENT:
		return load->sent;
	case PEER_STALLED:
		return load->waiting_ms;
	case PEER_DESCRIPTORS:
		return load->descriptors;
	case PEER_METRICS:
		break;
	}
	return 0;
}

/* ---- the process ---- */

enum process_metric {
	PROCESS_BUILD,
	PROCESS_START,
	PROCESS_DESCRIPTORS,
	PROCESS_MAX_DESCRIPTORS,
	PROCESS_RESIDENT,
	PROCESS_CPU,
	PROCESS_METRICS,
};

static const struct openmetrics_family of_the_process[PROCESS_METRICS] = {
	[PROCESS_BUILD] = {"ivshmem_build", OPENMETRICS_INFO, false, NULL,
		"What this server was built from."},
	[PROCESS_START] = {"ivshmem_process_start_time_seconds", SECONDS,
		"When this process began to serve, since 1970."},
	[PROCESS_DESCRIPTORS] = {"ivshmem_process_open_fds", GAUGE, "Descriptors that are open."},
	[PROCESS_MAX_DESCRIPTORS] = {"ivshmem_process_max_fds", GAUGE,
		"Descriptors that may be open."},
	[PROCESS_RESIDENT] = {"ivshmem_process_resident_memory_bytes", BYTES,
		"Memory in use, with what the server has touched of the regions."},
	[PROCESS_CPU] = {"ivshmem_process_cpu_seconds", OPENMETRICS_COUNTER, true, "seconds",
		"Processor time that was used."},
};
const struct measures process_measures = {of_the_process, PROCESS_METRICS};

uint64_t measure_process(unsigned family, const struct process *process, unsigned descriptors)
{
	switch ((enum process_metric)family) {
	case PROCESS_BUILD:
		return 1;
	case PROCESS_START:
		return process->start_ms;
	case PROCESS_DESCRIPTORS:
		return descriptors;
	case PROCESS_MAX_DESCRIPTORS:
		return process_max_descriptors();
	case PROCESS_RESIDENT:
		return process_resident_bytes(process);
	case PROCESS_CPU:
		return process_cpu_ms();
	case PROCESS_METRICS:
		break;
	}
	return 0;
}
