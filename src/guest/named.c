/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Which of the devices has the region of that name? Only the memory tells (docs/region.md), and so
 * each device's is mapped as a peer would map it, for a moment and for reading only, through
 * whatever driver it has. All are looked at, even once one has been found: whoever may write to one
 * region can give it the name of another, and then nobody knows which is meant.
 *
 * A device that cannot be looked at is passed over: it belongs to another program (vfio-pci) or to
 * a driver that is not ours, or this user may not open it. If none has the name, the message says
 * what became of each.
 */
#include "guest/internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LISTED 8 /* devices that a message names */

struct seen {
	struct region_identity identity; /* all zero: there is none, */
	int err;                         /* and why */
};

bool guest_find_way(const struct pci_function *function, enum guest_way *way)
{
	if (strcmp(function->driver, "uio_ivshmem") == 0)
		*way = GUEST_UIO;
	else if (strcmp(function->driver, "vfio-pci") == 0)
		*way = GUEST_VFIO;
	else if (function->driver[0] == '\0')
		*way = GUEST_PCI;
	else
		return false;
	return true;
}

int guest_identify(const struct guest_system *system, const struct pci_function *function,
	int timeout_ms, struct region_identity *identity)
{
	enum guest_way way;

	if (function->region_size == 0)
		return -ENODEV;
	if (!guest_find_way(function, &way))
		return -ENXIO;
	return guest_peek(system, function, way, timeout_ms, identity);
}

static const char *describe(const struct seen *seen)
{
	switch (seen->err) {
	case 0:
		return seen->identity.name;
	case -ENODATA:
		return "no header";
	case -EPROTONOSUPPORT:
		return "a header of a later version";
	case -EBADMSG:
		return "a damaged header";
	case -ENXIO:
		return "a driver that is not ours";
	default:
		return strerror(-seen->err);
	}
}

static int fail_none(struct guest_error *error, const char *name, const struct pci_function *list,
	const struct seen *seen, int count)
{
	size_t room = sizeof(error->text), n;

	n = (size_t)snprintf(
		error->text, room, "no ivshmem device here has the region '%s':", name);
	for (int i = 0; i < count && i < LISTED && n < room; i++)
		n += (size_t)snprintf(error->text + n, room - n, "%s %s (%s)", i == 0 ? "" : ",",
			list[i].address, describe(&seen[i]));
	return -ENODEV;
}

/* The only one that has the name: its index, or -errno. */
static int find_only(const char *name, const struct pci_function *list, const struct seen *seen,
	int count, struct guest_error *error)
{
	int found = -1;

	for (int i = 0; i < count; i++) {
		if (strcmp(seen[i].identity.name, name) != 0)
			continue;
		if (found >= 0)
			return guest_fail(error, -ENOTUNIQ,
				"both %s and %s say that they have the region '%s': choose one, as "
				"in auto:%s",
				list[found].address, list[i].address, name, list[found].address);
		found = i;
	}
	return found >= 0 ? found : fail_none(error, name, list, seen, count);
}

/* Fill `list` and `seen`, which have room for `count`. How many there are by now. */
static int look_at_all(const struct guest_system *system, int timeout_ms, struct pci_function *list,
	struct seen *seen, int count)
{
	int now = pci_list(system, list, (size_t)count);

	if (now < count)
		count = now > 0 ? now : 0;
	for (int i = 0; i < count; i++)
		seen[i].err = guest_identify(system, &list[i], timeout_ms, &seen[i].identity);
	return count;
}

int guest_choose_region(const struct guest_system *system, const char *name, int timeout_ms,
	enum guest_way *way, char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	struct pci_function first;
	int count = pci_list(system, &first, 1);

	if (count == 0 || count == -ENOENT)
		return guest_fail(error, -ENOENT, "no ivshmem device in this machine");
	if (count < 0)
		return guest_fail(error, count, "listing %s/bus/pci/devices: %m", system->sys);
	struct pci_function *list = calloc((size_t)count, sizeof(*list));
	struct seen *seen = calloc((size_t)count, sizeof(*seen));
	int err = -ENOMEM;
	if (!list || !seen) {
		guest_fail(error, err, "looking at %d devices: %m", count);
		goto out;
	}
	count = look_at_all(system, timeout_ms, list, seen, count);
	err = find_only(name, list, seen, count, error);
	if (err >= 0) {
		memcpy(address, list[err].address, PCI_ADDRESS_SIZE);
		guest_find_way(&list[err], way); /* or it would not have been found */
		err = 0;
	}
out:
	free(seen);
	free(list);
	return err;
}
