/* SPDX-License-Identifier: MIT */
/* The board's loader reads files that anybody may have made. */
#include "../common/fdcheck.h"

#include "../../tools/board/image.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

/* A program with two headers; what they say is at offset 128. */
static struct file {
	Elf32_Ehdr header;
	Elf32_Phdr segments[2];
	uint8_t padding[128 - sizeof(Elf32_Ehdr) - 2 * sizeof(Elf32_Phdr)];
	uint8_t bytes[64];
} file;

static struct image image;

static int set_up(void **state)
{
	(void)state;
	memset(&file, 0, sizeof(file));
	memcpy(file.header.e_ident, ELFMAG, SELFMAG);
	file.header.e_ident[EI_CLASS] = ELFCLASS32;
	file.header.e_ident[EI_DATA] = ELFDATA2LSB;
	file.header.e_type = ET_EXEC;
	file.header.e_machine = EM_ARM;
	file.header.e_phoff = offsetof(struct file, segments);
	file.header.e_phentsize = sizeof(Elf32_Phdr);
	file.header.e_phnum = 2;
	file.segments[0] = (Elf32_Phdr){.p_type = PT_LOAD,
		.p_offset = offsetof(struct file, bytes),
		.p_vaddr = 0x20000000,
		.p_paddr = 0x1000,
		.p_filesz = 64,
		.p_memsz = 4096};
	file.segments[1] = (Elf32_Phdr){.p_type = PT_NOTE, .p_offset = UINT32_MAX};
	return 0;
}

static void test_segments(void **state)
{
	struct image_segment segment;
	(void)state;

	assert_null(image_open(&image, &file, sizeof(file)));
	assert_int_equal(image.n_headers, 2);
	assert_int_equal(image_segment(&image, 0, &segment), 1);
	assert_int_equal(segment.address, 0x1000); /* where it is loaded, not where it runs */
	assert_ptr_equal(segment.bytes, file.bytes);
	assert_int_equal(segment.size, 64);
	assert_int_equal(image_segment(&image, 1, &segment), 0);

	/* Memory that starts as zeros takes nothing from the file. */
	file.segments[0].p_filesz = 0;
	assert_null(image_open(&image, &file, sizeof(file)));
	assert_int_equal(image_segment(&image, 0, &segment), 0);
}

static void assert_wrong(const char *what)
{
	const char *said = image_open(&image, &file, sizeof(file));

	assert_non_null(said);
	assert_non_null(strstr(said, what));
	set_up(NULL);
}

static void test_other_files(void **state)
{
	(void)state;
	file.header.e_ident[0] = 'M';
	assert_wrong("not an ELF file");
	file.header.e_machine = EM_X86_64;
	assert_wrong("32-bit Arm");
	file.header.e_ident[EI_CLASS] = ELFCLASS64;
	assert_wrong("32-bit Arm");
	file.header.e_ident[EI_DATA] = ELFDATA2MSB;
	assert_wrong("little-endian");
	file.header.e_type = ET_REL;
	assert_wrong("not linked");
	file.header.e_phnum = 0;
	assert_wrong("nothing to load");
	file.header.e_phentsize = 8;
	assert_wrong("nothing to load");
}

static void test_damaged_files(void **state)
{
	(void)state;
	file.header.e_phoff = sizeof(file) - 8;
	assert_wrong("cut off");
	file.header.e_phoff = UINT32_MAX;
	assert_wrong("cut off");
	file.header.e_phnum = UINT16_MAX;
	assert_wrong("cut off");
	file.segments[0].p_filesz = 65;
	assert_wrong("cut off");
	file.segments[0].p_offset = UINT32_MAX;
	assert_wrong("cut off");
	file.segments[0].p_filesz = UINT32_MAX;
	assert_wrong("cut off");
	file.segments[0].p_paddr = UINT32_MAX - 63;
	assert_null(strstr(image_open(&image, &file, sizeof(file)), "cut off"));
	assert_wrong("address space");
}

/* However short it is, only its own bytes are looked at: the sanitizer watches. */
static void test_every_length(void **state)
{
	(void)state;
	for (size_t size = 0; size < sizeof(file); size++) {
		void *copy = malloc(size + 1);
		assert_non_null(copy);
		memcpy(copy, &file, size);
		assert_non_null(image_open(&image, copy, size));
		free(copy);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_segments, set_up),
		cmocka_unit_test_setup(test_other_files, set_up),
		cmocka_unit_test_setup(test_damaged_files, set_up),
		cmocka_unit_test_setup(test_every_length, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
