/* SPDX-License-Identifier: MIT */
/*
 * Wait for own vectors, each in a thread of its own, and say which one woke:
 *
 *     waiters URI SECONDS|look VECTOR...
 *
 * SECONDS below 0: without a limit; look: never wait, but look ten times a second.
 *
 * Prints "ready" when all wait, then "V rung N" whenever vector V was rung (N rings in one), "V
 * quiet" when SECONDS have passed without a ring, or "V failed: REASON"; at the end, "V total
 * RINGS in WAKES" for each, and "memory N", the first word of the region plus 1, which is then
 * there. Exit status 0 unless a wait failed.
 */
#include <ivshmem/peer.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WAITERS 64

struct waiter {
	pthread_t thread;
	struct ivshmem_peer *peer;
	unsigned vector;
	int timeout_ms;
	bool looks;
	uint64_t rings, wakes;
	int error;
};

static pthread_barrier_t all_wait;

static void *wait_for_rings(void *data)
{
	struct waiter *w = data;
	uint64_t count;
	int rung;

	pthread_barrier_wait(&all_wait);
	while ((rung = ivshmem_wait(w->peer, w->vector, w->timeout_ms, &count)) > 0 ||
		(rung == 0 && w->looks)) {
		if (rung == 0) {
			usleep(100000);
			continue;
		}
		w->rings += count;
		w->wakes++;
		printf("%u rung %llu\n", w->vector, (unsigned long long)count);
	}
	w->error = rung < 0 ? errno : 0;
	if (rung < 0)
		printf("%u failed: %s\n", w->vector, strerror(w->error));
	else
		printf("%u quiet\n", w->vector);
	return NULL;
}

/* On a host own vectors arrive one by one. */
static int await_vectors(struct ivshmem_peer *peer, unsigned highest)
{
	int id = ivshmem_id(peer);

	while (ivshmem_connected(peer) && ivshmem_vectors(peer, (unsigned)id) <= (int)highest)
		if (ivshmem_dispatch(peer, 60000) <= 0)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	static struct waiter waiters[MAX_WAITERS];
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	char reason[256] = "";
	unsigned n = 0, highest = 0;
	int status = EXIT_SUCCESS;

	if (argc < 4 || argc - 3 > MAX_WAITERS) {
		fprintf(stderr, "usage: %s URI SECONDS|look VECTOR...\n", argv[0]);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	params.error_text = reason;
	params.error_size = sizeof(reason);
	struct ivshmem_peer *peer = ivshmem_open(argv[1], &params);
	if (!peer) {
		fprintf(stderr, "waiters: %s\n", reason);
		return EXIT_FAILURE;
	}

	for (int i = 3; i < argc; i++, n++) {
		waiters[n].peer = peer;
		waiters[n].vector = (unsigned)strtoul(argv[i], NULL, 10);
		waiters[n].looks = strcmp(argv[2], "look") == 0;
		waiters[n].timeout_ms = (int)(strtod(argv[2], NULL) * 1000);
		highest = waiters[n].vector > highest ? waiters[n].vector : highest;
	}
	if (await_vectors(peer, highest) < 0) {
		fprintf(stderr, "waiters: vector %u did not arrive\n", highest);
		return EXIT_FAILURE;
	}
	pthread_barrier_init(&all_wait, NULL, n + 1);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&waiters[i].thread, NULL, wait_for_rings, &waiters[i]);
	pthread_barrier_wait(&all_wait);
	printf("ready\n");
	for (unsigned i = 0; i < n; i++) {
		pthread_join(waiters[i].thread, NULL);
		status = waiters[i].error ? EXIT_FAILURE : status;
	}
	for (unsigned i = 0; i < n; i++)
		printf("%u total %llu in %llu\n", waiters[i].vector,
			(unsigned long long)waiters[i].rings, (unsigned long long)waiters[i].wakes);
	/* What is mapped stays mapped, whatever has happened to the device's driver. */
	volatile uint32_t *word = ivshmem_region(peer, NULL);
	*word = *word + 1;
	printf("memory %u\n", *word);
	ivshmem_close(peer);
	return status;
}
