/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Memory is the host's: unicorn reaches it by itself, and so do we, through the table of regions.
 * A device is called back; what is outside of its window, and the private peripherals for
 * unprivileged code, is noted as a fault, which is taken once that instruction has ended: unicorn
 * has no way for a callback to break it off.
 *
 * One page has code of ours. An exception clears the local exclusive monitor, of which unicorn
 * shows nothing but what CLREX does to it; so the way into a handler and out of it leads over a
 * CLREX. The firmware can read the page, and has no reason to.
 */
#include "internal.h"

#include "base/clock.h"
#include "base/le.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- the private peripherals ---- */

#define PRIVATE_BASE 0xe0000000u
#define PRIVATE_SIZE 0x100000u

static uint32_t private_read(void *data, uint32_t offset, unsigned size)
{
	struct core *core = data;

	offset -= SCS_BASE - PRIVATE_BASE; /* wraps, and is large then */
	if (!core_is_privileged(core)) {
		core_access_fault(core, FAULT_READ, SCS_BASE + offset);
		return 0;
	}
	if (offset >= SCS_SIZE)
		return 0;
	uint32_t value = scs_read(&core->scs, offset, size, clock_ns());
	core_attend(core);
	return value;
}

static void private_write(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	struct core *core = data;

	offset -= SCS_BASE - PRIVATE_BASE;
	if (!core_is_privileged(core) &&
		(offset != SCS_STIR || (core->scs.ccr & CCR_USERSETMPEND) == 0)) {
		core_access_fault(core, FAULT_WRITE, SCS_BASE + offset);
		return;
	}
	if (offset >= SCS_SIZE)
		return;
	scs_write(&core->scs, offset, size, value, clock_ns());
	core_attend(core);
}

int core_map_private(struct core *core)
{
	const struct core_device device = {private_read, private_write, core};

	return core_map_device(core, PRIVATE_BASE, PRIVATE_SIZE, &device);
}

/* ---- mapping ---- */

static uint64_t device_read(uc_engine *uc, uint64_t offset, unsigned size, void *data)
{
	struct core_region *region = data;

	(void)uc;
	if (offset + size > region->size) {
		core_access_fault(region->core, FAULT_READ, region->address + (uint32_t)offset);
		return 0;
	}
	return region->device.read(region->device.data, (uint32_t)offset, size);
}

static void device_write(uc_engine *uc, uint64_t offset, unsigned size, uint64_t value, void *data)
{
	struct core_region *region = data;

	(void)uc;
	if (offset + size > region->size)
		core_access_fault(region->core, FAULT_WRITE, region->address + (uint32_t)offset);
	else
		region->device.write(region->device.data, (uint32_t)offset, size, (uint32_t)value);
}

/* Bytes of the address space that a region takes. */
static uint64_t span(uint32_t size)
{
	return ((uint64_t)size + CORE_PAGE - 1) / CORE_PAGE * CORE_PAGE;
}

static int check_place(const struct core *core, uint32_t address, uint32_t size)
{
	uint64_t end = address + span(size);

	if (size == 0 || address % CORE_PAGE != 0 || end > UINT64_C(1) << 32)
		return -EINVAL;
	for (unsigned i = 0; i < core->n_regions; i++) {
		const struct core_region *region = &core->regions[i];
		if (address < region->address + span(region->size) && region->address < end)
			return -EINVAL;
	}
	return core->n_regions == CORE_REGIONS ? -ENOMEM : 0;
}

static int mapped(struct core *core, uc_err error)
{
	if (error != UC_ERR_OK)
		return -ENOMEM;
	core->n_regions++;
	return 0;
}

int core_map_memory(struct core *core, uint32_t address, uint32_t size, void *memory)
{
	struct core_region *region = &core->regions[core->n_regions];
	int ret = size % CORE_PAGE != 0 ? -EINVAL : check_place(core, address, size);

	if (ret < 0)
		return ret;
	*region = (struct core_region){
		.core = core, .address = address, .size = size, .memory = memory};
	return mapped(core, uc_mem_map_ptr(core->uc, address, size, UC_PROT_ALL, memory));
}

int core_map_device(
	struct core *core, uint32_t address, uint32_t size, const struct core_device *device)
{
	struct core_region *region = &core->regions[core->n_regions];
	int ret = check_place(core, address, size);

