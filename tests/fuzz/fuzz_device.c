/* SPDX-License-Identifier: MIT */
/*
 * The PCI device under a guest that does anything: what the VMM is told and what the guest can read
 * must agree with a model that is simpler than the device, after every access. In particular each
 * interrupt is sent once, when it may be and not later, and callbacks may come back.
 *
 * Input: three bytes of configuration:
 *   bit 0 revision, bit 1 external table, bits 2..5 which callbacks come back (see react())
 *   index into vector_counts
 *   size of BAR2: 4096 << (byte % 52)
 * Then records: a byte of kind (bits 0..2), BAR (4..5) and how the offset is meant (6..7), see
 * place_of(); offset or vector (2 bytes, little-endian); size; and for writes as many bytes of
 * data. Zeros once the input is at its end.
 */
#include <ivshmem/device.h>

#include "base/le.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum kind { CONFIG_READ, CONFIG_WRITE, READ, WRITE, INTERRUPT, READY, POSITION, RESET, KINDS };

enum { CANARY = 0xcb, SIZE_MAX_ACCESS = 255, COMMAND = 4, STATUS = 6, CONTROL = 0x42, PBA = 0x48 };

static const unsigned vector_counts[] = {
	0, 1, 2, 3, 8, 63, 64, 65, 128, 129, 240, 241, 256, 964, 2047, 2048};

struct guest {
	struct ivshmem_pci *pci;
	struct ivshmem_pci_config config;
	unsigned flags, reactions; /* which callbacks come back; how often they still may */

	/* The model. */
	bool pending[IVSHMEM_MAX_VECTORS], ready[IVSHMEM_MAX_VECTORS];
	uint32_t mask, status;
	int line;
	uint64_t placed[IVSHMEM_PCI_BARS];

	/* The access under way. */
	bool must_ring, may_access;
	uint32_t doorbell;
	size_t size;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
	if (!holds)
		abort();
}

static uint32_t get_config(struct guest *guest, uint32_t offset, unsigned width)
{
	uint8_t bytes[4];
	ivshmem_pci_config_read(guest->pci, offset, bytes, width);
	return (uint32_t)load_le(bytes, width);
}

static void read_entry(struct guest *guest, unsigned vector, uint8_t entry[16])
{
	ivshmem_pci_read(guest->pci, IVSHMEM_BAR_MSIX, (uint64_t)16 * vector, entry, 16);
}

static bool is_shown_pending(struct guest *guest, unsigned vector)
{
	uint8_t bits;
	ivshmem_pci_read(guest->pci, IVSHMEM_BAR_MSIX,
		(get_config(guest, PBA, 4) & ~7u) + vector / 8, &bits, 1);
	return (bits >> vector % 8 & 1) != 0;
}

static bool may_be_sent(struct guest *guest, unsigned vector)
{
	uint8_t entry[16];

	if ((get_config(guest, CONTROL, 2) & 0xc000) != 0x8000)
		return false;
	if (guest->config.external_table)
		return guest->ready[vector];
	read_entry(guest, vector, entry);
	return !(entry[12] & 1) && get_config(guest, COMMAND, 2) & 4;
}

static bool intx_asserted(const struct guest *guest)
{
	return guest->config.revision == 0 && guest->config.vectors == 0 &&
		(guest->status & guest->mask) != 0;
}

static void interrupt(struct guest *guest, unsigned vector)
{
	if (vector < guest->config.vectors)
		guest->pending[vector] = true;
	if (guest->config.revision == 0 && guest->config.vectors == 0)
		guest->status = 1;
	ivshmem_pci_interrupt(guest->pci, vector);
}

static void reset(struct guest *guest)
{
	memset(guest->pending, 0, sizeof(guest->pending));
	guest->mask = guest->status = 0;
	ivshmem_pci_reset(guest->pci);
}

/* Come back into the device out of a callback, not for ever. */
static bool react(struct guest *guest, unsigned flag)
{
	if (!(guest->flags >> flag & 1) || guest->reactions == 0)
		return false;
	guest->reactions--;
	return true;
}

/* ---- callbacks ---- */

static void on_ring(void *data, unsigned peer, unsigned vector)
{
	struct guest *guest = data;
	check(guest->must_ring && peer <= IVSHMEM_MAX_ID && vector <= 0xffff);
	check(IVSHMEM_DOORBELL(peer, vector) == guest->doorbell);
	guest->must_ring = false;
	if (react(guest, 2))
		interrupt(guest, vector);
}

