/* SPDX-License-Identifier: MIT */
/* Which device is meant, and which driver it has. */
#include "base/parse.h"
#include "guest/internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LISTED 8 /* devices that a message names */

int guest_find(const struct guest_system *system, const char *address,
	struct pci_function *function, struct guest_error *error)
{
	int err = pci_read(system, address, function);

	if (err == -EMEDIUMTYPE)
		return guest_fail(error, -ENODEV,
			"%s is not an ivshmem device: lspci -d 1af4:1110 lists those that are",
			address);
	if (err == -ENODEV)
		return guest_fail(error, err,
			"there is no PCI device %s: lspci -d 1af4:1110 lists the ivshmem devices",
			address);
	if (err < 0)
		return guest_fail(error, err, "reading about %s in %s/bus/pci/devices: %m", address,
			system->sys);
	return 0;
}

int guest_parse_address(const char *text, char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	if (pci_address(text, address))
		return 0;
	return guest_fail(
		error, -EINVAL, "'%.80s' is no PCI address: write it like 0000:00:04.0", text);
}

/* ---- auto: ---- */

static int fail_none(struct guest_error *error)
{
	return guest_fail(error, -ENODEV,
		"no ivshmem device in this machine: give its QEMU -device "
		"ivshmem-doorbell,vectors=2,chardev=iv -chardev "
		"socket,id=iv,path=/tmp/ivshmem_socket (on a host, use unix:PATH)");
}

static int fail_several(struct guest_error *error, const struct guest_system *system,
	const struct pci_function *list, int count)
{
	struct region_identity identity;
	size_t room = sizeof(error->text), n;
	char size[24];

	n = (size_t)snprintf(error->text, room,
		"%d ivshmem devices: choose one, as in auto:%s, of:", count, list[0].address);
	for (int i = 0; i < count && i < LISTED && n < room; i++) {
		bool named = guest_identify(system, &list[i], 0, &identity) == 0;
		n += (size_t)snprintf(error->text + n, room - n, "%s %s (%s%s%s, %s)",
			i == 0 ? "" : ",", list[i].address, named ? identity.name : "",
			named ? ", " : "", format_size(list[i].region_size, size),
			guest_driver_name(&list[i]));
	}
	return -ENOTUNIQ;
}

static int find_only(
	const struct guest_system *system, struct pci_function *function, struct guest_error *error)
{
	struct pci_function list[LISTED];
	int count = pci_list(system, list, LISTED);

	if (count == 0 || count == -ENOENT)
		return fail_none(error);
	if (count < 0)
		return guest_fail(error, count, "listing %s/bus/pci/devices: %m", system->sys);
	if (count > 1)
		return fail_several(error, system, list, count);
	*function = list[0];
	return 0;
}

int guest_choose(const struct guest_system *system, const char *rest, enum guest_way *way,
	char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	struct pci_function function = {0};
	int err = rest[0] ? guest_parse_address(rest, address, error) : 0;
	if (err == 0)
		err = rest[0] ? guest_find(system, address, &function, error)
			      : find_only(system, &function, error);
	if (err < 0)
		return err;

	memcpy(address, function.address, PCI_ADDRESS_SIZE);
	if (!guest_find_way(&function, way))
		return guest_fail_driver(error, system, &function, "uio_ivshmem");
	return 0;
}
