/* SPDX-License-Identifier: MIT */
#include "traced.h"

#include "../common/fdcheck.h"

#include <elf.h>
#include <signal.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

void traced_stop_here(void)
{
	ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	raise(SIGSTOP);
}

/* Wait until it stops or ends; has it ended? */
static bool has_ended(pid_t *pid)
{
	int status;

	assert_int_equal(waitpid(*pid, &status, __WALL), *pid);
	if (WIFSTOPPED(status))
		return false;
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
	*pid = 0;
	return true;
}

bool traced_begin(pid_t *pid)
{
	if (has_ended(pid))
		return false;
	ptrace(PTRACE_SETOPTIONS, *pid, NULL, (void *)(PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD));
	return true;
}

bool traced_go(pid_t *pid, int how)
{
	return *pid != 0 && ptrace(how, *pid, NULL, NULL) == 0 && !has_ended(pid);
}

bool traced_get_registers(pid_t pid, struct user_regs_struct *registers)
{
	struct iovec iov = {.iov_base = registers, .iov_len = sizeof(*registers)};
	return ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &iov) == 0;
}

bool traced_set_registers(pid_t pid, struct user_regs_struct *registers)
{
	struct iovec iov = {.iov_base = registers, .iov_len = sizeof(*registers)};
	return ptrace(PTRACE_SETREGSET, pid, (void *)NT_PRSTATUS, &iov) == 0;
}

/* It is a child: its code is where ours is. */
__attribute__((no_sanitize_address)) bool traced_is_at_call_at(pid_t pid, uint64_t *pc)
{
	struct user_regs_struct registers;

	*pc = 0;
	if (!traced_get_registers(pid, &registers))
		return false;
#if defined(__x86_64__)
	*pc = registers.rip;
	const volatile uint8_t *code = (const uint8_t *)registers.rip; /* NOLINT: an address */
	return code[0] == 0x0f && code[1] == 0x05;
#elif defined(__aarch64__)
	*pc = registers.pc;
	return *(const volatile uint32_t *)registers.pc == 0xd4000001; /* NOLINT: an address */
#else
	return true;
#endif
}

bool traced_is_at_call(pid_t pid)
{
	uint64_t pc;
	return traced_is_at_call_at(pid, &pc);
}

void traced_wait(pid_t *pid)
{
	while (*pid != 0 && !has_ended(pid))
		;
}

void traced_kill(pid_t *pid)
{
	if (*pid == 0)
		return;
	kill(*pid, SIGKILL);
	traced_wait(pid);
}