static void on_message(void *data, unsigned vector, uint64_t address, uint32_t value)
{
	struct guest *guest = data;
	uint8_t entry[16];

	check(vector < guest->config.vectors && guest->pending[vector]);
	guest->pending[vector] = false;
	check(!is_shown_pending(guest, vector) && may_be_sent(guest, vector));
	read_entry(guest, vector, entry);
	bool external = guest->config.external_table;
	check(address == (external ? 0 : load_le(entry, 8)));
	check(value == (external ? 0 : load_le(entry + 8, 4)));
	if (react(guest, 3))
		interrupt(guest, vector == 0 ? guest->config.vectors - 1 : vector - 1);
}

static void on_line(void *data, int level)
{
	struct guest *guest = data;
	uint8_t status[4];

	check(level == !guest->line);
	guest->line = level;
	check(level == (intx_asserted(guest) && !(get_config(guest, COMMAND, 2) & 0x400)));
	if (react(guest, 4)) {
		guest->status = 0;
		ivshmem_pci_read(guest->pci, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, status,
			sizeof(status));
	}
}

static void on_place(void *data, unsigned bar, uint64_t address)
{
	struct guest *guest = data;

	check(bar < IVSHMEM_PCI_BARS && address != guest->placed[bar]);
	guest->placed[bar] = address;
	if (address != IVSHMEM_BAR_UNMAPPED) {
		uint64_t size = ivshmem_pci_bar_size(guest->pci, bar);
		check(size > 0 && address != 0 && (address & (size - 1)) == 0);
		check(get_config(guest, COMMAND, 2) & 2);
	}
	if (react(guest, 5))
		reset(guest);
}

static void on_memory(void *data, int write, uint64_t offset, void *bytes, size_t size)
{
	struct guest *guest = data;
	check(guest->may_access && size > 0 && size <= guest->size);
	check(offset < guest->config.memory_size && size <= guest->config.memory_size - offset);
	if (!write)
		memset(bytes, 0x99, size);
}

static const struct ivshmem_pci_ops ops = {.ring = on_ring,
	.message = on_message,
	.line = on_line,
	.place = on_place,
	.memory = on_memory};

/* ---- what must hold between accesses ---- */

static void check_interrupts(struct guest *guest)
{
	uint8_t pba[IVSHMEM_MAX_VECTORS / 8];

	ivshmem_pci_read(
		guest->pci, IVSHMEM_BAR_MSIX, get_config(guest, PBA, 4) & ~7u, pba, sizeof(pba));
	for (unsigned v = 0; v < guest->config.vectors; v++) {
		check((pba[v / 8] >> v % 8 & 1) == guest->pending[v]);
		check(!guest->pending[v] || !may_be_sent(guest, v));
	}
	bool asserted = intx_asserted(guest);
	check((get_config(guest, STATUS, 2) >> 3 & 1) == asserted);
	check(guest->line == (asserted && !(get_config(guest, COMMAND, 2) & 0x400)));
	check(ivshmem_pci_line(guest->pci) == guest->line);
}

static void check_registers(struct guest *guest)
{
	uint8_t bytes[4];
	ivshmem_pci_read(guest->pci, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, bytes, 4);
	check(load_le(bytes, 4) == guest->mask);
	ivshmem_pci_read(guest->pci, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS + 1, bytes, 3);
	check(load_le(bytes, 3) == guest->status >> 8);
	ivshmem_pci_read(guest->pci, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION, bytes, 4);
	check(load_le(bytes, 4) == guest->config.position);
}

/* ---- accesses ---- */

static bool covers(uint64_t offset, size_t size, uint64_t first, uint64_t length)
{
	return offset <= first && offset + size >= first + length && offset + size >= offset;
}

static void do_read(struct guest *guest, bool config, unsigned bar, uint64_t offset)
{
	uint8_t bytes[SIZE_MAX_ACCESS + 1];
	uint64_t limit = config ? IVSHMEM_PCI_CONFIG_SIZE : ivshmem_pci_bar_size(guest->pci, bar);

	memset(bytes, CANARY, sizeof(bytes));
	if (config) {
		ivshmem_pci_config_read(guest->pci, (uint32_t)offset, bytes, guest->size);
		offset = (uint32_t)offset;
	} else {
		if (bar == IVSHMEM_BAR_REGISTERS && covers(offset, guest->size, 4, 1))
			guest->status = 0;
		ivshmem_pci_read(guest->pci, bar, offset, bytes, guest->size);
	}
	for (size_t i = 0; i < guest->size; i++)
		check((offset < limit && i < limit - offset) || bytes[i] == 0);
	check(bytes[guest->size] == CANARY);
}

