/* SPDX-License-Identifier: MIT */
/*
 * The device as applications use it: through the library, over whichever driver the kernel's
 * command line names. This file does what an administrator does, loading modules and saying whose
 * device it is; the rest is the same program as on a host.
 */
#include "guest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "library.h"

#define MAX_MODULES 8

static const struct driver {
	const char *name, *interrupts;
	const char *modules[MAX_MODULES]; /* in the order in which they need each other */
} drivers[] = {
	{"uio_ivshmem", "ivshmem-", {"uio", "uio_ivshmem"}},
	/* It wants an IOMMU, which the machine must emulate (q35 with intel-iommu). */
	{"vfio-pci", "vfio-msix",
		{"irqbypass", "vfio", "vfio_virqfd", "vfio_iommu_type1", "vfio-pci-core",
			"vfio-pci"}},
};

static const struct driver *driver_by_name(const char *name)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++)
		if (strcmp(drivers[i].name, name) == 0)
			return &drivers[i];
	errno = EINVAL;
	die(name);
}

void driver_access(struct guest *guest, const char *name)
{
	static const struct ivshmem_listener listener;
	static struct library library;
	const struct driver *driver = driver_by_name(name);
	char path[PATH_MAX + 32], reason[256] = "";

	/* First said, then loaded: so also a driver that knows no ivshmem takes the device. */
	snprintf(path, sizeof(path), "%s/driver_override", guest->path);
	write_file(path, driver->name);
	load_modules(driver->modules);

	int err = library_open(&library, "auto:", listener, reason, sizeof(reason));
	if (err < 0) {
		errno = -err;
		die(reason);
	}
	if (!library.port.doorbell) {
		errno = ENOTSUP;
		die("doorbells and interrupts");
	}
	guest->port = &library.port;
	guest->size = library.size;
	guest->vectors = (unsigned)ivshmem_vectors(library.peer, library.port.id);
	guest->interrupts = driver->interrupts;
}
