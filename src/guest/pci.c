/* SPDX-License-Identifier: MIT */
/* ivshmem devices in sysfs. */
#include "guest/pci.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "bus/pci/devices"

const struct guest_system guest_system = {.sys = "/sys", .dev = "/dev", .proc = "/proc"};

/* Configuration space, from the PCI specification. */
enum {
	CONFIG_SIZE = 256,
	CONFIG_OPEN = 64, /* what any user can read */
	COMMAND = 0x04,
	COMMAND_MEMORY = 0x02,
	COMMAND_MASTER = 0x04,
	STATUS = 0x06,
	STATUS_CAPABILITIES = 0x10,
	CAPABILITIES = 0x34,
	PIN = 0x3d,
	CAPABILITY_MSIX = 0x11,
	MSIX_CONTROL = 2,
	MSIX_LAST_VECTOR = 0x07ff,
	MSIX_ENABLE = 0x8000,
	MAX_CAPABILITIES = (CONFIG_SIZE - CONFIG_OPEN) / 4,
};

#define RESOURCE_UNSET 0x20000000u /* the kernel's: has no address */

/* ---- small files ---- */

static int read_file(const char *path, void *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ssize_t n = read(fd, bytes, size);
	int err = n < 0 ? -errno : (int)n;
	close(fd);
	return err;
}

static int read_line(char *line, size_t size, const char *format, va_list args)
{
	char path[PATH_MAX];

	vsnprintf(path, sizeof(path), format, args);
	int n = read_file(path, line, size - 1);
	if (n < 0)
		return n;
	line[n] = '\0';
	line[strcspn(line, "\n")] = '\0';
	return 0;
}

int sysfs_line(char *line, size_t size, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	int err = read_line(line, size, format, args);
	va_end(args);
	return err;
}

int sysfs_number(uint64_t *value, const char *format, ...)
{
	char line[32];
	va_list args;

	va_start(args, format);
	int err = read_line(line, sizeof(line), format, args);
	va_end(args);
	if (err < 0)
		return err;
	return parse_uint(line, 0, UINT64_MAX, value) < 0 ? -EIO : 0;
}

/* ---- one device ---- */

bool pci_address(const char *text, char address[PCI_ADDRESS_SIZE])
{
	static const char full[] = "xxxx:xx:xx.x";
	char whole[PCI_ADDRESS_SIZE + 1];
	bool short_form = strlen(text) == strlen("00:04.0");

	int n = snprintf(whole, sizeof(whole), "%s%s", short_form ? "0000:" : "", text);
	if (n != PCI_ADDRESS_SIZE - 1)
		return false;
	for (int i = 0; i < n; i++) {
		bool digit = strchr("0123456789abcdef", whole[i]) != NULL;
		if (full[i] == 'x' ? !digit : whole[i] != full[i])
			return false;
	}
	memcpy(address, whole, PCI_ADDRESS_SIZE);
	return true;
}

/* The file `resource`: a line for each BAR, "START END FLAGS". */
struct resource {
	uint64_t start, size;
};

/* A BAR's line: its first and last address and the kernel's flags, in hexadecimal. */
static bool parse_resource(const char *line, struct resource *one)
{
	unsigned long long numbers[3];

	for (unsigned i = 0; i < 3; i++) {
		char *end;
		numbers[i] = strtoull(line, &end, 16);
		if (end == line)
			return false;
		line = end;
	}
	bool placed = numbers[1] > numbers[0] && !(numbers[2] & RESOURCE_UNSET);
	*one = (struct resource){numbers[0], placed ? numbers[1] - numbers[0] + 1 : 0};
	return true;
}

static void read_resources(const struct guest_system *system, struct pci_function *function)
{
	char path[PATH_MAX];
	struct resource one;
	char line[128];

	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/resource", system->sys, function->address);
	FILE *file = fopen(path, "re");
	if (!file)
		return;
	for (unsigned bar = 0; bar <= IVSHMEM_BAR_MEMORY; bar++) {
		if (!fgets(line, sizeof(line), file) || !parse_resource(line, &one))
			break;
		if (bar == IVSHMEM_BAR_REGISTERS) {
			function->registers = one.start;
			function->registers_size = one.size;
		} else if (bar == IVSHMEM_BAR_MEMORY) {
			function->region = one.start;
			function->region_size = one.size;
		}
	}
	fclose(file);
}

static unsigned word_at(const uint8_t *config, unsigned offset)
{
	return config[offset] | (unsigned)config[offset + 1] << 8;
}

