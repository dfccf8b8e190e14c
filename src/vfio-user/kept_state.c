/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * As with the server's state, nothing is used before all of it has been looked at. The device's own
 * state is tried out on a device that nobody has.
 *
 * What is in the buffers is not looked at here: it came from a VMM, and is treated as that.
 */
#include "vfio-user/kept_state.h"

#include "vfio-user/irqs.h"

#include <ivshmem/device.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096u

_Static_assert(sizeof(struct vfu_kept_header) <= PAGE, "the header is a page");
_Static_assert(sizeof(struct vfu_kept_block) % 8 == 0, "no padding at the end");

/*
 * Layout
 */

/* Where things are, in bytes from the beginning. */
struct layout {
	size_t heard, irqs[2], cores[2], out, in, size;
};

/* The next part, of `size` bytes. None shares a line of the cache with another. */
static size_t place(struct layout *at, size_t size)
{
	size_t here = at->size;
	at->size += (size + 63) / 64 * 64;
	return here;
}

static struct layout lay_out(unsigned vectors)
{
	struct layout at = {.size = PAGE};

	at.heard = place(&at, vectors * sizeof(uint64_t));
	for (unsigned i = 0; i < 2; i++) {
		at.irqs[i] = place(&at, vfu_irqs_slots(vectors) * sizeof(uint64_t));
		at.cores[i] = place(&at, ivshmem_pci_saved_size(vectors));
	}
	at.out = place(&at, VFU_MESSAGE_MAX);
	at.in = place(&at, VFU_KEPT_IN_SIZE);
	at.size = (at.size + PAGE - 1) / PAGE * PAGE;
	return at;
}

size_t vfu_kept_lay_out(struct vfu_kept_state *state, void *memory, unsigned vectors)
{
	struct layout at = lay_out(vectors);
	uint8_t *base = memory;

	*state = (struct vfu_kept_state){
		.header = memory,
		.heard = (uint64_t *)(void *)(base + at.heard),
		.out = base + at.out,
		.in = base + at.in,
		.vectors = vectors,
	};
	for (unsigned i = 0; i < 2; i++) {
		state->irqs[i] = (uint64_t *)(void *)(base + at.irqs[i]);
		state->cores[i] = base + at.cores[i];
	}
	return at.size;
}

size_t vfu_kept_size(unsigned vectors)
{
	return lay_out(vectors).size;
}

unsigned vfu_kept_msix(const struct vfu_kept_identity *identity)
{
	return vfu_device_has_msix((enum vfu_device_type)identity->type, identity->msi)
		? identity->vectors
		: 0;
}

/*
 * Checks. Each returns 0, or an error with the reason.
 */

static int __attribute__((format(printf, 3, 4)))
bad(struct vfu_why *why, int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return error;
}

/* Whoever has changed an option reads this. */
static int check_identity(const struct vfu_kept_identity *was, const struct vfu_kept_identity *now,
	struct vfu_why *why)
{
	const struct {
		const char *name;
		uint64_t was, now;
	} fields[] = {
		{"type", was->type, now->type},
		{"vectors", was->vectors, now->vectors},
		{"msi", was->msi, now->msi},
		{"subsystem ID", was->subsystem_id, now->subsystem_id},
		{"size", was->bar_size, now->bar_size},
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (fields[i].was != fields[i].now)
			return bad(why, -EINVAL,
				"identity: it is the state of another device: %s was %#llx, and is "
				"%#llx now",
				fields[i].name, (unsigned long long)fields[i].was,
				(unsigned long long)fields[i].now);
	}
	return 0;
}

static int check_header(struct vfu_kept_state *state, void *memory, size_t size,
	const struct vfu_kept_identity *identity, struct vfu_why *why)
{
	const struct vfu_kept_header *header = memory;

	if (size < sizeof(*header) ||
		memcmp(header->magic, VFU_KEPT_MAGIC, sizeof(header->magic)) != 0)
		return bad(why, -EINVAL, "magic: this is no state of a device");
	if (header->version > VFU_KEPT_VERSION)
		return bad(why, -ENOTSUP,
			"version: the state is of version %u, and this program knows them up to %u",
			header->version, VFU_KEPT_VERSION);
	if (header->version != 1) /* an older one, once there is, is brought up to date here */
		return bad(why, -EINVAL, "version: there is no %u", header->version);
	if (header->header_size != sizeof(*header))
		return bad(why, -EINVAL, "header_size: %u", header->header_size);
	int error = check_identity(&header->identity, identity, why);
	if (error < 0)
		return error;
	if (header->size != size || vfu_kept_lay_out(state, memory, identity->vectors) != size)
		return bad(why, -EINVAL, "size: %llu, of a memory of %zu bytes for %u vectors",
			(unsigned long long)header->size, size, identity->vectors);
	if (header->hearing > 1)
		return bad(why, -EINVAL, "hearing: neither 0 nor 1");
	return 0;
}

/* Numbers that were put, of not more descriptors than come with one message? */
static bool are_numbers(const struct vfu_kept_header *header, uint64_t first, uint64_t n)
{
	if (n == 0)
		return true;
	return n <= VFU_FDS_MAX && first > 0 && first <= header->last_number &&
		n - 1 <= header->last_number - first;
}

