/* SPDX-License-Identifier: MIT */
/*
 * machine - what the guest needs of the PC below it: ports, serial console, the loader's command
 * line, time, and a way out.
 */
#ifndef BARE_MACHINE_H
#define BARE_MACHINE_H

#include <stdbool.h>
#include <stdint.h>

static inline void outb(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" : : "a"(value), "dN"(port));
}

static inline void outw(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" : : "a"(value), "dN"(port));
}

static inline void outl(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %1" : : "a"(value), "dN"(port));
}

static inline uint8_t inb(uint16_t port)
{
	uint8_t value;
	__asm__ volatile("inb %1, %0" : "=a"(value) : "dN"(port));
	return value;
}

static inline uint16_t inw(uint16_t port)
{
	uint16_t value;
	__asm__ volatile("inw %1, %0" : "=a"(value) : "dN"(port));
	return value;
}

static inline uint32_t inl(uint16_t port)
{
	uint32_t value;
	__asm__ volatile("inl %1, %0" : "=a"(value) : "dN"(port));
	return value;
}

/* Keep the compiler from moving memory accesses across; the processor keeps stores in order. */
static inline void barrier(void)
{
	__asm__ volatile("" : : : "memory");
}

/* ---- the console ---- */

/* %s %u %x and %llx; results are printed as lines of key=value. */
__attribute__((format(printf, 1, 2))) void print(const char *format, ...);

/* ---- the command line: words name=value, separated by blanks ---- */

/* `information` is what the loader has left in %ebx. */
void parameters_init(const void *information);

/* The number given for `name`, decimal or 0x...; `otherwise` where it is absent. */
unsigned parameter(const char *name, unsigned otherwise);
bool parameter_is(const char *name, const char *value);

/* ---- the end ---- */

/* Ends QEMU through isa-debug-exit with status code << 1 | 1: 0 for a pass. */
__attribute__((noreturn)) void leave(unsigned code);

/* Resets the machine, by the port at 0xcf9 or through the keyboard controller. */
__attribute__((noreturn)) void reset_machine(bool keyboard);

/* Fail the run unless `got` is `wanted`. */
#define expect(what, got, wanted) expect_equal(__func__, what, got, wanted)
void expect_equal(const char *function, const char *what, uint64_t got, uint64_t wanted);

/* ---- time ---- */

static inline uint64_t cycles(void)
{
	uint32_t low, high;
	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

/* How many nanoseconds `n` cycles take; measured on first use, against the PC's timer. */
uint32_t nanoseconds(uint32_t n);

/* Sorts `values` and returns the one in the middle. */
uint32_t median(uint32_t *values, unsigned count);

#endif
