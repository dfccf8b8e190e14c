/* SPDX-License-Identifier: MIT */
/* The register file, docs/device.md, section 3. */
#include "device/registers.h"

#include "../common/fdcheck.h"

#include <string.h>

enum { LONGEST = 20, REGISTERS_END = 16 };

static const struct device_registers distinct = {
	.mask = 0x13121110, .status = 0x17161514, .position = 0x1b1a1918};

/* What BAR0 shows of `distinct`. */
static uint8_t shown(uint32_t offset)
{
	return offset < IVSHMEM_REG_DOORBELL ? (uint8_t)(0x10 + offset) : 0;
}

/* What the test writes at `offset`. */
static uint8_t written(uint32_t offset)
{
	return (uint8_t)(0x80 + offset);
}

static uint32_t written_register(uint32_t offset)
{
	return (uint32_t)written(offset) | (uint32_t)written(offset + 1) << 8 |
		(uint32_t)written(offset + 2) << 16 | (uint32_t)written(offset + 3) << 24;
}

static uint32_t read32(struct device_registers *registers, uint32_t offset)
{
	uint8_t bytes[4];
	device_read(registers, offset, bytes, 4);
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
		(uint32_t)bytes[3] << 24;
}

static struct device_doorbell write32(
	struct device_registers *registers, uint32_t offset, uint32_t value)
{
	uint8_t bytes[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
		(uint8_t)(value >> 24)};
	return device_write(registers, offset, bytes, 4);
}

/* Every offset with every size: the lanes are right, nothing is written beyond `size`, and only the
 * status' lowest byte clears it. */
static void test_a_read_gives_the_bytes_it_covers(void **state)
{
	(void)state;
	for (uint32_t offset = 0; offset < REGISTERS_END + 4; offset++) {
		for (size_t size = 0; size <= LONGEST; size++) {
			struct device_registers registers = distinct;
			uint8_t bytes[LONGEST + 1];
			memset(bytes, 0xee, sizeof(bytes));
			device_read(&registers, offset, bytes, size);
			for (uint32_t i = 0; i < size; i++)
				assert_int_equal(bytes[i], shown(offset + i));
			assert_int_equal(bytes[size], 0xee);

			bool clears = offset <= 4 && offset + size > 4;
			assert_int_equal(registers.status, clears ? 0 : distinct.status);
			assert_int_equal(registers.mask, distinct.mask);
			assert_int_equal(registers.position, distinct.position);
		}
	}
}

/* How many of the four bytes of a register an access brings. */
static unsigned brought(uint32_t offset, size_t size, uint32_t first)
{
	unsigned count = 0;
	for (uint32_t i = 0; i < size; i++)
		count += offset + i >= first && offset + i < first + 4;
	return count;
}

static void test_a_write_counts_for_whole_registers_only(void **state)
{
	(void)state;
	for (uint32_t offset = 0; offset < REGISTERS_END + 4; offset++) {
		for (size_t size = 0; size <= LONGEST; size++) {
			struct device_registers registers = distinct;
			uint8_t bytes[LONGEST];
			for (uint32_t i = 0; i < size; i++)
				bytes[i] = written(offset + i);
			struct device_doorbell doorbell =
				device_write(&registers, offset, bytes, size);
			assert_int_equal(registers.mask,
				brought(offset, size, 0) == 4 ? written_register(0)
							      : distinct.mask);
			assert_int_equal(registers.status,
				brought(offset, size, 4) == 4 ? written_register(4)
							      : distinct.status);
			assert_int_equal(registers.position, distinct.position);
			assert_int_equal(doorbell.rung, brought(offset, size, 12) == 4);
			if (doorbell.rung) {
				assert_int_equal(doorbell.vector, written_register(12) & 0xffff);
				assert_int_equal(doorbell.peer, written_register(12) >> 16);
			}
		}
	}
}

