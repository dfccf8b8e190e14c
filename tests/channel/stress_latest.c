/* SPDX-License-Identifier: MIT */
/*
 * stress_latest [VALUES] - a latest value between processes: writers one after the other, each of
 * which is killed in the middle but the last, and readers that have the memory mapped for reading
 * only. A value that is torn, or older than the one before it, ends it; so does a reader that
 * misses the last one, or the end.
 */
#include <ivshmem/latest.h>

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINES = 64, LARGEST = LINES / 4 * 64 - 16, READERS = 2, LIVES = 20, PATIENCE_S = 120 };
enum { BYTES = IVSHMEM_LANE_RING + LINES * 64 };

static const struct ivshmem_channel channel = {
	.shape = IVSHMEM_CHANNEL_LATEST, .lanes = 1, .lines = LINES, .largest = LARGEST, .key = 7};
static unsigned char *memory;
static uint32_t values = 200000; /* of the last life */

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "stress_latest: %s\n", what);
	_exit(1);
}

static uint32_t size_of(uint32_t number)
{
	return number * 2654435761u % (LARGEST + 1);
}

/* Without end, or so many values and then farewell. */
static _Noreturn void set_values(uint32_t count)
{
	struct ivshmem_latest_writer writer;
	unsigned char bytes[LARGEST];

	if (ivshmem_latest_writer_attach(&writer, &channel, memory, 0, 0) != IVSHMEM_LATEST_OK)
		fail("no such lane");
	for (uint32_t i = 0; count == 0 || i < count; i++) {
		const uint32_t number = writer.number + 1;
		memset(bytes, (int)(number & 0xff), sizeof(bytes));
		if (ivshmem_latest_write(&writer, bytes, size_of(number), number) !=
			IVSHMEM_LATEST_OK)
			fail("cannot set");
	}
	ivshmem_latest_writer_close(&writer);
	_exit(0);
}

static void check(const unsigned char *bytes, int32_t size, uint32_t number)
{
	if ((uint32_t)size != size_of(number))
		fail("a size of another value");
	for (int32_t i = 0; i < size; i++)
		if (bytes[i] != (number & 0xff))
			fail("a torn value");
}

/* Until the end that is followed by no other life. */
static _Noreturn void get_values(void)
{
	struct ivshmem_latest_reader reader;
	unsigned char bytes[LARGEST];
	unsigned long got = 0, busy = 0, begins = 0;
	uint32_t tag = 0, before = 0;
	int32_t result = 0;

	if (mprotect(memory, BYTES, PROT_READ) < 0 ||
		ivshmem_latest_reader_attach(&reader, &channel, memory, 0, 0) != IVSHMEM_LATEST_OK)
		fail("no such lane");
	alarm(PATIENCE_S);
	while (result != IVSHMEM_LATEST_END) {
		result = ivshmem_latest_next(&reader, bytes, sizeof(bytes), &tag);
		if (result >= 0) {
			check(bytes, result, tag);
			if (tag <= before)
				fail("an older value");
			before = tag;
		}
		got += result >= 0;
		busy += result == IVSHMEM_LATEST_BUSY;
		begins += result == IVSHMEM_LATEST_BEGIN;
		if (result < IVSHMEM_LATEST_END)
			fail("broken");
	}
	if (before != ivshmem_latest_newest(&reader))
		fail("the last value was missed");
	printf("%lu of %u values, %lu lives, %lu times busy\n", got, (unsigned)before, begins,
		busy);
	exit(0);
}

static pid_t start(bool reads, uint32_t count)
{
	const pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid != 0)
		return pid;
	if (reads)
		get_values();
	set_values(count);
}

int main(int argc, char **argv)
{
	int status, errors = 0;

	if (argc > 1)
		values = (uint32_t)strtoul(argv[1], NULL, 10);
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	for (unsigned i = 0; i < READERS; i++)
		start(true, 0);
	for (long i = 1; i < LIVES; i++) {
		const pid_t writer = start(false, 0);
		nanosleep(&(struct timespec){.tv_nsec = i * i * 37 % 5000 * 1000}, NULL);
		kill(writer, SIGKILL);
		waitpid(writer, NULL, 0);
	}
	start(false, values);
	while (wait(&status) > 0)
		errors += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	return errors != 0;
}
