/* SPDX-License-Identifier: MIT */
/*
 * join - the bare cost of a full-mesh join: N peers with V vectors, no server.
 *
 *     join sendmsg|sendmmsg NxV...
 *
 * Theory of operation
 *
 * One process creates the eventfds and sends, message by message, what a server would send; it has
 * no listener, no queue, no event loop, and may block. Another process receives. The k-th join
 * (from 0) is (2k + 1)V + 3 messages of 8 bytes, one eventfd each but for two of the three
 * greetings; the whole mesh is N*N*V + 3N.
 *
 * The processor time is that of the sender, without the time that it spends here waiting for the
 * receiver to be through: a server sleeps then.
 */
#include "common.h"
#include "receive.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH_MAX 64

struct mesh {
	int peers, vectors;
	int *clients, *servers; /* the two ends of each peer's socket */
	int *bells;             /* eventfds, `vectors` of each peer */
	int region;             /* stands in for the region's descriptor */
	_Atomic uint64_t *received;
};

static struct {
	struct mmsghdr headers[BATCH_MAX];
	struct iovec iovs[BATCH_MAX];
	int64_t numbers[BATCH_MAX];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} controls[BATCH_MAX];
	int count, size;
	uint64_t sent;
} batch;

static void receive_all(void *data)
{
	const struct mesh *mesh = data;
	int epoll = epoll_create1(0);

	for (int i = 0; i < mesh->peers; i++) {
		close(mesh->servers[i]);
		receive_add(epoll, mesh->clients[i]);
	}
	for (;;)
		atomic_fetch_add(mesh->received, receive_ready(epoll, -1));
}

static int send_some(int sock, struct mmsghdr *headers, int n)
{
	if (batch.size > 1)
		return sendmmsg(sock, headers, (unsigned)n, 0);
	return sendmsg(sock, &headers->msg_hdr, 0) < 0 ? -1 : 1;
}

static void flush(int sock)
{
	for (int done = 0; done < batch.count;) {
		int n = send_some(sock, batch.headers + done, batch.count - done);
		if (n < 0 && errno != EINTR)
			die("send");
		done += n > 0 ? n : 0;
	}
	batch.sent += (uint64_t)batch.count;
	batch.count = 0;
}

static void put(int sock, int64_t number, int fd)
{
	int i = batch.count++;
	struct msghdr *msg = &batch.headers[i].msg_hdr;

	batch.numbers[i] = number;
	batch.iovs[i] = (struct iovec){&batch.numbers[i], sizeof(batch.numbers[i])};
	*msg = (struct msghdr){.msg_iov = &batch.iovs[i], .msg_iovlen = 1};
	if (fd >= 0) {
		struct cmsghdr *header = &batch.controls[i].header;
		msg->msg_control = batch.controls[i].space;
		msg->msg_controllen = sizeof(batch.controls[i].space);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	}
	if (batch.count == batch.size)
		flush(sock);
}

static void announce(const struct mesh *mesh, int to, int who)
{
	for (int v = 0; v < mesh->vectors; v++)
		put(mesh->servers[to], who, mesh->bells[who * mesh->vectors + v]);
}

static void join(const struct mesh *mesh, int newcomer)
{
	int sock = mesh->servers[newcomer];

	for (int v = 0; v < mesh->vectors; v++) {
		int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0)
			die("eventfd");
		mesh->bells[newcomer * mesh->vectors + v] = fd;
	}
	put(sock, 0, -1);
	put(sock, newcomer, -1);
	put(sock, -1, mesh->region);
	flush(sock);
	for (int other = 0; other < newcomer; other++) {
		announce(mesh, other, newcomer);
		flush(mesh->servers[other]);
	}
	for (int other = 0; other <= newcomer; other++)
		announce(mesh, newcomer, other);
	flush(sock);
}

static uint64_t wait_for_receiver(const struct mesh *mesh)
{
	uint64_t start = cpu_time_ns(0);
	while (atomic_load(mesh->received) < batch.sent)
		cpu_relax();
	return cpu_time_ns(0) - start;
}

