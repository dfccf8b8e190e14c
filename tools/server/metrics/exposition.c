/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. The format wants all samples of one metric together, so with many regions
 * there is a page of megabytes to write, which must hold up nobody who joins. So there is no page:
 * lines are made as they are read, and the server's own work goes on between two reads. All that a
 * reader holds is its place, a few peers and one line. Rejected: a page as a whole (a reader that
 * stops in the middle would cost its memory), and a thread (the hub belongs to one).
 *
 * So one reading is no snapshot: numbers that stand far apart in it were looked at a moment apart.
 * A region that is removed meanwhile is missing from there on, and a new one may be in the later
 * part.
 */
#include "exposition.h"

#include "measures.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE_SIZE  1024 /* more than any line of ours: a label's value has at most 64 bytes */
#define LOADS      64   /* peers that are looked at together */
#define MAX_LABELS 3

struct sample {
	struct openmetrics_label labels[MAX_LABELS];
	size_t n_labels;
	uint64_t value;
};

struct exposition_reader {
	const struct exposition *exposition;
	enum openmetrics_dialect dialect;
	struct descriptor_count descriptors;
	bool counted; /* descriptors are */

	/* Where it is. */
	unsigned group, family;
	bool described, ended;
	char region[HUB_NAME_SIZE]; /* "": before the first */
	bool process_is_due;        /* it has one sample of each family */
	struct server_load loads[LOADS];
	unsigned n_loads, next_load;
	uint64_t joined; /* of the last of them */
	char id[12], uid[12];

	char line[LINE_SIZE];
	size_t length, sent;
};

/* ---- samples ---- */

static struct hosted *next_region(struct exposition_reader *reader)
{
	struct hosted *hosted = hub_next(reader->exposition->hub, reader->region);
	if (hosted)
		memcpy(reader->region, hosted_spec(hosted)->name, sizeof(reader->region));
	reader->joined = 0;
	return hosted;
}

static bool next_of_regions(struct exposition_reader *reader, struct sample *sample)
{
	struct hosted *hosted = next_region(reader);
	if (!hosted)
		return false;
	*sample = (struct sample){
		.labels = {{"region", reader->region}},
		.n_labels = 1,
		.value = measure_region(reader->family, hosted),
	};
	return true;
}

static const struct server_load *next_load(struct exposition_reader *reader)
{
	while (reader->next_load == reader->n_loads) {
		struct hosted *hosted = reader->n_loads == LOADS
			? hub_find(reader->exposition->hub, reader->region)
			: NULL;
		if (!hosted && !(hosted = next_region(reader)))
			return NULL;
		reader->n_loads = server_get_loads(
			hosted_server(hosted), clock_ms(), reader->joined, reader->loads, LOADS);
		reader->next_load = 0;
		if (reader->n_loads > 0)
			reader->joined = reader->loads[reader->n_loads - 1].joined;
	}
	return &reader->loads[reader->next_load++];
}

static bool next_of_peers(struct exposition_reader *reader, struct sample *sample)
{
	const struct server_load *load = next_load(reader);
	if (!load)
		return false;
	snprintf(reader->id, sizeof(reader->id), "%d", load->id);
	snprintf(reader->uid, sizeof(reader->uid), "%u", (unsigned)load->uid);
	*sample = (struct sample){
		.labels = {{"region", reader->region}, {"peer", reader->id}, {"uid", reader->uid}},
		.n_labels = 3,
		.value = measure_peer(reader->family, load),
	};
	return true;
}

static bool next_of_process(struct exposition_reader *reader, struct sample *sample)
{
	const struct process *process = &reader->exposition->process;

	if (!reader->process_is_due)
		return false;
	reader->process_is_due = false;
	while (!reader->counted)
		reader->counted = descriptor_count_on(&reader->descriptors, process);
	*sample = (struct sample){
		.labels = {{"version", IVSHMEM_VERSION}},
		.n_labels =
			process_measures.families[reader->family].kind == OPENMETRICS_INFO ? 1 : 0,
		.value = measure_process(reader->family, process, reader->descriptors.found),
	};
	return true;
}

/* ---- lines ---- */

enum { GROUP_REGIONS, GROUP_PEERS, GROUP_PROCESS, GROUPS };

static const struct group {
	const struct measures *measures;
	/* The next sample of the present family; false: there are no more. */
	bool (*next)(struct exposition_reader *reader, struct sample *sample);
} groups[GROUPS] = {
	[GROUP_REGIONS] = {&region_measures, next_of_regions},
	[GROUP_PEERS] = {&peer_measures, next_of_peers},
	[GROUP_PROCESS] = {&process_measures, next_of_process},
};

static void begin_family(struct exposition_reader *reader)
{
	reader->described = false;
	reader->process_is_due = true;
	reader->region[0] = '\0';
	reader->n_loads = reader->next_load = 0;
	reader->joined = 0;
}

static void next_family(struct exposition_reader *reader)
{
	if (++reader->family == groups[reader->group].measures->n) {
		reader->family = 0;
		reader->group++;
		if (reader->group == GROUP_PEERS && !reader->exposition->peers)
			reader->group++;
	}
	begin_family(reader);
}

/* The next line, or what introduces a family. An empty one: that was all. */
static void make_line(struct exposition_reader *reader)
{
	struct openmetrics_text text = {.bytes = reader->line, .size = sizeof(reader->line)};
	struct sample sample;

	while (text.used == 0 && reader->group < GROUPS) {
		const struct group *group = &groups[reader->group];
		const struct openmetrics_family *family =
			&group->measures->families[reader->family];
		if (!reader->described)
			openmetrics_describe(&text, reader->dialect, family);
		else if (group->next(reader, &sample))
			openmetrics_sample(
				&text, family, sample.labels, sample.n_labels, sample.value);
		else
			next_family(reader);
		reader->described = reader->described || text.used > 0;
	}
	if (text.used == 0 && !reader->ended) {
		openmetrics_end(&text, reader->dialect);
		reader->ended = true;
	}
	reader->length = text.used;
	reader->sent = 0;
}

/* While descriptors are being counted, as many reads as there are lines share the work. */
size_t exposition_read(struct exposition_reader *reader, char *bytes, size_t size)
{
	size_t used = 0;

	if (!reader->counted)
		reader->counted =
			descriptor_count_on(&reader->descriptors, &reader->exposition->process);
	do {
		if (reader->sent == reader->length)
			make_line(reader);
		size_t n = reader->length - reader->sent;
		if (n == 0)
			break;
		if (n > size - used)
			n = size - used;
		memcpy(bytes + used, reader->line + reader->sent, n);
		reader->sent += n;
		used += n;
	} while (reader->counted && used < size);
	return used;
}

/* ---- beginning and end ---- */

struct exposition_reader *exposition_open(
	const struct exposition *exposition, enum openmetrics_dialect dialect)
{
	struct exposition_reader *reader = calloc(1, sizeof(*reader));
	if (!reader)
		return NULL;
	reader->exposition = exposition;
	reader->dialect = dialect;
	begin_family(reader);
	return reader;
}

void exposition_close(struct exposition_reader *reader)
{
	free(reader);
}

void exposition_init(struct exposition *exposition, struct hub *hub, bool peers)
{
	exposition->hub = hub;
	exposition->peers = peers;
	process_init(&exposition->process);
}

void exposition_fini(struct exposition *exposition)
{
	process_fini(&exposition->process);
}
