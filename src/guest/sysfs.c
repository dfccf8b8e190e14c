/* SPDX-License-Identifier: MIT */
/*
 * Without a driver: the kernel lets root map the BARs of any device that no driver has. Interrupts
 * need a driver.
 *
 * A device that nobody drives is switched off; a write to the file `enable` switches its memory on.
 * It stays on when we leave: other processes may be using it in the same way.
 */
#include "guest/cache.h"
#include "guest/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FUNCTION "%s/bus/pci/devices/%s"

static int check_driver(const struct pci_function *function, struct guest_error *error)
{
	const char *driver = function->driver, *address = function->address;

	if (driver[0] == '\0')
		return 0;
	if (strcmp(driver, "uio_ivshmem") == 0)
		return guest_fail(error, -EBUSY, "%s has the driver %s: use uio:%s", address,
			driver, address);
	if (strcmp(driver, "vfio-pci") == 0)
		return guest_fail(error, -EBUSY, "%s has the driver %s: use vfio:%s", address,
			driver, address);
	return guest_fail(error, -EBUSY,
		"%s has the driver %s: as root, echo %s > /sys/bus/pci/drivers/%s/unbind", address,
		driver, address, driver);
}

/* Open a file of the device. */
static int open_file(struct guest *guest, const struct guest_system *system, const char *name,
	int flags, struct guest_error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), FUNCTION "/%s", system->sys, guest->function.address, name);
	int fd = open(path, flags | O_CLOEXEC);
	if (fd >= 0)
		return fd;
	int err = -errno;
	const char *remedy = err == -EACCES || err == -EPERM
		? ": be root, or use the driver uio_ivshmem, which can give the device to a group"
		: "";
	return guest_fail(error, err, "%s: %m%s", path, remedy);
}

static int enable(struct guest *guest, const struct guest_system *system, struct guest_error *error)
{
	const char *address = guest->function.address;
	uint64_t enabled;

	if (sysfs_number(&enabled, FUNCTION "/enable", system->sys, address) == 0 && enabled > 0)
		return 0;
	int fd = open_file(guest, system, "enable", O_WRONLY, error);
	if (fd < 0)
		return fd;
	int err = write(fd, "1", 1) < 0 ? -errno : 0;
	close(fd);
	if (err < 0)
		return guest_fail(error, err, "switching on %s: %m: see dmesg", address);
	return 0;
}

int sysfs_open(struct guest *guest, const struct guest_system *system,
	const struct ivshmem_params *params, struct guest_error *error)
{
	int err = check_driver(&guest->function, error);
	if (err == 0)
		err = enable(guest, system, error);
	if (err < 0)
		return err;

	int fd = open_file(guest, system, "resource0", O_RDWR, error);
	if (fd < 0)
		return fd;
	err = guest_map_registers(guest, fd, 0, "resource0", error);
	close(fd);
	if (err < 0)
		return err;

	fd = open_file(guest, system, SYSFS_MEMORY, params->read_only ? O_RDONLY : O_RDWR, error);
	if (fd < 0)
		return fd;
	guest->files[0] = fd; /* for guest_region_fd() */
	guest->timed = true;
	return guest_map_region(guest, fd, 0, params->read_only, SYSFS_MEMORY, error);
}
