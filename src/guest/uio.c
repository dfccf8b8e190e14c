/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The module uio_ivshmem makes a UIO device of each vector, called after the device and the vector.
 * Whoever opens one gets a counter of the rings from then on, and waits with poll() and read().
 * Each has the registers as its first map and the memory as its second, so the vectors that a
 * handle has are all that it needs to open.
 *
 * Early rings. Others can ring from the moment the module drives the device, and before a process
 * has opened the vector. How many they were is in sysfs, in the file `event` of the UIO device. It
 * is read after the vector has been opened: a ring between the two is then in both counts, and
 * since the two are the same counter, which is remembered, it is reported once. Were it the other
 * way round, it would be in neither.
 *
 * The file blocks, so that a wait without a limit is a single read(), which is all that a program
 * without this library would do. Whoever may not block polls first.
 */
#include "base/clock.h"
#include "base/parse.h"
#include "guest/internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DRIVER "uio_ivshmem"
#define PREFIX "ivshmem-"

#define COUNT_POLL_MS 10

/* Of the kernel's devices. */
#define UIO_NAME_SIZE 16

/* uio3, and nothing that would lead elsewhere as a part of a path. */
static bool is_uio(const char *text)
{
	if (strncmp(text, "uio", 3) != 0 || strlen(text) >= UIO_NAME_SIZE || text[3] == '\0')
		return false;
	return text[3 + strspn(text + 3, "0123456789")] == '\0';
}

/* ivshmem-0000:00:04.0.3, as the module names its devices. */
static bool parse_vector(const char *text, struct uio_name *name)
{
	const char *number = strrchr(text, '.');
	char address[PCI_ADDRESS_SIZE], canonical[64];
	uint64_t vector;

	if (strncmp(text, PREFIX, strlen(PREFIX)) != 0 || !number ||
		parse_uint(number + 1, 0, INT_MAX, &vector) < 0)
		return false;
	snprintf(address, sizeof(address), "%s", text + strlen(PREFIX));
	if (!pci_address(address, name->address))
		return false;
	name->vector = (int)vector;
	snprintf(canonical, sizeof(canonical), PREFIX "%s.%d", name->address, name->vector);
	return strcmp(text, canonical) == 0;
}

/* Which vector a UIO device is. */
static int read_name(const struct guest_system *system, const char *uio, struct uio_name *name)
{
	char line[64];
	int err = sysfs_line(line, sizeof(line), "%s/class/uio/%s/name", system->sys, uio);

	if (err < 0)
		return err;
	return parse_vector(line, name) ? 0 : -EMEDIUMTYPE;
}

int uio_parse(const struct guest_system *system, const char *rest, struct uio_name *name,
	struct guest_error *error)
{
	name->vector = -1;
	if (pci_address(rest, name->address) || parse_vector(rest, name))
		return 0;
	if (!is_uio(rest))
		return guest_fail(error, -EINVAL,
			"uio:%.80s: use a PCI address (0000:00:04.0), a UIO device (uio3) or its "
			"name (ivshmem-0000:00:04.0.3)",
			rest);
	int err = read_name(system, rest, name);
	if (err == -EMEDIUMTYPE)
		return guest_fail(error, -ENODEV,
			"%s is no device of " DRIVER ": those are named " PREFIX
			"ADDRESS.VECTOR in %s/class/uio/*/name",
			rest, system->sys);
	if (err < 0)
		return guest_fail(error, err == -ENOENT ? -ENODEV : err,
			"%s/class/uio/%s: %m: modprobe " DRIVER "; ls %s/class/uio", system->sys,
			rest, system->sys);
	return 0;
}

static int open_node(const struct guest_system *system, const char *uio, char path[PATH_MAX],
	struct guest_error *error)
{
	snprintf(path, PATH_MAX, "%s/%s", system->dev, uio);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int err = -errno;
	const char *remedy = "";
	if (err == -EACCES)
		remedy = ": join the group ivshmem, which it belongs to if the udev rule of " DRIVER
			 " is installed, or be root";
	else if (err == -ENOENT)
		remedy = ": mount devtmpfs there or start udev";
	else if (err == -EMFILE)
		remedy = ": raise the limit (ulimit -n), or set max_vectors";
	return guest_fail(error, err, "%s: %m%s", path, remedy);
}

/* What has been rung so far. */
static int read_early(const struct guest_system *system, const char *uio,
	struct guest_vector *vector, struct guest_error *error)
{
	uint64_t events;
	int err = sysfs_number(&events, "%s/class/uio/%s/event", system->sys, uio);

	if (err < 0)
		return guest_fail(error, err, "%s/class/uio/%s/event: %m", system->sys, uio);
	vector->early = vector->counted = (uint32_t)events;
	return 0;
}

/* One of the vectors. The first that comes brings the maps; on a device without interrupts there is
 * one, which has nothing else. */
