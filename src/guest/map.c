/* SPDX-License-Identifier: MIT */
/*
 * Registers are mapped as one page, whatever their size: it is all that any of the drivers can map.
 * uio_ivshmem and vfio-pci see to it that they are at its start and nothing else is in it; without
 * a driver they are where their address says.
 */
#include "guest/internal.h"
#include "region/region.h"

#include <errno.h>
#include <unistd.h>

static int explain_map(struct guest_error *error, int err, const char *name, const char *what)
{
	const char *remedy = "";

	if (err == -EPERM || err == -EACCES)
		remedy = ": be root; a kernel in lockdown (secure boot) allows it to drivers only";
	else if (err == -ENOMEM)
		remedy = ": raise the limit of address space (ulimit -v)";
	else if (err == -EINVAL)
		remedy = ": do registers share a page with another device? Boot with "
			 "pci=resource_alignment=pci:1af4:1110";
	return guest_fail(error, err, "mapping the %s from %s: %m%s", what, name, remedy);
}

int guest_map_registers(
	struct guest *guest, int fd, uint64_t offset, const char *name, struct guest_error *error)
{
	uint64_t size = (uint64_t)sysconf(_SC_PAGESIZE);
	void *address;
	int err = region_map_at(fd, offset, size, false, &address);

	if (err < 0)
		return explain_map(error, err, name, "registers");
	uint64_t in_page = guest->way == GUEST_PCI ? guest->function.registers % size : 0;
	guest->page = address;
	guest->registers = (volatile uint32_t *)((char *)address + in_page);
	return 0;
}

int guest_map_region(struct guest *guest, int fd, uint64_t offset, bool read_only, const char *name,
	struct guest_error *error)
{
	uint64_t size = guest->function.region_size;
	int err = region_map_at(fd, offset, size, read_only, &guest->region);

	if (err < 0)
		return explain_map(error, err, name, "shared memory");
	guest->size = size;
	return 0;
}
