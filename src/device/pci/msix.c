/* SPDX-License-Identifier: MIT */
/*
 * MSI-X: table, pending bits, messages. docs/device.md, sections 4.1 and 4.3.
 *
 * Theory of operation
 *
 * An interrupt that nothing is in the way of is sent and leaves no trace. Any other sets its
 * pending bit, whatever is in the way, and whoever may have removed an obstacle calls
 * msix_deliver(), which sends all that is pending and free to go. So nothing is lost, and nothing
 * is sent twice.
 *
 * A callback may do to the device what it likes: the bit is cleared before, and the conditions are
 * looked at again after each.
 */
#include "device/pci/internal.h"

#include "base/le.h"

#include <string.h>

enum { ENTRY_ADDRESS = 0, ENTRY_VALUE = 8, ENTRY_CONTROL = 12, ENTRY_MASKED = 1 };

/*
 * Where QEMU's device has its PBA and how large its BAR1 is, since guests see both: the PBA is at
 * 2048 or behind the table, and there is no more room than both need
 * (docs/decisions/0006-size-of-bar1.md).
 */
uint32_t msix_pba_offset(unsigned vectors)
{
	uint32_t table_size = vectors * MSIX_ENTRY_SIZE;
	return table_size > 2048 ? table_size : 2048;
}

uint32_t msix_bar_size(unsigned vectors)
{
	uint32_t end = msix_pba_offset(vectors) + (uint32_t)msix_bits_size(vectors);
	uint32_t size = 4096;
	while (size < end)
		size *= 2;
	return size;
}

size_t msix_bits_size(unsigned vectors)
{
	return (size_t)(vectors + 7) / 8;
}

static bool has(const uint8_t *bits, unsigned vector)
{
	return (bits[vector / 8] >> (vector % 8) & 1) != 0;
}

static void set(uint8_t *bits, unsigned vector, bool value)
{
	uint8_t bit = (uint8_t)(1 << vector % 8);
	bits[vector / 8] = (uint8_t)((bits[vector / 8] & ~bit) | (value ? bit : 0));
}

static bool is_free(const struct ivshmem_pci *pci, unsigned vector)
{
	if (!config_msix_active(pci))
		return false;
	if (pci->external_table)
		return has(pci->ready, vector);
	const uint8_t *entry = pci->table + (size_t)vector * MSIX_ENTRY_SIZE;
	return (config_command(pci) & COMMAND_MASTER) && !(entry[ENTRY_CONTROL] & ENTRY_MASKED);
}

static void send(const struct ivshmem_pci *pci, unsigned vector)
{
	const uint8_t *entry = pci->table + (size_t)vector * MSIX_ENTRY_SIZE;

	if (!pci->ops->message)
		return;
	if (pci->external_table)
		pci->ops->message(pci->data, vector, 0, 0);
	else
		pci->ops->message(pci->data, vector, load_le(entry + ENTRY_ADDRESS, 8),
			(uint32_t)load_le(entry + ENTRY_VALUE, 4));
}

void msix_set_ready(struct ivshmem_pci *pci, unsigned vector, bool ready)
{
	set(pci->ready, vector, ready);
}

static void set_pending(struct ivshmem_pci *pci, unsigned vector, bool value)
{
	pci->changes += has(pci->pending, vector) != value;
	set(pci->pending, vector, value);
}

void msix_interrupt(struct ivshmem_pci *pci, unsigned vector)
{
	bool now = is_free(pci, vector);

	set_pending(pci, vector, !now);
	if (now)
		send(pci, vector);
}

void msix_deliver(struct ivshmem_pci *pci, unsigned first, unsigned end)
{
	for (unsigned v = first; v < end; v++) {
		if (has(pci->pending, v) && is_free(pci, v)) {
			set_pending(pci, v, false);
			send(pci, v);
		}
	}
}

void msix_reset(struct ivshmem_pci *pci)
{
	memset(pci->table, 0, (size_t)pci->vectors * MSIX_ENTRY_SIZE);
	for (unsigned v = 0; v < pci->vectors; v++)
		pci->table[v * MSIX_ENTRY_SIZE + ENTRY_CONTROL] = ENTRY_MASKED;
	memset(pci->pending, 0, msix_bits_size(pci->vectors));
}

void msix_read(const struct ivshmem_pci *pci, uint32_t offset, uint8_t *bytes, size_t size)
{
	uint32_t table_size = pci->vectors * MSIX_ENTRY_SIZE;
	uint32_t pba = msix_pba_offset(pci->vectors);
	size_t pba_size = msix_bits_size(pci->vectors);

	for (size_t i = 0; i < size; i++) {
		size_t at = offset + i;
		if (at < table_size)
			bytes[i] = pci->table[at];
		else if (at >= pba && at - pba < pba_size)
			bytes[i] = pci->pending[at - pba];
		else
			bytes[i] = 0;
	}
}

/* Only whole fields of the table are written, so that a guest's 8-byte access counts as two. */
void msix_write(struct ivshmem_pci *pci, uint32_t offset, const uint8_t *bytes, size_t size)
{
	uint32_t table_size = pci->vectors * MSIX_ENTRY_SIZE;
	size_t end = offset + size < table_size ? offset + size : table_size;
	size_t at = (offset + 3u) & ~3u;

	for (; at + 4 <= end; at += 4)
		memcpy(pci->table + at, bytes + (at - offset), 4);
	pci->changes++;
	/* The mask bit is in the last field: an entry not written to its end is no freer now. */
	msix_deliver(pci, offset / MSIX_ENTRY_SIZE, (unsigned)(end / MSIX_ENTRY_SIZE));
}