static int open_vector(struct guest *guest, const struct guest_system *system, const char *uio,
	unsigned vector, bool read_only, struct guest_error *error)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char path[PATH_MAX];
	int err = 0;
	int fd = open_node(system, uio, path, error);
	if (fd < 0)
		return fd;

	/* Map N is what is mapped from page N. */
	if (!guest->region) {
		err = guest_map_registers(guest, fd, 0, path, error);
		if (err == 0)
			err = guest_map_region(guest, fd, page, read_only, path, error);
	}
	if (err == 0 && !guest->timed)
		err = read_early(system, uio, &guest->vectors[vector], error);
	if (err < 0 || guest->timed)
		close(fd);
	else
		guest->vectors[vector].fd = fd;
	return err;
}

/* The vectors that this handle is to have: `only`, or all. */
static int open_vectors(struct guest *guest, const struct guest_system *system, int only,
	bool read_only, struct guest_error *error)
{
	const unsigned count = guest->timed ? 1 : guest->n_vectors;
	const char *address = guest->function.address;
	unsigned found = 0;
	char path[PATH_MAX];
	int err = 0;

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/uio", system->sys, address);
	DIR *directory = opendir(path);
	if (!directory)
		return guest_fail(error, -errno, "%s: %m", path);
	for (struct dirent *entry; err == 0 && (entry = readdir(directory)) != NULL;) {
		struct uio_name name;
		if (!is_uio(entry->d_name) || read_name(system, entry->d_name, &name) < 0 ||
			strcmp(name.address, address) != 0)
			continue;
		if ((unsigned)name.vector >= count || (only >= 0 && name.vector != only))
			continue;
		if (!guest->timed && guest->vectors[name.vector].fd >= 0) /* claims it too */
			continue;
		err = open_vector(
			guest, system, entry->d_name, (unsigned)name.vector, read_only, error);
		found++;
	}
	closedir(directory);
	if (err == 0 && found < (only >= 0 ? 1 : count))
		return guest_fail(error, -ENODEV,
			"%s: only %u of %u vectors are in %s: is " DRIVER
			" being bound or unbound?",
			address, found, only >= 0 ? 1 : count, path);
	return err;
}

static bool is_readable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	return poll(&entry, 1, 0) > 0;
}

static int take(struct guest *guest, struct guest_vector *vector, bool may_block, uint64_t *count)
{
	(void)guest;
	uint32_t now = vector->counted;

	if (may_block || is_readable(vector->fd)) {
		ssize_t got = read(vector->fd, &now, sizeof(now));
		if (got < 0 && errno == EINTR)
			return -EINTR;
		if (got != (ssize_t)sizeof(now))
			return -ENODEV;
	}
	*count = (uint64_t)(now - vector->counted) + vector->early; /* the counter wraps */
	vector->counted = now;
	vector->early = 0;
	return *count > 0;
}

/* How many vectors the driver uses. It says so last of all, when it has told udev of each. */
static int read_count(const struct guest *guest, const struct guest_system *system, int timeout_ms,
	uint64_t *count)
{
	const struct timespec pause = {.tv_nsec = COUNT_POLL_MS * 1000000L};
	uint64_t deadline = deadline_after(timeout_ms);
	int err;

	while ((err = sysfs_number(count, "%s/bus/pci/devices/%s/ivshmem/vectors", system->sys,
			guest->function.address)) == -ENOENT &&
		deadline_left(deadline) != 0)
		if (nanosleep(&pause, NULL) < 0)
			return -errno;
	return err;
}

int uio_open(struct guest *guest, const struct guest_system *system, int vector,
	const struct ivshmem_params *params, struct guest_error *error)
{
	const char *address = guest->function.address;
	uint64_t count;

	if (strcmp(guest->function.driver, DRIVER) != 0)
		return guest_fail_driver(error, system, &guest->function, DRIVER);
	int err = read_count(guest, system, params->timeout_ms, &count);
	if (err < 0)
		return guest_fail(error, err, "%s/bus/pci/devices/%s/ivshmem/vectors: %m%s",
			system->sys, address,
			err == -ENOENT ? ": is it another module that is called " DRIVER "?" : "");
	if (vector >= 0 && (uint64_t)vector >= (count > 0 ? count : 1))
		return guest_fail(error, -ENODEV, "%s has %u vectors, numbered from 0", address,
			(unsigned)count);
	if (vector >= 0 && (unsigned)vector >= params->max_vectors)
		return guest_fail(
			error, -EINVAL, "vector %d: raise the limit (max_vectors)", vector);

	if (count > params->max_vectors)
		count = params->max_vectors;
	guest->timed = count == 0;
	guest->take = take;
	err = vectors_allocate(guest, (unsigned)count);
	if (err < 0)
		return guest_fail(error, err, "room for %u vectors: %m", (unsigned)count);
	return open_vectors(guest, system, vector, params->read_only, error);
}
