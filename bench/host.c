/* SPDX-License-Identifier: MIT */
#include "host.h"

#include "anchors/common.h"
#include "anchors/receive.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define SILENCE_MS 30000

void host_start(struct host *host, const char *program, const struct host_options *options)
{
	char vectors[16];
	struct process_options process = options->process;

	process.cpu = cpu_a();
	strcpy(host->directory, "/tmp/ivshmem-bench-XXXXXX");
	if (!mkdtemp(host->directory))
		die("mkdtemp");
	if (process.ordinary_user && getuid() == 0 && chown(host->directory, NOBODY, NOBODY) < 0)
		die("chown");
	snprintf(host->socket, sizeof(host->socket), "%s/socket", host->directory);
	snprintf(vectors, sizeof(vectors), "%d", options->vectors);
	char *const argv[] = {(char *)"ivshmem-server", (char *)"-F", (char *)"-S", host->socket,
		(char *)"-l", (char *)"1M", (char *)"-n", vectors, PROCESS_READY, NULL};
	host->pid = process_start(program, argv, &process);
}

void host_stop(struct host *host)
{
	process_kill(host->pid);
	unlink(host->socket);
	rmdir(host->directory);
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
