/* SPDX-License-Identifier: MIT */
/*
 * The init, and the only program, of the test guest: finds the ivshmem device, maps it and holds
 * the conversation of talk.h with the other peers.
 *
 * Theory of operation. There is no driver in this guest, only what the kernel offers in sysfs:
 * resource0 (registers), resource1 (MSI-X table and pending bits) and resource2 (the memory) of the
 * PCI device. Without a driver no interrupt can be taken, but one can be seen: with MSI-X enabled
 * and a vector masked, a doorbell sets the vector's pending bit in BAR1. To clear a pending bit the
 * vector is unmasked for a moment, which makes the device send the interrupt. Bus mastering stays
 * off, so that interrupt goes nowhere; where interrupts bypass that switch (KVM's irqfd), nobody
 * rings in this moment, because each sender has its own vector and waits for our answer.
 *
 * Parameters come from the kernel's command line: ivshmem.seat, .seats, .rounds, .deadline,
 * .linger; without ivshmem.seats the guest only reports that it has booted. The result goes to the
 * serial port as text and through isa-debug-exit into QEMU's exit status: 1 passed, 3 failed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem/abi.h"
#include "talk.h"

#define PCI_DEVICES     "/sys/bus/pci/devices"
#define DEBUG_EXIT_PORT 0xf4 /* iobase of isa-debug-exit */

/* PCI configuration space and MSI-X, from the PCI specification. */
enum {
	PCI_REVISION = 0x08,
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

struct guest {
	struct talk_port port;
	char path[PATH_MAX]; /* of the device in sysfs */
	volatile uint32_t *registers;
	volatile uint32_t *table;   /* MSI-X; NULL on ivshmem-plain */
	volatile uint32_t *pending; /* the PBA */
	unsigned vectors;
	uint64_t size;
};

static __attribute__((noreturn)) void leave(bool passed)
{
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
	if (iopl(3) == 0)
		outb(passed ? 0 : 1, DEBUG_EXIT_PORT);
	reboot(RB_POWER_OFF); /* without isa-debug-exit */
	for (;;)
		pause();
}

static __attribute__((noreturn)) void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	leave(false);
}

static void start_up(void)
{
	/* The initramfs holds nothing but this program. */
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	int failed = mount("proc", "/proc", "proc", 0, NULL) < 0 ? 1 : 0;
	failed += mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ? 1 : 0;
	failed += mount("devtmpfs", "/dev", "devtmpfs", 0, NULL) < 0 ? 1 : 0;

	int console = open("/dev/ttyS0", O_RDWR | O_CLOEXEC);
	if (console >= 0) {
		dup2(console, STDOUT_FILENO);
		dup2(console, STDERR_FILENO);
	}
	if (failed > 0)
		die("mount");
}

/* Parameter `name` of the kernel's command line, `otherwise` where it is absent. */
static unsigned parameter(const char *name, unsigned otherwise)
{
	static char line[4096];

	if (line[0] == '\0') {
		FILE *file = fopen("/proc/cmdline", "re");
		if (file == NULL || fgets(line, sizeof(line), file) == NULL)
			die("/proc/cmdline");
		fclose(file);
	}
	const char *found = strstr(line, name);
	if (found == NULL || found[strlen(name)] != '=')
		return otherwise;
	return (unsigned)strtoul(found + strlen(name) + 1, NULL, 10);
}

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

static void find_device(struct guest *guest)
{
	DIR *directory = opendir(PCI_DEVICES);
	if (directory == NULL)
		die(PCI_DEVICES);
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		snprintf(guest->path, sizeof(guest->path), PCI_DEVICES "/%s", entry->d_name);
		if (read_number(guest->path, "vendor") == IVSHMEM_PCI_VENDOR_ID &&
			read_number(guest->path, "device") == IVSHMEM_PCI_DEVICE_ID) {
			closedir(directory);
			return;
		}
	}
	errno = ENODEV;
	die("no ivshmem device");
}

static int open_file(const struct guest *guest, const char *name)
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
	int fd = open_file(guest, name);
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

static uint32_t config_read(int fd, unsigned offset, unsigned bytes)
{
	uint32_t value = 0;

	if (pread(fd, &value, bytes, offset) != (ssize_t)bytes)
		die("config read");
	return value;
}

