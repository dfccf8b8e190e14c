/* SPDX-License-Identifier: MIT */
#include "config.h"

#include "common/options.h"

#include <ivshmem/abi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_CLOCK 1000000000u

enum {
	OPT_MACHINE = OPTION_FIRST,
	OPT_CLOCK,
	OPT_FLASH,
	OPT_FLASH_SIZE,
	OPT_RAM,
	OPT_RAM_SIZE,
	OPT_UART,
	OPT_JOIN_TIMEOUT,
	OPT_MMR,
	OPT_SHM,
	OPT_SHM_SIZE,
	OPT_IRQ,
	OPT_VECTORS,
	OPT_LEVEL,
	OPT_TRACE,
};

static const struct option_def options[] = {
	{'S', "server", "URI",
		"join this ivshmem server: PATH, unix:PATH or region:NAME (default: the board "
		"has no ivshmem device)",
		"The ivshmem device"},
	{OPT_VECTORS, "vectors", "N",
		"vectors of the device (default: as many as there are interrupts for)", NULL},
	{OPT_MMR, "mmr", "ADDRESS", "where its registers are (default: 0x400ff000)", NULL},
	{OPT_SHM, "shm", "ADDRESS", "where the shared memory is (default: 0x40100000)", NULL},
	{OPT_SHM_SIZE, "shm-size", "SIZE",
		"how much of it the firmware sees; the server's must be at least as large "
		"(default: all)",
		NULL},
	{OPT_IRQ, "irq", "N|none",
		"interrupt of vector 0, the others follow; with none the firmware can ring others "
		"and not be rung (default: 40, cortex-m0: 8)",
		NULL},
	{OPT_LEVEL, "level", NULL,
		"one level-triggered interrupt for all vectors, which INTRSTATUS tells apart "
		"(default: a pulse on an interrupt of its own for each)",
		NULL},
	{OPT_JOIN_TIMEOUT, "join-timeout", "SECONDS",
		"how long to wait for the server's answer at start (default: 5)", NULL},
	{OPT_MACHINE, "machine", "NAME",
		"the processor: lm3s6965evb (a Cortex-M3), cortex-m0, cortex-m3 or cortex-m4 "
		"(default: lm3s6965evb)",
		"The board"},
	{OPT_CLOCK, "clock", "HZ", "of the processor, for SysTick (default: 12500000)", NULL},
	{OPT_FLASH, "flash", "ADDRESS", "where the flash is (default: 0)", NULL},
	{OPT_FLASH_SIZE, "flash-size", "SIZE", "how large it is (default: 256K)", NULL},
	{OPT_RAM, "ram", "ADDRESS", "where the RAM is (default: 0x20000000)", NULL},
	{OPT_RAM_SIZE, "ram-size", "SIZE", "how large it is (default: 64K)", NULL},
	{OPT_UART, "uart", "ADDRESS",
		"where the PL011 UART is, whose line is the terminal (default: 0x4000c000)", NULL},
	{OPT_TRACE, "trace", NULL,
		"print each access to the device's registers and each doorbell on standard error",
		"What to print"},
	{'v', "verbose", NULL, "print what the board does, and peers that come and go", NULL},
	{0},
};

static const struct option_table table = {
	.program = "ivshmem-flat-run",
	.synopsis = "[OPTION]... FIRMWARE.elf [OPTION]... [--] [WORD]...",
	.description =
		"Run firmware on a small Cortex-M board with an ivshmem-flat device. The words "
		"reach the firmware as its semihosting command line, after the file's name.",
	.epilogue =
		"Exit status: the firmware's, by semihosting; 2 for wrong usage, 125 if the board "
		"cannot\n"
		"start, 126 if the processor has locked up.\n"
		"\n"
		"Example:\n"
		"  ivshmem-server -F -S /tmp/ivshmem_socket -l 4M -n 8 &\n"
		"  ivshmem-flat-run hello-metal.elf --server /tmp/ivshmem_socket -- seat=1 "
		"rounds=5\n",
	.options = options,
};

/* The same board with other processors. A Cortex-M0 has 32 interrupts only. */
static const struct machine machines[] = {
	{"lm3s6965evb", CORTEX_M3, 64, 40},
	{"cortex-m0", CORTEX_M0, 32, 8},
	{"cortex-m3", CORTEX_M3, 240, 40},
	{"cortex-m4", CORTEX_M4, 240, 40},
};

/* ---- single options ---- */

static int set_machine(struct config *config, const char *name)
{
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		if (strcmp(name, machines[i].name) == 0) {
			config->machine = &machines[i];
			return 0;
		}
	}
	return options_complain(&table,
		"--machine %s: there are lm3s6965evb, cortex-m0, cortex-m3 and cortex-m4", name);
}

static int set_number(
	const char *option, const char *text, uint32_t min, uint32_t max, uint32_t *value)
{
	uint64_t number;
	if (option_uint(&table, option, text, min, max, &number) < 0)
		return -1;
	*value = (uint32_t)number;
	return 0;
}

static int set_address(const char *option, const char *text, uint32_t *address)
{
	if (set_number(option, text, 0, CORE_PRIVATE - CORE_PAGE, address) < 0)
		return -1;
	if (*address % CORE_PAGE == 0)
		return 0;
	return options_complain(&table, "%s %s: give a multiple of 0x1000", option, text);
}

