/* SPDX-License-Identifier: MIT */
/* The PCI device as a VMM drives it, docs/device.md, sections 2 to 5. */
#include "../common/pcibox.h"

/* The four kinds of devices there are. */
static const struct kind {
	unsigned revision, vectors, pin;
} kinds[] = {{1, 0, 0}, {1, 2, 0}, {0, 0, 1}, {0, 2, 1}};

#define for_each_kind(kind) for (const struct kind *kind = kinds; kind < kinds + 4; kind++)

/* ---- section 2: configuration space ---- */

static void test_impossible_devices_are_refused(void **state)
{
	(void)state;
	static const struct {
		int struct_size;
		unsigned revision, vectors;
		uint64_t size;
		bool possible;
	} cases[] = {
		{0, 1, 0, MIB, true},
		{0, 0, 2048, MIB, true},
		{0, 1, 1, 4096, true},
		{0, 1, 1, (uint64_t)1 << 63, true},
		{-1, 1, 1, MIB, false},
		{1, 1, 1, MIB, false},
		{0, 2, 1, MIB, false},
		{0, 1, 2049, MIB, false},
		{0, 1, 0xffffffff, MIB, false},
		{0, 1, 1, 0, false},
		{0, 1, 1, 2048, false},
		{0, 1, 1, 4097, false},
		{0, 1, 1, UINT64_MAX, false},
	};
	struct vmm vmm = {0};
	void *storage = malloc(ivshmem_pci_size(2048));

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct ivshmem_pci_config config =
			config_of(&vmm, cases[i].revision, cases[i].vectors);
		config.struct_size += (size_t)cases[i].struct_size;
		config.memory_size = cases[i].size;
		assert_int_equal(ivshmem_pci_init(storage, &config) != NULL, cases[i].possible);
		config.ops = NULL;
		assert_null(ivshmem_pci_init(storage, &config));
	}
	assert_int_equal(ivshmem_pci_size(2049), 0);
	assert_int_equal(ivshmem_pci_size(0xffffffff), 0);
	free(storage);
}

/* All 256 bytes as after reset, of a kind. */
static void expect_config(uint8_t expected[IVSHMEM_PCI_CONFIG_SIZE], const struct kind *kind)
{
	static const uint8_t header[0x40] = {
		[0x00] = 0xf4,
		0x1a,
		0x10,
		0x11,
		[0x0b] = 0x05,
		[0x18] = 0x0c,
		[0x2c] = 0xf4,
		0x1a,
		0x00,
		0x11,
	};
	static const uint8_t msix[12] = {0x11, 0, 0x01, 0, 0x01, 0, 0, 0, 0x01, 0x08, 0, 0};

	memset(expected, 0, IVSHMEM_PCI_CONFIG_SIZE);
	memcpy(expected, header, sizeof(header));
	expected[0x08] = (uint8_t)kind->revision;
	expected[0x3d] = (uint8_t)kind->pin;
	if (kind->vectors > 0) {
		expected[0x06] = 0x10;
		expected[0x34] = 0x40;
		memcpy(expected + 0x40, msix, sizeof(msix));
	}
}

static void test_header_byte_by_byte(void **state)
{
	(void)state;
	for_each_kind(kind)
	{
		struct vmm vmm = {0};
		uint8_t expected[IVSHMEM_PCI_CONFIG_SIZE], got[IVSHMEM_PCI_CONFIG_SIZE];
		make_plainly(&vmm, kind->revision, kind->vectors);
		expect_config(expected, kind);
		ivshmem_pci_config_read(vmm.pci, 0, got, sizeof(got));
		assert_memory_equal(got, expected, sizeof(got));
		for (uint32_t at = 0; at < sizeof(expected); at++)
			assert_int_equal(get_config(&vmm, at, 1), expected[at]);
		drop(&vmm);
	}
}

static void test_subsystem_id(void **state)
{
	struct vmm vmm = {0};
	(void)state;
	struct ivshmem_pci_config config = config_of(&vmm, 1, 1);
	config.subsystem_id = 0xcafe0102;
	make(&vmm, &config);
	assert_int_equal(get_config(&vmm, 0x2c, 4), 0x0102cafe);
	ivshmem_pci_reset(vmm.pci);
	assert_int_equal(get_config(&vmm, 0x2c, 4), 0x0102cafe);
	drop(&vmm);
}

