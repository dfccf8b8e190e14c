/* SPDX-License-Identifier: MIT */
/*
 * keeper-killer PID N [CALL...] - let a stopped process go on, and kill it at the Nth point of its
 * system calls, or of those that are named. Points are the entry to and the return from each, and
 * in between, for sendmmsg() with several messages, after each but the last: the kernel is made to
 * send fewer. Says what it was. Exits with 0 if it did, 3 if the process ended before.
 */
#include <elf.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static const struct {
	const char *name;
	long number;
} calls[] = {{"accept4", SYS_accept4}, {"eventfd2", SYS_eventfd2}, {"recvmsg", SYS_recvmsg},
	{"recvmmsg", SYS_recvmmsg}, {"sendmsg", SYS_sendmsg}, {"sendmmsg", SYS_sendmmsg},
	{"shutdown", SYS_shutdown}};
#define CALLS (sizeof(calls) / sizeof(calls[0]))

struct target {
	pid_t pid;
	long left;          /* points to go */
	bool named[CALLS];  /* which calls count */
	bool all;           /* they all do */
	size_t call;        /* that it has entered; CALLS: another one */
	unsigned last_sent; /* if it was made to send fewer; 0: not */
};

static size_t find_call(long number)
{
	size_t i = 0;
	while (i < CALLS && calls[i].number != number)
		i++;
	return i;
}

static bool counts(const struct target *target)
{
	return target->all || (target->call < CALLS && target->named[target->call]);
}

/* At the entry to sendmmsg(): send so many only. */
static bool shorten(const struct target *target, unsigned n)
{
	struct user_regs_struct registers;
	struct iovec iov = {.iov_base = &registers, .iov_len = sizeof(registers)};

	if (ptrace(PTRACE_GETREGSET, target->pid, (void *)NT_PRSTATUS, &iov) < 0)
		return false;
#if defined(__x86_64__)
	registers.rdx = n;
#elif defined(__aarch64__)
	registers.regs[2] = n;
#else
	return false;
#endif
	return ptrace(PTRACE_SETREGSET, target->pid, (void *)NT_PRSTATUS, &iov) == 0;
}

/* At an entry or exit: is this the point? */
static bool is_the_point(struct target *target)
{
	struct __ptrace_syscall_info info = {.op = PTRACE_SYSCALL_INFO_NONE};

	if (ptrace(PTRACE_GET_SYSCALL_INFO, target->pid, (void *)sizeof(info), &info) <= 0)
		return false;
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY)
		return counts(target) && (target->last_sent > 0 || --target->left == 0);
	target->call = find_call((long)info.entry.nr);
	if (!counts(target))
		return false;
	if (--target->left == 0)
		return true;
	long inside = target->call < CALLS && calls[target->call].number == SYS_sendmmsg
		? (long)info.entry.args[2] - 1
		: 0;
	if (target->left <= inside && shorten(target, (unsigned)target->left))
		target->last_sent = (unsigned)target->left;
	target->left -= inside > 0 ? inside : 0;
	return false;
}

static void say(const struct target *target)
{
	const char *name = target->call < CALLS ? calls[target->call].name : "another call";

	if (target->last_sent > 0)
		printf("%s inside, after %u messages\n", name, target->last_sent);
	else
		printf("%s\n", name);
}

/* Parameters of the command line: false if they are wrong. */
static bool parse(struct target *target, int argc, char **argv)
{
	if (argc < 3)
		return false;
	*target = (struct target){.pid = (pid_t)strtol(argv[1], NULL, 10),
		.left = strtol(argv[2], NULL, 10),
		.all = argc == 3,
		.call = CALLS};
	for (int i = 3; i < argc; i++) {
		size_t call = 0;
		while (call < CALLS && strcmp(calls[call].name, argv[i]) != 0)
			call++;
		if (call == CALLS)
			return false;
		target->named[call] = true;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct target target;
	int status;

	if (!parse(&target, argc, argv))
		return 2;
	if (ptrace(PTRACE_SEIZE, target.pid, NULL, PTRACE_O_TRACESYSGOOD) < 0 ||
		kill(target.pid, SIGCONT) < 0)
		return 1;
	while (waitpid(target.pid, &status, __WALL) == target.pid && WIFSTOPPED(status)) {
		int signal = WSTOPSIG(status);
		bool call = signal == (SIGTRAP | 0x80);
		if (call && is_the_point(&target)) {
			say(&target);
			return kill(target.pid, SIGKILL) < 0;
		}
		/* Group stops and those that ptrace makes are not signals to pass on. */
		bool its_own = status >> 16 == 0 && !call;
		ptrace(PTRACE_SYSCALL, target.pid, NULL, its_own ? signal : 0);
	}
	return 3;
}
