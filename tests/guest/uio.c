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
	struct raw raw;
	int uio, config;
};

/* Take the interrupts since the last call; they are on again after it. */
static uint64_t uio_rung(struct talk_port *port, unsigned vector)
{
	struct uio_guest *self = (struct uio_guest *)port;
	uint32_t count; /* of all so far */

	if (vector != 0 || read(self->uio, &count, sizeof(count)) != sizeof(count))
		return 0;
	uint32_t status = self->raw.guest->registers[IVSHMEM_REG_INTRSTATUS / 4];
	if (status != 1) {
		errno = EPROTO;
		printf("guest: interrupt with status %#x\n", status);
		die("INTx");
	}
	uint32_t command = config_read(self->config, PCI_COMMAND, 2) & ~COMMAND_INTX_DISABLE;
	if (pwrite(self->config, &command, 2, PCI_COMMAND) != 2)
		die("config write");
	port->taken = count;
	return 1;
}

static void uio_idle(struct talk_port *port, bool watched)
{
	struct uio_guest *self = (struct uio_guest *)port;

	if (watched)
		short_sleep();
	else
		poll(&(struct pollfd){.fd = self->uio, .events = POLLIN}, 1, WAIT_MS);
}

void intx_access(struct guest *guest)
{
	static const char *const modules[] = {"uio", "uio_pci_generic", NULL};
	static struct uio_guest self;
	char identity[16];

	load_modules(modules);
	snprintf(identity, sizeof(identity), "%04x %04x", IVSHMEM_PCI_VENDOR_ID,
		IVSHMEM_PCI_DEVICE_ID);
	write_file(DRIVER "/new_id", identity);
	self.uio = open("/dev/uio0", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (self.uio < 0)
		die("/dev/uio0");
	self.config = raw_file(guest, "config");
	raw_map(guest, &self.raw);
	guest->registers[IVSHMEM_REG_INTRMASK / 4] = 1;
	guest->vectors = 1;
	guest->interrupts = "uio_pci_generic";
	self.raw.port.rung = uio_rung;
	self.raw.port.idle = uio_idle;
}
