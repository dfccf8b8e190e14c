/* SPDX-License-Identifier: MIT */
/* nng - the round trip of 64 bytes through two nng pair0 sockets over ipc://, which sleep. */
#include "common.h"
#include "timing.h"

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

static char address[64];

static void check(int error, const char *what)
{
	if (error != 0)
		die(what);
}

static void receive(nng_socket socket)
{
	char bytes[64];
	size_t size = sizeof(bytes);
	check(nng_recv(socket, bytes, &size, 0), "nng_recv");
}

static void send(nng_socket socket)
{
	char bytes[64] = {0};
	check(nng_send(socket, bytes, sizeof(bytes), 0), "nng_send");
}

/* nng does not work in the child of a process that has used it: this is before main() does. */
static void answer(void *data)
{
	nng_socket socket;

	(void)data;
	check(nng_pair0_open(&socket), "nng_pair0_open");
	while (nng_dial(socket, address, NULL, 0) != 0)
		usleep(1000);
	for (;;) {
		receive(socket);
		send(socket);
	}
}

static void trip(void *data)
{
	const nng_socket *socket = data;
	send(*socket);
	receive(*socket);
}

int main(void)
{
	const struct sched_param usual = {0};
	nng_socket socket;

	sched_setscheduler(
		0, SCHED_OTHER, &usual); /* at real-time priority it hangs now and then */
	pin(cpu_a());
	snprintf(address, sizeof(address), "ipc:///tmp/ivshmem-bench-nng.%d", getpid());
	test_begin();
	pid_t other = spawn(cpu_b(), answer, NULL);
	check(nng_pair0_open(&socket), "nng_pair0_open");
	check(nng_listen(socket, address, NULL, 0), "nng_listen");
	const double time = trip_of(trip, &socket, 1);
	reap(other);
	test_end();
	emit("nng.trip", time, "ns");
	nng_close(socket);
	unlink(address + sizeof("ipc://") - 1);
	return 0;
}
