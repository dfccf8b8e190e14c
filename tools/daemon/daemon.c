/* SPDX-License-Identifier: MIT */
#include "daemon/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int ready_pipe = -1;

static void wait_for_child(int pipe_fd, pid_t child)
{
	char byte;
	int status;

	/* It can be interrupted, and then takes the child with it: see daemon_ready(). */
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	if (read(pipe_fd, &byte, 1) == 1)
		_exit(0);
	/* It ended without a word: pass its status on. */
	if (waitpid(child, &status, 0) == child && WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	_exit(1);
}

int daemon_start(struct log *log)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC) < 0) {
		log_error(log, "pipe: %m");
		return -1;
	}
	pid_t child = fork();
	if (child < 0) {
		log_error(log, "cannot become a daemon: %m");
		close(fds[0]);
		close(fds[1]);
		return -1;
	}
	if (child > 0) {
		close(fds[1]);
		wait_for_child(fds[0], child);
	}
	close(fds[0]);
	ready_pipe = fds[1];
	setsid();
	return 0;
}

int daemon_ready(bool keep_stderr)
{
	int result = 0;

	if (ready_pipe < 0)
		return 0;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		if (!keep_stderr)
			dup2(null, STDERR_FILENO);
		if (null > STDERR_FILENO)
			close(null);
	}
	if (write(ready_pipe, "", 1) < 0)
		result = -1;
	close(ready_pipe);
	ready_pipe = -1;
	return result;
}

int pid_file_open(struct pid_file *file, const char *path, struct log *log)
{
	char text[32];
	struct stat ours, there;

	/* A server that is just ending unlinks its file after we opened it: then open again. */
	for (;;) {
		file->path = path;
		file->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644);
		if (file->fd < 0) {
			log_error(log,
				"-p %s: %m: choose a writable place with -p, or stay in the "
				"foreground with -F",
				path);
			return -1;
		}
		if (flock(file->fd, LOCK_EX | LOCK_NB) < 0) {
			log_error(log,
				"-p %s: another server holds this pid file: choose another for a "
				"second one",
				path);
			close(file->fd);
			file->fd = -1;
			return -1;
		}
		if (fstat(file->fd, &ours) == 0 && stat(path, &there) == 0 &&
			ours.st_ino == there.st_ino)
			break;
		close(file->fd);
	}
	int length = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(file->fd, 0) < 0 || pwrite(file->fd, text, (size_t)length, 0) != length) {
		log_error(log, "-p %s: cannot write: %m", path);
		pid_file_close(file);
		return -1;
	}
	return 0;
}

/* Another user may not remove it; then it is to name nobody. */
static void remove_or_empty(const struct pid_file *file)
{
	if (unlink(file->path) == 0)
		return;
	int result = ftruncate(file->fd, 0);
	(void)result;
}

void pid_file_close(struct pid_file *file)
{
	struct stat ours, there;

	if (file->fd < 0)
		return;
	/* Somebody may have removed it, and somebody else made a new one. */
	if (fstat(file->fd, &ours) == 0 && stat(file->path, &there) == 0 &&
		ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
		remove_or_empty(file);
	close(file->fd);
	file->fd = -1;
}
