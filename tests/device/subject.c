/* SPDX-License-Identifier: MIT */
/*
 * The device core without a VMM, as a subject of the conformance suite.
 *
 *     device-subject [--revision R] [--vectors N] [--size BYTES] [--position ID] [--external]
 *
 * Options are decimal (0x for hexadecimal); the defaults make a plain device of 1 MiB. Commands
 * come on stdin, one a line, all their numbers hexadecimal with or without 0x; SIZE is 1 to 8:
 *
 *     cr OFFSET SIZE              read configuration space
 *     cw OFFSET SIZE VALUE        write it
 *     br BAR OFFSET SIZE          read a BAR
 *     bw BAR OFFSET SIZE VALUE    write it
 *     int VECTOR                  a peer rings
 *     ready VECTOR 0|1            ivshmem_pci_vector_ready()
 *     pos POSITION                ivshmem_pci_set_position()
 *     reset
 *
 * The answer is one line for each callback (`ring PEER VECTOR`, `message VECTOR ADDRESS VALUE`,
 * `line LEVEL`, `place BAR ADDRESS`), and then `= VALUE` for a read, `ok` for anything else, or
 * `error` for what is none of the above. Its numbers are hexadecimal with 0x.
 */
#include <ivshmem/device.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORDS_MAX = 5 };

static void ring(void *data, unsigned peer, unsigned vector)
{
	(void)data;
	printf("ring 0x%x 0x%x\n", peer, vector);
}

static void message(void *data, unsigned vector, uint64_t address, uint32_t value)
{
	(void)data;
	printf("message 0x%x 0x%" PRIx64 " 0x%" PRIx32 "\n", vector, address, value);
}

static void line(void *data, int level)
{
	(void)data;
	printf("line 0x%x\n", level);
}

static void place(void *data, unsigned bar, uint64_t address)
{
	(void)data;
	printf("place 0x%x 0x%" PRIx64 "\n", bar, address);
}

static void memory(void *data, int write, uint64_t offset, void *bytes, size_t size)
{
	uint8_t *start = (uint8_t *)data + offset;
	memcpy(write ? start : bytes, write ? bytes : start, size);
}

static const struct ivshmem_pci_ops ops = {
	.ring = ring, .message = message, .line = line, .place = place, .memory = memory};

static uint64_t from_bytes(const uint8_t *bytes, size_t size)
{
	uint64_t value = 0;
	while (size-- > 0)
		value = value << 8 | bytes[size];
	return value;
}

static void to_bytes(uint8_t *bytes, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
}

/* A read, or a write of `value`, of `bar` or else of configuration space; at[] is offset and size.
 */
static bool access_device(
	struct ivshmem_pci *pci, const uint64_t *bar, const uint64_t *at, const uint64_t *value)
{
	uint8_t bytes[8];
	size_t size = (size_t)at[1];

	if (at[1] < 1 || at[1] > sizeof(bytes))
		return false;
	if (value) {
		to_bytes(bytes, *value);
		if (bar)
			ivshmem_pci_write(pci, (unsigned)*bar, at[0], bytes, size);
		else
			ivshmem_pci_config_write(pci, (uint32_t)at[0], bytes, size);
		puts("ok");
	} else {
		if (bar)
			ivshmem_pci_read(pci, (unsigned)*bar, at[0], bytes, size);
		else
			ivshmem_pci_config_read(pci, (uint32_t)at[0], bytes, size);
		printf("= 0x%" PRIx64 "\n", from_bytes(bytes, size));
	}
	return true;
}

/* One command: its name and `n` numbers. */
static bool obey(struct ivshmem_pci *pci, const char *name, const uint64_t *at, int n)
{
	if (strcmp(name, "cr") == 0 && n == 2)
		return access_device(pci, NULL, at, NULL);
	if (strcmp(name, "cw") == 0 && n == 3)
		return access_device(pci, NULL, at, at + 2);
	if (strcmp(name, "br") == 0 && n == 3)
		return access_device(pci, at, at + 1, NULL);
	if (strcmp(name, "bw") == 0 && n == 4)
		return access_device(pci, at, at + 1, at + 3);
	if (strcmp(name, "int") == 0 && n == 1)
		ivshmem_pci_interrupt(pci, (unsigned)at[0]);
	else if (strcmp(name, "ready") == 0 && n == 2)
		ivshmem_pci_vector_ready(pci, (unsigned)at[0], (int)at[1]);
	else if (strcmp(name, "pos") == 0 && n == 1)
		ivshmem_pci_set_position(pci, (uint32_t)at[0]);
	else if (strcmp(name, "reset") == 0 && n == 0)
		ivshmem_pci_reset(pci);
	else
		return false;
	puts("ok");
	return true;
}

static void converse(struct ivshmem_pci *pci)
{
	char text[256];

	while (fgets(text, sizeof(text), stdin)) {
		const char *name = strtok(text, " \n");
		uint64_t numbers[WORDS_MAX];
		int n = 0;
		bool good = name != NULL;
		for (char *word; good && (word = strtok(NULL, " \n"));) {
			char *end;
			if (n == WORDS_MAX)
				break;
			numbers[n++] = strtoull(word, &end, 16);
			good = *end == '\0';
		}
		if (!good || !obey(pci, name, numbers, n))
			puts("error");
		fflush(stdout);
	}
}

static bool parse(int argc, char **argv, struct ivshmem_pci_config *config)
{
	static const struct option options[] = {
		{"revision", required_argument, NULL, 'r'},
		{"vectors", required_argument, NULL, 'v'},
		{"size", required_argument, NULL, 's'},
		{"position", required_argument, NULL, 'p'},
		{"external", no_argument, NULL, 'e'},
		{NULL, 0, NULL, 0},
	};

	for (int option; (option = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
		uint64_t value = optarg ? strtoull(optarg, NULL, 0) : 1;
		if (option == 'r')
			config->revision = (unsigned)value;
		else if (option == 'v')
			config->vectors = (unsigned)value;
		else if (option == 's')
			config->memory_size = value;
		else if (option == 'p')
			config->position = (uint32_t)value;
		else if (option == 'e')
			config->external_table = 1;
		else
			return false;
	}
	return optind == argc;
}

int main(int argc, char **argv)
{
	struct ivshmem_pci_config config = IVSHMEM_PCI_CONFIG_INIT;

	config.revision = 1;
	config.memory_size = 1 << 20;
	config.ops = &ops;
	if (!parse(argc, argv, &config))
		return 2;
	void *bar2 = calloc(1, config.memory_size),
	     *storage = malloc(ivshmem_pci_size(config.vectors));
	config.data = bar2;
	struct ivshmem_pci *pci = bar2 && storage ? ivshmem_pci_init(storage, &config) : NULL;
	if (!pci)
		fprintf(stderr, "device-subject: there is no such device\n");
	else
		converse(pci);
	free(storage);
	free(bar2);
	return pci ? 0 : 1;
}
