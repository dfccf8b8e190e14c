/* SPDX-License-Identifier: MIT */
#include "device.h"

#include "machine.h"

#define CONFIG_ADDRESS 0xcf8
#define CONFIG_DATA    0xcfc
#define CONFIG_ENABLE  0x80000000u
#define SLOTS          32u

#define BAR_64_BIT 0x4u
#define BAR_FLAGS  0xfu

/* Where nothing else is in a PC with little memory: for a BAR2 that the firmware has put beyond
 * 4 GiB, out of our reach. */
#define LOW_ADDRESS 0x40000000u
#define LOW_SIZE    0x40000000u

struct device device;

/* ---- accesses ---- */

uint32_t config_read(uint32_t offset, unsigned size)
{
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));
	uint32_t value;

	outl(CONFIG_ADDRESS, CONFIG_ENABLE | device.where | (offset & 0xfc));
	if (size == 1)
		value = inb(port);
	else if (size == 2)
		value = inw(port);
	else
		value = inl(port);
	if (device.log)
		print("config r 0x%x %u 0x%x\n", offset, size, value);
	return value;
}

void config_write(uint32_t offset, unsigned size, uint32_t value)
{
	uint16_t port = (uint16_t)(CONFIG_DATA + (offset & 3));

	if (device.log)
		print("config w 0x%x %u 0x%x\n", offset, size, value);
	outl(CONFIG_ADDRESS, CONFIG_ENABLE | device.where | (offset & 0xfc));
	if (size == 1)
		outb(port, (uint8_t)value);
	else if (size == 2)
		outw(port, (uint16_t)value);
	else
		outl(port, value);
}

/* One access of 8 bytes takes a register as wide: MMX has some, without anything to switch on. */
static uint64_t load8(const volatile void *at)
{
	uint64_t value;
	__asm__ volatile("movq %1, %%mm0; movq %%mm0, %0; emms"
			 : "=m"(value)
			 : "m"(*(const volatile uint64_t *)at));
	return value;
}

static void store8(volatile void *at, uint64_t value)
{
	__asm__ volatile("movq %1, %%mm0; movq %%mm0, %0; emms"
			 : "=m"(*(volatile uint64_t *)at)
			 : "m"(value));
}

uint64_t bar_read(unsigned bar, uint32_t offset, unsigned size)
{
	const volatile void *at = (const volatile void *)(device.address[bar] + offset);
	uint64_t value;

	if (size == 1)
		value = *(const volatile uint8_t *)at;
	else if (size == 2)
		value = *(const volatile uint16_t *)at;
	else if (size == 4)
		value = *(const volatile uint32_t *)at;
	else
		value = load8(at);
	if (device.log)
		print("bar %u r 0x%x %u 0x%llx\n", bar, offset, size, value);
	return value;
}

void bar_write(unsigned bar, uint32_t offset, unsigned size, uint64_t value)
{
	volatile void *at = (volatile void *)(device.address[bar] + offset);

	if (device.log)
		print("bar %u w 0x%x %u 0x%llx\n", bar, offset, size,
			value & UINT64_MAX >> (64 - 8 * size));
	if (size == 1)
		*(volatile uint8_t *)at = (uint8_t)value;
	else if (size == 2)
		*(volatile uint16_t *)at = (uint16_t)value;
	else if (size == 4)
		*(volatile uint32_t *)at = (uint32_t)value;
	else
		store8(at, value);
}

uint32_t register_read(uint32_t reg)
{
	return (uint32_t)bar_read(IVSHMEM_BAR_REGISTERS, reg, 4);
}

void register_write(uint32_t reg, uint32_t value)
{
	bar_write(IVSHMEM_BAR_REGISTERS, reg, 4, value);
}

void ring(uint32_t peer, uint32_t vector)
{
	register_write(IVSHMEM_REG_DOORBELL, IVSHMEM_DOORBELL(peer, vector));
}

/* ---- finding it ---- */

static uint32_t bar_offset(unsigned bar)
{
	return PCI_BAR + 4 * bar;
}