static bool are_fds(const struct vfu_kept_header *header, const struct vfu_kept_block *block,
	const struct vfu_kept_fds *fds)
{
	return are_numbers(header, fds->first, fds->n) && (fds->n == 0 || fds->owner < block->have);
}

static int check_block(const struct vfu_kept_header *header, const struct vfu_kept_block *block,
	struct vfu_why *why)
{
	if (block->at > block->have || block->have > VFU_KEPT_IN_SIZE)
		return bad(why, -EINVAL, "at or have: %u, %u", block->at, block->have);
	if (!are_fds(header, block, &block->early) || !are_fds(header, block, &block->late))
		return bad(why, -EINVAL, "early or late: descriptors that cannot have come");
	if (block->reply_size != 0 &&
		(block->reply_size < VFU_HEADER_SIZE || block->reply_size > VFU_MESSAGE_MAX))
		return bad(why, -EINVAL, "reply_size: %u", block->reply_size);
	if (block->reply_sent > block->reply_size)
		return bad(
			why, -EINVAL, "reply_sent: %u of %u", block->reply_sent, block->reply_size);
	if (block->reply_with_fd > 1 || block->closing > 1 || block->agreed > 1 ||
		block->configured > 1 || block->trapped > 1)
		return bad(why, -EINVAL,
			"reply_with_fd, closing, agreed, configured or trapped: neither 0 nor 1");
	if (block->core > 2 || block->irqs > 2)
		return bad(why, -EINVAL, "core or irqs: %u, %u", block->core, block->irqs);
	/* One message's descriptors before a commit, and one's behind it. */
	if (block->numbered > header->last_number ||
		header->last_number - block->numbered > VFU_FDS_MAX)
		return bad(why, -EINVAL, "numbered: %llu of %llu",
			(unsigned long long)block->numbered,
			(unsigned long long)header->last_number);
	return 0;
}

static int check_notes(const struct vfu_kept_header *header, const struct vfu_kept_block *block,
	struct vfu_why *why)
{
	const struct vfu_kept_take *take = &header->take;
	size_t bytes;

	if (take->at == header->current && fdpass_noted(&take->note, &bytes)) {
		if (bytes == 0 || bytes > take->size ||
			bytes > VFU_KEPT_IN_SIZE - vfu_kept_from(block))
			return bad(why, -EINVAL, "take: a length of %zu", bytes);
		if (!are_numbers(header, take->first, take->n))
			return bad(why, -EINVAL, "take: descriptors that cannot have come");
	}
	if (header->send.at == header->current && fdpass_noted(&header->send.note, &bytes) &&
		(bytes == 0 || bytes > block->reply_size - block->reply_sent))
		return bad(why, -EINVAL, "send: a length of %zu", bytes);
	return 0;
}

static int check_irqs(
	const struct vfu_kept_state *state, const struct vfu_kept_block *block, struct vfu_why *why)
{
	unsigned msix = vfu_kept_msix(&state->header->identity);

	for (unsigned slot = 0; block->irqs > 0 && slot < vfu_irqs_slots(msix); slot++) {
		uint64_t number = state->irqs[block->irqs - 1][slot];
		if (number > state->header->last_number)
			return bad(why, -EINVAL, "irqs, %u: %llu was never put", slot,
				(unsigned long long)number);
	}
	return 0;
}

static int check_core(
	const struct vfu_kept_state *state, const struct vfu_kept_block *block, struct vfu_why *why)
{
	const struct vfu_kept_identity *identity = &state->header->identity;
	static const struct ivshmem_pci_ops nobody;
	struct ivshmem_pci_config config = IVSHMEM_PCI_CONFIG_INIT;

	if (block->core == 0)
		return 0;
	config.revision = identity->type == VFU_LEGACY ? 0 : 1;
	config.vectors = vfu_kept_msix(identity);
	config.memory_size = identity->bar_size;
	config.subsystem_id = identity->subsystem_id;
	config.external_table = 1;
	config.ops = &nobody;
	void *storage = malloc(ivshmem_pci_size(config.vectors));
	if (!storage)
		return bad(why, -ENOMEM, "out of memory");
	struct ivshmem_pci *pci = ivshmem_pci_init(storage, &config);
	const char *wrong = pci ? ivshmem_pci_load(pci, state->cores[block->core - 1],
					  ivshmem_pci_saved_size(config.vectors))
				: "there can be no such device";
	free(storage);
	return wrong ? bad(why, -EINVAL, "core: %s", wrong) : 0;
}

int vfu_kept_check(struct vfu_kept_state *state, void *memory, size_t size,
	const struct vfu_kept_identity *identity, struct vfu_why *why)
{
	int error = check_header(state, memory, size, identity, why);
	if (error < 0)
		return error;
	const struct vfu_kept_block *block = vfu_kept_current(state);
	error = check_block(state->header, block, why);
	if (error == 0)
		error = check_notes(state->header, block, why);
	if (error == 0)
		error = check_irqs(state, block, why);
	if (error == 0)
		error = check_core(state, block, why);
	return error;
}
