/* SPDX-License-Identifier: MIT */
/* The Zephyr driver with a kernel that the test plays: what an application for Zephyr's PCI driver
 * relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#define STUB_MEMORY
#include "../../zephyr/drivers/ivshmem_flat.c"

#include <cmocka.h>

uint32_t stub_registers[4], stub_memory[16];

static struct {
	void (*isr)(const void *);
	const void *arg;
	unsigned priority, flags, enabled;
} lines[64];

void stub_connect(
	unsigned irq, unsigned priority, void (*isr)(const void *), const void *arg, unsigned flags)
{
	assert_true(irq < 64);
	lines[irq].isr = isr;
	lines[irq].arg = arg;
	lines[irq].priority = priority;
	lines[irq].flags = flags;
}

void irq_enable(unsigned irq)
{
	assert_non_null(lines[irq].isr);
	lines[irq].enabled = 1;
}

int k_poll_signal_raise(struct k_poll_signal *signal, int result)
{
	signal->signaled = 1;
	signal->result = result;
	return 0;
}

static int start(void **state)
{
	(void)state;
	memset(lines, 0, sizeof(lines));
	stub_registers[IVSHMEM_REG_IVPOSITION / 4] = 9;
	return stub_device.init(&stub_device);
}

static void interrupt(unsigned irq)
{
	assert_true(lines[irq].enabled);
	lines[irq].isr(lines[irq].arg);
}

static void test_device(void **state)
{
	uintptr_t memory;

	(void)state;
	assert_int_equal(ivshmem_get_id(&stub_device), 9);
	assert_int_equal(ivshmem_get_vectors(&stub_device), 2);
	assert_int_equal(ivshmem_get_mem(&stub_device, &memory), STUB_SIZE_memory);
	assert_int_equal(memory, (uintptr_t)stub_memory);
	for (unsigned irq = 0; irq < 64; irq++) {
		assert_int_equal(lines[irq].enabled, irq == 40 || irq == 41);
		assert_int_equal(lines[irq].priority, irq == 40 || irq == 41 ? 2 : 0);
		assert_int_equal(lines[irq].flags, 0);
	}
}

static void test_ring(void **state)
{
	(void)state;
	assert_int_equal(ivshmem_int_peer(&stub_device, 65535, 7), 0);
	assert_int_equal(stub_registers[IVSHMEM_REG_DOORBELL / 4], 0xffff0007);
	assert_int_equal(ivshmem_int_peer(&stub_device, 65536, 0), -EINVAL);
	assert_int_equal(stub_registers[IVSHMEM_REG_DOORBELL / 4], 0xffff0007);
}

static void test_signals(void **state)
{
	struct k_poll_signal one = {0, -1}, other = {0, -1};

	(void)state;
	interrupt(40); /* nobody has asked */
	assert_int_equal(ivshmem_register_handler(&stub_device, &one, 0), 0);
	assert_int_equal(ivshmem_register_handler(&stub_device, &other, 1), 0);
	assert_int_equal(ivshmem_register_handler(&stub_device, &other, 2), -EINVAL);
	assert_int_equal(one.signaled + other.signaled, 0);
	interrupt(41);
	assert_int_equal(one.signaled, 0);
	assert_int_equal(other.signaled, 1);
	assert_int_equal(other.result, 1);

	/* One for all vectors. */
	assert_int_equal(ivshmem_register_handler(&stub_device, &one, 1), 0);
	interrupt(41);
	assert_int_equal(one.result, 1);
	interrupt(40);
	assert_int_equal(one.result, 0);

	one.signaled = 0;
	assert_int_equal(ivshmem_register_handler(&stub_device, NULL, 0), 0);
	interrupt(40);
	assert_int_equal(one.signaled, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_device, start),
		cmocka_unit_test_setup(test_ring, start),
		cmocka_unit_test_setup(test_signals, start),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
