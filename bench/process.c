/* SPDX-License-Identifier: MIT */
#include "process.h"

#include "anchors/common.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY_FD 3

/* Executed by descriptor, so that an ordinary user need not be able to reach the build directory.
 */
static _Noreturn void become(
	int program, int ready, char *const argv[], const struct process_options *options)
{
	struct rlimit limit = {options->soft, options->hard};
	int null = open("/dev/null", O_RDWR);
	char *const environment[] = {NULL};

	pin(options->cpu);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		die("/dev/null");
	program = fcntl(program, F_DUPFD_CLOEXEC, READY_FD + 1); /* it may have had just this */
	if (program < 0 || dup2(ready, READY_FD) < 0)
		die("dup");
	if (options->soft > 0 && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	if (options->ordinary_user && getuid() == 0 &&
		(setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			setresuid(NOBODY, NOBODY, NOBODY) < 0))
		die("becoming nobody");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing the user would have undone it */
	fexecve(program, argv, environment);
	die("executing the program");
}

pid_t process_start(const char *program, char *const argv[], const struct process_options *options)
{
	int ready[2];
	char byte;
	int fd = open(program, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(program);
	if (pipe2(ready, O_CLOEXEC) < 0)
		die("pipe");
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0)
		become(fd, ready[1], argv, options);
	close(fd);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		fprintf(stderr, "%s did not start\n", program);
		exit(2);
	}
	close(ready[0]);
	return pid;
}

void process_kill(pid_t pid)
{
	/* It has nobody to say farewell to any more, and must not be waited for. */
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

long process_number(pid_t pid, const char *file, const char *key)
{
	char path[96], line[256];
	long value = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, file);
	FILE *stream = fopen(path, "re");
	if (!stream)
		die(path);
	while (value < 0 && fgets(line, sizeof(line), stream))
		if (strncmp(line, key, strlen(key)) == 0)
			value = atol(line + strlen(key));
	fclose(stream);
	return value;
}

long process_switches(pid_t pid)
{
	char path[32], status[64];
	long switches = 0;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	DIR *threads = opendir(path);
	if (!threads)
		die(path);
	for (const struct dirent *entry; (entry = readdir(threads));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(status, sizeof(status), "task/%.16s/status", entry->d_name);
		switches += process_number(pid, status, "voluntary_ctxt_switches:") +
			process_number(pid, status, "nonvoluntary_ctxt_switches:");
	}
	closedir(threads);
	return switches;
}
