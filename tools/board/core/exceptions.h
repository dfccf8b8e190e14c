/* SPDX-License-Identifier: MIT */
/* exceptions - entering handlers and returning from them: frames, stacks, EXC_RETURN. */
#ifndef CORE_EXCEPTIONS_H
#define CORE_EXCEPTIONS_H

#include <stdbool.h>
#include <stdint.h>

struct core;

/* Enter the handler of what is pending and may be taken now, if there is one. */
void exception_take(struct core *core);

/* The handler has jumped to `exc_return`. */
void exception_return(struct core *core, uint32_t exc_return);

/* Registers as after power-on, stack pointer and program counter from the vector table. */
void exception_reset(struct core *core);

#endif
