/* SPDX-License-Identifier: MIT */
/* What the command line says. */
#ifndef BOARD_CONFIG_H
#define BOARD_CONFIG_H

#include "core/core.h"

#include <stdbool.h>
#include <stdint.h>

/* A processor and the memory around it, by name. */
struct machine {
	const char *name;
	enum core_kind kind;
	unsigned interrupts; /* lines of the NVIC */
	unsigned first_irq;  /* of the ivshmem device */
};

/* An address where there may be nothing. */
struct place {
	uint32_t address, size;
};

#define NO_IRQ UINT32_MAX

struct config {
	const char *firmware; /* its file */
	char *command_line;   /* for the firmware: the file's name and the words after it */
	const struct machine *machine;
	uint32_t clock_hz;
	struct place flash, ram;
	uint32_t uart; /* address */

	char *server; /* a URI; NULL: no ivshmem device */
	int join_timeout_ms;
	uint32_t registers; /* addresses */
	uint32_t memory;
	uint64_t memory_size; /* of the window; 0: all of it */
	uint32_t first_irq;   /* NO_IRQ: none */
	bool irq_given;
	unsigned vectors; /* 0: as many as there are interrupts for */
	bool level;

	bool trace, verbose;
};

/* 0, or -1 after having said what is wrong. In both cases config_fini() frees it. */
int config_parse(struct config *config, int argc, char **argv);
void config_fini(struct config *config);

#endif
