/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. What daemon/keep.h offers is for one thread. Here the threads of VMMs, those
 * of server connections and the loop take turns with a mutex: each operation is a message to the
 * keeper that nobody waits for; with systemd, which is waited for, they all wait.
 */
#include "holding.h"

#include "base/parse.h"
#include "daemon/listen.h"
#include "region/region.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct holding {
	struct keep *keep;
	enum keep_holder holder; /* KEEP_NOBODY also when the keeper has died */
	struct log *log;
	pthread_mutex_t mutex;
};

static const char *const parts[] = {
	"memory",
	"told",
	"server",
	"c",
	"i",
	"w", /* of a beginning */
	"device",
	"listen",
	"control",
};
#define N_PARTS     (sizeof(parts) / sizeof(parts[0]))
#define N_BEGINNING (N_PARTS - 3)

int holding_open(struct holding **out, struct log *log)
{
	struct holding *holding = calloc(1, sizeof(*holding));
	int error = holding ? keep_open(&holding->keep, log) : -ENOMEM;

	if (error < 0) {
		free(holding);
		return error;
	}
	holding->holder = keep_holder(holding->keep);
	holding->log = log;
	pthread_mutex_init(&holding->mutex, NULL);
	*out = holding;
	return 0;
}

void holding_close(struct holding *holding)
{
	if (!holding)
		return;
	keep_close(holding->keep);
	pthread_mutex_destroy(&holding->mutex);
	free(holding);
}

static enum keep_holder lock(struct holding *holding)
{
	pthread_mutex_lock(&holding->mutex);
	return holding->holder;
}

static void unlock(struct holding *holding)
{
	pthread_mutex_unlock(&holding->mutex);
}

enum keep_holder holding_holder(const struct holding *holding)
{
	return holding->holder;
}

uint64_t holding_room(const struct holding *holding)
{
	return keep_room(holding->keep);
}

void holding_ready(struct holding *holding)
{
	keep_ready(holding->keep);
}

/* ---- names ---- */

static void write_name(
	char name[KEEP_NAME_SIZE], const char *part, const char *device, uint64_t number)
{
	if (number)
		snprintf(name, KEEP_NAME_SIZE, "%s.%s.%" PRIu64, part, device, number);
	else
		snprintf(name, KEEP_NAME_SIZE, "%s.%s", part, device);
}

static bool has_number(const char *part)
{
	return part[1] == '\0';
}

/* Is `name` one of `device` (NULL: of any), and of `part`? Then also its number. */
static bool is_of(const char *name, const char *part, const char *device, uint64_t *number)
{
	size_t part_size = strlen(part);

	if (strncmp(name, part, part_size) != 0 || name[part_size] != '.')
		return false;
	const char *rest = name + part_size + 1;
	const char *end = rest + strlen(rest);
	*number = 0;
	if (has_number(part)) {
		end = strrchr(rest, '.');
		if (!end || parse_uint(end + 1, 1, UINT64_MAX, number) < 0)
			return false;
	}
	size_t size = (size_t)(end - rest);
	return !device || (strlen(device) == size && memcmp(rest, device, size) == 0);
}

/* ---- put, take, drop ---- */

void holding_orphaned(struct holding *holding)
{
	if (lock(holding) == KEEP_KEEPER)
		log_error(holding->log,
			"the keeper is gone: nobody holds the connections any more, the next end "
			"is one for all");
	holding->holder = KEEP_NOBODY;
	unlock(holding);
}

int holding_put(struct holding *holding, const char *part, const char *device, uint64_t number,
	const int *fds, size_t n)
{
	char name[KEEP_NAME_SIZE];
	int result = 0;

	write_name(name, part, device, number);
	if (lock(holding) != KEEP_NOBODY)
		result = keep_put(holding->keep, name, fds, n);
	unlock(holding);
	if (result != -EPIPE)
		return result;
	holding_orphaned(holding);
	return 0;
}

int holding_take(struct holding *holding, const char *part, const char *device, uint64_t number,
	int *fds, size_t max)
{
	char name[KEEP_NAME_SIZE];

	write_name(name, part, device, number);
	lock(holding);
	int result = keep_take(holding->keep, name, fds, max);
	unlock(holding);
	return result;
}

void holding_drop(struct holding *holding, const char *part, const char *device, uint64_t number)
{
	char name[KEEP_NAME_SIZE];

	write_name(name, part, device, number);
	lock(holding);
	keep_drop(holding->keep, name);
	unlock(holding);
}

/* ---- several ---- */

struct search {
	const char *part, *device;
	uint64_t after, number;
	char name[KEEP_NAME_SIZE];
	size_t n, n_parts;
};

static bool compare_number(void *data, const char *name, size_t n)
{
	struct search *search = data;
	uint64_t number;
	(void)n;

	if (is_of(name, search->part, search->device, &number) && number > search->after &&
		(search->number == 0 || number < search->number))
		search->number = number;
	return true;
}

uint64_t holding_next(struct holding *holding, const char *part, const char *device, uint64_t after)
{
	struct search search = {.part = part, .device = device, .after = after};

	lock(holding);
	keep_visit(holding->keep, compare_number, &search);
	unlock(holding);
	return search.number;
}

/* The first set of the device; it ends the search. */
static bool find_any(void *data, const char *name, size_t n)
{
	struct search *search = data;
	uint64_t number;

	for (size_t i = 0; i < search->n_parts; i++) {
		if (!is_of(name, parts[i], search->device, &number))
			continue;
		snprintf(search->name, sizeof(search->name), "%s", name);
		search->n = n;
		return false;
	}
	return true;
}

