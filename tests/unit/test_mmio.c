/* SPDX-License-Identifier: MIT */
/* The firmware's driver on registers that are ordinary memory. What its barriers are good for, no
 * test of one processor can tell. */
#include "../common/fdcheck.h"
#include "../common/headerpage.h"

#include <ivshmem/mmio.h>

#include <pthread.h>
#include <unistd.h>

static uint32_t registers[4];
static _Alignas(4) unsigned char memory[64];
static struct ivshmem_mmio iv;

static int set_up(void **state)
{
	(void)state;
	registers[IVSHMEM_REG_IVPOSITION / 4] = 7;
	ivshmem_mmio_init(&iv, (uintptr_t)registers, (uintptr_t)memory, sizeof(memory));
	return 0;
}

static void test_registers(void **state)
{
	(void)state;
	assert_int_equal(registers[IVSHMEM_REG_INTRMASK / 4], UINT32_MAX);
	assert_int_equal(ivshmem_mmio_id(&iv), 7);
	registers[IVSHMEM_REG_IVPOSITION / 4] = UINT32_MAX;
	assert_int_equal(ivshmem_mmio_id(&iv), -1);

	ivshmem_mmio_ring(&iv, 65535, 3);
	assert_int_equal(registers[IVSHMEM_REG_DOORBELL / 4], 0xffff0003);
	iv.memory[63] = 'x';
	assert_int_equal(memory[63], 'x');
	assert_int_equal(iv.size, sizeof(memory));

	ivshmem_mmio_store(&iv, 8, 0x12345678);
	assert_int_equal(ivshmem_mmio_load(&iv, 8), 0x12345678);
	assert_int_equal(memory[8], 0x78);
	assert_int_equal(memory[12], 0);
}

static void test_levels(void **state)
{
	(void)state;
	registers[IVSHMEM_REG_INTRSTATUS / 4] = 0;
	assert_int_equal(ivshmem_mmio_interrupts(&iv), 0);
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		assert_int_equal(ivshmem_mmio_take(&iv, vector), 0);

	/* More bits than are counted, too. */
	registers[IVSHMEM_REG_INTRSTATUS / 4] = 0x80000085;
	assert_int_equal(ivshmem_mmio_interrupts(&iv), 0x80000085);
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		assert_int_equal(ivshmem_mmio_take(&iv, vector), 0x85 >> vector & 1);

	assert_int_equal(ivshmem_mmio_acknowledge(&iv), 0x80000085);
	assert_int_equal(ivshmem_mmio_take(&iv, 0), 0);
}

static void test_counts(void **state)
{
	(void)state;
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		for (unsigned i = 0; i <= vector; i++)
			ivshmem_mmio_interrupt(&iv, vector);
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++) {
		assert_int_equal(ivshmem_mmio_take(&iv, vector), vector + 1);
		assert_int_equal(ivshmem_mmio_take(&iv, vector), 0);
	}
	/* None of its business, and no place in its arrays. */
	ivshmem_mmio_interrupt(&iv, IVSHMEM_MMIO_VECTORS);
	assert_int_equal(ivshmem_mmio_take(&iv, IVSHMEM_MMIO_VECTORS), 0);
	assert_int_equal(ivshmem_mmio_wait(&iv, IVSHMEM_MMIO_VECTORS), 0);

	/* The counter wraps. */
	iv.rung[2] = iv.taken[2] = UINT32_MAX;
	ivshmem_mmio_interrupt(&iv, 2);
	assert_int_equal(iv.rung[2], 0);
	assert_int_equal(ivshmem_mmio_take(&iv, 2), 1);
}

static void *interrupt_later(void *unused)
{
	usleep(20000);
	ivshmem_mmio_interrupt(&iv, 1);
	return unused;
}

static void test_wait(void **state)
{
	pthread_t handler;
	(void)state;

	ivshmem_mmio_interrupt(&iv, 1);
	assert_int_equal(ivshmem_mmio_wait(&iv, 1), 1);
	assert_int_equal(pthread_create(&handler, NULL, interrupt_later, NULL), 0);
	assert_int_equal(ivshmem_mmio_wait(&iv, 1), 1);
	pthread_join(handler, NULL);
}

/* ---- which region this is ---- */

static void test_name(void **state)
{
	static _Alignas(4) unsigned char page[HEADER_PAGE];
	char name[IVSHMEM_HEADER_NAME_SIZE];
	(void)state;

	assert_int_equal(ivshmem_mmio_name(&iv, name), -1); /* no room for one */
	ivshmem_mmio_init(&iv, (uintptr_t)registers, (uintptr_t)page, sizeof(page));
	assert_int_equal(ivshmem_mmio_name(&iv, name), -1);
	header_page(page, "frames", 5);
	assert_int_equal(ivshmem_mmio_name(&iv, name), 0);
	assert_string_equal(name, "frames");

	for (unsigned i = 0; i < HEADER_PAGE; i++) {
		page[i] ^= 0x20;
		assert_int_equal(ivshmem_mmio_name(&iv, name), -1);
		page[i] ^= 0x20;
	}
	header_word(page, 4, 2); /* a later version, which adds up */
	header_seal(page);
	assert_int_equal(ivshmem_mmio_name(&iv, name), -1);
	header_page(page, "frames", 5);
	memset(page + 64, 'a', 64); /* a name without an end */
	header_seal(page);
	assert_int_equal(ivshmem_mmio_name(&iv, name), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_registers, set_up),
		cmocka_unit_test_setup(test_levels, set_up),
		cmocka_unit_test_setup(test_counts, set_up),
		cmocka_unit_test_setup(test_wait, set_up),
		cmocka_unit_test_setup(test_name, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
