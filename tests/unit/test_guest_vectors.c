/* SPDX-License-Identifier: MIT */
/*
 * src/guest/vectors.c, and uio.c under it: waiting for a device that uio_ivshmem drives.
 *
 * An ordinary file can be mapped as a UIO device is, but neither be waited for nor be read as one.
 * So once a device is open, pipes take the place of its vectors: the driver's counter is what is
 * written to them.
 */
#include "base/clock.h"
#include "guest/internal.h"

#include "../common/guesttree.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

/* ---- pipes for vectors ---- */

static int driver[TREE_VECTORS]; /* the driver's ends */
static unsigned interrupts[TREE_VECTORS];
static uint64_t counts[TREE_VECTORS];

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	assert_ptr_equal(data, driver);
	assert_null(peer);
	interrupts[vector]++;
	counts[vector] = count;
}

static const struct ivshmem_listener listener = {.interrupt = on_interrupt};

/* Open the device, and make its loop with pipes for the vectors. */
static void open_piped(struct guest *guest, bool listening)
{
	struct ivshmem_params params = tree_params;

	memset(interrupts, 0, sizeof(interrupts));
	params.data = driver;
	tree_open(guest, GUEST_UIO, TREE_BDF, &params);
	for (unsigned i = 0; i < TREE_VECTORS; i++) {
		int ends[2];
		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		close(guest->vectors[i].fd);
		guest->vectors[i].fd = ends[0];
		driver[i] = ends[1];
	}
	close(guest->epoll);
	free(guest->events);
	if (listening)
		guest->listener = listener;
	assert_int_equal(vectors_start(guest), 0);
}

/* The driver's counter of a vector goes up to `counter`. */
static void ring_up_to(unsigned vector, uint32_t counter)
{
	assert_int_equal(write(driver[vector], &counter, sizeof(counter)), sizeof(counter));
}

/* The driver is unbound, or the device unplugged. */
static void unbind(void)
{
	for (unsigned i = 0; i < TREE_VECTORS; i++) {
		close(driver[i]);
		driver[i] = -1;
	}
}

static void end(struct guest *guest)
{
	guest_close(guest);
	for (unsigned i = 0; i < TREE_VECTORS; i++)
		if (driver[i] >= 0)
			close(driver[i]);
}

static bool readable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	return poll(&entry, 1, 0) == 1;
}

/* ---- waiting ---- */

static void test_wait(void **state)
{
	struct guest guest;
	uint64_t count = 0;
	(void)state;
	tree_uio_device();
	open_piped(&guest, false);

	uint64_t start = clock_ms();
	assert_int_equal(guest_wait(&guest, 1, 20, &count), 0);
	assert_true(clock_ms() - start >= 19);
	ring_up_to(1, 3);
	assert_int_equal(guest_wait(&guest, 2, 0, &count), 0);
	assert_int_equal(guest_wait(&guest, 1, -1, &count), 1);
	assert_int_equal(count, 3);
	assert_int_equal(guest_wait(&guest, 1, 0, &count), 0);
	/* It wraps. */
	ring_up_to(1, UINT32_MAX);
	assert_int_equal(guest_wait(&guest, 1, 0, &count), 1);
	assert_int_equal(count, UINT32_MAX - 3);
	ring_up_to(1, 1);
	assert_int_equal(guest_wait(&guest, 1, 0, &count), 1);
	assert_int_equal(count, 2);
	ring_up_to(1, 2);
	assert_int_equal(guest_wait(&guest, 1, 0, NULL), 1);
	ring_up_to(1, 3);
	assert_int_equal(guest_wait(&guest, 1, 0, &count), 1);
	assert_int_equal(count, 1);

	unbind();
	assert_int_equal(guest_wait(&guest, 1, 0, &count), -ENODEV);
	assert_int_equal(guest_wait(&guest, 2, -1, &count), -ENODEV);
	end(&guest);
}

/* Rings from before the vector was opened are reported once, with those since or alone. */
static void test_early_rings(void **state)
{
	struct guest guest;
	uint64_t count = 0;
	(void)state;
	tree_uio_device();

	open_piped(&guest, false);
	assert_int_equal(guest_wait(&guest, 0, -1, &count), 1);
	assert_int_equal(count, 7);
	assert_int_equal(guest_wait(&guest, 0, 0, &count), 0);
	ring_up_to(0, 9);
	assert_int_equal(guest_wait(&guest, 0, -1, &count), 1);
	assert_int_equal(count, 2);
	end(&guest);

	/* The ring that came between the two looks at the counter is in both. */
	open_piped(&guest, false);
	ring_up_to(0, 7);
	assert_int_equal(guest_wait(&guest, 0, 0, &count), 1);
	assert_int_equal(count, 7);
	assert_int_equal(guest_wait(&guest, 0, 0, &count), 0);
	end(&guest);

	open_piped(&guest, false);
	ring_up_to(0, 10);
	assert_int_equal(guest_wait(&guest, 0, 0, &count), 1);
	assert_int_equal(count, 10);
	end(&guest);
}