	if (ret < 0)
		return ret;
	*region = (struct core_region){
		.core = core, .address = address, .size = size, .device = *device};
	return mapped(core,
		uc_mmio_map(core->uc, address, (size_t)span(size), device_read, region,
			device_write, region));
}

/* ---- the page with CLREX ---- */

enum { STUB_TARGET = 8 };

int core_map_stub(struct core *core)
{
	static const uint8_t code[STUB_TARGET] = {
		0xbf, 0xf3, 0x2f, 0x8f, /* clrex */
		0xdf, 0xf8, 0x00, 0xf0, /* ldr pc, [pc, #0] */
	};

	core->stub = aligned_alloc(CORE_PAGE, CORE_PAGE);
	if (core->stub == NULL)
		return -ENOMEM;
	memset(core->stub, 0, CORE_PAGE);
	memcpy(core->stub, code, sizeof(code));
	/* A region without memory: nothing but unicorn gets to it. */
	core->regions[core->n_regions] =
		(struct core_region){.address = CORE_STUB, .size = CORE_PAGE};
	return mapped(core,
		uc_mem_map_ptr(
			core->uc, CORE_STUB, CORE_PAGE, UC_PROT_READ | UC_PROT_EXEC, core->stub));
}

uint32_t core_by_stub(struct core *core, uint32_t next)
{
	/* To load so high an address would be an exception return; and nobody would get out of the
	 * page if it led there. */
	if (core->stub == NULL || next >= 0xf0000000 || next - CORE_STUB < CORE_PAGE)
		return next;
	store_le(core->stub + STUB_TARGET, 4, next);
	return CORE_STUB | 1;
}

/* ---- the firmware's memory from outside ---- */

/* The memory that has an address; NULL: none. */
static const struct core_region *region_at(const struct core *core, uint32_t address)
{
	for (unsigned i = 0; i < core->n_regions; i++) {
		const struct core_region *region = &core->regions[i];
		if (region->memory != NULL && address - region->address < region->size)
			return region;
	}
	return NULL;
}

/* It in the host's memory, and how much of it follows there. */
static uint8_t *memory_at(const struct core *core, uint32_t address, uint32_t *size)
{
	const struct core_region *region = region_at(core, address);

	if (region == NULL)
		return NULL;
	*size = region->size - (address - region->address);
	return region->memory + (address - region->address);
}

int core_read(const struct core *core, uint32_t address, void *bytes, uint32_t size)
{
	uint8_t *to = bytes;

	while (size > 0) {
		uint32_t there;
		const uint8_t *from = memory_at(core, address, &there);
		if (from == NULL)
			return -EFAULT;
		if (there > size)
			there = size;
		memcpy(to, from, there);
		to += there;
		address += there;
		size -= there;
	}
	return 0;
}

/* Through unicorn, which then forgets what it has translated there. */
int core_write(struct core *core, uint32_t address, const void *bytes, uint32_t size)
{
	uint32_t at = address, left = size, there;

	for (; left > 0; at += there, left -= there) {
		if (memory_at(core, at, &there) == NULL)
			return -EFAULT;
		if (there > left)
			there = left;
	}
	return uc_mem_write(core->uc, address, bytes, size) == UC_ERR_OK ? 0 : -EFAULT;
}

void core_fetch(const struct core *core, uint32_t address, uint16_t *code)
{
	uint8_t bytes[2];

	if (core_read(core, address, bytes, 2) == 0)
		*code = (uint16_t)load_le(bytes, 2);
}

bool core_find_code(struct core *core, uint32_t address)
{
	const struct core_region *region = region_at(core, address);

	if (region == NULL)
		return false;
	core->code = region->memory;
	core->code_start = region->address;
	core->code_size = region->size;
	return true;
}

bool core_load(const struct core *core, uint32_t address, uint32_t *words, unsigned n)
{
	uint8_t bytes[4];

	for (unsigned i = 0; i < n; i++) {
		if (core_read(core, address + 4 * i, bytes, 4) < 0)
			return false;
		words[i] = (uint32_t)load_le(bytes, 4);
	}
	return true;
}

bool core_store(struct core *core, uint32_t address, const uint32_t *words, unsigned n)
{
	bool all = true;

	for (unsigned i = 0; i < n; i++) {
		uint32_t there;
		uint8_t *to = memory_at(core, address + 4 * i, &there);
		if (to != NULL && there >= 4)
			store_le(to, 4, words[i]);
		else
			all = false;
	}
	return all;
}
