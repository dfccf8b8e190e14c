/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A wait polls, then reads; or only reads, where nothing but a ring is to end it. All that threads
 * that wait for different vectors share is read-only; what changes is the vector's own.
 *
 * The loop is an epoll instance that holds the vectors if the application listens to interrupts and
 * is empty otherwise: an entry costs each ring. Rings from before the vector was opened do not make
 * a UIO device readable, but an application that polls first must hear of them: as long as there
 * may be some, an eventfd of our own that is readable stays in the set.
 *
 * Once a device is gone all its vectors are readable for ever. The loop then lets go of them, so
 * that a program which only polls it is told once.
 */
#include "base/clock.h"
#include "guest/internal.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* Data of an epoll event: the number of a vector, or one of these. */
#define EARLY_EVENT UINT32_MAX
#define GONE_EVENT  (UINT32_MAX - 1)
#define MORE_EVENTS 2

int vectors_allocate(struct guest *guest, unsigned n)
{
	guest->vectors = calloc(n > 0 ? n : 1, sizeof(*guest->vectors));
	if (!guest->vectors)
		return -ENOMEM;
	guest->n_vectors = n;
	for (unsigned i = 0; i < n; i++)
		guest->vectors[i].fd = -1;
	return 0;
}

static int watch(struct guest *guest, int fd, uint32_t data)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = data};
	return fd >= 0 && epoll_ctl(guest->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static void ignore(struct guest *guest, int fd)
{
	if (fd >= 0)
		epoll_ctl(guest->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static int watch_all(struct guest *guest)
{
	bool early = false;
	int err = 0;

	for (unsigned i = 0; err == 0 && i < guest->n_vectors; i++) {
		err = watch(guest, guest->vectors[i].fd, i);
		early = early || guest->vectors[i].early > 0;
	}
	if (err < 0 || !early)
		return err;
	guest->early = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC);
	return guest->early < 0 ? -errno : watch(guest, guest->early, EARLY_EVENT);
}

int vectors_start(struct guest *guest)
{
	guest->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (guest->epoll < 0)
		return -errno;
	guest->events = calloc(guest->n_vectors + MORE_EVENTS, sizeof(*guest->events));
	if (!guest->events)
		return -ENOMEM;
	int err = watch(guest, guest->gone, GONE_EVENT);
	return err == 0 && guest->listener.interrupt ? watch_all(guest) : err;
}

/* ---- waiting ---- */

static int wait_timed(struct guest *guest, unsigned vector, int timeout_ms, uint64_t *count)
{
	uint64_t ns = (uint64_t)guest->poll_us * 1000;
	bool last = timeout_ms >= 0 && (uint64_t)timeout_ms * 1000000 <= ns;

	if (vector >= guest->max_vectors)
		return -EINVAL;
	if (last)
		ns = (uint64_t)timeout_ms * 1000000;
	const struct timespec pause = {
		.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
	if (nanosleep(&pause, NULL) < 0)
		return -errno;
	if (last)
		return 0;
	if (count)
		*count = 0;
	return 1;
}

static struct guest_vector *vector_of(struct guest *guest, unsigned vector)
{
	if (vector >= guest->n_vectors || guest->vectors[vector].fd < 0)
		return NULL;
	return &guest->vectors[vector];
}

/* Wait for the vector to be readable: 1, 0 if the time passed, -errno. */
static int await(const struct guest *guest, const struct guest_vector *vector, int timeout_ms)
{
	struct pollfd entries[] = {
		{.fd = vector->fd, .events = POLLIN}, {.fd = guest->gone, .events = POLLIN}};
	int n = poll(entries, guest->gone < 0 ? 1 : 2, timeout_ms);

	if (n < 0)
		return -errno;
	return entries[1].revents ? -ENODEV : n;
}

/* Wait, then take. Who waits has mostly nothing to take yet, so looking first would be in vain. */
static int await_rings(
	struct guest *guest, struct guest_vector *vector, int timeout_ms, uint64_t *count)
{
	const bool only_read = guest->way == GUEST_UIO && timeout_ms < 0;
	const uint64_t deadline = deadline_after(timeout_ms);
	int taken;

	do {
		int ready = only_read ? 1 : await(guest, vector, timeout_ms);
		if (ready <= 0)
			return ready;
		taken = guest->take(guest, vector, true, count);
		timeout_ms = deadline_left(deadline);
	} while (taken == 0);
	return taken;
}

/* The same without waiting. */
static int look(struct guest *guest, struct guest_vector *vector, uint64_t *count)
{
	int taken = guest->take(guest, vector, false, count);

	if (taken != 0 || guest->gone < 0)
		return taken;
	struct pollfd gone = {.fd = guest->gone, .events = POLLIN};
	return poll(&gone, 1, 0) > 0 ? -ENODEV : 0;
}

int guest_wait(struct guest *guest, unsigned vector, int timeout_ms, uint64_t *count)
{
	uint64_t rings;
	int taken;

	if (guest->timed)
		return wait_timed(guest, vector, timeout_ms, count);
	struct guest_vector *own = vector_of(guest, vector);
	if (!own)
		return -EINVAL;
	if (timeout_ms == 0 || own->early > 0)
		taken = look(guest, own, &rings);
	else
		taken = await_rings(guest, own, timeout_ms, &rings);
	if (taken > 0 && count)
		*count = rings;
	return taken;
}

int guest_vector_fd(struct guest *guest, unsigned vector)
{
	if (guest->timed)
		return -ENOTSUP;
	struct guest_vector *own = vector_of(guest, vector);
	if (!own)
		return -EINVAL;
	if (guest->listener.interrupt && !own->handed_out)
		ignore(guest, own->fd);
	own->handed_out = true;
	return own->fd;
}

/* ---- the loop ---- */

static int take_interrupt(struct guest *guest, unsigned vector)
{
	struct guest_vector *own = &guest->vectors[vector];
	uint64_t count;

	if (own->handed_out) /* by a callback just now */
		return 0;
	int taken = guest->take(guest, own, false, &count);
	if (taken > 0)
		guest->listener.interrupt(guest->handle, guest->data, vector, count);
	return taken;
}

static int take_early(struct guest *guest)
{
	int handled = 0;

	ignore(guest, guest->early);
	close(guest->early);
	guest->early = -1;
	for (unsigned i = 0; i < guest->n_vectors; i++)
		if (guest->vectors[i].early > 0 && take_interrupt(guest, i) > 0)
			handled++;
	return handled;
}

static void ignore_all(struct guest *guest)
{
	ignore(guest, guest->gone);
	for (unsigned i = 0; i < guest->n_vectors; i++)
		ignore(guest, guest->vectors[i].fd);
}

/* One round of the loop: the number of interrupts, or -errno. */
static int dispatch_once(struct guest *guest, int timeout_ms)
{
	bool gone = false;
	int handled = 0;
	int n = epoll_wait(
		guest->epoll, guest->events, (int)guest->n_vectors + MORE_EVENTS, timeout_ms);
	if (n < 0)
		return -errno;

	for (int i = 0; i < n; i++) {
		uint32_t source = guest->events[i].data.u32;
		int taken = -ENODEV;
		if (source == EARLY_EVENT)
			taken = take_early(guest);
		else if (source != GONE_EVENT)
			taken = take_interrupt(guest, source);
		gone = gone || taken < 0;
		handled += taken > 0 ? taken : 0;
	}
	if (!gone || handled > 0) /* it will still be gone the next time */
		return handled;
	ignore_all(guest);
	guest->lost = true;
	return -ENODEV;
}

int guest_dispatch(struct guest *guest, int timeout_ms)
{
	uint64_t deadline = deadline_after(timeout_ms);
	int left = timeout_ms;
	int handled;

	if (guest->lost)
		return -ENODEV;
	/* Rings that guest_wait() has taken can wake us for nothing. */
	while ((handled = dispatch_once(guest, left)) == 0 && left != 0)
		left = deadline_left(deadline);
	return handled;
}
