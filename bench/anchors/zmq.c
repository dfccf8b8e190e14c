/* SPDX-License-Identifier: MIT */
/* zmq - the round trip of 64 bytes through two ZeroMQ PAIR sockets over ipc://, which sleep. */
#include "common.h"
#include "timing.h"

#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

static char address[64];

static void *open_socket(int (*join)(void *socket, const char *address))
{
	void *socket = zmq_socket(zmq_ctx_new(), ZMQ_PAIR);
	const int linger = 0;

	if (!socket || zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof(linger)) < 0 ||
		join(socket, address) < 0)
		die("ZeroMQ");
	return socket;
}

static void receive(void *socket)
{
	char bytes[64];
	if (zmq_recv(socket, bytes, sizeof(bytes), 0) < 0)
		die("zmq_recv");
}

static void send(void *socket)
{
	const char bytes[64] = {0};
	if (zmq_send(socket, bytes, sizeof(bytes), 0) < 0)
		die("zmq_send");
}

static void answer(void *data)
{
	void *socket = open_socket(zmq_connect);

	(void)data;
	for (;;) {
		receive(socket);
		send(socket);
	}
}

static void trip(void *socket)
{
	send(socket);
	receive(socket);
}

int main(void)
{
	pin(cpu_a());
	snprintf(address, sizeof(address), "ipc:///tmp/ivshmem-bench-zmq.%d", getpid());
	test_begin();
	pid_t other = spawn(cpu_b(), answer, NULL);
	const double time = trip_of(trip, open_socket(zmq_bind), 1);
	reap(other);
	test_end();
	emit("zmq.trip", time, "ns");
	unlink(address + sizeof("ipc://") - 1);
	return 0;
}
