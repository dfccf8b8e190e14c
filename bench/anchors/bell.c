/* SPDX-License-Identifier: MIT */
/*
 * bell - the bare round trip of a doorbell: two processes, two eventfds, blocking read.
 *
 *     bell two|one
 *
 * On two CPUs, or both processes on one.
 */
#include "common.h"
#include "round.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct bell {
	int in, out;
};

static void ring(void *data)
{
	const struct bell *bell = data;
	const uint64_t one = 1;
	if (write(bell->out, &one, sizeof(one)) != sizeof(one))
		die("write");
}

static void await(void *data)
{
	const struct bell *bell = data;
	uint64_t count;
	if (read(bell->in, &count, sizeof(count)) != sizeof(count))
		die("read");
}

static void answer(void *data)
{
	for (;;) {
		await(data);
		ring(data);
	}
}

int main(int argc, char **argv)
{
	bool one = round_place(argc, argv, 1, "bell");
	struct bell here = {eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC)};
	struct bell there = {here.out, here.in};

	if (here.in < 0 || here.out < 0)
		die("eventfd");
	round_begin(one);
	pid_t other = spawn(one ? cpu_a() : cpu_b(), answer, &there);
	round_measure(one, "bare", ring, await, &here);
	reap(other);
	return 0;
}
