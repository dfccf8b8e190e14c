/* SPDX-License-Identifier: MIT */
/*
 * interrupts - the interrupt controllers, and waiting.
 *
 * All code runs with interrupts off except where it waits, so that what it has just read stays so.
 */
#ifndef BARE_INTERRUPTS_H
#define BARE_INTERRUPTS_H

#include <stdbool.h>
#include <stdint.h>

#define VECTOR_LINE 0x20u /* of line 0; there are 16 */
#define VECTOR_MSIX 0x40u /* of the device's vector 0 */
#define MSIX_USED   64u   /* of the device's vectors we use at most that many */

/* How often each vector of the processor was taken. */
extern volatile uint32_t interrupts_taken[256];

/* Controllers on, a tick of 10 ms on line 0. */
void interrupts_init(void);

/* Let line `line` through; `handler` is to quiet the device. */
void line_enable(unsigned line, void (*handler)(void));

/* Where to send a message for a vector of this processor: address, value. */
uint32_t message_address(void);

/* Sleep until the next interrupt, at the latest the next tick. For loops that look at a condition;
 * once the run has lasted for longer than "deadline=SECONDS" it fails, saying `what` it waits for.
 */
void doze(const char *what);

/* Wait until `*counter` is `wanted`; fails the run if it gets past it. */
void wait_count(const char *what, const volatile uint32_t *counter, uint32_t wanted);

/* Let pass a time in which an interrupt that is on its way arrives. */
void settle(void);

#endif
