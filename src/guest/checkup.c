/* SPDX-License-Identifier: MIT */
#include "guest/checkup.h"

#include "base/parse.h"
#include "guest/cache.h"
#include "guest/internal.h"

#include <ivshmem/abi.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICES    "bus/pci/devices"
#define MODULE     "uio_ivshmem"
#define LISTED     8 /* devices that a message names */
#define SLOW_RATIO 4
#define REGION_MS  2000 /* for a driver that is just being bound */

#define DOORBELL_DEVICE                                                                            \
	"-chardev socket,id=iv,path=/tmp/ivshmem_socket "                                          \
	"-device ivshmem-doorbell,vectors=2,chardev=iv"

static const char *const drivers[] = {
	[GUEST_UIO] = MODULE,
	[GUEST_VFIO] = "vfio-pci",
	[GUEST_PCI] = "",
};

/* ---- results ---- */

static const struct checkup_result fine = {.status = CHECKUP_OK};

struct checkup_result checkup_found(enum checkup_status status, const char *format, ...)
{
	struct checkup_result result = {.status = status};
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(result.found, sizeof(result.found), format, arguments);
	va_end(arguments);
	return result;
}

struct checkup_result checkup_advise(struct checkup_result result, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(result.remedy, sizeof(result.remedy), format, arguments);
	va_end(arguments);
	return result;
}

/* Commands, for root, that give the device to a driver. */
static struct pci_commands bind_to(const struct checkup *checkup, const char *driver)
{
	return pci_bind_commands(checkup->system, &checkup->function, driver);
}

/* ---- device ---- */

static struct checkup_result name_several(
	const struct guest_system *system, const struct pci_function *list, int count)
{
	char names[LISTED * (PCI_ADDRESS_SIZE + 1 + sizeof(" (x)") + IVSHMEM_HEADER_NAME_SIZE)];
	struct region_identity identity;
	size_t used = 0;

	for (int i = 0; i < count && i < LISTED; i++) {
		bool named = guest_identify(system, &list[i], 0, &identity) == 0;
		used += (size_t)snprintf(names + used, sizeof(names) - used, " %s%s%s%s",
			list[i].address, named ? " (" : "", named ? identity.name : "",
			named ? ")" : "");
	}
	return checkup_advise(checkup_found(CHECKUP_FAILED, "%d ivshmem devices:%s", count, names),
		"choose one: ivshmem-client --uri auto:%s doctor", list[0].address);
}

static struct checkup_result find_only(struct checkup *checkup)
{
	struct pci_function list[LISTED];
	int count = pci_list(checkup->system, list, LISTED);

	if (count > 1)
		return name_several(checkup->system, list, count);
	if (count <= 0)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "no ivshmem device in this machine"),
			"start its QEMU with " DOORBELL_DEVICE
			" (on a host: ivshmem-client --uri unix:/tmp/ivshmem_socket doctor)");
	checkup->function = list[0];
	return fine;
}

/* The device at the address, or with the UIO device, or with the region, that the URI names. */
static struct checkup_result find_named(struct checkup *checkup)
{
	struct uio_name name = {.vector = -1};
	struct guest_error error = {""};
	enum guest_way way;

	if (checkup->by_region) {
		if (guest_choose_region(checkup->system, checkup->rest, REGION_MS, &way,
			    name.address, &error) < 0)
			return checkup_advise(checkup_found(CHECKUP_FAILED,
						      "not found by region:%.63s", checkup->rest),
				"%s", error.text);
	} else if (!checkup->automatic && checkup->way == GUEST_UIO) {
		if (uio_parse(checkup->system, checkup->rest, &name, &error) < 0)
			return checkup_advise(checkup_found(CHECKUP_FAILED, "uio:%.80s names none",
						      checkup->rest),
				"%s", error.text);
	} else if (!pci_address(checkup->rest, name.address)) {
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "'%.80s' is no PCI address", checkup->rest),
			"write it like 0000:00:04.0");
	}
	checkup->vector = name.vector;
	int err = pci_read(checkup->system, name.address, &checkup->function);
	if (err < 0)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "%s is %s", name.address,
				err == -EMEDIUMTYPE ? "not an ivshmem device" : "not there"),
			"ivshmem-client --uri auto: doctor finds the ivshmem devices");
	return fine;
}

