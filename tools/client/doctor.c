/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A table of checks, in an order in which what prevents others comes first;
 * if one of those fails, the rest are listed as skipped. Which rows there are depends on what the
 * URI leads to. What the kernel tells about a guest's device is src/guest/checkup.c's, and is known
 * before the device is opened; opening it, and what takes an open one, is done here.
 *
 * Doorbells: each own vector is rung at ourselves, through the device and the VMM and back as an
 * interrupt. Nothing but that shows in a guest that the server has given fewer vectors than the
 * device has. Programs that share a guest's device wake up from it and find nothing to do.
 */
#include "tool.h"

#include "base/clock.h"
#include "base/parse.h"
#include "base/uuid.h"
#include "common/jsontext.h"
#include "guest/checkup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OPEN_MS     2000 /* a device without an ID is waited for */
#define DOORBELL_MS 2000 /* for all vectors together */
#define LISTED      8    /* peers or vectors that a line names */

enum {
	FOR_UIO = 1 << GUEST_UIO,
	FOR_VFIO = 1 << GUEST_VFIO,
	FOR_PCI = 1 << GUEST_PCI,
	FOR_GUEST = FOR_UIO | FOR_VFIO | FOR_PCI,
	FOR_SERVER = 1 << 3,
	FOR_MEMORY = 1 << 4,
	FOR_ALL = FOR_GUEST | FOR_SERVER | FOR_MEMORY,
};

/* `guest` is NULL on a host. */
typedef struct checkup_result peer_function(struct client *c, struct checkup *guest);

struct check {
	const char *name;
	unsigned where;          /* FOR_... */
	bool needed;             /* by all that follow */
	checkup_function *guest; /* either it does not need the peer, */
	peer_function *peer;     /* or it does */
};

static peer_function check_open, check_region, check_bandwidth, check_own_vectors, check_peers,
	check_doorbells;

static const struct check checks[] = {
	{"device", FOR_GUEST, true, checkup_device, NULL},
	{"driver", FOR_GUEST, true, checkup_driver, NULL},
	{"permissions", FOR_GUEST, true, checkup_permissions, NULL},
	{"id", FOR_UIO, true, checkup_id, NULL},
	{"server", FOR_SERVER, true, NULL, check_open},
	{"open", FOR_GUEST | FOR_MEMORY, true, NULL, check_open},
	{"region", FOR_SERVER | FOR_MEMORY, false, NULL, check_region},
	{"cache", FOR_GUEST, false, checkup_cache, NULL},
	{"bandwidth", FOR_ALL, false, NULL, check_bandwidth},
	{"bus-master", FOR_UIO | FOR_VFIO, true, checkup_bus_master, NULL},
	{"msi-x", FOR_UIO | FOR_VFIO, true, checkup_msix, NULL},
	{"vectors", FOR_UIO | FOR_VFIO, false, checkup_vectors, NULL},
	{"vectors", FOR_SERVER, false, NULL, check_own_vectors},
	{"peers", FOR_SERVER, false, NULL, check_peers},
	{"doorbells", FOR_ALL, false, NULL, check_doorbells},
};

/* ---- open ---- */

#define NAMED_SIZE 160

/* ", called ..." if the region has a header. */
static const char *name_region(struct client *c, char text[NAMED_SIZE])
{
	struct ivshmem_identity identity;
	char uuid[UUID_TEXT_SIZE];

	text[0] = '\0';
	if (read_identity(c, &identity))
		snprintf(text, NAMED_SIZE, ", called %s, UUID %s, generation %u", identity.name,
			uuid_format(identity.uuid, uuid), identity.generation);
	return text;
}

static struct checkup_result check_open(struct client *c, struct checkup *guest)
{
	char error[SESSION_ERROR_SIZE], id[32] = "no ID", size[24], name[NAMED_SIZE];
	uint64_t bytes;

	int err = session_try(c, c->connect_ms > 0 ? c->connect_ms : OPEN_MS, error);
	if (err < 0)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "%s", strerror(-err)), "%s", error);
	if (ivshmem_id(c->peer) >= 0)
		snprintf(id, sizeof(id), "ID %d", ivshmem_id(c->peer));
	if (guest)
		guest->opened_vectors = c->own_vectors;
	ivshmem_region(c->peer, &bytes);
	return checkup_found(CHECKUP_OK, "%s, region of %s%s (%.200s)", id,
		format_size(bytes, size), name_region(c, name), c->where);
}

/* ---- memory ---- */

static struct checkup_result check_region(struct client *c, struct checkup *guest)
{
	(void)guest;
	if (ivshmem_capabilities(c->peer) & IVSHMEM_CAP_SEALED)
		return checkup_found(CHECKUP_OK, "sealed: nobody can shrink it");
	return checkup_advise(
		checkup_found(CHECKUP_NOTE, "not sealed: who shrinks it kills those that use it"),
		"ivshmem-server without --shm, --dir and --file shares a sealed one");
}

