/* SPDX-License-Identifier: MIT */
/* See kernel.h. */
#ifndef STUB_ZEPHYR_IRQ_H
#define STUB_ZEPHYR_IRQ_H

void stub_connect(unsigned irq, unsigned priority, void (*isr)(const void *), const void *arg,
	unsigned flags);
void irq_enable(unsigned irq);

/* All but the last are constants of the program. */
#define IRQ_CONNECT(irq, priority, isr, arg, flags)                                                \
	do {                                                                                       \
		static const void *const stub_arg = (arg);                                         \
		stub_connect(irq, priority, isr, stub_arg, flags);                                 \
	} while (0)

#endif
