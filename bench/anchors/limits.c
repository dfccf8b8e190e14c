/* SPDX-License-Identifier: MIT */
/*
 * limits - what the machine allows: a cache line to the other CPU and back; lines through slots,
 * with an index for each 32 of them and nothing else; messages copied in and out of slots with a
 * flag each; and what the kernel does for the same: a seqpacket socket, an eventfd.
 */
#include "common.h"
#include "timing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINE        64u
#define MESSAGE_MAX (1u << 20)
#define SOCKET_ROOM (8 << 20)
#define NAP_NS      30000 /* for the other to fall asleep */

static unsigned char message[MESSAGE_MAX], copy[MESSAGE_MAX];

/* The compiler is to believe that the copy is used. */
static void use_copy(void)
{
	__asm__ volatile("" ::"r"(copy) : "memory");
}

static uint32_t acquire(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static void release(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* ---- a line there and back ---- */

struct lines {
	uint32_t BENCH_ALIGNED there;
	uint32_t BENCH_ALIGNED back;
	uint32_t BENCH_ALIGNED sent; /* ours alone */
};

static void return_line(void *data)
{
	struct lines *lines = data;

	for (uint32_t i = 1;; i++) {
		while (acquire(&lines->there) != i)
			;
		release(&lines->back, i);
	}
}

static void send_line(void *data)
{
	struct lines *lines = data;
	const uint32_t next = ++lines->sent;

	release(&lines->there, next);
	while (acquire(&lines->back) != next)
		;
}

static void measure_line(void)
{
	struct lines *lines = shared_alloc(sizeof(*lines));

	print_trip("line.trip", return_line, send_line, lines, 64);
}

/* ---- lines through a ring of 64 KiB, index for each 32 ---- */

struct ring {
	uint32_t BENCH_ALIGNED tail;
	uint32_t BENCH_ALIGNED head;
	unsigned char BENCH_ALIGNED lines[1024][LINE];
};

static void put_lines(void *data)
{
	struct ring *ring = data;

	for (uint32_t tail = 0;; tail++) {
		if (tail % 32 == 0) {
			release(&ring->tail, tail);
			while (tail - acquire(&ring->head) > 1024 - 32)
				;
		}
		memcpy(ring->lines[tail % 1024], message, LINE);
	}
}

static unsigned take_lines(void *data)
{
	struct ring *ring = data;
	const uint32_t head = ring->head;

	while (acquire(&ring->tail) == head)
		;
	for (unsigned i = 0; i < 32; i++) {
		memcpy(copy, ring->lines[(head + i) % 1024], LINE);
		use_copy();
	}
	release(&ring->head, head + 32);
	return 32;
}

static void measure_lines(void)
{
	struct ring *ring = shared_alloc(sizeof(*ring));

	print_rate("line.rate", put_lines, take_lines, ring, 32);
}

/* ---- slots: a line with a flag, then the message ---- */

struct slots {
	unsigned char *memory;
	size_t size, stride;
	unsigned count, next;
};

static unsigned char *next_slot(struct slots *slots, uint32_t **flag)
{
	unsigned char *slot = slots->memory + slots->next * slots->stride;

	slots->next = slots->next + 1 == slots->count ? 0 : slots->next + 1;
	*flag = (uint32_t *)(void *)slot;
	return slot + LINE;
}

static void fill_slots(void *data)
{
	struct slots *slots = data;
	uint32_t *full;

	for (;;) {
		unsigned char *place = next_slot(slots, &full);
		while (acquire(full) != 0)
			;
		memcpy(place, message, slots->size);
		release(full, 1);
	}
}

static unsigned empty_slot(void *data)
{
	struct slots *slots = data;
	uint32_t *full;
	const unsigned char *place = next_slot(slots, &full);

	while (acquire(full) == 0)
		;
	memcpy(copy, place, slots->size);
	use_copy();
	release(full, 0);
	return 1;
}

static void measure_slots(const char *name, size_t size, size_t ring)
{
	struct slots slots = {.size = size, .stride = size + LINE};

	slots.count = (unsigned)(ring / slots.stride);
	slots.memory = shared_alloc(ring);
	print_rate(name, fill_slots, empty_slot, &slots, 8);
}

/* ---- a seqpacket socket ---- */

struct socket {
	int fd;
	size_t size;
};

static void fill_socket(void *data)
{
	const struct socket *socket = data;

	for (;;)
		if (write(socket->fd, message, socket->size) < 0)
			die("write");
}

static unsigned empty_socket(void *data)
{
	const struct socket *socket = data;

	if (read(socket->fd, copy, socket->size) != (ssize_t)socket->size)
		die("read");
	return 1;
}

static void measure_socket(const char *name, size_t size)
{
	const int room = SOCKET_ROOM;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		die("socketpair");
	if (setsockopt(ends[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	struct socket here = {ends[0], size}, there = {ends[1], size};
	test_begin();
	pid_t other = spawn(cpu_b(), fill_socket, &there);
	const double rate = rate_of(empty_socket, &here, 1);
	reap(other);
	test_end();
	emit(name, rate, "messages/s");
	close(ends[0]);
	close(ends[1]);
}

/* ---- an eventfd ---- */

struct bells {
	int there, back;
	uint64_t *woken; /* when the other woke up; shared */
};

static void ring_bell(int fd)
{
	const uint64_t one = 1;
	if (write(fd, &one, sizeof(one)) != sizeof(one))
		die("write");
}

static void await_bell(int fd)
{
	uint64_t count;
	if (read(fd, &count, sizeof(count)) != sizeof(count))
		die("read");
}

static void answer_bells(void *data)
{
	const struct bells *bells = data;

	for (;;) {
		await_bell(bells->there);
		__atomic_store_n(bells->woken, now_ns(), __ATOMIC_RELEASE);
		ring_bell(bells->back);
	}
}

static void bell_trip(void *data)
{
	const struct bells *bells = data;

	ring_bell(bells->there);
	await_bell(bells->back);
}

/* How long it takes to wake somebody who is asleep. */
static double one_way(const struct bells *bells)
{
	uint64_t times[1000], end = now_ns() + TEST_NS;
	size_t n = 0;

	for (; n < sizeof(times) / sizeof(times[0]) && now_ns() < end; n++) {
		for (uint64_t nap = now_ns() + NAP_NS; now_ns() < nap;)
			cpu_relax();
		const uint64_t start = now_ns();
		bell_trip((void *)bells);
		times[n] = __atomic_load_n(bells->woken, __ATOMIC_ACQUIRE) - start;
	}
	return (double)quantile(times, n, 0.5);
}

static void measure_bells(void)
{
	struct bells bells = {
		eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC), shared_alloc(sizeof(uint64_t))};

	if (bells.there < 0 || bells.back < 0)
		die("eventfd");
	test_begin();
	pid_t other = spawn(cpu_b(), answer_bells, &bells);
	const double trip = trip_of(bell_trip, &bells, 1), wake = one_way(&bells);
	reap(other);
	test_end();
	emit("eventfd.trip", trip, "ns");
	emit("eventfd.one-way", wake, "ns");
}

int main(void)
{
	pin(cpu_a());
	memset(message, 1, sizeof(message));
	memset(copy, 1, sizeof(copy));
	measure_line();
	measure_lines();
	measure_slots("slots.1K.64K", 1 << 10, 64 << 10);
	measure_slots("slots.1K.4M", 1 << 10, 4 << 20);
	measure_slots("slots.64K.4M", 64 << 10, 4 << 20);
	measure_slots("slots.1M.4M", 1 << 20, 4 << 20);
	measure_socket("seqpacket.64K", 64 << 10);
	measure_socket("seqpacket.1M", 1 << 20);
	measure_bells();
	return 0;
}