struct checkup_result checkup_device(struct checkup *checkup)
{
	const struct pci_function *function = &checkup->function;
	char size[24];

	struct checkup_result result = checkup->rest[0] ? find_named(checkup) : find_only(checkup);
	if (result.status != CHECKUP_OK)
		return result;
	if (function->registers_size == 0 || function->region_size == 0)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED,
				"%s has no registers or no memory: there was no room for its BARs",
				function->address),
			"make room: -machine q35 -global q35-pcihost.pci-hole64-size=64G, or share "
			"less memory");
	return checkup_found(CHECKUP_OK, "%s, revision %u, %s of memory at 0x%llx",
		function->address, function->revision, format_size(function->region_size, size),
		(unsigned long long)function->region);
}

/* ---- driver ---- */

/* The way that goes with the driver; false if none does. */
static bool find_way(const char *driver, enum guest_way *way)
{
	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		if (strcmp(driver, drivers[i]) == 0) {
			*way = (enum guest_way)i;
			return true;
		}
	}
	return false;
}

/* Another than the URI asks for, or one that is of no use (not `ours`). */
static struct checkup_result wrong_driver(const struct checkup *checkup, bool ours)
{
	const char *driver = checkup->function.driver[0] ? checkup->function.driver : "none";
	const char *wanted = checkup->way == GUEST_PCI ? MODULE : drivers[checkup->way];

	if (!ours)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED,
				"%s: no way to the device's memory and interrupts", driver),
			"as root: %s", bind_to(checkup, wanted).text);
	if (checkup->way == GUEST_PCI)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, "%s, and pci: is for none", driver),
			"use --uri auto:%s", checkup->function.address);
	return checkup_advise(
		checkup_found(CHECKUP_FAILED, "%s, and the URI asks for %s", driver, wanted),
		"use --uri auto:%s, or as root: %s", checkup->function.address,
		bind_to(checkup, wanted).text);
}

struct checkup_result checkup_driver(struct checkup *checkup)
{
	const char *driver = checkup->function.driver;
	enum guest_way way = GUEST_UIO;
	bool ours = find_way(driver, &way);

	if (checkup->automatic)
		checkup->way = way;
	if (!ours || way != checkup->way)
		return wrong_driver(checkup, ours);
	if (way == GUEST_PCI)
		return checkup_advise(
			checkup_found(CHECKUP_NOTE,
				"none: root can use memory and doorbells, nobody gets interrupts"),
			"as root: %s (or vfio-pci in its place; dmesg says why a driver refuses)",
			bind_to(checkup, MODULE).text);
	return checkup_found(CHECKUP_OK, "%s", driver);
}

/* ---- permissions ---- */

static struct checkup_result advise_uio(struct checkup_result result, const char *path)
{
	struct stat status;
	bool grouped = stat(path, &status) == 0 && status.st_gid != 0 &&
		(status.st_mode & (S_IRGRP | S_IWGRP)) == (S_IRGRP | S_IWGRP);

	if (grouped)
		return checkup_advise(
			result, "sudo usermod -aG ivshmem $USER; then log out and in again");
	return checkup_advise(result,
		"as root: groupadd --system ivshmem, and install the udev rule 60-ivshmem.rules "
		"of " MODULE "; until then: sudo chown $USER %.80s",
		path);
}

static struct checkup_result advise_permission(
	const struct checkup *checkup, struct checkup_result result, const char *path)
{
	switch (checkup->way) {
	case GUEST_UIO:
		return advise_uio(result, path);
	case GUEST_VFIO:
		return checkup_advise(result, "sudo chown $USER %.80s", path);
	case GUEST_PCI:
		break;
	}
	return checkup_advise(result,
		"be root, or use the driver " MODULE ", which can give the device to a group: as "
		"root: %s",
		bind_to(checkup, MODULE).text);
}