/* Enable MSI-X, every vector still masked, and map its table and pending bits. */
static void enable_msix(struct guest *guest)
{
	int fd = open_file(guest, "config");
	unsigned at = config_read(fd, PCI_CAPABILITIES, 1);

	while (at != 0 && config_read(fd, at, 1) != CAPABILITY_MSIX)
		at = config_read(fd, at + 1, 1);
	if (at != 0) {
		uint32_t control = config_read(fd, at + MSIX_CONTROL, 2);
		uint32_t table = config_read(fd, at + MSIX_TABLE, 4);
		uint32_t pba = config_read(fd, at + MSIX_PBA, 4);
		char *bar = map_bar(guest, table & MSIX_BAR_MASK, NULL);

		guest->vectors = (control & MSIX_COUNT_MASK) + 1;
		guest->table = (volatile uint32_t *)(bar + (table & ~(uint32_t)MSIX_BAR_MASK));
		guest->pending = (volatile uint32_t *)(bar + (pba & ~(uint32_t)MSIX_BAR_MASK));
		control = (control & ~(uint32_t)MSIX_FUNCTION_MASK) | MSIX_ENABLE;
		if (pwrite(fd, &control, 2, at + MSIX_CONTROL) != 2)
			die("config write");
	}
	close(fd);
}

static int guest_ring(struct talk_port *port, unsigned id, unsigned vector)
{
	struct guest *guest = (struct guest *)port;

	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the letter before the doorbell */
	guest->registers[IVSHMEM_REG_DOORBELL / 4] = IVSHMEM_DOORBELL(id, vector);
	return 0;
}

static uint64_t guest_rung(struct talk_port *port, unsigned vector)
{
	struct guest *guest = (struct guest *)port;

	if (vector >= guest->vectors || !(guest->pending[vector / 32] >> vector % 32 & 1))
		return 0;
	volatile uint32_t *control = &guest->table[vector * ENTRY_WORDS + ENTRY_CONTROL];
	*control &= ~(uint32_t)ENTRY_MASKED;
	*control |= ENTRY_MASKED;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* the doorbell before the letter */
	return 1;
}

/* Sleep rather than spin: under emulation a spinning guest takes the time that the others need. */
static void guest_idle(struct talk_port *port, bool watched)
{
	(void)port;
	(void)watched;
	nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL);
}

static void open_device(struct guest *guest)
{
	find_device(guest);

	int enable = open_file(guest, "enable");
	if (write(enable, "1", 1) != 1)
		die("enable");
	close(enable);

	guest->registers = map_bar(guest, IVSHMEM_BAR_REGISTERS, NULL);
	guest->port.region = map_bar(guest, IVSHMEM_BAR_MEMORY, &guest->size);
	enable_msix(guest);
	guest->port.id = guest->registers[IVSHMEM_REG_IVPOSITION / 4];
	guest->port.doorbell = guest->table != NULL;
	guest->port.ring = guest_ring;
	guest->port.rung = guest_rung;
	guest->port.idle = guest_idle;

	int config = open_file(guest, "config");
	printf("guest: %s: ivshmem revision %u, ID %u, %llu bytes, %u vectors\n",
		strrchr(guest->path, '/') + 1, config_read(config, PCI_REVISION, 1), guest->port.id,
		(unsigned long long)guest->size, guest->vectors);
	close(config);
	if (guest->size < TALK_SIZE) {
		errno = ENOSPC;
		die("region");
	}
}

int main(void)
{
	static struct guest guest;
	struct talk_result result;

	start_up();
	struct talk_plan plan = {
		.seat = parameter("ivshmem.seat", 0),
		.seats = parameter("ivshmem.seats", 0),
		.rounds = parameter("ivshmem.rounds", 1000),
		.deadline = parameter("ivshmem.deadline", 60),
	};
	printf("guest: up\n");
	if (plan.seats == 0)
		leave(true);

	open_device(&guest);
	int err = talk(&guest.port, &plan, &result, stdout);
	talk_print(&plan, &result, err, stdout);
	bool passed = err == 0;
	if (passed && parameter("ivshmem.linger", 0))
		passed = talk_linger(&guest.port, &plan);
	if (guest.registers[IVSHMEM_REG_IVPOSITION / 4] != guest.port.id) {
		printf("guest: IVPosition changed\n");
		passed = false;
	}
	leave(passed);
}
