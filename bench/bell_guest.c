/* SPDX-License-Identifier: MIT */
/*
 * bell_guest - the round trip of a doorbell between two guests, through libivshmem and through the
 * UIO device alone. Runs in each of the two, as root, with the module uio_ivshmem:
 *
 *     bell_guest SEAT BLOCKS TRIPS
 *
 * Both have the device open in both ways at once, and change the way after each block of TRIPS
 * round trips, so that what is compared is milliseconds apart. Each ring says in the memory which
 * one it is, and is looked for there before every wait: what the other ways' descriptors have
 * counted meanwhile wakes one up in vain once a block. A program that waits without a limit reads;
 * one that has a limit polls first; the library does both. Seat 0 prints a line a block: "raw NS",
 * "library NS", "raw-limit NS" or "library-limit NS", nanoseconds a round trip.
 */
#include "anchors/common.h"

#include <ivshmem/abi.h>
#include <ivshmem/peer.h>

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEET_OFFSET 4096u
#define TURN_OFFSET 8192u
#define TIMEOUT_MS  60000
#define UIO         "/dev/uio0"

static struct ivshmem_peer *peer;
static unsigned other;
static volatile uint32_t *registers;
static int uio;
static uint32_t *turns; /* two words, each in a cache line of its own: how often a seat has rung */

static void open_raw(void)
{
	uio = open(UIO, O_RDWR | O_CLOEXEC);
	if (uio < 0)
		die(UIO);
	void *page = mmap(
		NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_SHARED, uio, 0);
	if (page == MAP_FAILED)
		die("mmap");
	registers = page;
}

static void raw_ring(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	registers[IVSHMEM_REG_DOORBELL / 4] = IVSHMEM_DOORBELL(other, 0);
}

static void raw_wait(void)
{
	uint32_t count;
	if (read(uio, &count, sizeof(count)) != sizeof(count))
		die("read");
}

static void raw_wait_limited(void)
{
	struct pollfd entry = {.fd = uio, .events = POLLIN};
	if (poll(&entry, 1, TIMEOUT_MS) != 1)
		die("poll");
	raw_wait();
}

static void library_ring(void)
{
	if (ivshmem_notify(peer, other, 0) < 0)
		die("ivshmem_notify");
}

static void library_wait(void)
{
	if (ivshmem_wait(peer, 0, -1, NULL) != 1)
		die("ivshmem_wait");
}

static void library_wait_limited(void)
{
	if (ivshmem_wait(peer, 0, TIMEOUT_MS, NULL) != 1)
		die("ivshmem_wait");
}

static const struct way {
	const char *name;
	void (*ring)(void), (*wait)(void);
} ways[] = {
	{"raw", raw_ring, raw_wait},
	{"library", library_ring, library_wait},
	{"raw-limit", raw_ring, raw_wait_limited},
	{"library-limit", library_ring, library_wait_limited},
};
#define N_WAYS (sizeof(ways) / sizeof(ways[0]))

static uint32_t *turn_of(unsigned seat)
{
	return turns + seat * 32;
}

static void await(const struct way *way, unsigned seat, uint32_t turn)
{
	while (__atomic_load_n(turn_of(seat), __ATOMIC_ACQUIRE) != turn)
		way->wait();
}

static void ring(const struct way *way, unsigned seat, uint32_t turn)
{
	__atomic_store_n(turn_of(seat), turn, __ATOMIC_RELEASE);
	way->ring();
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	unsigned seat = argv[1][0] == '1', blocks = (unsigned)strtoul(argv[2], NULL, 10);
	unsigned trips = (unsigned)strtoul(argv[3], NULL, 10);
	uint32_t turn = 0;

	open_raw();
	peer = ivshmem_open("uio:uio0", NULL);
	if (!peer)
		die("ivshmem_open");
	turns = (uint32_t *)((char *)ivshmem_region(peer, NULL) + TURN_OFFSET);
	if (ivshmem_meet(peer, MEET_OFFSET, seat, 0, TIMEOUT_MS, &other) < 0)
		die("ivshmem_meet");
	for (unsigned block = 0; block < blocks; block++) {
		const struct way *way = &ways[block % N_WAYS];
		uint64_t start = now_ns();
		for (unsigned trip = 0; trip < trips; trip++) {
			turn++;
			if (seat == 0)
				ring(way, 0, turn);
			await(way, !seat, turn);
			if (seat == 1)
				ring(way, 1, turn);
		}
		if (seat == 0)
			printf("%s %llu\n", way->name,
				(unsigned long long)(now_ns() - start) / trips);
	}
	ivshmem_close(peer);
	return 0;
}