static bool find_device(void *data, const char *name, size_t n)
{
	bool *found = data;
	uint64_t number;
	(void)n;

	*found = is_of(name, "device", NULL, &number);
	return !*found;
}

bool holding_has_devices(struct holding *holding)
{
	bool found = false;

	lock(holding);
	keep_visit(holding->keep, find_device, &found);
	unlock(holding);
	return found;
}

/* Of the first `n_parts` parts of the device, or of any (NULL). */
static void let_go(struct holding *holding, const char *device, size_t n_parts)
{
	for (;;) {
		struct search search = {.device = device, .n_parts = n_parts};
		int fds[KEEP_MAX_FDS];

		lock(holding);
		keep_visit(holding->keep, find_any, &search);
		int n = search.n ? keep_take(holding->keep, search.name, fds, KEEP_MAX_FDS) : 0;
		while (n > 0)
			close(fds[--n]);
		if (search.n)
			keep_drop(holding->keep, search.name);
		unlock(holding);
		if (search.n == 0)
			return;
	}
}

void holding_forget_parts(struct holding *holding, const char *device)
{
	let_go(holding, device, N_BEGINNING);
}

struct listener_search {
	bool (*is_wanted)(const void *data, const char *device);
	const void *data;
	char name[KEEP_NAME_SIZE]; /* empty: none */
};

static bool find_unwanted_listener(void *data, const char *name, size_t n)
{
	struct listener_search *search = data;
	uint64_t number;

	if (n != 1 || !is_of(name, "listen", NULL, &number) ||
		search->is_wanted(search->data, strchr(name, '.') + 1))
		return true;
	snprintf(search->name, sizeof(search->name), "%s", name);
	return false;
}

void holding_discard_listeners(struct holding *holding,
	bool (*is_wanted)(const void *data, const char *device), const void *data)
{
	for (;;) {
		struct listener_search search = {.is_wanted = is_wanted, .data = data};
		int fd = -1;

		lock(holding);
		keep_visit(holding->keep, find_unwanted_listener, &search);
		if (search.name[0] && keep_take(holding->keep, search.name, &fd, 1) == 1)
			keep_drop(holding->keep, search.name);
		unlock(holding);
		if (fd < 0)
			return;
		listener_discard(fd);
	}
}

void holding_settle(struct holding *holding)
{
	let_go(holding, NULL, N_PARTS);
}

/* ---- for VMMs ---- */

static int put_for_vmm(void *data, uint64_t number, const int *fds, size_t n)
{
	const struct holding_of *of = data;
	return holding_put(of->holding, "i", of->device, number, fds, n);
}

static int take_for_vmm(void *data, uint64_t number, int *fds, size_t max)
{
	const struct holding_of *of = data;
	return holding_take(of->holding, "i", of->device, number, fds, max);
}

static void drop_for_vmm(void *data, uint64_t number)
{
	const struct holding_of *of = data;
	holding_drop(of->holding, "i", of->device, number);
}

struct vfu_holder holding_for(struct holding_of *of)
{
	return (struct vfu_holder){
		.put = put_for_vmm,
		.take = take_for_vmm,
		.drop = drop_for_vmm,
		.data = of,
	};
}

/* ---- memory ---- */

int holding_make_memory(size_t *size, void **address)
{
	const struct region_config config = {
		.kind = REGION_MEMFD,
		.size = *size,
		.no_prealloc = true,
		.numa_node = REGION_NUMA_ANY,
	};
	struct region region;
	struct region_error why;
	uint64_t mapped;
	bool sealed;

	int error = region_create(&region, &config, &why);
	if (error < 0)
		return error;
	error = region_map(region.fd, 0, false, address, &mapped, &sealed);
	if (error < 0) {
		region_fini(&region);
		return error;
	}
	*size = (size_t)mapped;
	return region.fd; /* which is all that a region of this kind is */
}

int holding_take_memory(
	struct holding *holding, const char *part, const char *device, void **address, size_t *size)
{
	uint64_t mapped;
	bool sealed;
	int fd;

	int result = holding_take(holding, part, device, 0, &fd, 1);
	if (result <= 0)
		return result;
	int error = region_map(fd, 0, false, address, &mapped, &sealed);
	close(fd);
	*size = (size_t)mapped;
	return error < 0 ? error : 1;
}

void holding_unmap(void *address, size_t size)
{
	if (address)
		region_unmap(address, size);
}

/* ---- the keeper accepts ---- */

int holding_accept(struct holding *holding, const char *device, uint64_t first)
{
	char listener[KEEP_NAME_SIZE], prefix[KEEP_NAME_SIZE];

	write_name(listener, "listen", device, 0);
	write_name(prefix, "c", device, 0);
	lock(holding);
	int result = keep_accept(holding->keep, listener, prefix, first);
	unlock(holding);
	return result;
}

int holding_fd(const struct holding *holding)
{
	return keep_get_fd(holding->keep);
}

int holding_accepted(
	struct holding *holding, char device[HOLDING_DEVICE_SIZE], uint64_t *number, int *fd)
{
	char listener[KEEP_NAME_SIZE];
	int result;

	lock(holding);
	while ((result = keep_accepted(holding->keep, listener, number, fd)) == 1 && !listener[0])
		close(*fd); /* for a device that is no more */
	unlock(holding);
	if (result == 1)
		snprintf(device, HOLDING_DEVICE_SIZE, "%.63s", strchr(listener, '.') + 1);
	return result;
}
