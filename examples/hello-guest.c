/* SPDX-License-Identifier: MIT */
/*
 * Two programs that greet each other in turn, each woken by the other's doorbell. Each can be in a
 * virtual machine or on the host; the source is the same.
 *
 *     cc hello-guest.c $(pkg-config --cflags --libs libivshmem) -o hello-guest
 *     ./hello-guest auto: 0                         # in one guest
 *     ./hello-guest auto: 1                         # in another
 *     ./hello-guest unix:/tmp/ivshmem_socket 1      # or on the host
 *
 * A guest is told neither who else is there nor when somebody comes, so the two agree beforehand on
 * a place in the memory and on a seat for each; ivshmem_meet() does the rest. After it each has a
 * line of the memory, which only it writes.
 */
#include <ivshmem/peer.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MEETING_PLACE = 4096, MEETING_SIZE = 128, SHOWN = 5, TIMEOUT_MS = 60000 };

struct line {
	unsigned round; /* which round's text it is */
	char text[60];
};

struct hello {
	struct ivshmem_peer *peer;
	unsigned other;                  /* its ID; UINT_MAX: it has none */
	volatile struct line *to, *from; /* in the memory */
	unsigned long long rings;        /* taken so far */
};

static int fail(const char *what)
{
	fprintf(stderr, "hello-guest: %s: %s\n", what, strerror(errno));
	return -1;
}

static int say(struct hello *hello, unsigned round)
{
	char text[sizeof(hello->to->text)] = "";

	snprintf(text, sizeof(text), "hello %u from peer %d", round, ivshmem_id(hello->peer));
	for (size_t i = 0; i < sizeof(text); i++)
		hello->to->text[i] = text[i];
	/* Whoever sees the number sees the text. */
	__atomic_store_n(&hello->to->round, round, __ATOMIC_RELEASE);
	/* One of the two may be a device without doorbells; it looks at the memory by itself. */
	if (hello->other != UINT_MAX && ivshmem_capabilities(hello->peer) & IVSHMEM_CAP_NOTIFY &&
		ivshmem_notify(hello->peer, hello->other, 0) < 0)
		return fail("ringing");
	return 0;
}

static int hear(struct hello *hello, unsigned round)
{
	char text[sizeof(hello->from->text)]; /* others write at any time: copy once, then use it */
	time_t start = time(NULL);

	/* First look, then wait: a doorbell may have rung before, and one can come for nothing. */
	while (__atomic_load_n(&hello->from->round, __ATOMIC_ACQUIRE) != round) {
		uint64_t count = 0;
		int rung = ivshmem_wait(hello->peer, 0, TIMEOUT_MS, &count);
		if (rung == 0 || time(NULL) - start > TIMEOUT_MS / 1000) {
			errno = ETIMEDOUT;
			rung = -1;
		}
		if (rung < 0)
			return fail("waiting");
		hello->rings += count;
	}
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = hello->from->text[i];
	if (round <= SHOWN)
		printf("%.*s\n", (int)sizeof(text), text);
	return 0;
}

static int greet(struct hello *hello, unsigned seat, unsigned rounds)
{
	struct timespec start, end;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (unsigned round = 1; round <= rounds; round++) {
		if (seat == 0 && say(hello, round) < 0)
			return -1;
		if (hear(hello, round) < 0)
			return -1;
		if (seat == 1 && say(hello, round) < 0)
			return -1;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("hello: passed rounds=%u rings=%llu us=%lld\n", rounds, hello->rings,
		(end.tv_sec - start.tv_sec) * 1000000LL + (end.tv_nsec - start.tv_nsec) / 1000);
	return 0;
}

/* From open to ready: who the other is, and where the lines are. */
static int get_ready(struct hello *hello, unsigned seat)
{
	const size_t needed = MEETING_PLACE + MEETING_SIZE + 2 * sizeof(struct line);
	uint64_t size;
	char *memory = ivshmem_region(hello->peer, &size);

	if (size < needed) {
		errno = ENOSPC;
		return fail("the memory");
	}
	volatile struct line *lines = (void *)(memory + MEETING_PLACE + MEETING_SIZE);
	hello->to = &lines[seat];
	hello->from = &lines[!seat];
	/* What was said in an earlier life. Before the meeting, so that no greeting is lost. */
	hello->to->round = 0;
	if (ivshmem_meet(hello->peer, MEETING_PLACE, seat, 0, TIMEOUT_MS, &hello->other) < 0)
		return fail("meeting the other");
	return 0;
}

int main(int argc, char **argv)
{
	char error[256];
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.error_text = error;
	params.error_size = sizeof(error);

	if (argc < 3 || argc > 4 || strlen(argv[2]) != 1 || !strchr("01", argv[2][0])) {
		fprintf(stderr,
			"usage: hello-guest URI SEAT [ROUNDS]\n"
			"URI is auto: in a guest, unix:PATH on a host; SEAT is 0 or 1\n");
		return 2;
	}
	unsigned seat = argv[2][0] == '1';
	unsigned rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : SHOWN;

	struct hello hello = {.peer = ivshmem_open(argv[1], &params)};
	if (!hello.peer) {
		fprintf(stderr, "hello-guest: %s\n", error);
		return EXIT_FAILURE;
	}
	int result = get_ready(&hello, seat);
	if (result == 0)
		result = greet(&hello, seat, rounds);
	ivshmem_close(hello.peer);
	return result == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