/* May this user read and write the file? */
static struct checkup_result check_file(const struct checkup *checkup, const char *path)
{
	if (faccessat(AT_FDCWD, path, R_OK | W_OK, AT_EACCESS) == 0)
		return checkup_found(CHECKUP_OK, "%.200s", path);
	int err = errno;
	struct checkup_result result =
		checkup_found(CHECKUP_FAILED, "%.200s: %s", path, strerror(err));
	if (err != ENOENT)
		return advise_permission(checkup, result, path);
	return checkup_advise(
		result, "as root: mount -t devtmpfs devtmpfs %s", checkup->system->dev);
}

static struct checkup_result check_uio_files(const struct checkup *checkup)
{
	struct checkup_result result = fine;
	const char *address = checkup->function.address;
	char path[PATH_MAX];
	unsigned files = 0;

	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/uio", checkup->system->sys, address);
	DIR *directory = opendir(path);
	for (struct dirent *entry;
		result.status == CHECKUP_OK && directory && (entry = readdir(directory)) != NULL;) {
		struct uio_name name;
		struct guest_error error = {""};
		char rest[32];
		snprintf(rest, sizeof(rest), "%.31s", entry->d_name);
		if (uio_parse(checkup->system, rest, &name, &error) < 0 ||
			(checkup->vector >= 0 && name.vector != checkup->vector))
			continue;
		snprintf(path, sizeof(path), "%s/%s", checkup->system->dev, rest);
		result = check_file(checkup, path);
		files++;
	}
	if (directory)
		closedir(directory);
	if (files == 0)
		return checkup_advise(
			checkup_found(CHECKUP_FAILED, MODULE " has made no UIO device of it"),
			"as root: %s", bind_to(checkup, MODULE).text);
	if (result.status == CHECKUP_OK && files > 1)
		return checkup_found(CHECKUP_OK, "%u UIO devices", files);
	return result;
}

static struct checkup_result check_vfio_files(const struct checkup *checkup)
{
	char path[PATH_MAX], target[PATH_MAX];

	snprintf(path, sizeof(path), "%s/" DEVICES "/%s/iommu_group", checkup->system->sys,
		checkup->function.address);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return checkup_advise(checkup_found(CHECKUP_FAILED, "no IOMMU confines the device"),
			"give the machine one: -machine q35,kernel-irqchip=split -device "
			"intel-iommu,intremap=on (aarch64: -machine virt,iommu=smmuv3); or use "
			"the driver " MODULE);
	target[n] = '\0';
	const char *slash = strrchr(target, '/');

	snprintf(path, sizeof(path), "%s/vfio/vfio", checkup->system->dev);
	if (access(path, F_OK) < 0)
		return checkup_advise(checkup_found(CHECKUP_FAILED, "no %.200s", path),
			"as root: modprobe vfio_iommu_type1");
	struct checkup_result result = check_file(checkup, path);
	if (result.status != CHECKUP_OK)
		return result;
	snprintf(path, sizeof(path), "%s/vfio/%.16s", checkup->system->dev,
		slash ? slash + 1 : target);
	return check_file(checkup, path);
}

static struct checkup_result check_sysfs_files(const struct checkup *checkup)
{
	static const char *const names[] = {"enable", "resource0", SYSFS_MEMORY};
	struct checkup_result result = fine;
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "%s/" DEVICES "/%s/%s", checkup->system->sys,
			checkup->function.address, names[i]);
		result = check_file(checkup, path);
		if (result.status != CHECKUP_OK)
			break;
	}
	return result;
}

struct checkup_result checkup_permissions(struct checkup *checkup)
{
	switch (checkup->way) {
	case GUEST_UIO:
		return check_uio_files(checkup);
	case GUEST_VFIO:
		return check_vfio_files(checkup);
	case GUEST_PCI:
		break;
	}
	return check_sysfs_files(checkup);
}

/* ---- what the driver has made of it ---- */

/* How many vectors the driver uses; -1: nobody can tell. */
static int used_vectors(const struct checkup *checkup)
{
	uint64_t count;

	if (checkup->way != GUEST_UIO)
		return checkup->opened_vectors;
	if (sysfs_number(&count, "%s/" DEVICES "/%s/ivshmem/vectors", checkup->system->sys,
		    checkup->function.address) < 0)
		return -1;
	return count < INT_MAX ? (int)count : -1;
}