static void test_the_rest_of_bar0_is_empty(void **state)
{
	(void)state;
	static const uint32_t offsets[] = {
		16, 20, 0xf8, 0xfc, 0xff, 0x100, 0x7ffffffc, 0xfffffff8, 0xfffffffc, 0xffffffff};
	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
		struct device_registers registers = distinct;
		uint8_t bytes[8];
		memset(bytes, 0xff, sizeof(bytes));
		assert_false(device_write(&registers, offsets[i], bytes, 8).rung);
		device_read(&registers, offsets[i], bytes, 8);
		for (unsigned at = 0; at < 8; at++)
			assert_int_equal(bytes[at], 0);
		assert_int_equal(registers.mask, distinct.mask);
		assert_int_equal(registers.status, distinct.status);
	}
}

static void test_doorbell_takes_16_bits_of_each(void **state)
{
	(void)state;
	static const struct {
		uint32_t value;
		uint16_t peer, vector;
	} cases[] = {
		{0, 0, 0},
		{1, 0, 1},
		{0x00010000, 1, 0},
		{0x00030101, 3, 0x101},
		{0xffffffff, 0xffff, 0xffff},
		{0x80000000, 0x8000, 0},
		{IVSHMEM_DOORBELL(40000, 2047), 40000, 2047},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct device_registers registers = {0};
		struct device_doorbell doorbell =
			write32(&registers, IVSHMEM_REG_DOORBELL, cases[i].value);
		assert_true(doorbell.rung);
		assert_int_equal(doorbell.peer, cases[i].peer);
		assert_int_equal(doorbell.vector, cases[i].vector);
		assert_int_equal(read32(&registers, IVSHMEM_REG_DOORBELL), 0);
	}
}

static void test_mask_and_status_store_all_bits(void **state)
{
	(void)state;
	struct device_registers registers = {0};

	write32(&registers, IVSHMEM_REG_INTRMASK, 0xffffffff);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRMASK), 0xffffffff);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRMASK), 0xffffffff);
	write32(&registers, IVSHMEM_REG_INTRSTATUS, 0xdeadbeef);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRSTATUS), 0xdeadbeef);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRSTATUS), 0);
}

static void test_position_stays(void **state)
{
	(void)state;
	struct device_registers registers = distinct;

	write32(&registers, IVSHMEM_REG_IVPOSITION, 0xffffffff);
	assert_int_equal(read32(&registers, IVSHMEM_REG_IVPOSITION), distinct.position);
	device_reset(&registers);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRMASK), 0);
	assert_int_equal(read32(&registers, IVSHMEM_REG_INTRSTATUS), 0);
	assert_int_equal(read32(&registers, IVSHMEM_REG_IVPOSITION), distinct.position);
}

static void test_interrupt_shows_with_intx_only(void **state)
{
	(void)state;
	struct device_registers registers = {.intx = true, .status = 0x100};

	device_interrupt(&registers);
	assert_int_equal(registers.status, 1);
	registers = (struct device_registers){.mask = 0xffffffff};
	device_interrupt(&registers);
	assert_int_equal(registers.status, 0);
}

static void test_asserted_is_status_and_mask(void **state)
{
	(void)state;
	static const struct {
		uint32_t status, mask;
		bool intx, asserted;
	} cases[] = {
		{0, 0, true, false},
		{1, 0, true, false},
		{0, 0xffffffff, true, false},
		{1, 1, true, true},
		{1, 2, true, false},
		{0x80000000, 0x80000001, true, true},
		{1, 1, false, false},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct device_registers registers = {
			.status = cases[i].status, .mask = cases[i].mask, .intx = cases[i].intx};
		assert_int_equal(device_asserted(&registers), cases[i].asserted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_read_gives_the_bytes_it_covers),
		TEST(test_a_write_counts_for_whole_registers_only),
		TEST(test_the_rest_of_bar0_is_empty),
		TEST(test_doorbell_takes_16_bits_of_each),
		TEST(test_mask_and_status_store_all_bits),
		TEST(test_position_stays),
		TEST(test_interrupt_shows_with_intx_only),
		TEST(test_asserted_is_status_and_mask),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
