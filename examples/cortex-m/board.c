/* SPDX-License-Identifier: MIT */
/*
 * A Cortex-M board with a flat device, as ivshmem-flat-run has it, and 4 MiB, for hello-metal.c.
 *
 *     arm-none-eabi-gcc -mcpu=cortex-m3 -mthumb -Os -ffreestanding -nostdlib -I ../../include \
 *             -T board.ld board.c ../hello-metal.c -lgcc -o hello-metal.elf
 *     ivshmem-flat-run hello-metal.elf --server unix:/tmp/ivshmem_socket -- seat=0 rounds=5
 */
#include <ivshmem/mmio.h>

enum { REGISTERS = 0x400ff000, MEMORY = 0x40100000, MEMORY_SIZE = 4 << 20, VECTOR_0_LINE = 40 };
enum { SYS_GET_CMDLINE = 0x15, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };
#define UART      ((volatile uint32_t *)0x4000c000) /* a PL011: data; 0x18: flags, 0x20: full */
#define NVIC_ISER ((volatile uint32_t *)0xe000e100) /* a bit for each line, to enable it */

int hello(struct ivshmem_mmio *iv, unsigned seat, unsigned rounds, void (*print)(const char *));
void start(void);
extern uint32_t stack_top[], data_start[], data_end[], data_load[], bss_start[], bss_end[];

static struct ivshmem_mmio iv;

static void on_doorbell(void)
{
	ivshmem_mmio_interrupt(&iv, 0);
}

static void print(const char *text)
{
	do {
		while ((UART[0x18 / 4] & 0x20) != 0)
			;
		UART[0] = *text != '\0' ? (unsigned char)*text : '\n';
	} while (*text++ != '\0');
}

/* Ask the debugger, or the emulator, for something. */
static uint32_t semihost(uint32_t operation, const uint32_t *arguments)
{
	register uint32_t r0 __asm__("r0") = operation;
	register const uint32_t *r1 __asm__("r1") = arguments;
	__asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
	return r0;
}

/* The number behind `name` in the command line, or else `value`. */
static unsigned number(const char *line, const char *name, unsigned value)
{
	unsigned i = 0;

	for (; *line != '\0' && name[i] != '\0'; line++)
		for (i = 0; name[i] != '\0' && line[i] == name[i]; i++)
			;
	if (name[i] == '\0')
		for (value = 0, line += i - 1; *line >= '0' && *line <= '9'; line++)
			value = value * 10 + (unsigned)(*line - '0');
	return value;
}

void start(void)
{
	static char line[512];
	uint32_t command[2] = {(uint32_t)line, sizeof(line)}, end[2] = {APPLICATION_EXIT, 1};
	volatile uint32_t *to = data_start, *from = data_load;

	while (to != data_end)
		*to++ = *from++;
	for (to = bss_start; to != bss_end; to++)
		*to = 0;
	ivshmem_mmio_init(&iv, REGISTERS, MEMORY, MEMORY_SIZE);
	NVIC_ISER[VECTOR_0_LINE / 32] = 1u << VECTOR_0_LINE % 32;
	if (semihost(SYS_GET_CMDLINE, command) == 0) /* it fits */
		end[1] = hello(&iv, number(line, "seat=", 0), number(line, "rounds=", 5), print) !=
			0;
	for (;;)
		semihost(SYS_EXIT_EXTENDED, end);
}

/* Stack, then handlers by exception number. An exception without one is a fault. */
__attribute__((section(".vectors"), used)) static const uintptr_t vectors[] = {
	(uintptr_t)stack_top, (uintptr_t)start, [16 + VECTOR_0_LINE] = (uintptr_t)on_doorbell};