/* Ones, then zeros, into each byte alone; and a reset from ones everywhere. */
static void test_what_can_be_written(void **state)
{
	(void)state;
	static const uint8_t always[IVSHMEM_PCI_CONFIG_SIZE] = {
		[0x04] = 0x07,
		0x05,
		[0x0c] = 0xff,
		[0x11] = 0xff,
		0xff,
		0xff,
		[0x1a] = 0xf0,
		0xff,
		0xff,
		0xff,
		0xff,
		0xff, /* 1 MiB */
		[0x3c] = 0xff,
	};
	for_each_kind(kind)
	{
		struct vmm vmm = {0};
		uint8_t initial[IVSHMEM_PCI_CONFIG_SIZE], writable[IVSHMEM_PCI_CONFIG_SIZE];
		uint8_t ones[IVSHMEM_PCI_CONFIG_SIZE], got[IVSHMEM_PCI_CONFIG_SIZE];
		memcpy(writable, always, sizeof(writable));
		if (kind->vectors > 0) {
			memcpy(writable + 0x15, (uint8_t[]){0xf0, 0xff, 0xff}, 3); /* BAR1 */
			writable[0x43] = 0xc0;
		}
		make_plainly(&vmm, kind->revision, kind->vectors);
		expect_config(initial, kind);
		for (uint32_t at = 0; at < sizeof(initial); at++) {
			set_config(&vmm, at, 1, 0xff);
			assert_int_equal(get_config(&vmm, at, 1), initial[at] | writable[at]);
			set_config(&vmm, at, 1, 0);
			assert_int_equal(get_config(&vmm, at, 1), initial[at] & ~writable[at]);
		}
		memset(ones, 0xff, sizeof(ones));
		ivshmem_pci_config_write(vmm.pci, 0, ones, sizeof(ones));
		ivshmem_pci_reset(vmm.pci);
		ivshmem_pci_config_read(vmm.pci, 0, got, sizeof(got));
		assert_memory_equal(got, initial, sizeof(got));
		drop(&vmm);
	}
}

static void test_config_accesses_of_any_size_at_any_place(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	uint8_t bytes[IVSHMEM_PCI_CONFIG_SIZE + 16];

	make_plainly(&vmm, 1, 2);
	set_config(&vmm, 0x3b, 3, 0xabcdef); /* only the line can be written */
	assert_int_equal(get_config(&vmm, 0x3b, 3), 0x00cd00);
	set_config(&vmm, 0xfc, 8, UINT64_MAX);
	assert_int_equal(get_config(&vmm, 0xfc, 8), 0);
	static const uint32_t outside[] = {0x100, 0x101, 0xffc, 0x7fffffff, 0xfffffffc, 0xffffffff};
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++) {
		set_config(&vmm, outside[i], 8, UINT64_MAX);
		assert_int_equal(get_config(&vmm, outside[i], 8), 0);
	}
	memset(bytes, 0xee, sizeof(bytes));
	ivshmem_pci_config_read(vmm.pci, 0, bytes, sizeof(bytes));
	for (size_t i = IVSHMEM_PCI_CONFIG_SIZE; i < sizeof(bytes); i++)
		assert_int_equal(bytes[i], 0);
	assert_told(&vmm, "");
	drop(&vmm);
}

