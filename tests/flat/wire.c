/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * wire - a plugin that puts QEMU's ivshmem-flat into a board.
 *
 *     -plugin flat-wire.so,chardev=ID,mmr=ADDRESS,shm=ADDRESS,size=BYTES,irq=N|none
 *
 * Theory of operation. QEMU has the device since 10.0, but no board that has it, and -device
 * refuses it: code has to create it, and to say where its registers, its memory and its interrupt
 * are. A plugin for the translator is code that Debian's QEMU loads, and it can call whatever QEMU
 * exports for its own modules. So this one waits until the board is complete and does the wiring;
 * it has nothing to do with translation. Those functions are no stable interface: this is for
 * tests, with the versions of QEMU that scripts/setup fetches. Being one program with QEMU, it has
 * a licence that goes with QEMU's.
 *
 * The prototypes are written down here, pointers without their types, because Debian does not
 * package QEMU's headers.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct notifier {
	void (*notify)(struct notifier *notifier, void *data);
	void *next, *previous; /* of QEMU's list */
};

/* ---- of QEMU ---- */

extern void *error_fatal; /* &error_fatal: errors are printed and end QEMU */
void qemu_add_machine_init_done_notifier(struct notifier *notifier);
void *qemu_chr_find(const char *id);
void *qdev_new(const char *type);
void qdev_prop_set_chr(void *device, const char *property, void *chardev);
void qdev_prop_set_uint32(void *device, const char *property, uint32_t value);
void *qdev_get_gpio_in(void *device, int number);
void *object_resolve_path_type(const char *path, const char *type, _Bool *ambiguous);
_Bool sysbus_realize_and_unref(void *device, void *error);
void sysbus_mmio_map(void *device, int number, uint64_t address);
void sysbus_connect_irq(void *device, int number, void *irq);

/* ---- for QEMU: version of the plugin interface, and what is called at its start ---- */

__attribute__((visibility("default"))) extern int qemu_plugin_version;
__attribute__((visibility("default"))) int qemu_plugin_install(
	uint64_t id, const void *info, int argc, char **argv);

int qemu_plugin_version = PLUGIN_API;

enum { REGISTERS, MEMORY }; /* the device's regions */

static struct {
	char chardev[64];
	uint64_t registers, memory, size;
	int irq; /* -1: none */
} options = {.size = 4 << 20, .irq = -1};

static void wire(struct notifier *notifier, void *data)
{
	void *chardev = qemu_chr_find(options.chardev);
	void *cpu = object_resolve_path_type("", "armv7m", NULL);

	(void)notifier;
	(void)data;
	if (chardev == NULL || cpu == NULL) {
		fprintf(stderr, "wire: no %s\n", cpu == NULL ? "Cortex-M" : options.chardev);
		exit(1);
	}
	void *device = qdev_new("ivshmem-flat");
	qdev_prop_set_chr(device, "chardev", chardev);
	qdev_prop_set_uint32(device, "shmem-size", (uint32_t)options.size);
	sysbus_realize_and_unref(device, &error_fatal);
	sysbus_mmio_map(device, REGISTERS, options.registers);
	sysbus_mmio_map(device, MEMORY, options.memory);
	if (options.irq >= 0)
		sysbus_connect_irq(device, 0, qdev_get_gpio_in(cpu, options.irq));
}

static int parse(char *text)
{
	char *value = strchr(text, '=');

	if (value == NULL)
		return -1;
	*value++ = '\0';
	if (strcmp(text, "chardev") == 0)
		snprintf(options.chardev, sizeof(options.chardev), "%s", value);
	else if (strcmp(text, "mmr") == 0)
		options.registers = strtoull(value, NULL, 0);
	else if (strcmp(text, "shm") == 0)
		options.memory = strtoull(value, NULL, 0);
	else if (strcmp(text, "size") == 0)
		options.size = strtoull(value, NULL, 0);
	else if (strcmp(text, "irq") == 0)
		options.irq = strcmp(value, "none") == 0 ? -1 : atoi(value);
	else
		return -1;
	return 0;
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	static struct notifier notifier = {.notify = wire};

	(void)id;
	(void)info;
	for (int i = 0; i < argc; i++) {
		if (parse(argv[i]) == 0)
			continue;
		fprintf(stderr, "wire: what is %s?\n", argv[i]);
		return -1;
	}
	qemu_add_machine_init_done_notifier(&notifier);
	return 0;
}
