/* SPDX-License-Identifier: MIT */
/* The flat device: what its firmware reads, and what its interrupt controller hears. */
#include "../common/fdcheck.h"

#include <ivshmem/flat.h>

#include <stdio.h>
#include <string.h>

static struct ivshmem_flat flat;
static char heard[256]; /* callbacks since the last look */

static void ring(void *data, unsigned peer, unsigned vector)
{
	size_t n = strlen(heard);
	assert_ptr_equal(data, &flat);
	snprintf(heard + n, sizeof(heard) - n, "ring %u.%u ", peer, vector);
}

static void line(void *data, unsigned number, int level)
{
	size_t n = strlen(heard);
	assert_ptr_equal(data, &flat);
	snprintf(heard + n, sizeof(heard) - n, "%u%c ", number, level ? '+' : '-');
}

static const struct ivshmem_flat_ops ops = {.ring = ring, .line = line};

static void assert_heard(const char *what)
{
	assert_string_equal(heard, what);
	heard[0] = '\0';
}

static int set_up(int level)
{
	struct ivshmem_flat_config config = IVSHMEM_FLAT_CONFIG_INIT;

	config.vectors = 40;
	config.position = 7;
	config.level = level;
	config.ops = &ops;
	config.data = &flat;
	heard[0] = '\0';
	return ivshmem_flat_init(&flat, &config);
}

static int set_up_pulse(void **state)
{
	(void)state;
	return set_up(0);
}

static int set_up_level(void **state)
{
	(void)state;
	return set_up(1);
}

static uint32_t load(uint32_t offset)
{
	uint8_t bytes[4];

	ivshmem_flat_read(&flat, offset, bytes, sizeof(bytes));
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
		(uint32_t)bytes[3] << 24;
}

static void store(uint32_t offset, size_t size, uint64_t value)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> 8 * i);
	ivshmem_flat_write(&flat, offset, bytes, size);
}

static void test_configuration(void **state)
{
	struct ivshmem_flat_config config = IVSHMEM_FLAT_CONFIG_INIT;
	(void)state;

	assert_int_equal(ivshmem_flat_init(&flat, &config), -1); /* no callbacks */
	config.ops = &ops;
	assert_int_equal(ivshmem_flat_init(&flat, &config), 0);
	config.vectors = IVSHMEM_MAX_VECTORS + 1;
	assert_int_equal(ivshmem_flat_init(&flat, &config), -1);
	config.vectors = IVSHMEM_MAX_VECTORS;
	config.struct_size--;
	assert_int_equal(ivshmem_flat_init(&flat, &config), -1);
}

static void test_pulse_registers(void **state)
{
	(void)state;
	store(IVSHMEM_REG_INTRMASK, 4, UINT32_MAX);
	store(IVSHMEM_REG_INTRSTATUS, 4, UINT32_MAX);
	store(IVSHMEM_REG_IVPOSITION, 4, UINT32_MAX);
	assert_heard("");
	assert_int_equal(load(IVSHMEM_REG_INTRMASK), 0);
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 0);
	assert_int_equal(load(IVSHMEM_REG_IVPOSITION), 7);
	assert_int_equal(load(IVSHMEM_REG_DOORBELL), 0);
	assert_int_equal(load(IVSHMEM_FLAT_SIZE), 0);
	assert_int_equal(load(UINT32_MAX), 0);
}

static void test_doorbell(void **state)
{
	(void)state;
	store(IVSHMEM_REG_DOORBELL, 4, 0xffff0003);
	assert_heard("ring 65535.3 ");
	store(IVSHMEM_REG_DOORBELL, 4, 0x0001ffff);
	assert_heard("ring 1.65535 ");
	store(IVSHMEM_REG_IVPOSITION, 8, 0x0002000100000000);
	assert_heard("ring 2.1 ");
	/* Nobody is rung by a piece of a register. */
	for (uint32_t offset = 9; offset < 20; offset++)
		for (size_t size = 1; size <= 4; size++)
			if (offset != IVSHMEM_REG_DOORBELL || size < 4)
				store(offset, size, UINT32_MAX);
	assert_heard("");
}

