/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The lock. Each attached VMM has a thread, and the loop has one; a doorbell goes from one device
 * into another, and the server's messages into all. One lock for everything makes that a function
 * call without an order of locks to think of. A turn is one request, so it is held for
 * microseconds and never while somebody waits for something else. Turns are given in the order in
 * which they are asked for: a VMM that floods us gets one request in before each of its neighbours,
 * and no more. (A mutex would let the flooder have it again before the others have woken up.) A
 * turn that is free costs no system call.
 *
 * The watchdog. A write to an eventfd blocks where somebody hostile has filled its counter and
 * cleared O_NONBLOCK (src/base/doorbell.c); with the lock held that would stop all devices. A
 * signal ends such a write. So a timer ticks while turns are taken, and when the same turn is still
 * on at the second tick, its thread gets a signal. The handler does nothing there; interrupting is
 * all it is for. The timer is armed by the first turn that finds it off and goes off by itself when
 * a whole period had no turn: an honest request pays a few atomic instructions for it, an idle
 * process never wakes up.
 *
 * Rejected: arming the timer for each turn costs two system calls a request, a quarter of all it
 * takes where VMM and device share a processor.
 */
#include "turn.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id /* glibc does not name it */
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define PERIOD_NS 20000000 /* a tick takes some ten microseconds from whoever is at work */

static atomic_uint next_ticket, serving; /* the turn is free if they are equal */
static timer_t timer;
static atomic_bool ticking;
static atomic_int holder; /* thread whose turn it is, 0: nobody's */
static pid_t process;
static __thread pid_t self;

static void set_timer(long period_ns)
{
	const struct itimerspec times = {
		.it_interval = {.tv_nsec = period_ns},
		.it_value = {.tv_nsec = period_ns},
	};
	timer_settime(timer, 0, &times, NULL);
}

/* Only the loop's thread gets ticks, so this never runs twice at a time. */
static void tick(void)
{
	static unsigned last;
	unsigned now = atomic_load(&serving);
	int thread = atomic_load(&holder);

	if (now != last) {
		last = now;
	} else if (thread != 0) {
		syscall(SYS_tgkill, process, thread, SIGALRM);
	} else {
		atomic_store(&ticking, false);
		set_timer(0);
		if (atomic_load(
			    &ticking)) /* a turn has begun meanwhile, and its timer is off now */
			set_timer(PERIOD_NS);
	}
}

static void handle_alarm(int number, siginfo_t *info, void *context)
{
	int saved = errno;
	(void)number;
	(void)context;
	if (info->si_code == SI_TIMER)
		tick();
	errno = saved;
}

int turn_init(void)
{
	struct sigaction action = {.sa_sigaction = handle_alarm, .sa_flags = SA_SIGINFO};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};

	process = getpid();
	event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGALRM, &action, NULL) < 0 ||
		timer_create(CLOCK_MONOTONIC, &event, &timer) < 0)
		return -errno;
	return 0;
}

void turn_fini(void)
{
	timer_delete(timer);
	atomic_store(&ticking, false);
}

void turn_begin(void)
{
	unsigned ticket = atomic_fetch_add(&next_ticket, 1), now;

	while ((now = atomic_load(&serving)) != ticket)
		syscall(SYS_futex, &serving, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
	if (self == 0)
		self = (pid_t)syscall(SYS_gettid);
	atomic_store(&holder, self);
	if (!atomic_load(&ticking)) {
		atomic_store(&ticking, true);
		set_timer(PERIOD_NS);
	}
}

void turn_end(void)
{
	unsigned after = atomic_load_explicit(&serving, memory_order_relaxed) + 1;

	atomic_store_explicit(&holder, 0, memory_order_release);
	atomic_store(&serving, after);
	/* All of those who wait have to look whether it is theirs. They are few. */
	if (atomic_load(&next_ticket) != after)
		syscall(SYS_futex, &serving, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
