/* SPDX-License-Identifier: MIT */
/*
 * stress_lanes [REQUESTS] - some callers and one who answers them all in turns, as threads that
 * sleep in eventfds, with pauses at random on either side. A wake-up that is lost ends it, since
 * nobody looks again without being rung; and so does a reply that is not the next one.
 */
#include "dawdle.h"

#include <ivshmem/gather.h>

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CALLERS = 3, LINES = 64, LARGEST = 400, WINDOW = 2, PATIENCE_MS = 60000 };

static _Alignas(128) unsigned char memory[2 * CALLERS][IVSHMEM_LANE_RING + LINES * 64];
static int bells[CALLERS + 1]; /* the last is the responder's */
static uint32_t requests = 50000;
static unsigned long rings[CALLERS + 1], sleeps[CALLERS + 1];

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "stress_lanes: %s\n", what);
	exit(1);
}

static struct ivshmem_stream stream_of(uint32_t lane)
{
	return (struct ivshmem_stream){
		.lane = memory[lane], .lines = LINES, .largest = LARGEST, .key = 7};
}

static void ring_now(const struct ivshmem_end *end, unsigned who)
{
	const uint64_t one = 1;
	uint32_t whom, vector;

	if (ivshmem_stream_whom(end, &whom, &vector) < 0)
		return;
	rings[who]++;
	if (write(bells[whom], &one, sizeof(one)) != sizeof(one))
		fail("write");
}

static void ring(struct ivshmem_end *end, unsigned who)
{
	if (ivshmem_stream_due(end))
		ring_now(end, who);
}

static void doze(unsigned who)
{
	struct pollfd bell = {.fd = bells[who], .events = POLLIN};
	uint64_t count;

	sleeps[who]++;
	if (poll(&bell, 1, PATIENCE_MS) != 1)
		fail(who == CALLERS ? "the responder was not woken" : "a caller was not woken");
	if (read(bells[who], &count, sizeof(count)) != sizeof(count))
		fail("read");
}

/* ---- a caller ---- */

static void await_reply(struct ivshmem_reader *reader, unsigned who, uint32_t number)
{
	unsigned char bytes[LARGEST];
	uint32_t tag = 0;
	int32_t size;

	for (bool armed = false;; armed = !armed) {
		do
			size = ivshmem_stream_read(reader, bytes, sizeof(bytes), &tag);
		while (size == IVSHMEM_STREAM_BEGIN);
		ring(&reader->end, who);
		if (size != IVSHMEM_STREAM_EMPTY)
			break;
		if (armed)
			doze(who);
		else
			ivshmem_reader_arm(reader);
	}
	if (tag != number || size != (int32_t)size_up_to(LARGEST, number))
		fail("not the next reply");
	for (int32_t i = 0; i < size; i++)
		if (bytes[i] != ((number + who) & 0xff))
			fail("a torn reply, or another's");
}

static void *call_all(void *arg)
{
	const unsigned who = (unsigned)(uintptr_t)arg;
	const struct ivshmem_stream out = stream_of(2 * who), in = stream_of(2 * who + 1);
	struct ivshmem_writer writer;
	struct ivshmem_reader reader;
	unsigned char bytes[LARGEST];
	uint32_t seed = who + 1;

	ivshmem_writer_attach(&writer, &out, who, 0);
	ivshmem_reader_attach(&reader, &in, who, 0, 0);
	for (uint32_t i = 0; i < requests + WINDOW; i++) {
		if (i < requests) {
			memset(bytes, (int)((i + who) & 0xff), sizeof(bytes));
			if (ivshmem_stream_write(&writer, bytes, size_up_to(LARGEST, i), i) !=
				IVSHMEM_STREAM_OK)
				fail("a request finds no room");
			ring(&writer.end, who);
		}
		if (i >= WINDOW)
			await_reply(&reader, who, i - WINDOW);
		dawdle(&seed);
	}
	ivshmem_writer_close(&writer);
	ring(&writer.end, who);
	return NULL;
}

/* ---- who answers ---- */

static struct ivshmem_lane each[CALLERS];
static struct ivshmem_lanes lanes;
static struct ivshmem_writer replies[CALLERS];

static void attach(void)
{
	for (uint32_t i = 0; i < CALLERS; i++) {
		const struct ivshmem_stream in = stream_of(2 * i), out = stream_of(2 * i + 1);
		ivshmem_reader_attach(&each[i].reader, &in, CALLERS, 0, 0);
		ivshmem_writer_attach(&replies[i], &out, CALLERS, 0);
	}
	ivshmem_lanes_init(&lanes, each, CALLERS);
}

static void ring_callers(void)
{
	uint32_t lane;

	while (ivshmem_lanes_due(&lanes, &lane))
		ring_now(&each[lane].reader.end, CALLERS);
}

static void answer_all(void)
{
	unsigned char bytes[LARGEST];
	unsigned ends = 0;
	uint32_t lane = 0, tag = 0, seed = 77;
	bool armed = false;

	while (ends < CALLERS) {
		const int32_t size = ivshmem_lanes_read(&lanes, bytes, sizeof(bytes), &lane, &tag);
		ring_callers();
		if (size == IVSHMEM_STREAM_EMPTY) {
			if (armed)
				doze(CALLERS);
			else
				ivshmem_lanes_arm(&lanes);
			armed = !armed;
			continue;
		}
		armed = false;
		ends += size == IVSHMEM_STREAM_END;
		if (size < 0 && size != IVSHMEM_STREAM_BEGIN && size != IVSHMEM_STREAM_END)
			fail("broken");
		if (size < 0)
			continue;
		if (ivshmem_stream_write(&replies[lane], bytes, (uint32_t)size, tag) !=
			IVSHMEM_STREAM_OK)
			fail("a reply finds no room");
		ring(&replies[lane].end, CALLERS);
		dawdle(&seed);
	}
}

int main(int argc, char **argv)
{
	pthread_t threads[CALLERS];

	if (argc > 1)
		requests = (uint32_t)strtoul(argv[1], NULL, 10);
	for (unsigned i = 0; i <= CALLERS; i++)
		if ((bells[i] = eventfd(0, EFD_CLOEXEC)) < 0)
			fail("cannot start");
	attach();
	for (unsigned i = 0; i < CALLERS; i++)
		if (pthread_create(&threads[i], NULL, call_all, (void *)(uintptr_t)i) != 0)
			fail("cannot start");
	answer_all();
	for (unsigned i = 0; i < CALLERS; i++)
		pthread_join(threads[i], NULL);
	printf("%u callers, %u requests each; a caller: %lu sleeps, %lu rings; responder: %lu "
	       "sleeps, "
	       "%lu rings\n",
		(unsigned)CALLERS, (unsigned)requests, sleeps[0], rings[0], sleeps[CALLERS],
		rings[CALLERS]);
	return 0;
}