static int set_size(const char *option, const char *text, uint64_t *size)
{
	if (option_size(&table, option, text, size) < 0)
		return -1;
	if (*size > 0 && *size % CORE_PAGE == 0 && *size < CORE_PRIVATE)
		return 0;
	return options_complain(&table, "%s %s: give a multiple of 4K below 3584M", option, text);
}

static int set_place_size(const char *option, const char *text, struct place *place)
{
	uint64_t size;
	if (set_size(option, text, &size) < 0)
		return -1;
	place->size = (uint32_t)size;
	return 0;
}

static int set_server(struct config *config, const char *argument)
{
	free(config->server);
	const char *scheme = strchr(argument, ':') ? "" : "unix:";
	if (asprintf(&config->server, "%s%s", scheme, argument) >= 0)
		return 0;
	config->server = NULL;
	return options_complain(&table, "no memory");
}

static int set_irq(struct config *config, const char *text)
{
	config->first_irq = NO_IRQ;
	return strcmp(text, "none") == 0 ? 0
					 : set_number("--irq", text, 0, 239, &config->first_irq);
}

static int set_join_timeout(struct config *config, const char *text)
{
	if (parse_seconds(text, &config->join_timeout_ms) == 0 && config->join_timeout_ms > 0)
		return 0;
	return options_complain(
		&table, "--join-timeout %s: give seconds from 0.001 to 1000000", text);
}

static int handle_option(void *data, int key, const char *argument)
{
	struct config *config = data;

	switch (key) {
	case 'S':
		return set_server(config, argument);
	case OPT_VECTORS:
		return set_number("--vectors", argument, 1, IVSHMEM_MAX_VECTORS, &config->vectors);
	case OPT_MMR:
		return set_address("--mmr", argument, &config->registers);
	case OPT_SHM:
		return set_address("--shm", argument, &config->memory);
	case OPT_SHM_SIZE:
		return set_size("--shm-size", argument, &config->memory_size);
	case OPT_IRQ:
		config->irq_given = true;
		return set_irq(config, argument);
	case OPT_LEVEL:
		config->level = true;
		return 0;
	case OPT_JOIN_TIMEOUT:
		return set_join_timeout(config, argument);
	case OPT_MACHINE:
		return set_machine(config, argument);
	case OPT_CLOCK:
		return set_number("--clock", argument, 1000, LARGEST_CLOCK, &config->clock_hz);
	case OPT_FLASH:
		return set_address("--flash", argument, &config->flash.address);
	case OPT_FLASH_SIZE:
		return set_place_size("--flash-size", argument, &config->flash);
	case OPT_RAM:
		return set_address("--ram", argument, &config->ram.address);
	case OPT_RAM_SIZE:
		return set_place_size("--ram-size", argument, &config->ram);
	case OPT_UART:
		return set_address("--uart", argument, &config->uart);
	case OPT_TRACE:
		config->trace = true;
		return 0;
	default: /* 'v': the parser lets nothing else through */
		config->verbose = true;
		return 0;
	}
}

/* ---- the whole ---- */

/* The file's name and the words, with blanks between. */
static char *join_words(const char *firmware, char **words)
{
	size_t size = strlen(firmware) + 1;
	for (char **word = words; *word; word++)
		size += strlen(*word) + 1;
	char *text = malloc(size);
	if (!text)
		return NULL;
	char *end = stpcpy(text, firmware);
	for (char **word = words; *word; word++)
		end = stpcpy(stpcpy(end, " "), *word);
	return text;
}

/* What only all options together tell. */
static int check(struct config *config)
{
	const struct machine *machine = config->machine;

	if (!config->irq_given)
		config->first_irq = machine->first_irq;
	if (config->first_irq == NO_IRQ)
		return 0;
	if (config->first_irq >= machine->interrupts)
		return options_complain(&table, "--irq %u: %s has interrupts 0 to %u",
			config->first_irq, machine->name, machine->interrupts - 1);
	unsigned room =
		config->level ? IVSHMEM_MAX_VECTORS : machine->interrupts - config->first_irq;
	if (config->vectors > room)
		return options_complain(&table,
			"--vectors %u: from interrupt %u on there is room for %u: see --irq and "
			"--level",
			config->vectors, config->first_irq, room);
	if (config->vectors == 0)
		config->vectors = room;
	return 0;
}

int config_parse(struct config *config, int argc, char **argv)
{
	*config = (struct config){
		.machine = &machines[0],
		.clock_hz = 12500000,
		.flash = {0, 256 << 10},
		.ram = {0x20000000, 64 << 10},
		.uart = 0x4000c000,
		.join_timeout_ms = 5000,
		.registers = 0x400ff000,
		.memory = 0x40100000,
	};

	/* Options stand before the firmware's name or behind it. */
	int first = options_parse(&table, argc, argv, handle_option, config);
	if (first < 0)
		return -1;
	if (first == argc)
		return options_complain(&table, "which firmware? Give an ELF file");
	config->firmware = argv[first];
	int words = options_parse(&table, argc - first, argv + first, handle_option, config);
	if (words < 0)
		return -1;
	config->command_line = join_words(config->firmware, argv + first + words);
	if (!config->command_line)
		return options_complain(&table, "no memory");
	return check(config);
}

void config_fini(struct config *config)
{
	free(config->server);
	free(config->command_line);
}
