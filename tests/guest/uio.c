/* SPDX-License-Identifier: MIT */
/*
 * The revision 0 device, whose only interrupt is INTx, through uio_pci_generic: a driver of the
 * distribution's kernel that takes the interrupt, switches it off at the device (command bit 10)
 * and counts; this program learns of it by read(), acknowledges at the device and switches it on
 * again in configuration space.
 *
 * The driver claims an interrupt only if the device's PCI status says that it is the one, and the
 * device must then say so in its status register too, until that is read.
 *
 * One interrupt stands for all vectors, so it cannot tell who rang: good for two seats.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "ivshmem/abi.h"

#define DRIVER  "/sys/bus/pci/drivers/uio_pci_generic"
#define WAIT_MS 100

enum { PCI_COMMAND = 0x04, COMMAND_INTX_DISABLE = 0x400 };

struct uio_guest {
	struct guest guest;
	int uio, config;
	uint32_t taken; /* interrupts, as uio counts them */
};

/* Interrupts since the last call; they are on again after it. */
static uint32_t take(struct uio_guest *self)
{
	uint32_t count;

	if (read(self->uio, &count, sizeof(count)) != sizeof(count))
		return 0;
	uint32_t status = self->guest.registers[IVSHMEM_REG_INTRSTATUS / 4];
	if (status != 1) {
		errno = EPROTO;
		printf("guest: interrupt with status %#x\n", status);
		die("INTx");
	}
	uint32_t command = config_read(self->config, PCI_COMMAND, 2) & ~COMMAND_INTX_DISABLE;
	if (pwrite(self->config, &command, 2, PCI_COMMAND) != 2)
		die("config write");
	uint32_t news = count - self->taken;
	self->taken = count;
	return news;
}

static uint64_t uio_rung(struct talk_port *port, unsigned vector)
{
	struct uio_guest *self = (struct uio_guest *)port;

	return vector == 0 && take(self) > 0 ? 1 : 0;
}

static void uio_idle(struct talk_port *port, bool watched)
{
	struct uio_guest *self = (struct uio_guest *)port;

	if (watched)
		short_sleep();
	else
		poll(&(struct pollfd){.fd = self->uio, .events = POLLIN}, 1, WAIT_MS);
}

static bool uio_settled(struct guest *guest)
{
	struct uio_guest *self = (struct uio_guest *)guest;

	take(self);
	uint64_t counted = interrupt_count("uio_pci_generic");
	printf("guest: interrupts: %u taken, %llu counted by the kernel\n", self->taken,
		(unsigned long long)counted);
	return counted == self->taken;
}

struct guest *uio_open(void)
{
	static const char *const modules[] = {"uio", "uio_pci_generic", NULL};
	static struct uio_guest self;
	struct guest *guest = &self.guest;
	char identity[16];

	load_modules(modules);
	sysfs_find(guest);
	snprintf(identity, sizeof(identity), "%04x %04x", IVSHMEM_PCI_VENDOR_ID,
		IVSHMEM_PCI_DEVICE_ID);
	sysfs_write(DRIVER "/new_id", identity);
	self.uio = open("/dev/uio0", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (self.uio < 0)
		die("/dev/uio0");
	self.config = sysfs_file(guest, "config");
	sysfs_map(guest);
	guest->registers[IVSHMEM_REG_INTRMASK / 4] = 1;
	guest->port.doorbell = true;
	guest->port.ring = register_ring;
	guest->port.rung = uio_rung;
	guest->port.idle = uio_idle;
	guest->settled = uio_settled;
	return guest;
}
