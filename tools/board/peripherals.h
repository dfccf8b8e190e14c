/* SPDX-License-Identifier: MIT */
/*
 * peripherals - what the microcontroller has between processor and pins: three UARTs, the first of
 * which is the terminal, the system control, and nothing where its other devices would be.
 */
#ifndef BOARD_PERIPHERALS_H
#define BOARD_PERIPHERALS_H

#include "config.h"
#include "core/core.h"
#include "uart.h"

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

#define PERIPHERALS      0x40000000u
#define PERIPHERAL_PAGES 254u /* from the first to the system control, which is none of them */
#define VACANCIES        32u

struct peripherals {
	struct core *core;
	struct log *log;
	struct uart_at {
		struct uart uart;
		struct core *core;
		unsigned irq;
	} uarts[3];
	uint32_t system_control[1024];
	struct vacancy {
		struct peripherals *peripherals;
		uint32_t address;
	} vacancies[VACANCIES];
	unsigned n_vacancies;
	bool told[PERIPHERAL_PAGES]; /* that there is nothing */
};

/* Map all of it. 0, or -1 after having said why not. `core` and `log` must outlive it, and it must
 * not move. */
int peripherals_map(struct peripherals *peripherals, const struct config *config, struct core *core,
	struct log *log);
void peripherals_reset(struct peripherals *peripherals);

#endif