static struct checkup_result plain(const char *what)
{
	return checkup_advise(
		checkup_found(CHECKUP_NOTE, "none: the device has %s (ivshmem-plain)", what),
		"for doorbells and interrupts, start its QEMU with " DOORBELL_DEVICE);
}

struct checkup_result checkup_id(struct checkup *checkup)
{
	char line[16];
	int err = sysfs_line(line, sizeof(line), "%s/" DEVICES "/%s/ivshmem/id",
		checkup->system->sys, checkup->function.address);

	if (err < 0)
		return checkup_advise(checkup_found(CHECKUP_FAILED, "the driver does not tell: %s",
					      strerror(-err)),
			"use the " MODULE " that comes with this program");
	if (strcmp(line, "-1") != 0)
		return checkup_found(CHECKUP_OK, "%s", line);
	if (used_vectors(checkup) == 0)
		return plain("memory and no server");
	return checkup_advise(checkup_found(CHECKUP_FAILED,
				      "none: the VMM of this machine is not connected to a server"),
		"on the host: ivshmem-server -S PATH, the PATH in -chardev socket,path=PATH of its "
		"QEMU");
}

/* Read its configuration again: somebody may have opened it meanwhile. */
static struct checkup_result look_again(struct checkup *checkup)
{
	char address[PCI_ADDRESS_SIZE];

	memcpy(address, checkup->function.address, sizeof(address));
	if (pci_read(checkup->system, address, &checkup->function) == 0)
		return checkup_found(CHECKUP_OK, "on");
	return checkup_advise(checkup_found(CHECKUP_FAILED, "%s has gone", address),
		"plug it in again: device_add in QEMU's monitor");
}

struct checkup_result checkup_bus_master(struct checkup *checkup)
{
	struct checkup_result result = look_again(checkup);

	if (result.status != CHECKUP_OK || checkup->function.bus_master)
		return result;
	return checkup_advise(
		checkup_found(CHECKUP_FAILED, "off: the device cannot send its interrupts"),
		"as root: setpci -s %s COMMAND=4:4, or %s", checkup->function.address,
		bind_to(checkup, drivers[checkup->way]).text);
}

static bool uses_intx(const struct pci_function *function)
{
	return function->intx && function->msix_vectors <= 0 && !function->msix_enabled;
}

struct checkup_result checkup_msix(struct checkup *checkup)
{
	struct checkup_result result = look_again(checkup);

	if (result.status != CHECKUP_OK || checkup->function.msix_enabled)
		return result;
	if (used_vectors(checkup) == 0)
		return checkup_found(CHECKUP_SKIPPED, "the device has no interrupts");
	if (uses_intx(&checkup->function))
		return checkup_found(CHECKUP_OK, "off: the device interrupts by INTx");
	return checkup_advise(checkup_found(CHECKUP_FAILED, "off: the device cannot interrupt"),
		"boot the kernel without pci=nomsi; as root: %s",
		bind_to(checkup, drivers[checkup->way]).text);
}

static struct checkup_result too_few(const struct checkup *checkup, int used, int all)
{
	struct checkup_result result = checkup_found(CHECKUP_FAILED,
		"the driver uses %d of the device's %d: nobody hears the others", used, all);
	uint64_t most;

	if (checkup->way == GUEST_UIO &&
		sysfs_number(&most, "%s/module/" MODULE "/parameters/max_vectors",
			checkup->system->sys) == 0 &&
		most == (uint64_t)used)
		return checkup_advise(result,
			"as root: modprobe -r " MODULE "; modprobe " MODULE
			" max_vectors=%d (for ever: echo options " MODULE
			" max_vectors=%d >/etc/modprobe.d/" MODULE ".conf)",
			all, all);
	return checkup_advise(result,
		"the machine has no more interrupts: give it more processors (-smp), or the device "
		"and the server fewer vectors (-device ivshmem-doorbell,vectors=%d, ivshmem-server "
		"--vectors %d)",
		used, used);
}

struct checkup_result checkup_vectors(struct checkup *checkup)
{
	int all = checkup->function.msix_vectors, used = used_vectors(checkup);

