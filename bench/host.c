/* SPDX-License-Identifier: MIT */
#include "host.h"

#include "anchors/common.h"
#include "anchors/receive.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOBODY     65534
#define SILENCE_MS 30000

/* Executed by descriptor, so that an ordinary user need not be able to reach the build directory.
 */
static _Noreturn void become_server(
	const struct host *host, int program, int ready, const struct host_options *options)
{
	char vectors[16], ready_fd[16];
	struct rlimit limit = {options->soft, options->hard};
	int null = open("/dev/null", O_RDWR);

	snprintf(vectors, sizeof(vectors), "%d", options->vectors);
	snprintf(ready_fd, sizeof(ready_fd), "%d", ready);
	char *const argv[] = {(char *)"ivshmem-server", (char *)"-F", (char *)"-S",
		(char *)host->socket, (char *)"-l", (char *)"1M", (char *)"-n", vectors,
		(char *)"--ready-fd", ready_fd, NULL};
	char *const environment[] = {NULL};

	pin(cpu_a());
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDERR_FILENO) < 0)
		die("/dev/null");
	if (options->soft > 0 && setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
	if (options->ordinary_user && getuid() == 0 &&
		(setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
			setresuid(NOBODY, NOBODY, NOBODY) < 0))
		die("becoming nobody");
	prctl(PR_SET_PDEATHSIG, SIGKILL); /* changing the user would have undone it */
	fexecve(program, argv, environment);
	die("executing the server");
}

void host_start(struct host *host, const char *program, const struct host_options *options)
{
	int ready[2];
	char byte;
	int fd = open(program, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		die(program);
	strcpy(host->directory, "/tmp/ivshmem-bench-XXXXXX");
	if (!mkdtemp(host->directory) || pipe(ready) < 0)
		die("setting up");
	if (options->ordinary_user && getuid() == 0 && chown(host->directory, NOBODY, NOBODY) < 0)
		die("chown");
	snprintf(host->socket, sizeof(host->socket), "%s/socket", host->directory);
	host->pid = fork();
	if (host->pid < 0)
		die("fork");
	if (host->pid == 0) {
		close(ready[0]);
		become_server(host, fd, ready[1], options);
	}
	close(fd);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1) {
		fprintf(stderr, "the server did not start\n");
		exit(2);
	}
	close(ready[0]);
}

void host_stop(struct host *host)
{
	/* It has nobody to say farewell to any more, and must not be waited for. */
	kill(host->pid, SIGKILL);
	waitpid(host->pid, NULL, 0);
	unlink(host->socket);
	rmdir(host->directory);
}

long host_status(const struct host *host, const char *key)
{
	char path[32], line[256];
	long value = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)host->pid);
	FILE *file = fopen(path, "re");
	if (!file)
		die(path);
	while (value < 0 && fgets(line, sizeof(line), file))
		if (strncmp(line, key, strlen(key)) == 0)
			value = atol(line + strlen(key));
	fclose(file);
	return value;
}

uint64_t mesh_messages(int peers, int vectors)
{
	return (uint64_t)peers * (3 + (uint64_t)peers * (uint64_t)vectors);
}

void crowd_init(struct crowd *crowd, const struct host *host, int capacity)
{
	*crowd = (struct crowd){
		.host = host,
		.epoll = epoll_create1(EPOLL_CLOEXEC),
		.socks = calloc((size_t)capacity, sizeof(int)),
		.capacity = capacity,
	};
	if (crowd->epoll < 0 || !crowd->socks)
		die("setting up");
}

void crowd_fini(struct crowd *crowd)
{
	for (int i = 0; i < crowd->joined; i++)
		close(crowd->socks[i]);
	close(crowd->epoll);
	free(crowd->socks);
}

/* False: the server has not accepted the ones before yet. */
static bool connect_one(struct crowd *crowd, int flags)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	strcpy(address.sun_path, crowd->host->socket);
	if (sock < 0 || crowd->joined == crowd->capacity)
		die("socket");
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0) {
		if (errno != EAGAIN)
			die("connect");
		close(sock);
		return false;
	}
	crowd->socks[crowd->joined++] = sock;
	return true;
}

void crowd_join_deaf(struct crowd *crowd, int peers)
{
	while (peers-- > 0)
		connect_one(crowd, 0);
}

/* Connecting never waits: what the server has sent meanwhile is what it waits for, perhaps. */
void crowd_join(struct crowd *crowd, int peers, uint64_t messages)
{
	while (peers > 0 || crowd->received < messages) {
		while (peers > 0 && connect_one(crowd, SOCK_NONBLOCK)) {
			receive_add(crowd->epoll, crowd->socks[crowd->joined - 1]);
			peers--;
		}
		uint64_t received = receive_ready(crowd->epoll, SILENCE_MS);
		if (received == 0) {
			fprintf(stderr,
				"the server closes or says nothing: %llu of %llu messages\n",
				(unsigned long long)crowd->received, (unsigned long long)messages);
			exit(2);
		}
		crowd->received += received;
	}
}

void crowd_leave(struct crowd *crowd, uint64_t messages)
{
	close(crowd->socks[--crowd->joined]);
	crowd_join(crowd, 0, crowd->received + messages);
}
