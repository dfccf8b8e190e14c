/* SPDX-License-Identifier: MIT */
/*
 * The init, and the only program, of the test guest: finds the ivshmem device, maps it and holds
 * the conversation of talk.h with the other peers.
 *
 * Parameters come from the kernel's command line: ivshmem.seat, .seats, .rounds, .deadline,
 * .linger, .driver (uio_ivshmem, vfio-pci or uio_pci_generic; otherwise there is none), .relatch
 * (see sysfs.c). Without ivshmem.seats the guest only reports that it has booted. The result goes
 * to the serial port as text and through isa-debug-exit into QEMU's exit status: 1 passed, 3
 * failed.
 *
 * Where a driver takes interrupts, those that reached this program must in the end be as many as
 * the kernel counted.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "ivshmem/abi.h"

#define DEBUG_EXIT_PORT 0xf4 /* iobase of isa-debug-exit */
#define SETTLE_S        30

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

void die(const char *what)
{
	printf("guest: %s: %s\n", what, strerror(errno));
	leave(false);
}

static void start_up(void)
{
	/* The initramfs holds nothing but this program, and drivers. */
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

static const char *command_line(void)
{
	static char line[4096];

	if (line[0] == '\0') {
		FILE *file = fopen("/proc/cmdline", "re");
		if (file == NULL || fgets(line, sizeof(line), file) == NULL)
			die("/proc/cmdline");
		fclose(file);
	}
	return line;
}

unsigned parameter(const char *name, unsigned otherwise)
{
	const char *found = strstr(command_line(), name);
	if (found == NULL || found[strlen(name)] != '=')
		return otherwise;
	return (unsigned)strtoul(found + strlen(name) + 1, NULL, 10);
}

void load_modules(const char *const *names)
{
	for (; *names != NULL; names++) {
		char path[PATH_MAX];
		snprintf(path, sizeof(path), "/modules/%s.ko", *names);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
			die(path);
		close(fd);
	}
}

/* How often the interrupts whose line in /proc/interrupts contains `name` came. */
static uint64_t interrupt_count(const char *name)
{
	char line[1024];
	uint64_t sum = 0;

	FILE *file = fopen("/proc/interrupts", "re");
	if (file == NULL)
		die("/proc/interrupts");
	while (fgets(line, sizeof(line), file) != NULL) {
		char *at = strchr(line, ':'), *end;
		if (at == NULL || strstr(line, name) == NULL)
			continue;
		at++;
		for (uint64_t n; n = strtoul(at, &end, 10), end != at; at = end)
			sum += n; /* a processor's */
	}
	fclose(file);
	return sum;
}

/* Everybody has had the last word, but it may have rung twice. */
static bool settled(struct guest *guest)
{
	struct talk_port *port = guest->port;
	time_t end = time(NULL) + SETTLE_S;
	uint64_t counted;

	do {
		counted = interrupt_count(guest->interrupts);
		port->idle(port, true);
		for (unsigned i = 0; i < guest->vectors; i++)
			port->rung(port, i);
	} while (counted != port->taken && time(NULL) < end);
	printf("guest: interrupts: %llu taken, %llu counted by the kernel\n",
		(unsigned long long)port->taken, (unsigned long long)counted);
	return counted == port->taken;
}

static struct guest *open_device(void)
{
	static struct guest guest;
	char driver[32] = "none";

	const char *found = strstr(command_line(), "ivshmem.driver=");
	if (found != NULL)
		sscanf(found, "ivshmem.driver=%31s", driver);
	raw_find(&guest);
	if (strcmp(driver, "none") == 0)
		sysfs_access(&guest);
	else if (strcmp(driver, "uio_pci_generic") == 0)
		intx_access(&guest);
	else
		driver_access(&guest, driver);

	printf("guest: %s: ivshmem revision %u, ID %u, %llu bytes, %u vectors, driver %s\n",
		strrchr(guest.path, '/') + 1, guest.revision, guest.port->id,
		(unsigned long long)guest.size, guest.vectors, driver);
	if (guest.size < TALK_SIZE) {
		errno = ENOSPC;
		die("region");
	}
	return &guest;
}

int main(void)
{
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

	struct guest *guest = open_device();
	int err = talk(guest->port, &plan, &result, stdout);
	talk_print(&plan, &result, err, stdout);
	bool passed = err == 0;
	if (passed && parameter("ivshmem.linger", 0))
		passed = talk_linger(guest->port, &plan);
	if (passed && guest->interrupts != NULL)
		passed = settled(guest);
	if (guest->registers != NULL &&
		guest->registers[IVSHMEM_REG_IVPOSITION / 4] != guest->port->id) {
		printf("guest: IVPosition changed\n");
		passed = false;
	}
	leave(passed);
}