static void ignore(int sig)
{
	(void)sig;
}

/* A signal ends a wait. It makes no call that only looks wait for a ring, whenever it comes. */
static void test_signals_interrupt(void **state)
{
	struct itimerval often = {.it_value.tv_usec = 20000, .it_interval.tv_usec = 20000};
	struct sigaction action = {.sa_handler = ignore}, old;
	struct guest guest;
	(void)state;
	tree_uio_device();
	open_piped(&guest, false);

	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &often, NULL);
	assert_int_equal(guest_wait(&guest, 1, -1, NULL), -EINTR);
	assert_int_equal(guest_wait(&guest, 1, 60000, NULL), -EINTR);
	assert_int_equal(guest_dispatch(&guest, -1), -EINTR);

	/* A read() where there is nothing would fail here. */
	fcntl(guest.vectors[1].fd, F_SETFL, O_NONBLOCK);
	often.it_value.tv_usec = often.it_interval.tv_usec = 500;
	setitimer(ITIMER_REAL, &often, NULL);
	uint64_t end_at = clock_ms() + 200;
	while (clock_ms() < end_at) {
		int taken = guest_wait(&guest, 1, 0, NULL);
		assert_true(taken == 0 || taken == -EINTR);
	}
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
	sigaction(SIGALRM, &old, NULL);
	end(&guest);
}

/* ---- the loop ---- */

static void test_loop(void **state)
{
	struct guest guest;
	(void)state;
	tree_uio_device();
	open_piped(&guest, true);

	/* Early rings make it readable, too, once. */
	assert_true(readable(guest.epoll));
	assert_int_equal(guest_dispatch(&guest, -1), 1);
	assert_int_equal(interrupts[0], 1);
	assert_int_equal(counts[0], 7);
	assert_false(readable(guest.epoll));
	assert_int_equal(guest_dispatch(&guest, 0), 0);
	int reused = dup(guest.epoll); /* the number of what served the early rings */

	ring_up_to(1, 1);
	ring_up_to(3, 4);
	assert_int_equal(guest_dispatch(&guest, -1), 2);
	assert_int_equal(interrupts[1], 1);
	assert_int_equal(interrupts[2], 0);
	assert_int_equal(interrupts[3], 1);
	assert_int_equal(counts[3], 4);

	/* A vector that is handed out is its owner's. */
	int fd = guest_vector_fd(&guest, 2);
	ring_up_to(2, 1);
	assert_true(readable(fd));
	assert_false(readable(guest.epoll));
	assert_int_equal(guest_dispatch(&guest, 0), 0);
	assert_int_equal(guest_wait(&guest, 2, 0, NULL), 1);

	/* The end is told after the last rings, and whoever asks again is told again. */
	ring_up_to(1, 2);
	unbind();
	assert_int_equal(guest_dispatch(&guest, -1), 1);
	assert_int_equal(guest_dispatch(&guest, -1), -ENODEV);
	assert_false(readable(guest.epoll));
	assert_int_equal(guest_dispatch(&guest, 0), -ENODEV);
	end(&guest);
	assert_int_equal(close(reused), 0);
}

static void test_early_rings_of_handed_out_vector(void **state)
{
	struct guest guest;
	uint64_t count = 0;
	(void)state;
	tree_uio_device();
	open_piped(&guest, true);
	assert_true(guest_vector_fd(&guest, 0) >= 0);
	assert_int_equal(guest_dispatch(&guest, 0), 0);
	assert_int_equal(interrupts[0], 0);
	assert_int_equal(guest_wait(&guest, 0, 0, &count), 1);
	assert_int_equal(count, 7);
	end(&guest);
}

/* Who does not listen to interrupts keeps them for guest_wait(). */
static void test_loop_without_listener(void **state)
{
	struct guest guest;
	(void)state;
	tree_uio_device();
	open_piped(&guest, false);
	ring_up_to(1, 1);
	assert_false(readable(guest.epoll));
	assert_int_equal(guest_dispatch(&guest, 0), 0);
	assert_int_equal(guest_wait(&guest, 1, 0, NULL), 1);
	assert_int_equal(guest_wait(&guest, 0, 0, NULL), 1);
	end(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_wait),
		TREE_TEST(test_early_rings),
		TREE_TEST(test_signals_interrupt),
		TREE_TEST(test_loop),
		TREE_TEST(test_early_rings_of_handed_out_vector),
		TREE_TEST(test_loop_without_listener),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