struct measurement {
	const struct ivshmem_peer *peer;
	struct ivshmem_memory memory;
	int result;
};

static void measure(void *argument)
{
	struct measurement *measurement = argument;
	measurement->result = ivshmem_measure(measurement->peer, &measurement->memory);
}

static struct checkup_result check_bandwidth(struct client *c, struct checkup *guest)
{
	struct measurement measurement = {
		.peer = c->peer, .memory.struct_size = sizeof(measurement.memory)};

	if (!guarded_call(measure, &measurement))
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "somebody has shrunk the region"),
			"start the server again: ivshmem-server shares a sealed region by itself");
	if (measurement.result < 0)
		return checkup_found(CHECKUP_SKIPPED, "%s", strerror(errno));
	return checkup_bandwidth(guest, &measurement.memory);
}

/* ---- vectors ---- */

static struct checkup_result check_own_vectors(struct client *c, struct checkup *guest)
{
	(void)guest;
	session_await(c, -1, -1);
	if (c->lost)
		return checkup_advise(checkup_found(CHECKUP_FAILED, "%d, then the server left us",
					      c->own_vectors),
			"its log says why: ivshmem-server --verbose");
	if (c->own_vectors > 0)
		return checkup_found(CHECKUP_OK, "%d", c->own_vectors);
	return checkup_advise(checkup_found(CHECKUP_NOTE, "none: the server gives none"),
		"for doorbells: ivshmem-server --vectors 2");
}

/* "peer 1 (4), peer 2 (4)", and whether somebody has fewer than we. */
static bool list_peers(struct client *c, const unsigned *ids, int n, char *text, size_t size)
{
	size_t used = 0;
	bool fewer = false;

	for (int i = 0; i < n; i++) {
		int vectors = ivshmem_vectors(c->peer, ids[i]);
		fewer |= vectors < c->own_vectors;
		if (i < LISTED)
			used += (size_t)snprintf(text + used, size - used, "%s peer %u (%d)",
				i > 0 ? "," : "", ids[i], vectors);
	}
	if (n > LISTED)
		snprintf(text + used, size - used, ", and others");
	return fewer;
}

static struct checkup_result check_peers(struct client *c, struct checkup *guest)
{
	char text[LISTED * 32 + 32];
	(void)guest;

	int n = ivshmem_peers(c->peer, NULL, 0);
	if (n == 0)
		return checkup_found(CHECKUP_OK, "nobody else yet");
	unsigned *ids = calloc((size_t)n, sizeof(*ids));
	if (!ids)
		return checkup_found(CHECKUP_SKIPPED, "no memory");
	ivshmem_peers(c->peer, ids, (size_t)n);
	bool fewer = list_peers(c, ids, n, text, sizeof(text));
	free(ids);
	if (!fewer)
		return checkup_found(CHECKUP_OK, "%d, and their vectors:%s", n, text);
	return checkup_advise(
		checkup_found(CHECKUP_NOTE, "%d, and their vectors, some fewer than our %d:%s", n,
			c->own_vectors, text),
		"raise the limit of open descriptors: ulimit -n 65536");
}

/* ---- doorbells ---- */

/* Does the handle have the vector? Takes the rings that it has had. */
static bool is_mine(struct client *c, int vector)
{
	return ivshmem_wait(c->peer, (unsigned)vector, 0, NULL) >= 0 || errno != EINVAL;
}

static struct checkup_result explain_silence(
	struct checkup_result result, const struct checkup *guest, int vectors)
{
	if (!guest)
		return checkup_advise(result,
			"the server gave us doorbells that do not work: use ivshmem-server");
	if (vectors < guest->function.msix_vectors)
		vectors = guest->function.msix_vectors;
	return checkup_advise(result,
		"give the server and the device as many vectors: ivshmem-server --vectors %d, "
		"-device ivshmem-doorbell,vectors=%d,chardev=iv",
		vectors, vectors);
}

static struct checkup_result ring_and_listen(
	struct client *c, const struct checkup *guest, int vectors)
{
	unsigned id = (unsigned)ivshmem_id(c->peer);
	uint64_t start = clock_ms();
	char silent[LISTED * 8] = "";
	int rung = 0, heard = 0;

	for (int vector = 0; vector < vectors; vector++) {
		if (is_mine(c, vector)) {
			ivshmem_notify(c->peer, id, (unsigned)vector);
			rung++;
		}
	}
	for (int vector = 0, missed = 0; vector < vectors; vector++) {
		int left = time_left(start, DOORBELL_MS);
		int woken = ivshmem_wait(c->peer, (unsigned)vector, left, NULL);
		heard += woken > 0;
		if (woken <= 0 && (woken == 0 || errno != EINVAL) && missed++ < LISTED)
			snprintf(silent + strlen(silent), sizeof(silent) - strlen(silent), " %d",
				vector);
	}
	if (heard == rung)
		return checkup_found(CHECKUP_OK, "own vectors rung: %d, heard: %d", rung, heard);
	return explain_silence(
		checkup_found(CHECKUP_FAILED, "own vectors rung: %d, heard: %d; not heard:%s%s",
			rung, heard, silent, rung - heard > LISTED ? " ..." : ""),
		guest, vectors);
}

