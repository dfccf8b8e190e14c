/* SPDX-License-Identifier: MIT */
/*
 * stress [MESSAGES] - both ends of a stream as threads that sleep in eventfds, with pauses at
 * random on either side, so that each falls asleep in every state of the other. A wake-up that is
 * lost ends it: nobody looks again without being rung. A message that is not the next one ends it,
 * too.
 */
#include "dawdle.h"

#include <ivshmem/stream.h>

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { LINES = 64, LARGEST = 600, PATIENCE_MS = 60000 };

static _Alignas(128) unsigned char lane[IVSHMEM_LANE_RING + LINES * 64];
static const struct ivshmem_stream stream = {
	.lane = lane, .lines = LINES, .largest = LARGEST, .key = 7};
static int bells[2]; /* of the writer, and the reader */
static uint32_t messages = 200000;
static unsigned long rings[2], sleeps[2];

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "stress: %s\n", what);
	exit(1);
}

static void ring(struct ivshmem_end *end, unsigned whom)
{
	const uint64_t one = 1;

	if (!ivshmem_stream_due(end))
		return;
	rings[!whom]++;
	if (write(bells[whom], &one, sizeof(one)) != sizeof(one))
		fail("write");
}

static void doze(unsigned who)
{
	struct pollfd bell = {.fd = bells[who], .events = POLLIN};
	uint64_t count;

	sleeps[who]++;
	if (poll(&bell, 1, PATIENCE_MS) != 1)
		fail(who == 0 ? "the writer was not woken" : "the reader was not woken");
	if (read(bells[who], &count, sizeof(count)) != sizeof(count))
		fail("read");
}

static void *writer_thread(void *unused)
{
	struct ivshmem_writer writer;
	unsigned char bytes[LARGEST];
	uint32_t seed = 1;

	ivshmem_writer_attach(&writer, &stream, 0, 0);
	for (uint32_t i = 0; i < messages; i++) {
		memset(bytes, (int)(i & 0xff), sizeof(bytes));
		while (ivshmem_stream_write(&writer, bytes, size_up_to(LARGEST, i), i) !=
			IVSHMEM_STREAM_OK) {
			ivshmem_writer_arm(&writer, size_up_to(LARGEST, i));
			ring(&writer.end, 1);
			if (ivshmem_stream_write(&writer, bytes, size_up_to(LARGEST, i), i) ==
				IVSHMEM_STREAM_OK)
				break;
			doze(0);
		}
		ring(&writer.end, 1);
		dawdle(&seed);
	}
	ivshmem_writer_close(&writer);
	ring(&writer.end, 1);
	return unused;
}

static void check(const unsigned char *bytes, int32_t size, uint32_t tag, uint32_t number)
{
	if (tag != number || (uint32_t)size != size_up_to(LARGEST, number))
		fail("not the next message");
	for (int32_t i = 0; i < size; i++)
		if (bytes[i] != (number & 0xff))
			fail("a torn message");
}

static void read_all(void)
{
	struct ivshmem_reader reader;
	unsigned char bytes[LARGEST];
	uint32_t next = 0, tag = 0, seed = 2;
	bool armed = false;
	int32_t size = 0;

	ivshmem_reader_attach(&reader, &stream, 0, 0, 0);
	while (size != IVSHMEM_STREAM_END) {
		size = ivshmem_stream_read(&reader, bytes, sizeof(bytes), &tag);
		ring(&reader.end, 0);
		if (size >= 0) {
			check(bytes, size, tag, next++);
			armed = false;
			dawdle(&seed);
		} else if (size == IVSHMEM_STREAM_EMPTY && !armed) {
			ivshmem_reader_arm(&reader);
			armed = true;
		} else if (size == IVSHMEM_STREAM_EMPTY) {
			doze(1);
			armed = false;
		} else if (size != IVSHMEM_STREAM_BEGIN && size != IVSHMEM_STREAM_END) {
			fail("broken");
		}
	}
	if (next != messages)
		fail("it has ended early");
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc > 1)
		messages = (uint32_t)strtoul(argv[1], NULL, 10);
	for (unsigned i = 0; i < 2; i++)
		bells[i] = eventfd(0, EFD_CLOEXEC);
	if (bells[0] < 0 || bells[1] < 0 || pthread_create(&thread, NULL, writer_thread, NULL) != 0)
		fail("cannot start");
	read_all();
	pthread_join(thread, NULL);
	printf("%u messages; writer: %lu sleeps, %lu rings; reader: %lu sleeps, %lu rings\n",
		(unsigned)messages, sleeps[0], rings[0], sleeps[1], rings[1]);
	return 0;
}
