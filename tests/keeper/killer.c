/* SPDX-License-Identifier: MIT */
/*
 * keeper-killer PID N - let a stopped process go on, and kill it at the Nth entry to or return from
 * a system call. Exits with 0 if it did, 3 if the process ended before.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	pid_t pid = (pid_t)strtol(argv[1], NULL, 10);
	long left = strtol(argv[2], NULL, 10);
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACESYSGOOD) < 0 || kill(pid, SIGCONT) < 0)
		return 1;
	while (waitpid(pid, &status, __WALL) == pid && WIFSTOPPED(status)) {
		int signal = WSTOPSIG(status);
		if (signal == (SIGTRAP | 0x80) && --left == 0)
			return kill(pid, SIGKILL) < 0;
		/* Group stops and those that ptrace makes are not signals to pass on. */
		bool its_own = status >> 16 == 0 && signal != (SIGTRAP | 0x80);
		ptrace(PTRACE_SYSCALL, pid, NULL, its_own ? signal : 0);
	}
	return 3;
}