/* As firmware and drivers do it: ones in 32-bit halves, read back. */
static void test_bars_are_sized_by_writing_ones(void **state)
{
	(void)state;
	static const uint64_t sizes[] = {4096, MIB, (uint64_t)1 << 31, (uint64_t)1 << 32,
		(uint64_t)1 << 40, (uint64_t)1 << 63};
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vmm vmm = {0};
		struct ivshmem_pci_config config = config_of(&vmm, 1, 1);
		config.memory_size = sizes[i];
		make(&vmm, &config);
		for (uint32_t at = BAR0; at < 0x28; at += 4)
			set_config(&vmm, at, 4, 0xffffffff);
		assert_int_equal(get_config(&vmm, BAR0, 4), 0xffffff00);
		assert_int_equal(get_config(&vmm, BAR1, 4), 0xfffff000);
		assert_true(get_config(&vmm, BAR2, 8) == (~(sizes[i] - 1) | 0xc));
		assert_int_equal(get_config(&vmm, 0x20, 8), 0);
		set_config(&vmm, 0x30, 4, 0xffffffff);
		assert_int_equal(get_config(&vmm, 0x30, 4), 0); /* no ROM */
		assert_int_equal(ivshmem_pci_bar_size(vmm.pci, 0), 256);
		assert_int_equal(ivshmem_pci_bar_size(vmm.pci, 1), 4096);
		assert_true(ivshmem_pci_bar_size(vmm.pci, 2) == sizes[i]);
		for (unsigned bar = 3; bar < 8; bar++)
			assert_int_equal(ivshmem_pci_bar_size(vmm.pci, bar), 0);
		drop(&vmm);
	}
}

static void test_the_vmm_is_told_where_bars_are(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 1, 1);

	set_config(&vmm, BAR0, 4, 0xfebd00ff);
	set_config(&vmm, BAR2, 8, 0x3800000000);
	assert_told(&vmm, "");
	set_config(&vmm, COMMAND, 2, MEMORY);
	assert_told(&vmm, "place 0 febd0000;place 2 3800000000;"); /* BAR1 is at 0 */
	set_config(&vmm, COMMAND, 2, MEMORY | MASTER);
	set_config(&vmm, BAR0, 4, 0xfebd0000);
	assert_told(&vmm, "");
	set_config(&vmm, BAR1, 4, 0xfebd1000);
	assert_told(&vmm, "place 1 febd1000;");
	/* A byte is enough to move one. */
	set_config(&vmm, BAR0 + 1, 1, 0x07);
	assert_told(&vmm, "place 0 febd0700;");
	/* Sizing without turning decoding off. */
	set_config(&vmm, BAR0, 4, 0xffffffff);
	assert_told(&vmm, "place 0 ffffffffffffffff;");
	set_config(&vmm, BAR0, 4, 0xfebd0000);
	assert_told(&vmm, "place 0 febd0000;");
	set_config(&vmm, BAR2, 8, UINT64_MAX);
	assert_told(&vmm, "place 2 ffffffffffffffff;");
	set_config(&vmm, BAR2, 8, 0xfff00000); /* just below 4 GiB is an address like any other */
	assert_told(&vmm, "place 2 fff00000;");
	set_config(&vmm, COMMAND, 2, MASTER);
	assert_told(&vmm,
		"place 0 ffffffffffffffff;place 1 ffffffffffffffff;"
		"place 2 ffffffffffffffff;");
	set_config(&vmm, COMMAND, 2, MEMORY);
	told(&vmm);
	ivshmem_pci_reset(vmm.pci);
	assert_told(&vmm,
		"place 0 ffffffffffffffff;place 1 ffffffffffffffff;"
		"place 2 ffffffffffffffff;");
	drop(&vmm);
}

/* ---- section 4.1: layout of BAR1 ---- */

static uint32_t size_of_bar1(struct vmm *vmm)
{
	set_config(vmm, BAR1, 4, 0xffffffff);
	return (uint32_t)~get_config(vmm, BAR1, 4) + 1;
}

/* Measured on QEMU's device, on both sides of each step in size. */
static void test_layout_of_bar1(void **state)
{
	(void)state;
	static const struct {
		unsigned vectors;
		uint32_t size, pba;
	} rows[] = {
		{1, 0x1000, 0x800},
		{64, 0x1000, 0x800},
		{65, 0x1000, 0x800},
		{128, 0x1000, 0x800},
		{129, 0x1000, 0x810},
		{240, 0x1000, 0xf00},
		{241, 0x1000, 0xf10},
		{254, 0x1000, 0xfe0},
		{255, 0x2000, 0xff0},
		{256, 0x2000, 0x1000},
		{482, 0x2000, 0x1e20},
		{508, 0x2000, 0x1fc0},
		{509, 0x4000, 0x1fd0},
		{964, 0x4000, 0x3c40},
		{1016, 0x4000, 0x3f80},
		{1017, 0x8000, 0x3f90},
		{1928, 0x8000, 0x7880},
		{2032, 0x8000, 0x7f00},
		{2033, 0x10000, 0x7f10},
		{2048, 0x10000, 0x8000},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct vmm vmm = {0};
		make_plainly(&vmm, 1, rows[i].vectors);
		assert_int_equal(get_config(&vmm, 0x40, 2), 0x0011);
		assert_int_equal(get_config(&vmm, CONTROL, 2), rows[i].vectors - 1);
		assert_int_equal(get_config(&vmm, 0x44, 4), 1);
		assert_int_equal(get_config(&vmm, 0x48, 4), rows[i].pba | 1);
		assert_int_equal(size_of_bar1(&vmm), rows[i].size);
		assert_int_equal(ivshmem_pci_bar_size(vmm.pci, 1), rows[i].size);
		assert_int_equal(ivshmem_pci_vectors(vmm.pci), rows[i].vectors);
		drop(&vmm);
	}
}