/* Address and size of a BAR. One beyond our reach gets an address within it. */
static void find_bar(unsigned bar)
{
	uint32_t offset = bar_offset(bar);
	uint32_t low = config_read(offset, 4);
	bool wide = (low & BAR_64_BIT) != 0;
	uint32_t high = wide ? config_read(offset + 4, 4) : 0;
	uint64_t mask = UINT64_C(0xffffffff00000000);

	config_write(offset, 4, 0xffffffff);
	mask |= config_read(offset, 4) & ~BAR_FLAGS;
	config_write(offset, 4, low);
	if (wide) {
		config_write(offset + 4, 4, 0xffffffff);
		mask &= (uint64_t)config_read(offset + 4, 4) << 32 | 0xffffffff;
		config_write(offset + 4, 4, high);
	}
	if ((uint32_t)mask == 0 && !wide)
		return; /* not there */
	device.size[bar] = -mask;
	device.address[bar] = high == 0 ? low & ~BAR_FLAGS : LOW_ADDRESS;
	expect("BAR fits into 1 GiB", device.size[bar] <= LOW_SIZE, true);
}

static void find_msix(void)
{
	uint32_t at = config_read(PCI_CAPABILITIES, 1);

	while (at != 0 && config_read(at, 1) != CAPABILITY_MSIX)
		at = config_read(at + 1, 1);
	if (at == 0)
		return;
	device.msix = at;
	device.vectors = (config_read(at + MSIX_CONTROL, 2) & MSIX_COUNT_MASK) + 1;
	uint32_t table = config_read(at + MSIX_TABLE, 4);
	uint32_t pending = config_read(at + MSIX_PBA, 4);
	expect("table's BAR", table & 7, IVSHMEM_BAR_MSIX);
	expect("PBA's BAR", pending & 7, IVSHMEM_BAR_MSIX);
	device.table = table & ~7u;
	device.pending = pending & ~7u;
}

void device_find(void)
{
	const uint32_t id = IVSHMEM_PCI_DEVICE_ID << 16 | IVSHMEM_PCI_VENDOR_ID;
	unsigned slot = 0;

	while (slot < SLOTS && (device.where = slot << 11, config_read(PCI_ID, 4)) != id)
		slot++;
	expect("device present", slot < SLOTS, true);
	device_command(0);
	for (unsigned bar = 0; bar < BARS; bar++)
		find_bar(bar);
	find_msix();
	device_place();
	device_command(COMMAND_MEMORY | COMMAND_MASTER);
	device.id = register_read(IVSHMEM_REG_IVPOSITION);
}

void device_place(void)
{
	for (unsigned bar = 0; bar < BARS; bar++)
		config_write(bar_offset(bar), 4, device.address[bar]);
	config_write(bar_offset(IVSHMEM_BAR_MEMORY) + 4, 4, 0);
}

void device_command(uint32_t command)
{
	config_write(PCI_COMMAND, 2, command);
}

/* ---- MSI-X ---- */

static uint32_t entry(uint32_t vector)
{
	return device.table + vector * ENTRY_SIZE;
}

void msix_control(uint32_t bits)
{
	config_write(device.msix + MSIX_CONTROL, 2, bits);
}

void msix_program(uint32_t vector)
{
	bar_write(IVSHMEM_BAR_MSIX, entry(vector) + ENTRY_ADDRESS, 4, message_address());
	bar_write(IVSHMEM_BAR_MSIX, entry(vector) + ENTRY_ADDRESS + 4, 4, 0);
	bar_write(IVSHMEM_BAR_MSIX, entry(vector) + ENTRY_VALUE, 4, VECTOR_MSIX + vector);
}

void msix_mask(uint32_t vector, bool masked)
{
	bar_write(IVSHMEM_BAR_MSIX, entry(vector) + ENTRY_CONTROL, 4, masked ? ENTRY_MASKED : 0);
}

bool msix_pending(uint32_t vector)
{
	uint32_t word = device.pending + vector / 32 * 4;

	return (bar_read(IVSHMEM_BAR_MSIX, word, 4) >> vector % 32 & 1) != 0;
}

unsigned msix_used(void)
{
	return device.vectors < MSIX_USED ? device.vectors : MSIX_USED;
}

void msix_start(void)
{
	for (uint32_t vector = 0; vector < msix_used(); vector++) {
		msix_program(vector);
		msix_mask(vector, false);
	}
	msix_control(MSIX_ENABLE);
}