static void test_pulses(void **state)
{
	(void)state;
	ivshmem_flat_interrupt(&flat, 0);
	assert_heard("0+ 0- ");
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 0);
	ivshmem_flat_interrupt(&flat, 39);
	assert_heard("39+ 39- ");
	ivshmem_flat_interrupt(&flat, 40);
	ivshmem_flat_interrupt(&flat, UINT32_MAX);
	ivshmem_flat_reset(&flat);
	assert_heard("");
}

static void test_level(void **state)
{
	(void)state;
	ivshmem_flat_interrupt(&flat, 3);
	assert_heard("");                        /* masked after reset... */
	store(IVSHMEM_REG_INTRMASK, 4, 1u << 3); /* ...and not forgotten */
	assert_heard("0+ ");
	ivshmem_flat_interrupt(&flat, 3);
	ivshmem_flat_interrupt(&flat, 5);
	assert_heard("");
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 1u << 3 | 1u << 5);
	assert_heard("0- ");
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 0);
	assert_int_equal(load(IVSHMEM_REG_INTRMASK), 1u << 3);
	ivshmem_flat_interrupt(&flat, 5);
	assert_heard(""); /* masked */

	store(IVSHMEM_REG_INTRMASK, 4, UINT32_MAX);
	assert_heard("0+ ");
	store(IVSHMEM_REG_INTRSTATUS, 4, 0); /* the register can be written */
	assert_heard("0- ");
	ivshmem_flat_interrupt(&flat, 31);
	ivshmem_flat_interrupt(&flat, 39); /* the last bit is for all that have none */
	ivshmem_flat_interrupt(&flat, 40);
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 1u << 31);
	assert_heard("0+ 0- ");
	ivshmem_flat_interrupt(&flat, 39);
	assert_heard("0+ ");
	ivshmem_flat_reset(&flat);
	assert_heard("0- ");
	assert_int_equal(load(IVSHMEM_REG_INTRMASK), 0);
	assert_int_equal(load(IVSHMEM_REG_INTRSTATUS), 0);
	assert_int_equal(load(IVSHMEM_REG_IVPOSITION), 7);
}

/* A read that takes only bytes above the lowest clears nothing; as in the PCI device. */
static void test_level_narrow(void **state)
{
	uint8_t bytes[4];
	(void)state;

	store(IVSHMEM_REG_INTRMASK, 4, UINT32_MAX);
	ivshmem_flat_interrupt(&flat, 9);
	ivshmem_flat_read(&flat, IVSHMEM_REG_INTRSTATUS + 1, bytes, 3);
	assert_int_equal(bytes[0], 1 << 1);
	assert_heard("0+ ");
	store(IVSHMEM_REG_INTRMASK, 2, 0);
	assert_heard(""); /* half of a register is nothing */
	ivshmem_flat_read(&flat, IVSHMEM_REG_INTRSTATUS, bytes, 1);
	assert_heard("0- ");
}

/* A device may have nobody to tell. */
static void test_without_callbacks(void **state)
{
	static const struct ivshmem_flat_ops none;
	(void)state;

	flat.ops = &none;
	store(IVSHMEM_REG_DOORBELL, 4, 1);
	ivshmem_flat_interrupt(&flat, 1);
	store(IVSHMEM_REG_INTRMASK, 4, UINT32_MAX);
	assert_heard("");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_configuration),
		cmocka_unit_test_setup(test_pulse_registers, set_up_pulse),
		cmocka_unit_test_setup(test_doorbell, set_up_pulse),
		cmocka_unit_test_setup(test_doorbell, set_up_level),
		cmocka_unit_test_setup(test_pulses, set_up_pulse),
		cmocka_unit_test_setup(test_level, set_up_level),
		cmocka_unit_test_setup(test_level_narrow, set_up_level),
		cmocka_unit_test_setup(test_without_callbacks, set_up_pulse),
		cmocka_unit_test_setup(test_without_callbacks, set_up_level),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