	if (used < 0)
		return checkup_found(CHECKUP_SKIPPED, "nobody tells how many the driver uses");
	if (used == 0)
		return plain("no interrupts");
	if (uses_intx(&checkup->function))
		return checkup_found(CHECKUP_OK, "1, by INTx");
	if (all < 0)
		return checkup_found(CHECKUP_SKIPPED,
			"the driver uses %d; how many the device has, only root can read", used);
	if (used < all)
		return too_few(checkup, used, all);
	return checkup_found(CHECKUP_OK, "%d, all that the device has", used);
}

/* ---- memory ---- */

static struct checkup_result advise_cache(
	const struct checkup *checkup, struct checkup_result result, enum ivshmem_cache cache)
{
	const struct pci_function *function = &checkup->function;

	if (checkup->way != GUEST_UIO)
		return checkup_advise(result,
			"vfio-pci and sysfs map it so, always; " MODULE
			" maps it write-back: as root: %s",
			bind_to(checkup, MODULE).text);
	if (cache == IVSHMEM_CACHE_WRITE_BACK)
		return checkup_advise(result,
			"nothing here explains it: on the host, ivshmem-client --uri unix:PATH "
			"doctor measures the same memory; use KVM (-accel kvm)");
	int number = cache_mtrr(checkup->system, function->region, function->region_size);
	if (number < 0 && number != -ENOENT)
		return checkup_advise(
			result, "as root: ivshmem-client doctor, which then can read /proc/mtrr");
	if (number < 0)
		return checkup_advise(result,
			"a program maps it through sysfs or /dev/mem meanwhile: end it; "
			"/sys/kernel/debug/x86/pat_memtype_list lists such mappings");
	return checkup_advise(result,
		"the firmware has declared these addresses uncachable: as root, before any program "
		"maps them: echo \"disable=%d\" >/proc/mtrr; or have the BAR above 4 GiB, as UEFI "
		"firmware places it (-bios OVMF.fd)",
		number);
}

struct checkup_result checkup_cache(struct checkup *checkup)
{
	static const char *const names[] = {
		[IVSHMEM_CACHE_WRITE_BACK] = "write-back, as ordinary memory",
		[IVSHMEM_CACHE_WRITE_COMBINING] = "write-combining: reading is slow",
		[IVSHMEM_CACHE_UNCACHED] = "uncached, unless the hypervisor knows better",
	};
	enum ivshmem_cache cache = cache_type(checkup->system, &checkup->function, checkup->way);

	if (cache == IVSHMEM_CACHE_UNKNOWN)
		return checkup_found(
			CHECKUP_SKIPPED, "only root can read %s/mtrr", checkup->system->proc);
	if (cache == IVSHMEM_CACHE_WRITE_BACK)
		return checkup_found(CHECKUP_OK, "%s", names[cache]);
	return advise_cache(checkup, checkup_found(CHECKUP_NOTE, "%s", names[cache]), cache);
}

static bool is_slow(uint64_t bandwidth, uint64_t ordinary)
{
	return bandwidth < ordinary / SLOW_RATIO;
}

struct checkup_result checkup_bandwidth(
	const struct checkup *checkup, const struct ivshmem_memory *memory)
{
	char read[24], size[24], write[32] = "not measured", ram_read[24], ram_write[24];
	bool slow = is_slow(memory->read_bandwidth, memory->ram_read_bandwidth) ||
		(memory->write_bandwidth > 0 && /* else it could not be measured */
			is_slow(memory->write_bandwidth, memory->ram_write_bandwidth));

	if (memory->write_bandwidth > 0)
		snprintf(write, sizeof(write), "%s/s", format_size(memory->write_bandwidth, size));
	struct checkup_result result = checkup_found(slow ? CHECKUP_FAILED : CHECKUP_OK,
		"read %s/s, write %s; ordinary memory: %s/s, %s/s",
		format_size(memory->read_bandwidth, read), write,
		format_size(memory->ram_read_bandwidth, ram_read),
		format_size(memory->ram_write_bandwidth, ram_write));
	if (!slow)
		return result;
	if (checkup)
		return advise_cache(checkup, result, memory->cache);
	return checkup_advise(result,
		"is it in swap, on a disk, or on another NUMA node? Share a memfd of this node: "
		"ivshmem-server --numa-node N");
}
