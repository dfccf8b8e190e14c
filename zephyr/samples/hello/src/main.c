/* SPDX-License-Identifier: MIT */
/*
 * examples/hello-metal.c on Zephyr: greets hello-guest, which sits on seat 0. The driver has the
 * interrupts; the device is its registers and the memory for whoever knows where they are.
 */
#include <zephyr/devicetree.h>
#include <zephyr/drivers/virtualization/ivshmem.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

/* How the driver for bare metal sleeps here. */
#define IVSHMEM_MMIO_SLEEP(word, value) sleep_until_rung()
static void sleep_until_rung(void);
#include "../../../../examples/hello-metal.c"

#define NODE    DT_NODELABEL(ivshmem0)
#define TICK_MS 100 /* the other may not have been there when it was rung */

static struct ivshmem_mmio iv;
static struct k_poll_signal doorbell = K_POLL_SIGNAL_INITIALIZER(doorbell);

static void sleep_until_rung(void)
{
	struct k_poll_event event =
		K_POLL_EVENT_INITIALIZER(K_POLL_TYPE_SIGNAL, K_POLL_MODE_NOTIFY_ONLY, &doorbell);

	if (k_poll(&event, 1, K_MSEC(TICK_MS)) < 0)
		return;
	k_poll_signal_reset(&doorbell);
	ivshmem_mmio_interrupt(&iv, 0);
}

static void print(const char *line)
{
	printk("%s\n", line);
}

int main(void)
{
	const struct device *dev = DEVICE_DT_GET(NODE);
	uintptr_t memory;
	size_t size;

	if (!device_is_ready(dev) || ivshmem_register_handler(dev, &doorbell, 0) < 0) {
		printk("hello: no device\n");
		return 0;
	}
	size = ivshmem_get_mem(dev, &memory);
	ivshmem_mmio_init(&iv, DT_REG_ADDR_BY_NAME(NODE, registers), memory, size);
	printk("hello: peer %u, %u vectors\n", ivshmem_get_id(dev), ivshmem_get_vectors(dev));
	if (hello(&iv, 1, SHOWN, print) < 0)
		printk("hello: the memory is too small\n");
	return 0;
}
