/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The distribution's vfio-pci hands a device that an IOMMU confines to one process, and the
 * interrupts to eventfds of that process. The IOMMU may be one that the VMM emulates.
 *
 * The driver switches bus mastering off when the device is opened; interrupts are writes of the
 * device to memory, so none would arrive until it is on again.
 *
 * Taking the device away. When somebody unbinds the driver or unplugs the device, the kernel waits
 * until we have let go of it. It asks by an eventfd of its own; a wait then ends with ENODEV, as it
 * does where the kernel does not wait.
 *
 * INTx, which an old device has in place of MSI-X, is a level: the kernel masks it when it tells
 * us. We let the device take its level back by reading its status register, then unmask. A ring
 * after that raises it again.
 */
#include "base/doorbell.h"
#include "guest/internal.h"

#include <ivshmem/abi.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DRIVER "vfio-pci"

enum { CONTAINER, GROUP, DEVICE }; /* guest->files */

/* Configuration space, from the PCI specification. */
enum { PCI_COMMAND = 0x04, COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };

/* ---- the device's file ---- */

static int open_container(
	struct guest *guest, const struct guest_system *system, struct guest_error *error)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/vfio/vfio", system->dev);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return guest_fail(
			error, -errno, "%s: %m: as root, modprobe vfio_iommu_type1", path);
	guest->files[CONTAINER] = fd;
	return 0;
}

/* Of the IOMMU: the devices that it cannot keep apart. */
static int find_group(const struct guest *guest, const struct guest_system *system, char group[16],
	struct guest_error *error)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(path, sizeof(path), "%s/bus/pci/devices/%s/iommu_group", system->sys,
		guest->function.address);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return guest_fail(error, -errno,
			"%s: %m: give the machine an IOMMU (-machine q35 -device intel-iommu; on "
			"aarch64 -machine virt,iommu=smmuv3), or use the driver uio_ivshmem",
			path);
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(group, 16, "%.15s", slash ? slash + 1 : target);
	return 0;
}

static int open_group(struct guest *guest, const struct guest_system *system, const char *group,
	struct guest_error *error)
{
	char path[PATH_MAX], remedy[160] = "";

	snprintf(path, sizeof(path), "%s/vfio/%s", system->dev, group);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		guest->files[GROUP] = fd;
		return 0;
	}
	int err = -errno;
	if (err == -EBUSY)
		snprintf(remedy, sizeof(remedy),
			": another program has %s; fuser -v %.40s names it. " DRIVER
			" is for one at a time, uio_ivshmem for several",
			guest->function.address, path);
	else if (err == -EACCES || err == -EPERM)
		snprintf(remedy, sizeof(remedy), ": be root, or have root do: chown USER %.40s",
			path);
	return guest_fail(error, err, "%s: %m%s", path, remedy);
}

static int explain_join(struct guest_error *error, int err, const char *group)
{
	return guest_fail(error, err == -EINVAL ? -EBUSY : err,
		"IOMMU group %s: %m: all its devices must have " DRIVER
		" or no driver; ls /sys/kernel/iommu_groups/%s/devices",
		group, group);
}

static int explain_iommu(struct guest_error *error, int err)
{
	const char *remedy = "";

	if (err == -EPERM)
		remedy =
			": it does not remap interrupts: switch that on (-device "
			"intel-iommu,intremap=on), or, where all programs can be trusted, modprobe "
			"vfio_iommu_type1 allow_unsafe_interrupts=1";
	else if (err == -ENODEV)
		remedy = ": as root, modprobe vfio_iommu_type1";
	return guest_fail(error, err, "the IOMMU: %m%s", remedy);
}

static int open_device(
	struct guest *guest, const struct guest_system *system, struct guest_error *error)
{
	const char *address = guest->function.address;
	char group[16];
	int err = open_container(guest, system, error);
	if (err == 0)
		err = find_group(guest, system, group, error);
	if (err == 0)
		err = open_group(guest, system, group, error);
	if (err < 0)
		return err;