/* Find MSI-X in the list of capabilities, which may be damaged or endless. */
static unsigned msix_capability(const uint8_t *config)
{
	if (!(word_at(config, STATUS) & STATUS_CAPABILITIES))
		return 0;
	unsigned at = config[CAPABILITIES] & ~3u;
	for (int i = 0; i < MAX_CAPABILITIES && at >= CONFIG_OPEN; i++) {
		if (config[at] == CAPABILITY_MSIX)
			return at;
		at = config[at + 1] & ~3u;
	}
	return 0;
}

/* Any user sees that MSI-X is on by the interrupts which the kernel has made for it. */
static bool has_msi_interrupts(const struct guest_system *system, const char *address)
{
	char path[PATH_MAX];
	int entries = 0;

	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/msi_irqs", system->sys, address);
	DIR *directory = opendir(path);
	if (!directory)
		return false;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
		entries += entry->d_name[0] != '.';
	closedir(directory);
	return entries > 0;
}

static void read_config(const struct guest_system *system, struct pci_function *function)
{
	char path[PATH_MAX];
	uint8_t config[CONFIG_SIZE] = {0};

	function->msix_vectors = -1;
	function->msix_enabled = has_msi_interrupts(system, function->address);
	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/config", system->sys, function->address);
	int n = read_file(path, config, sizeof(config));
	if (n < CONFIG_OPEN)
		return;
	function->memory_enabled = word_at(config, COMMAND) & COMMAND_MEMORY;
	function->bus_master = word_at(config, COMMAND) & COMMAND_MASTER;
	function->intx = config[PIN] != 0;
	if (n < CONFIG_SIZE)
		return;
	unsigned at = msix_capability(config);
	function->msix_vectors = 0;
	if (at == 0 || at + MSIX_CONTROL + 1 >= CONFIG_SIZE)
		return;
	unsigned control = word_at(config, at + MSIX_CONTROL);
	function->msix_vectors = (int)(control & MSIX_LAST_VECTOR) + 1;
	function->msix_enabled = control & MSIX_ENABLE;
}

static void read_driver(const struct guest_system *system, struct pci_function *function)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/driver", system->sys, function->address);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(function->driver, sizeof(function->driver), "%.31s", slash ? slash + 1 : target);
}

int pci_read(const struct guest_system *system, const char *address, struct pci_function *function)
{
	uint64_t vendor = 0, device = 0, revision;

	memset(function, 0, sizeof(*function));
	if (!pci_address(address, function->address))
		return -ENODEV;
	address = function->address;
	int err = sysfs_number(&vendor, "%s/" DEVICES "/%s/vendor", system->sys, address);
	if (err == 0)
		err = sysfs_number(&device, "%s/" DEVICES "/%s/device", system->sys, address);
	if (err < 0)
		return err == -ENOENT ? -ENODEV : err;
	if (vendor != IVSHMEM_PCI_VENDOR_ID || device != IVSHMEM_PCI_DEVICE_ID)
		return -EMEDIUMTYPE;
	if (sysfs_number(&revision, "%s/" DEVICES "/%s/revision", system->sys, address) == 0)
		function->revision = (unsigned)revision;
	read_resources(system, function);
	read_config(system, function);
	read_driver(system, function);
	return 0;
}

struct pci_commands pci_bind_commands(
	const struct guest_system *system, const struct pci_function *function, const char *driver)
{
	const char *address = function->address;
	struct pci_commands commands;
	char path[PATH_MAX], load[48] = "", unbind[48] = "";

	snprintf(path, sizeof(path), "%s/bus/pci/drivers/%s", system->sys, driver);
	if (access(path, F_OK) < 0)
		snprintf(load, sizeof(load), "modprobe %s; ", driver);
	if (function->driver[0])
		snprintf(unbind, sizeof(unbind), "echo %s >driver/unbind; ", address);
	snprintf(commands.text, sizeof(commands.text),
		"%scd /sys/" DEVICES "/%s; echo %s >driver_override; %s"
		"echo %s >/sys/bus/pci/drivers_probe",
		load, address, driver, unbind, address);
	return commands;
}

/* ---- all devices ---- */

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct pci_function *)a)->address,
		((const struct pci_function *)b)->address);
}

int pci_list(const struct guest_system *system, struct pci_function *list, size_t n)
{
	char path[PATH_MAX];
	size_t found = 0;

	snprintf(path, sizeof(path), "%s/" DEVICES, system->sys);
	DIR *directory = opendir(path);
	if (!directory)
		return -errno;
	for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
		struct pci_function function;
		if (pci_read(system, entry->d_name, &function) < 0)
			continue;
		if (found < n)
			list[found] = function;
		found++;
	}
	closedir(directory);
	qsort(list, found < n ? found : n, sizeof(*list), by_address);
	return (int)found;
}
