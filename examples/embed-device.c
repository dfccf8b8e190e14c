/* SPDX-License-Identifier: MIT */
/*
 * A VMM with an ivshmem device, but for the guest: that one has left us a log of what it did.
 *
 *     cc embed-device.c $(pkg-config --cflags --libs libivshmem-device) -o embed-device
 *     ./embed-device guest.log        (recorded from real guests: tests/bare/recorded)
 *
 * The first line of the log says what the device is, the others what happened to it:
 *
 *     device revision=1 vectors=2 size=1048576 position=0
 *     config r OFFSET SIZE VALUE      the guest read configuration space, and got VALUE
 *     config w OFFSET SIZE VALUE      ... wrote VALUE
 *     bar N r OFFSET SIZE VALUE       the same with BAR N
 *     bar N w OFFSET SIZE VALUE
 *     interrupt VECTOR                a peer rang
 *     # comment
 *
 * Offsets and values are as in C. Prints what the device asks its VMM to do, and each read that
 * gives another value than in the log; exits with 1 if there was one.
 */
#include <ivshmem/device.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vmm {
	struct ivshmem_pci *device;
	void *storage; /* of `device` */
	uint32_t own_id;
	uint8_t *memory; /* the shared memory; for real, ivshmem_region() of <ivshmem/peer.h> */
	unsigned line;   /* of the log */
	unsigned differences;
};

/* ---- the five callbacks ---- */

/* The guest rings a peer. A real VMM writes to that peer's eventfd: ivshmem_notify(). */
static void ring(void *data, unsigned peer, unsigned vector)
{
	struct vmm *vmm = data;
	printf("rings peer %u, vector %u\n", peer, vector);
	if (peer == vmm->own_id)
		ivshmem_pci_interrupt(vmm->device, vector);
}

/* A real VMM hands this to its interrupt controller. */
static void message(void *data, unsigned vector, uint64_t address, uint32_t value)
{
	(void)data;
	printf("sends message of vector %u: %#" PRIx32 " to %#" PRIx64 "\n", vector, value,
		address);
}

static void line(void *data, int level)
{
	(void)data;
	printf("sets INTx to %d\n", level);
}

/* From here on, a real VMM sends the guest's accesses of this address range to the device. It may
 * also map the shared memory at BAR2's address: the device need not see accesses to that. */
static void place(void *data, unsigned bar, uint64_t address)
{
	(void)data;
	if (address == IVSHMEM_BAR_UNMAPPED)
		printf("takes BAR%u away\n", bar);
	else
		printf("puts BAR%u to %#" PRIx64 "\n", bar, address);
}

/* Other guests change the memory at any time. The device has checked that the access is within. */
static void memory(void *data, int write, uint64_t offset, void *bytes, size_t size)
{
	struct vmm *vmm = data;
	if (write)
		memcpy(vmm->memory + offset, bytes, size);
	else
		memcpy(bytes, vmm->memory + offset, size);
}

static const struct ivshmem_pci_ops callbacks = {
	.ring = ring, .message = message, .line = line, .place = place, .memory = memory};

/* The log's first line. */
static int create(struct vmm *vmm, char **words, int n)
{
	static const char *const keys[] = {"revision=", "vectors=", "size=", "position="};
	uint64_t values[4];
	struct ivshmem_pci_config config = IVSHMEM_PCI_CONFIG_INIT;

	for (int i = 0; i < 4; i++) {
		size_t length = strlen(keys[i]);
		if (n != 5 || strncmp(words[i + 1], keys[i], length) != 0)
			return -1;
		values[i] = strtoull(words[i + 1] + length, NULL, 0);
	}
	config.revision = (unsigned)values[0];
	config.vectors = (unsigned)values[1];
	config.memory_size = values[2];
	config.position = vmm->own_id = (uint32_t)values[3];
	config.ops = &callbacks;
	config.data = vmm;
	vmm->memory = calloc(1, config.memory_size);
	vmm->storage = malloc(ivshmem_pci_size(config.vectors));
	if (vmm->memory && vmm->storage)
		vmm->device = ivshmem_pci_init(vmm->storage, &config);
	return vmm->device ? 0 : -1;
}

/* The guest's accesses are bytes, in little-endian order whatever the host's is. */
static uint64_t read_device(struct vmm *vmm, int bar, uint64_t offset, size_t size)
{
	uint8_t bytes[8];
	uint64_t value = 0;

	if (bar < 0)
		ivshmem_pci_config_read(vmm->device, (uint32_t)offset, bytes, size);
	else
		ivshmem_pci_read(vmm->device, (unsigned)bar, offset, bytes, size);
	for (size_t i = 0; i < size; i++)
		value |= (uint64_t)bytes[i] << 8 * i;
	return value;
}

static void write_device(struct vmm *vmm, int bar, uint64_t offset, size_t size, uint64_t value)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	if (bar < 0)
		ivshmem_pci_config_write(vmm->device, (uint32_t)offset, bytes, size);
	else
		ivshmem_pci_write(vmm->device, (unsigned)bar, offset, bytes, size);
}

/* {"r" or "w", OFFSET, SIZE, VALUE} of a BAR, or of configuration space if `bar` is negative. */
static int replay_access(struct vmm *vmm, int bar, char **words)
{
	uint64_t offset = strtoull(words[1], NULL, 0), value = strtoull(words[3], NULL, 0);
	size_t size = strtoul(words[2], NULL, 0);

	if (size > 8)
		return -1;
	if (words[0][0] == 'w')
		write_device(vmm, bar, offset, size, value);
	uint64_t got = words[0][0] == 'r' ? read_device(vmm, bar, offset, size) : value;
	if (got != value) {
		printf("line %u: %#" PRIx64 " now, %#" PRIx64 " in the log\n", vmm->line, got,
			value);
		vmm->differences++;
	}
	return 0;
}

/* 0, or -1 if the line makes no sense. */
static int replay(struct vmm *vmm, char *text)
{
	char *words[7];
	int n = 0;

	for (char *word = strtok(text, " \n"); word && n < 7; word = strtok(NULL, " \n"))
		words[n++] = word;
	if (n == 0 || words[0][0] == '#')
		return 0;
	if (!vmm->device)
		return create(vmm, words, n);
	if (n == 5 && strcmp(words[0], "config") == 0)
		return replay_access(vmm, -1, words + 1);
	if (n == 6 && strcmp(words[0], "bar") == 0)
		return replay_access(vmm, (int)strtoul(words[1], NULL, 0), words + 2);
	if (n != 2 || strcmp(words[0], "interrupt") != 0)
		return -1;
	ivshmem_pci_interrupt(vmm->device, (unsigned)strtoul(words[1], NULL, 0));
	return 0;
}

int main(int argc, char **argv)
{
	struct vmm vmm = {0};
	char text[256];
	int result = 0;

	if (argc > 1 && !freopen(argv[1], "r", stdin)) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	while (result == 0 && fgets(text, sizeof(text), stdin)) {
		vmm.line++;
		result = replay(&vmm, text);
	}
	printf("%u lines%s, %u differences\n", vmm.line,
		result < 0 ? ", the last makes no sense" : "", vmm.differences);
	free(vmm.storage);
	free(vmm.memory);
	return result == 0 && vmm.device && vmm.differences == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