	if (ioctl(guest->files[GROUP], VFIO_GROUP_SET_CONTAINER, &guest->files[CONTAINER]) < 0)
		return explain_join(error, -errno, group);
	if (ioctl(guest->files[CONTAINER], VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		return explain_iommu(error, -errno);
	guest->files[DEVICE] = ioctl(guest->files[GROUP], VFIO_GROUP_GET_DEVICE_FD, address);
	if (guest->files[DEVICE] < 0)
		return guest_fail(error, -errno, "%s through " DRIVER ": %m: see dmesg", address);
	return 0;
}

/* ---- registers and memory ---- */

static int find_region(const struct guest *guest, unsigned index, uint64_t *offset)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	if (ioctl(guest->files[DEVICE], VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		return -errno;
	*offset = info.offset;
	return 0;
}

static int switch_on(const struct guest *guest)
{
	uint64_t offset = 0;
	uint16_t command;
	int err = find_region(guest, VFIO_PCI_CONFIG_REGION_INDEX, &offset);
	if (err < 0)
		return err;

	off_t at = (off_t)offset + PCI_COMMAND;
	if (pread(guest->files[DEVICE], &command, sizeof(command), at) != sizeof(command))
		return -EIO;
	command = htole16(le16toh(command) | COMMAND_MEMORY | COMMAND_MASTER);
	if (pwrite(guest->files[DEVICE], &command, sizeof(command), at) != sizeof(command))
		return -EIO;
	return 0;
}

static int map(struct guest *guest, bool read_only, struct guest_error *error)
{
	uint64_t registers = 0, region = 0;
	int err =
		find_region(guest, VFIO_PCI_BAR0_REGION_INDEX + IVSHMEM_BAR_REGISTERS, &registers);
	if (err == 0)
		err = find_region(guest, VFIO_PCI_BAR0_REGION_INDEX + IVSHMEM_BAR_MEMORY, &region);
	if (err == 0)
		err = switch_on(guest);
	if (err < 0)
		return guest_fail(error, err, "%s through " DRIVER ": switching it on: %m",
			guest->function.address);
	err = guest_map_registers(guest, guest->files[DEVICE], registers, DRIVER, error);
	if (err < 0)
		return err;
	return guest_map_region(guest, guest->files[DEVICE], region, read_only, DRIVER, error);
}

/* ---- interrupts ---- */

static unsigned irq_count(const struct guest *guest, unsigned index)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = index};
	return ioctl(guest->files[DEVICE], VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 ? 0 : info.count;
}

/* Have interrupts 0 to n - 1 of a kind signal `fds`. 0, how many there is room for, or -errno. */
static int set_eventfds(const struct guest *guest, unsigned index, const int32_t *fds, unsigned n)
{
	const size_t size = sizeof(struct vfio_irq_set) + n * sizeof(*fds);
	struct vfio_irq_set *set = calloc(1, size);
	if (!set)
		return -ENOMEM;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)size,
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = index,
		.count = n,
	};
	memcpy(set->data, fds, n * sizeof(*fds));
	int err = ioctl(guest->files[DEVICE], VFIO_DEVICE_SET_IRQS, set);
	if (err < 0)
		err = -errno;
	free(set);
	return err;
}

static int new_eventfd(void)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* The machine may have fewer interrupts left than the device has vectors. */
static int set_vectors(struct guest *guest, unsigned index)
{
	int32_t *fds = calloc(guest->n_vectors, sizeof(*fds));
	int room = 0;
	if (!fds)
		return -ENOMEM;
	for (unsigned i = 0; i < guest->n_vectors && room >= 0; i++) {
		fds[i] = guest->vectors[i].fd = new_eventfd();
		room = fds[i] < 0 ? fds[i] : 0;
	}
	if (room == 0)
		room = set_eventfds(guest, index, fds, guest->n_vectors);
	while (room > 0) {
		while (guest->n_vectors > (unsigned)room)
			close(guest->vectors[--guest->n_vectors].fd);
		room = set_eventfds(guest, index, fds, guest->n_vectors);
	}
	free(fds);
	return room;
}

static int start_interrupts(
	struct guest *guest, const struct ivshmem_params *params, struct guest_error *error)
{
	unsigned count = irq_count(guest, VFIO_PCI_MSIX_IRQ_INDEX);

	guest->intx = count == 0 && irq_count(guest, VFIO_PCI_INTX_IRQ_INDEX) > 0;
	guest->timed = count == 0 && !guest->intx;
	if (guest->intx)
		count = 1;
	if (count > params->max_vectors)
		count = params->max_vectors;
	int err = vectors_allocate(guest, count);
	if (err < 0)
		return guest_fail(error, err, "room for %u vectors: %m", count);
	if (guest->timed)
		return 0;

	err = set_vectors(guest, guest->intx ? VFIO_PCI_INTX_IRQ_INDEX : VFIO_PCI_MSIX_IRQ_INDEX);
	if (err < 0)
		return guest_fail(error, err, "%u interrupts of %s: %m: set max_vectors%s", count,
			guest->function.address, err == -EMFILE ? " or raise ulimit -n" : "");
	if (guest->intx)
		guest->registers[IVSHMEM_REG_INTRMASK / 4] = htole32(1);
	return 0;
}

/* Have the kernel ask before it takes the device away. One that cannot ask just waits. */
static int start_requests(struct guest *guest)
{
	guest->gone = new_eventfd();
	if (guest->gone < 0)
		return guest->gone;
	set_eventfds(guest, VFIO_PCI_REQ_IRQ_INDEX, &guest->gone, 1);
	return 0;
}

static int acknowledge(const struct guest *guest)
{
	struct vfio_irq_set unmask = {
		.argsz = sizeof(unmask),
		.flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
		.index = VFIO_PCI_INTX_IRQ_INDEX,
		.count = 1,
	};
	(void)guest->registers[IVSHMEM_REG_INTRSTATUS / 4];
	return ioctl(guest->files[DEVICE], VFIO_DEVICE_SET_IRQS, &unmask) < 0 ? -ENODEV : 1;
}

static int take(struct guest *guest, struct guest_vector *vector, bool may_block, uint64_t *count)
{
	(void)may_block; /* eventfds do not */
	int taken = doorbell_take(vector->fd, count);
	return taken > 0 && guest->intx ? acknowledge(guest) : taken;
}

int vfio_open(struct guest *guest, const struct guest_system *system,
	const struct ivshmem_params *params, struct guest_error *error)
{
	if (strcmp(guest->function.driver, DRIVER) != 0)
		return guest_fail_driver(error, system, &guest->function, DRIVER);
	guest->take = take;
	int err = open_device(guest, system, error);
	if (err == 0)
		err = map(guest, params->read_only, error);
	if (err == 0)
		err = start_interrupts(guest, params, error);
	if (err < 0)
		return err;
	err = start_requests(guest);
	if (err < 0)
		return guest_fail(error, err, "an eventfd: %m");
	return 0;
}
