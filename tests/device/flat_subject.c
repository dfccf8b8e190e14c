/* SPDX-License-Identifier: MIT */
/*
 * The core of the flat device without a machine, as a subject of the conformance suite.
 *
 *     flat-subject VECTORS POSITION pulse|level
 *
 * Commands come on stdin, one a line, all their numbers hexadecimal without 0x; SIZE is 1 to 8:
 *
 *     r OFFSET SIZE          read the window
 *     w OFFSET SIZE VALUE    write it
 *     i VECTOR               a peer rings
 *     x                      reset
 *
 * The answer is one line for each callback (`ring PEER VECTOR`, `line LINE LEVEL`), and then
 * `= VALUE` for a read, `ok` for anything else, or `error` for what is none of the above. Its
 * numbers are hexadecimal, too.
 */
#include <ivshmem/flat.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void ring(void *data, unsigned peer, unsigned vector)
{
	(void)data;
	printf("ring %x %x\n", peer, vector);
}

static void line(void *data, unsigned number, int level)
{
	(void)data;
	printf("line %x %x\n", number, (unsigned)level);
}

static const struct ivshmem_flat_ops ops = {.ring = ring, .line = line};

static void read_window(struct ivshmem_flat *flat, uint32_t offset, size_t size)
{
	uint8_t bytes[8] = {0};
	uint64_t value = 0;

	ivshmem_flat_read(flat, offset, bytes, size);
	for (size_t i = sizeof(bytes); i-- > 0;)
		value = value << 8 | bytes[i];
	printf("= %" PRIx64 "\n", value);
}

static void write_window(struct ivshmem_flat *flat, uint32_t offset, size_t size, uint64_t value)
{
	uint8_t bytes[8];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	ivshmem_flat_write(flat, offset, bytes, size);
	puts("ok");
}

static void obey(struct ivshmem_flat *flat, const char *text)
{
	char name = text[0];
	uint64_t at[3];
	int n = 0;

	text++;
	for (char *end; n < 3; n++, text = end) {
		at[n] = strtoull(text, &end, 16);
		if (end == text)
			break;
	}
	if (name == 'r' && n == 2 && at[1] <= 8) {
		read_window(flat, (uint32_t)at[0], (size_t)at[1]);
	} else if (name == 'w' && n == 3 && at[1] <= 8) {
		write_window(flat, (uint32_t)at[0], (size_t)at[1], at[2]);
	} else if (name == 'i' && n == 1) {
		ivshmem_flat_interrupt(flat, (unsigned)at[0]);
		puts("ok");
	} else if (name == 'x' && n == 0) {
		ivshmem_flat_reset(flat);
		puts("ok");
	} else {
		puts("error");
	}
}

int main(int argc, char **argv)
{
	struct ivshmem_flat_config config = IVSHMEM_FLAT_CONFIG_INIT;
	struct ivshmem_flat flat;
	char text[256];

	if (argc != 4)
		return 2;
	config.vectors = (unsigned)strtoul(argv[1], NULL, 10);
	config.position = (uint32_t)strtoul(argv[2], NULL, 10);
	config.level = strcmp(argv[3], "level") == 0;
	config.ops = &ops;
	if (ivshmem_flat_init(&flat, &config) < 0)
		return 1;
	while (fgets(text, sizeof(text), stdin)) {
		obey(&flat, text);
		fflush(stdout);
	}
	return 0;
}