static struct checkup_result check_doorbells(struct client *c, struct checkup *guest)
{
	unsigned can = ivshmem_capabilities(c->peer);

	if (!(can & IVSHMEM_CAP_INTERRUPT))
		return checkup_found(CHECKUP_SKIPPED, "no interrupts reach this program");
	if (!(can & IVSHMEM_CAP_NOTIFY))
		return checkup_found(CHECKUP_SKIPPED, "no ID to ring");
	int vectors = ivshmem_vectors(c->peer, (unsigned)ivshmem_id(c->peer));
	if (vectors <= 0)
		return checkup_found(CHECKUP_SKIPPED, "no vectors");
	return ring_and_listen(c, guest, vectors);
}

/* ---- the examination ---- */

static const char *const statuses[] = {
	[CHECKUP_OK] = "ok",
	[CHECKUP_NOTE] = "note",
	[CHECKUP_FAILED] = "failed",
	[CHECKUP_SKIPPED] = "skipped",
};

static void print_result(const char *name, const struct checkup_result *result)
{
	bool failed = result->status == CHECKUP_FAILED;
	printf("%-7s %s: %s\n", failed ? "FAILED" : statuses[result->status], name, result->found);
	if (result->remedy[0])
		printf("        %s\n", result->remedy);
}

static json_t *result_as_json(const char *name, const struct checkup_result *result)
{
	return json_pack("{s:s, s:s, s:o, s:o}", "name", name, "status", statuses[result->status],
		"found", json_text(result->found), "remedy",
		result->remedy[0] ? json_text(result->remedy) : json_null());
}

/* Which rows of the table are for this URI. */
static unsigned find_place(const struct client *c, const struct checkup *guest)
{
	if (guest)
		return 1u << guest->way;
	return c->transport == TO_SERVER ? FOR_SERVER : FOR_MEMORY;
}

static struct checkup_result run_check(
	struct client *c, struct checkup *guest, const struct check *check, const char *failed)
{
	if (failed)
		return checkup_found(CHECKUP_SKIPPED, "because of '%s'", failed);
	return check->guest ? check->guest(guest) : check->peer(c, guest);
}

/* Run all; returns how many failed. What is found goes to `list` if it is not NULL, else is
 * printed. */
static int examine(struct client *c, struct checkup *guest, json_t *list)
{
	const char *failed = NULL; /* a check that others need */
	int failures = 0;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		const struct check *check = &checks[i];
		if (!(check->where & find_place(c, guest)))
			continue;
		struct checkup_result result = run_check(c, guest, check, failed);
		failures += result.status == CHECKUP_FAILED;
		if (result.status == CHECKUP_FAILED && check->needed)
			failed = check->name;
		if (list)
			json_array_append_new(list, result_as_json(check->name, &result));
		else
			print_result(check->name, &result);
	}
	return failures;
}

/* What the URI says about the guest's device; false if it is not about one. */
static bool find_guest(const struct client *c, struct checkup *guest)
{
	*guest = (struct checkup){
		.system = &guest_system,
		.by_region = strncmp(c->uri, "region:", strlen("region:")) == 0,
		.automatic = c->transport == TO_DEVICE,
		.way = c->transport == TO_VFIO   ? GUEST_VFIO
			: c->transport == TO_PCI ? GUEST_PCI
						 : GUEST_UIO,
		.vector = -1,
		.opened_vectors = -1,
	};
	if (c->transport == TO_SERVER || c->transport == TO_MEMORY)
		return false;
	guest->rest = strchr(c->uri, ':') + 1;
	return true;
}

static void print_results(json_t *list, int failures)
{
	json_t *line = json_pack("{s:s, s:b}", "command", "doctor", "ok", failures == 0);
	if (failures > 0)
		json_object_set_new(line, "error",
			json_sprintf("%d of %zu checks failed", failures, json_array_size(list)));
	json_object_set_new(line, "checks", list);
	json_print_line(line, stdout);
}

int doctor(struct client *c)
{
	struct checkup guest;
	json_t *list = c->json ? json_array() : NULL;

	c->json = false; /* what happens meanwhile is not of interest, what is found is */
	int failures = examine(c, find_guest(c, &guest) ? &guest : NULL, list);
	if (list)
		print_results(list, failures);
	return failures > 0 ? EXIT_COMMAND : EXIT_OK;
}
