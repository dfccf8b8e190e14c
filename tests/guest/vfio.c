/* SPDX-License-Identifier: MIT */
/*
 * The device through vfio-pci: a driver of the distribution's kernel that hands BARs and interrupts
 * to this program. Each MSI-X vector signals an eventfd of ours, so no wake-up can be mistaken for
 * another, and the kernel's own count of interrupts must agree with what the eventfds counted.
 *
 * vfio wants an IOMMU: the machine emulates one (q35 with intel-iommu). The driver clears the
 * device's bus master bit when it is opened; without setting it again no message is ever sent.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem/abi.h"

#define MAX_VECTORS 32
#define WAIT_MS     100
#define SETTLE_S    5

enum { PCI_COMMAND = 0x04, PCI_REVISION = 0x08, COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };

struct vfio_guest {
	struct guest guest;
	int device; /* vfio's */
	struct pollfd events[MAX_VECTORS];
	uint64_t taken; /* interrupts that the eventfds have counted */
};

/* Let vfio-pci drive the device; returns the file of its group. */
static int open_group(struct guest *guest)
{
	char path[PATH_MAX + 32], group[PATH_MAX] = "";

	sysfs_find(guest);
	snprintf(path, sizeof(path), "%s/driver_override", guest->path);
	sysfs_write(path, "vfio-pci");
	sysfs_write("/sys/bus/pci/drivers_probe", strrchr(guest->path, '/') + 1);

	snprintf(path, sizeof(path), "%s/iommu_group", guest->path);
	if (readlink(path, group, sizeof(group) - 1) < 0)
		die(path);
	snprintf(path, sizeof(path), "/dev/vfio%s", strrchr(group, '/'));
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

static int open_device(struct guest *guest)
{
	static const char *const modules[] = {"irqbypass", "vfio", "vfio_virqfd",
		"vfio_iommu_type1", "vfio-pci-core", "vfio-pci", NULL};

	load_modules(modules);
	int container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (container < 0)
		die("/dev/vfio/vfio");
	int group = open_group(guest);
	if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) < 0)
		die("VFIO_GROUP_SET_CONTAINER");
	if (ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) < 0)
		die("VFIO_SET_IOMMU");
	int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, strrchr(guest->path, '/') + 1);
	if (device < 0)
		die("VFIO_GROUP_GET_DEVICE_FD");
	return device;
}

static struct vfio_region_info region_info(int device, unsigned index)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) < 0)
		die("VFIO_DEVICE_GET_REGION_INFO");
	return info;
}

static void *map_region(int device, unsigned index, uint64_t *size)
{
	struct vfio_region_info info = region_info(device, index);
	void *address = mmap(
		NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);

	if (address == MAP_FAILED)
		die("mapping a region");
	*size = info.size;
	return address;
}

/* Memory decoding and bus mastering on; also the revision. */
static void configure(struct vfio_guest *self)
{
	off_t at = (off_t)region_info(self->device, VFIO_PCI_CONFIG_REGION_INDEX).offset;
	uint16_t command;
	uint8_t revision;

	if (pread(self->device, &command, 2, at + PCI_COMMAND) != 2 ||
		pread(self->device, &revision, 1, at + PCI_REVISION) != 1)
		die("config read");
	command |= COMMAND_MEMORY | COMMAND_MASTER;
	if (pwrite(self->device, &command, 2, at + PCI_COMMAND) != 2)
		die("config write");
	self->guest.revision = revision;
}

static void enable_vectors(struct vfio_guest *self)
{
	struct vfio_irq_info info = {.argsz = sizeof(info), .index = VFIO_PCI_MSIX_IRQ_INDEX};
	_Alignas(struct vfio_irq_set) char
		request[sizeof(struct vfio_irq_set) + MAX_VECTORS * sizeof(int32_t)];
	struct vfio_irq_set *set = (struct vfio_irq_set *)request;

	if (ioctl(self->device, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0)
		die("VFIO_DEVICE_GET_IRQ_INFO");
	self->guest.vectors = info.count < MAX_VECTORS ? info.count : MAX_VECTORS;
	*set = (struct vfio_irq_set){
		.argsz = (uint32_t)(sizeof(*set) + self->guest.vectors * sizeof(int32_t)),
		.flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
		.index = VFIO_PCI_MSIX_IRQ_INDEX,
		.count = self->guest.vectors,
	};
	for (unsigned i = 0; i < self->guest.vectors; i++) {
		int32_t fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (fd < 0)
			die("eventfd");
		self->events[i] = (struct pollfd){.fd = fd, .events = POLLIN};
		memcpy(set->data + i * sizeof(fd), &fd, sizeof(fd));
	}
	if (ioctl(self->device, VFIO_DEVICE_SET_IRQS, set) < 0)
		die("VFIO_DEVICE_SET_IRQS");
}

static uint64_t vfio_rung(struct talk_port *port, unsigned vector)
{
	struct vfio_guest *self = (struct vfio_guest *)port;
	uint64_t count;

	if (vector >= self->guest.vectors)
		return 0;
	if (read(self->events[vector].fd, &count, sizeof(count)) != sizeof(count))
		return 0;
	self->taken += count;
	return count;
}

static void vfio_idle(struct talk_port *port, bool watched)
{
	struct vfio_guest *self = (struct vfio_guest *)port;

	if (watched)
		short_sleep();
	else
		poll(self->events, self->guest.vectors, WAIT_MS);
}

/* Everybody has had the last word, but it may have rung twice. */
static bool vfio_settled(struct guest *guest)
{
	struct vfio_guest *self = (struct vfio_guest *)guest;
	time_t end = time(NULL) + SETTLE_S;
	uint64_t counted;

	do {
		counted = interrupt_count("vfio-msix");
		for (unsigned i = 0; i < guest->vectors; i++)
			vfio_rung(&guest->port, i);
	} while (counted != self->taken && time(NULL) < end);
	printf("guest: interrupts: %llu taken, %llu counted by the kernel\n",
		(unsigned long long)self->taken, (unsigned long long)counted);
	return counted == self->taken;
}

struct guest *vfio_open(void)
{
	static struct vfio_guest self;
	struct guest *guest = &self.guest;
	uint64_t registers;

	self.device = open_device(guest);
	configure(&self);
	guest->registers = map_region(self.device, IVSHMEM_BAR_REGISTERS, &registers);
	guest->port.region = map_region(self.device, IVSHMEM_BAR_MEMORY, &guest->size);
	guest->port.id = guest->registers[IVSHMEM_REG_IVPOSITION / 4];
	enable_vectors(&self);
	guest->port.doorbell = true;
	guest->port.ring = register_ring;
	guest->port.rung = vfio_rung;
	guest->port.idle = vfio_idle;
	guest->settled = vfio_settled;
	return guest;
}
