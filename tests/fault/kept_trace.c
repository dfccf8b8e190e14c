/* SPDX-License-Identifier: MIT */
#include "kept_trace.h"

#include <errno.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

/* At an entry to or exit from a system call: which, and where the newcomer's connection is. */
static void note_call(struct lab *lab)
{
	struct __ptrace_syscall_info info = {.op = PTRACE_SYSCALL_INFO_NONE};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, lab->victim, (void *)sizeof(info), &info) <= 0)
		fail_msg("cannot see system calls: %s", strerror(errno));
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
		lab->call = (long)info.entry.nr;
		lab->length = info.entry.args[2];
	} else if (info.op == PTRACE_SYSCALL_INFO_EXIT && !info.exit.is_error) {
		lab->held |= lab->accepted && lab->call == SYS_sendmsg;
		lab->accepted |= lab->call == SYS_accept4;
	}
}

bool trace_go(struct lab *lab, int how)
{
	if (!traced_go(&lab->victim, how))
		return false;
	if (how == PTRACE_SYSCALL)
		note_call(lab);
	return true;
}

bool trace_go_to_stop(struct lab *lab, unsigned n)
{
	bool is_there = lab->victim != 0;
	while (is_there && n-- > 0)
		is_there = trace_go(lab, PTRACE_SYSCALL);
	return is_there;
}

void trace_start(struct lab *lab)
{
	lab_start(lab, true);
	assert_true(traced_begin(&lab->victim));
}

bool trace_shorten(const struct lab *lab, unsigned n)
{
	struct user_regs_struct registers;

	if (!traced_get_registers(lab->victim, &registers))
		return false;
#if defined(__x86_64__)
	registers.rdx = n;
#elif defined(__aarch64__)
	registers.regs[2] = n;
#else
	return false;
#endif
	return traced_set_registers(lab->victim, &registers);
}

#if defined(__x86_64__)
#define BREAKPOINT 0xccL

static bool poke(const struct lab *lab, uint64_t pc, long code)
{
	return ptrace(PTRACE_POKETEXT, lab->victim, (void *)pc, (void *)code) == 0;
}

/* Runs into the breakpoint there, and is as if there were none; false: something else came first */
static bool reach(struct lab *lab, uint64_t pc, long code)
{
	struct user_regs_struct registers;

	if (!poke(lab, pc, (code & ~0xffL) | BREAKPOINT))
		return false;
	bool is_there = trace_go(lab, PTRACE_SYSCALL) &&
		traced_get_registers(lab->victim, &registers) && registers.rip == pc + 1;
	if (!is_there)
		return false;
	registers.rip = pc;
	return traced_set_registers(lab->victim, &registers) && poke(lab, pc, code);
}

bool trace_run_to(struct lab *lab, uint64_t pc, unsigned times)
{
	errno = 0;
	long code = ptrace(PTRACE_PEEKTEXT, lab->victim, (void *)pc, NULL);
	if (errno != 0)
		return false;
	for (unsigned i = 0; i < times; i++) {
		if (i > 0 && !trace_go(lab, PTRACE_SINGLESTEP))
			return false;
		if (!reach(lab, pc, code))
			return false;
	}
	return true;
}
#else
bool trace_run_to(struct lab *lab, uint64_t pc, unsigned times)
{
	(void)lab;
	(void)pc;
	(void)times;
	return false;
}
#endif
