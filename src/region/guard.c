/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The thread that faults is the one that gets the signal. So each guarded access leaves, in a
 * variable of its thread, where to go on if it faults, and the handler jumps there. The jump does
 * not restore the signal mask, which would cost two system calls an access; instead the handler
 * runs with SIGBUS unblocked (SA_NODEFER), so there is nothing to restore.
 *
 * A fault outside of a guarded access, or a SIGBUS that somebody has sent, is not ours: the handler
 * puts the previous action back. A fault then happens again on return, with everything in place for
 * a core dump or a sanitizer's report; a sent signal is sent once more.
 *
 * Rejected: process_vm_readv() on ourselves fails politely but costs a system call an access, and
 * its copy is not atomic for the guest. Mapping a zero page over the hole hides the fault for good,
 * also after the owner has grown the file again.
 *
 * Everything between setting and clearing `escape` is volatile, so that the compiler keeps its
 * order.
 */
#include "region/guard.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

static __thread sigjmp_buf *volatile escape;
static struct sigaction previous;

static void handle_sigbus(int number, siginfo_t *info, void *context)
{
	(void)context;
	sigjmp_buf *target = escape;
	bool is_fault = info->si_code > 0;

	if (target && is_fault) {
		escape = NULL;
		siglongjmp(*target, 1);
	}
	sigaction(number, &previous, NULL);
	if (!is_fault)
		raise(number);
}

int region_guard_install(void)
{
	static bool installed;
	if (installed)
		return 0;

	struct sigaction action = {
		.sa_sigaction = handle_sigbus, .sa_flags = SA_SIGINFO | SA_NODEFER};
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGBUS, &action, &previous) < 0)
		return -errno;
	installed = true;
	return 0;
}

static bool is_aligned(const volatile void *address, size_t size)
{
	return ((uintptr_t)address & (size - 1)) == 0;
}

static void load(const volatile void *address, void *out, size_t size)
{
	if (size == 2 && is_aligned(address, 2)) {
		uint16_t value = *(const volatile uint16_t *)address;
		memcpy(out, &value, 2);
	} else if (size == 4 && is_aligned(address, 4)) {
		uint32_t value = *(const volatile uint32_t *)address;
		memcpy(out, &value, 4);
	} else if (size == 8 && is_aligned(address, 8)) {
		uint64_t value = *(const volatile uint64_t *)address;
		memcpy(out, &value, 8);
	} else {
		const volatile uint8_t *from = address;
		for (size_t i = 0; i < size; i++)
			((uint8_t *)out)[i] = from[i];
	}
}

static void store(volatile void *address, const void *in, size_t size)
{
	if (size == 2 && is_aligned(address, 2)) {
		uint16_t value;
		memcpy(&value, in, 2);
		*(volatile uint16_t *)address = value;
	} else if (size == 4 && is_aligned(address, 4)) {
		uint32_t value;
		memcpy(&value, in, 4);
		*(volatile uint32_t *)address = value;
	} else if (size == 8 && is_aligned(address, 8)) {
		uint64_t value;
		memcpy(&value, in, 8);
		*(volatile uint64_t *)address = value;
	} else {
		volatile uint8_t *to = address;
		for (size_t i = 0; i < size; i++)
			to[i] = ((const uint8_t *)in)[i];
	}
}

bool region_guarded_read(const void *address, void *out, size_t size)
{
	sigjmp_buf gone;

	if (sigsetjmp(gone, 0)) {
		memset(out, 0, size);
		return false;
	}
	escape = &gone;
	load(address, out, size);
	escape = NULL;
	return true;
}

bool region_guarded_write(void *address, const void *in, size_t size)
{
	sigjmp_buf gone;

	if (sigsetjmp(gone, 0))
		return false;
	escape = &gone;
	store(address, in, size);
	escape = NULL;
	return true;
}
