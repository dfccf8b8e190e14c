/* SPDX-License-Identifier: MIT */
/*
 * The device through sysfs: resource0 (registers), resource1 (MSI-X table and pending bits) and
 * resource2 (the memory).
 *
 * Theory of operation. Without a driver no interrupt can be taken, but one can be seen: with MSI-X
 * enabled and a vector masked, a doorbell sets the vector's pending bit in BAR1. To clear a pending
 * bit the vector is unmasked for a moment, which makes the device send the interrupt. Bus mastering
 * stays off, so that interrupt goes nowhere; where interrupts bypass that switch (KVM's irqfd),
 * nobody rings in this moment, because each sender has its own vector and waits for our answer.
 *
 * Where the VMM keeps the MSI-X table (vfio), it also keeps what comes for a vector that was
 * unmasked once; pending bits show only for vectors masked since MSI-X was enabled. With
 * ivshmem.relatch=1 it is therefore disabled and enabled again each time. That loses nothing on a
 * device that latches while disabled, as ours does and QEMU's own does not.
 */
#include "guest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem/abi.h"

#define PCI_DEVICES "/sys/bus/pci/devices"

/* PCI configuration space and MSI-X, from the PCI specification. */
enum {
	PCI_CAPABILITIES = 0x34,
	CAPABILITY_MSIX = 0x11,
	MSIX_CONTROL = 2,
	MSIX_TABLE = 4,
	MSIX_PBA = 8,
	MSIX_COUNT_MASK = 0x07ff,
	MSIX_FUNCTION_MASK = 0x4000,
	MSIX_ENABLE = 0x8000,
	MSIX_BAR_MASK = 7,
	ENTRY_WORDS = 4,
	ENTRY_CONTROL = 3,
	ENTRY_MASKED = 1,
};

struct sysfs_guest {
	struct raw raw;
	int config;
	unsigned control;           /* offset of MSI-X message control */
	volatile uint32_t *table;   /* MSI-X; NULL on ivshmem-plain */
	volatile uint32_t *pending; /* the PBA */
	bool relatch;
};

/* The number in a file of sysfs; UINT_MAX where there is none. */
static unsigned read_number(const char *directory, const char *name)
{
	char path[PATH_MAX + 32];
	char text[32] = "";

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		return UINT_MAX;
	bool got = fgets(text, sizeof(text), file) != NULL;
	fclose(file);
	return got ? (unsigned)strtoul(text, NULL, 0) : UINT_MAX;
}

void raw_find(struct guest *guest)
{
	DIR *directory = opendir(PCI_DEVICES);
	if (directory == NULL)
		die(PCI_DEVICES);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		snprintf(guest->path, sizeof(guest->path), PCI_DEVICES "/%s", entry->d_name);
		if (read_number(guest->path, "vendor") == IVSHMEM_PCI_VENDOR_ID &&
			read_number(guest->path, "device") == IVSHMEM_PCI_DEVICE_ID) {
			closedir(directory);
			guest->revision = read_number(guest->path, "revision");
			return;
		}
	}
	errno = ENODEV;
	die("no ivshmem device");
}

void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		die(path);
	close(fd);
}

int raw_file(const struct guest *guest, const char *name)
{
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/%s", guest->path, name);
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

/* Map a whole BAR; `size`, if not NULL, receives its bytes. */
static void *map_bar(const struct guest *guest, unsigned bar, uint64_t *size)
{
	char name[16];
	struct stat st;

	snprintf(name, sizeof(name), "resource%u", bar);
	int fd = raw_file(guest, name);
	if (fstat(fd, &st) < 0)
		die(name);
	void *address = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (address == MAP_FAILED)
		die(name);
	close(fd);
	if (size != NULL)
		*size = (uint64_t)st.st_size;
	return address;
}

static int register_ring(struct talk_port *port, unsigned id, unsigned vector)
{
	struct raw *raw = (struct raw *)port;

	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the letter before the doorbell */
	raw->guest->registers[IVSHMEM_REG_DOORBELL / 4] = IVSHMEM_DOORBELL(id, vector);
	return 0;
}

void raw_map(struct guest *guest, struct raw *raw)
{
	guest->registers = map_bar(guest, IVSHMEM_BAR_REGISTERS, NULL);
	guest->port = &raw->port;
	raw->guest = guest;
	raw->port.region = map_bar(guest, IVSHMEM_BAR_MEMORY, &guest->size);
	raw->port.id = guest->registers[IVSHMEM_REG_IVPOSITION / 4];
	raw->port.doorbell = true;
	raw->port.ring = register_ring;
}

uint32_t config_read(int fd, unsigned offset, unsigned bytes)
{
	uint32_t value = 0;

	if (pread(fd, &value, bytes, offset) != (ssize_t)bytes)
		die("config read");
	return value;
}

void short_sleep(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

/* ---- without a driver ---- */

static void set_msix(const struct sysfs_guest *self, bool enable)
{
	uint32_t control = config_read(self->config, self->control, 2);

	control &= ~(uint32_t)(MSIX_FUNCTION_MASK | MSIX_ENABLE);
	control |= enable ? MSIX_ENABLE : 0;
	if (pwrite(self->config, &control, 2, self->control) != 2)
		die("config write");
}

/* Enable MSI-X, every vector still masked, and map its table and pending bits. */
static void enable_msix(struct sysfs_guest *self)
{
	int fd = self->config;
	unsigned at = config_read(fd, PCI_CAPABILITIES, 1);

	while (at != 0 && config_read(fd, at, 1) != CAPABILITY_MSIX)
		at = config_read(fd, at + 1, 1);
	if (at == 0)
		return;
	uint32_t table = config_read(fd, at + MSIX_TABLE, 4);
	uint32_t pba = config_read(fd, at + MSIX_PBA, 4);
	char *bar = map_bar(self->raw.guest, table & MSIX_BAR_MASK, NULL);

	self->control = at + MSIX_CONTROL;
	self->raw.guest->vectors = (config_read(fd, self->control, 2) & MSIX_COUNT_MASK) + 1;
	self->table = (volatile uint32_t *)(bar + (table & ~(uint32_t)MSIX_BAR_MASK));
	self->pending = (volatile uint32_t *)(bar + (pba & ~(uint32_t)MSIX_BAR_MASK));
	set_msix(self, true);
}

static uint64_t sysfs_rung(struct talk_port *port, unsigned vector)
{
	struct sysfs_guest *self = (struct sysfs_guest *)port;

	if (vector >= self->raw.guest->vectors || !(self->pending[vector / 32] >> vector % 32 & 1))
		return 0;
	volatile uint32_t *control = &self->table[vector * ENTRY_WORDS + ENTRY_CONTROL];
	*control &= ~(uint32_t)ENTRY_MASKED;
	*control |= ENTRY_MASKED;
	if (self->relatch) {
		set_msix(self, false);
		set_msix(self, true);
	}
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the doorbell before the letter */
	port->taken++;
	return 1;
}

static void sysfs_idle(struct talk_port *port, bool watched)
{
	(void)port;
	(void)watched;
	short_sleep();
}

void sysfs_access(struct guest *guest)
{
	static struct sysfs_guest self;
	char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/enable", guest->path);
	write_file(path, "1");
	raw_map(guest, &self.raw);
	self.config = raw_file(guest, "config");
	self.relatch = parameter("ivshmem.relatch", 0);
	enable_msix(&self);
	self.raw.port.doorbell = self.table != NULL;
	self.raw.port.rung = sysfs_rung;
	self.raw.port.idle = sysfs_idle;
}