static void do_write(
	struct guest *guest, bool config, unsigned bar, uint64_t offset, const uint8_t *bytes)
{
	if (config) {
		ivshmem_pci_config_write(guest->pci, (uint32_t)offset, bytes, guest->size);
		return;
	}
	if (bar == IVSHMEM_BAR_REGISTERS) {
		if (covers(offset, guest->size, IVSHMEM_REG_INTRMASK, 4))
			guest->mask = (uint32_t)load_le(bytes + (IVSHMEM_REG_INTRMASK - offset), 4);
		if (covers(offset, guest->size, IVSHMEM_REG_INTRSTATUS, 4))
			guest->status =
				(uint32_t)load_le(bytes + (IVSHMEM_REG_INTRSTATUS - offset), 4);
		guest->must_ring = covers(offset, guest->size, IVSHMEM_REG_DOORBELL, 4);
		if (guest->must_ring)
			guest->doorbell =
				(uint32_t)load_le(bytes + (IVSHMEM_REG_DOORBELL - offset), 4);
	}
	ivshmem_pci_write(guest->pci, bar, offset, bytes, guest->size);
	check(!guest->must_ring);
}

/* The 16 bits of the input reach all of the small BARs, and the places where sums overflow. */
static uint64_t place_of(const struct guest *guest, unsigned meant, uint32_t offset)
{
	switch (meant) {
	case 0:
		return offset;
	case 1:
		return guest->config.memory_size - offset;
	case 2:
		return UINT64_MAX - offset;
	}
	return ((uint64_t)1 << 32) + offset;
}

/* Carries out one record; returns how long it was. */
static size_t step(struct guest *guest, const uint8_t *data, size_t left)
{
	uint8_t head[4] = {0}, bytes[SIZE_MAX_ACCESS] = {0};
	size_t used = left < sizeof(head) ? left : sizeof(head);
	memcpy(head, data, used);
	enum kind kind = (enum kind)(head[0] & 7);
	uint32_t value = (uint32_t)load_le(head + 1, 2);
	unsigned bar = head[0] >> 4 & 3, meant = head[0] >> 6;
	bool config = kind == CONFIG_READ || kind == CONFIG_WRITE;
	uint64_t offset = place_of(guest, meant, value);

	guest->size = head[3];
	guest->reactions = 4;
	if (kind == WRITE || kind == CONFIG_WRITE) {
		size_t given = left - used < guest->size ? left - used : guest->size;
		memcpy(bytes, data + used, given);
		used += given;
	}
	guest->may_access = bar == IVSHMEM_BAR_MEMORY && (kind == READ || kind == WRITE);
	switch (kind) {
	case CONFIG_READ:
	case READ:
		do_read(guest, config, bar, offset);
		break;
	case CONFIG_WRITE:
	case WRITE:
		do_write(guest, config, bar, offset, bytes);
		break;
	case INTERRUPT:
		interrupt(guest, meant == 0 ? value : (unsigned)offset);
		break;
	case READY:
		if (value < guest->config.vectors)
			guest->ready[value] = head[3] & 1;
		ivshmem_pci_vector_ready(guest->pci, value, head[3] & 1);
		break;
	case POSITION:
		guest->config.position = (uint32_t)offset;
		ivshmem_pci_set_position(guest->pci, (uint32_t)offset);
		break;
	case RESET:
		reset(guest);
		break;
	case KINDS:
		break;
	}
	guest->may_access = false;
	check_interrupts(guest);
	check_registers(guest);
	return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest guest; /* large */
	uint8_t initial[IVSHMEM_PCI_CONFIG_SIZE], final[IVSHMEM_PCI_CONFIG_SIZE];

	if (size < 3)
		return 0;
	guest = (struct guest){.config = IVSHMEM_PCI_CONFIG_INIT, .flags = data[0]};
	guest.config.revision = data[0] & 1;
	guest.config.external_table = data[0] >> 1 & 1;
	guest.config.vectors = vector_counts[data[1] % 16];
	guest.config.memory_size = (uint64_t)4096 << data[2] % 52;
	guest.config.ops = &ops;
	guest.config.data = &guest;
	memset(guest.placed, 0xff, sizeof(guest.placed));

	void *storage = malloc(ivshmem_pci_size(guest.config.vectors));
	check(storage != NULL);
	guest.pci = ivshmem_pci_init(storage, &guest.config);
	check(guest.pci != NULL);
	ivshmem_pci_config_read(guest.pci, 0, initial, sizeof(initial));
	for (size_t at = 3; at < size;)
		at += step(&guest, data + at, size - at);

	guest.reactions = 0;
	reset(&guest);
	check_interrupts(&guest);
	ivshmem_pci_config_read(guest.pci, 0, final, sizeof(final));
	check(memcmp(initial, final, sizeof(initial)) == 0);
	for (unsigned bar = 0; bar < IVSHMEM_PCI_BARS; bar++)
		check(guest.placed[bar] == IVSHMEM_BAR_UNMAPPED);
	free(storage);
	return 0;
}