/* What the last join takes, once more. */
static uint64_t join_again(const struct mesh *mesh)
{
	int last = mesh->peers - 1;

	for (int v = 0; v < mesh->vectors; v++)
		close(mesh->bells[last * mesh->vectors + v]);
	usleep(LAST_PAUSE_US); /* as when nothing was going on: the receiver sleeps */
	uint64_t start = now_ns();
	join(mesh, last);
	wait_for_receiver(mesh);
	return now_ns() - start;
}

static void report(
	const struct mesh *mesh, const char *mode, const char *what, double value, const char *unit)
{
	char name[64];
	snprintf(name, sizeof(name), "join.%s.%s.%dx%d", mode, what, mesh->peers, mesh->vectors);
	emit(name, value, unit);
}

static void run(struct mesh *mesh, const char *mode)
{
	batch.sent = 0;
	test_begin();
	pid_t receiver = spawn(cpu_b(), receive_all, mesh);
	for (int i = 0; i < mesh->peers; i++)
		close(mesh->clients[i]);

	uint64_t start = now_ns(), cpu = cpu_time_ns(0);
	for (int i = 0; i < mesh->peers - 1; i++)
		join(mesh, i);
	uint64_t waiting = wait_for_receiver(mesh);
	uint64_t last[LAST_JOINS] = {now_ns()};
	join(mesh, mesh->peers - 1);
	waiting += wait_for_receiver(mesh);
	uint64_t end = now_ns(), messages = batch.sent;
	cpu = cpu_time_ns(0) - cpu - waiting;
	last[0] = end - last[0];
	for (int i = 1; i < LAST_JOINS; i++)
		last[i] = join_again(mesh);
	reap(receiver);
	test_end();

	report(mesh, mode, "mesh", (double)(end - start) / 1e6, "ms");
	report(mesh, mode, "last", (double)quantile(last, LAST_JOINS, 0.5) / 1e6, "ms");
	report(mesh, mode, "cpu", (double)cpu / (double)messages, "ns/message");
}

static void measure(int peers, int vectors, const char *mode)
{
	struct mesh mesh = {
		.peers = peers,
		.vectors = vectors,
		.clients = calloc((size_t)peers, sizeof(int)),
		.servers = calloc((size_t)peers, sizeof(int)),
		.bells = calloc((size_t)peers * (size_t)vectors, sizeof(int)),
		.region = eventfd(0, EFD_CLOEXEC),
		.received = shared_alloc(sizeof(*mesh.received)),
	};
	if (!mesh.clients || !mesh.servers || !mesh.bells || mesh.region < 0)
		die("setting up");
	for (int i = 0; i < peers; i++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
			die("socketpair");
		mesh.servers[i] = pair[0];
		mesh.clients[i] = pair[1];
	}
	run(&mesh, mode);
	for (int i = 0; i < peers; i++)
		close(mesh.servers[i]);
	for (int i = 0; i < peers * vectors; i++)
		close(mesh.bells[i]);
	close(mesh.region);
	munmap((void *)mesh.received, sizeof(*mesh.received));
	free(mesh.clients);
	free(mesh.servers);
	free(mesh.bells);
}

int main(int argc, char **argv)
{
	if (argc < 3 || (strcmp(argv[1], "sendmsg") != 0 && strcmp(argv[1], "sendmmsg") != 0)) {
		fprintf(stderr, "usage: join sendmsg|sendmmsg NxV...\n");
		return 2;
	}
	pin(cpu_a());
	raise_descriptor_limit();
	batch.size = strcmp(argv[1], "sendmsg") == 0 ? 1 : BATCH_MAX;
	for (int i = 2; i < argc; i++) {
		int peers, vectors;
		if (sscanf(argv[i], "%dx%d", &peers, &vectors) != 2 || peers < 1 || vectors < 1) {
			fprintf(stderr, "join: %s: give PEERSxVECTORS\n", argv[i]);
			return 2;
		}
		measure(peers, vectors, argv[1]);
	}
	return 0;
}