/* What BAR1 of `n` vectors holds as after reset, or with ones `written` all over it while all are
 * pending. */
static void expect_bar1(uint8_t *expected, uint32_t size, unsigned n, uint32_t pba, bool written)
{
	memset(expected, 0, size);
	for (uint32_t at = 0; at < 16 * n; at++)
		expected[at] = written ? 0xff : at % 16 == 12;
	for (unsigned v = 0; written && v < n; v++)
		expected[pba + v / 8] |= (uint8_t)(1 << v % 8);
}

/* For every number of vectors: table and PBA lie in BAR1 without overlap, all of both can be used,
 * what lies around them is empty, and BAR1 is no larger than it must be. */
static void test_layout_holds_for_every_number_of_vectors(void **state)
{
	(void)state;
	static uint8_t ones[0x10000], got[0x10000], expected[0x10000];
	memset(ones, 0xff, sizeof(ones));
	for (unsigned n = 1; n <= 2048; n++) {
		struct vmm vmm = {0};
		make_plainly(&vmm, n % 2, n);
		uint32_t size = size_of_bar1(&vmm), pba = (uint32_t)get_config(&vmm, 0x48, 4) & ~7u;
		assert_true(size >= 4096 && size <= sizeof(got) && (size & (size - 1)) == 0);
		assert_true(16 * n <= pba && pba + (n + 63) / 64 * 8 <= size);
		assert_true(size == 4096 || pba + (n + 63) / 64 * 8 > size / 2);

		ivshmem_pci_read(vmm.pci, 1, 0, got, size);
		expect_bar1(expected, size, n, pba, false);
		assert_memory_equal(got, expected, size);
		for (unsigned v = 0; v <= n; v++) /* the last does not exist */
			ivshmem_pci_interrupt(vmm.pci, v);
		ivshmem_pci_write(vmm.pci, 1, 0, ones, size);
		ivshmem_pci_read(vmm.pci, 1, 0, got, size);
		expect_bar1(expected, size, n, pba, true);
		assert_memory_equal(got, expected, size);
		assert_told(&vmm, "");
		drop(&vmm);
	}
}

/* ---- sections 3 and 6: BAR0 and BAR2 ---- */

static void test_registers_are_in_bar0(void **state)
{
	(void)state;
	for_each_kind(kind)
	{
		struct vmm vmm = {0};
		make_plainly(&vmm, kind->revision, kind->vectors);
		set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 0xfffffffe);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRMASK, 4), 0xfffffffe);
		set(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4, 1);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 0);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_IVPOSITION, 4), 7);
		assert_told(&vmm, "");
		set(&vmm, 0, IVSHMEM_REG_DOORBELL, 4, 0xfffe0101);
		assert_told(&vmm, "ring 65534 257;");
		set(&vmm, 0, IVSHMEM_REG_IVPOSITION, 8, 0x0003000100000009);
		assert_told(&vmm, "ring 3 1;");
		set(&vmm, 0, IVSHMEM_REG_DOORBELL, 2, 1);
		set(&vmm, 0, IVSHMEM_REG_DOORBELL + 2, 1, 1);
		set(&vmm, 0, IVSHMEM_REG_DOORBELL + 2, 4, 1);
		assert_told(&vmm, "");
		ivshmem_pci_set_position(vmm.pci, IVSHMEM_POSITION_NONE);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_IVPOSITION, 4), 0xffffffff);
		drop(&vmm);
	}
}

static void test_trapped_memory(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 1, 0);

	set(&vmm, 2, 0x10, 8, 0x1122334455667788);
	assert_int_equal(get(&vmm, 2, 0x12, 4), 0x33445566);
	assert_told(&vmm, "store 10 8;load 12 4;");
	/* Across the end: what is within, and zeros. */
	vmm.memory[4094] = vmm.memory[4095] = 0x5a;
	assert_int_equal(get(&vmm, 2, MIB - 2, 4), 0x5a5a);
	set(&vmm, 2, MIB - 1, 8, 0x77);
	assert_told(&vmm, "load ffffe 2;store fffff 1;");
	drop(&vmm);
}

static void test_there_is_nothing_outside_of_bars(void **state)
{
	(void)state;
	static const struct {
		unsigned bar;
		uint64_t offset;
	} cases[] = {
		{0, 0x10},
		{0, 0xfc},
		{0, 0x100},
		{0, 0x10c},
		{0, 0x10000000c},
		{0, UINT64_MAX},
		{0, UINT64_MAX - 3},
		{1, 0x20},
		{1, 0x808},
		{1, 0xffc},
		{1, 0x1000},
		{1, 0x100000000},
		{1, UINT64_MAX - 7},
		{2, MIB},
		{2, (uint64_t)1 << 32},
		{2, UINT64_MAX},
		{3, 0},
		{4, 0},
		{5, 0},
		{6, 0},
		{7, 0},
		{0xffffffff, 0},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmm vmm = {0};
		make_plainly(&vmm, 1, 2);
		set(&vmm, cases[i].bar, cases[i].offset, 8, UINT64_MAX);
		assert_int_equal(get(&vmm, cases[i].bar, cases[i].offset, 8), 0);
		assert_int_equal(get(&vmm, 0, 0, 8), 0);
		assert_told(&vmm, "");
		drop(&vmm);
	}
}

static void test_bar1_needs_vectors(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 1, 0);
	set(&vmm, 1, 0, 8, UINT64_MAX);
	assert_int_equal(get(&vmm, 1, 0, 8), 0);
	ivshmem_pci_interrupt(vmm.pci, 0);
	ivshmem_pci_vector_ready(vmm.pci, 0, 1);
	assert_told(&vmm, "");
	drop(&vmm);
}

/* A VMM that wants to know nothing. */
static void test_all_callbacks_may_be_missing(void **state)
{
	(void)state;
	static const struct ivshmem_pci_ops none;
	for_each_kind(kind)
	{
		struct vmm vmm = {0};
		struct ivshmem_pci_config config = config_of(&vmm, kind->revision, kind->vectors);
		config.ops = &none;
		make(&vmm, &config);
		set_config(&vmm, BAR0, 4, 0xfebd0000);
		set_config(&vmm, COMMAND, 2, MEMORY | MASTER);
		set_config(&vmm, CONTROL, 2, ENABLE);
		set(&vmm, 1, 8, 8, 0);
		set(&vmm, 0, 0, 8, UINT64_MAX);
		set(&vmm, 0, IVSHMEM_REG_DOORBELL, 4, 0);
		ivshmem_pci_interrupt(vmm.pci, 0);
		set(&vmm, 2, 0, 8, UINT64_MAX);
		assert_int_equal(get(&vmm, 2, 0, 8), 0);
		assert_told(&vmm, "");
		drop(&vmm);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_impossible_devices_are_refused),
		TEST(test_header_byte_by_byte),
		TEST(test_subsystem_id),
		TEST(test_what_can_be_written),
		TEST(test_config_accesses_of_any_size_at_any_place),
		TEST(test_bars_are_sized_by_writing_ones),
		TEST(test_the_vmm_is_told_where_bars_are),
		TEST(test_layout_of_bar1),
		TEST(test_layout_holds_for_every_number_of_vectors),
		TEST(test_registers_are_in_bar0),
		TEST(test_trapped_memory),
		TEST(test_there_is_nothing_outside_of_bars),
		TEST(test_bar1_needs_vectors),
		TEST(test_all_callbacks_may_be_missing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
