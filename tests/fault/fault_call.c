/* SPDX-License-Identifier: MIT */
/*
 * A caller, and a responder, is a process of its own and killed at each of its stores to the region
 * in turn; the next life and the other side go on. Each request is carried out once at most, no
 * reply goes to another request, a call that has a reply was carried out, and one that fails says
 * that the responder has gone. The next life's calls work.
 *
 * The other side is a thread in the meantime. There is no server and nobody is rung: whoever waits
 * looks each 100 us. That the order of the program is the order in memory is assumed here; see
 * fault_stream_step.c and tests/model.
 */
#include "../common/fdcheck.h"

#include <ivshmem/channels.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SIZE = 32 << 10,
	CALLS = 3,
	LONG_MS = 60000,
	KILLED = 77,
	FORMER = 1000,
	NEXT = 2000,
	STOP = 2999
};

static const struct ivshmem_channel_plan plan = {
	.name = "call", .ring = 1024, .shape = IVSHMEM_CHANNEL_CALL};

static struct ivshmem_peer *here, *there; /* of this process, and of the child */
static unsigned *carried_out;             /* by all responders: how often each request */
static char *memory;

static bool mortal;          /* this process is to be killed */
static unsigned long stores; /* when there are none left */

static struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;

void killable_store(void)
{
	if (mortal && stores-- == 0)
		_exit(KILLED);
}

static int set_up(void **state)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	char uri[64];

	fdcheck_setup(state);
	params.poll_us = 100;
	options.spin_us = -1;
	int fd = (int)syscall(SYS_memfd_create, "region", 1u /* CLOEXEC */);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", fd);
	assert_non_null(here = ivshmem_open(uri, &params));
	assert_non_null(there = ivshmem_open(uri, &params));
	close(fd);
	memory = ivshmem_region(here, NULL);
	carried_out = mmap(NULL, (STOP + 1) * sizeof(*carried_out), PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(carried_out, MAP_FAILED);
	return 0;
}

static int tear_down(void **state)
{
	munmap(carried_out, (STOP + 1) * sizeof(*carried_out));
	ivshmem_close(here);
	ivshmem_close(there);
	return fdcheck_teardown(state);
}

static void start_anew(void)
{
	memset(memory, 0, SIZE);
	memset(carried_out, 0, (STOP + 1) * sizeof(*carried_out));
	assert_int_equal(ivshmem_channels_format(here, 0, &plan, 1), 0);
}

/* ---- who calls ---- */

struct calls {
	struct ivshmem_caller *caller;
	unsigned replies, failures;
	bool wrong;
};

/* One call: false if what came of it cannot be. */
static bool call(struct ivshmem_caller *caller, unsigned number, struct calls *calls)
{
	unsigned answer = 0;
	int size = ivshmem_call(caller, &number, sizeof(number), &answer, sizeof(answer), LONG_MS);

	if (size < 0) {
		calls->failures++;
		return errno == EOWNERDEAD;
	}
	calls->replies++;
	return size == sizeof(answer) && answer == ~number &&
		__atomic_load_n(&carried_out[number], __ATOMIC_ACQUIRE) == 1;
}

/* All calls but the last that stops the responder. */
static void *call_all(void *arg)
{
	struct calls *calls = arg;

	for (unsigned i = 0; i < CALLS && !calls->wrong; i++)
		calls->wrong = !call(calls->caller, FORMER + i, calls);
	return NULL;
}

/* ---- who answers ---- */

/* Carries out until it is told to stop, or so many times. Lazily: a reply is sent when the next
 * request comes, or none does for a while; so a killed caller's is on its way when it is there
 * again. */
static void serve(struct ivshmem_responder *responder, unsigned times, int lazy_ms)
{
	struct ivshmem_request request, pending;
	unsigned number = 0, answer = 0;
	bool is_pending = false;

	while (times > 0 && number != STOP) {
		int size = ivshmem_responder_next(responder, &number, sizeof(number), &request,
			is_pending ? lazy_ms : LONG_MS);
		if (is_pending && (size >= 0 || errno == ETIMEDOUT)) {
			if (size >= 0) /* as if the responder had looked before it begins */
				pending.generation = request.generation;
			ivshmem_responder_reply(responder, &pending, &answer, sizeof(answer), 0);
			is_pending = false;
		}
		if (size != sizeof(number) || number > STOP)
			continue;
		__atomic_add_fetch(&carried_out[number], 1, __ATOMIC_RELEASE);
		times--;
		answer = ~number;
		pending = request;
		is_pending = lazy_ms != 0;
		if (!is_pending)
			ivshmem_responder_reply(responder, &request, &answer, sizeof(answer), 0);
	}
	if (is_pending)
		ivshmem_responder_reply(responder, &pending, &answer, sizeof(answer), 0);
}

static void *serve_lazily(void *responder)
{
	serve(responder, UINT32_MAX, 2);
	return NULL;
}

/* ---- who is killed ---- */

static void live_as_responder(void)
{
	struct ivshmem_responder *responder = ivshmem_responder_open(there, "call", &options);

	serve(responder, CALLS, 0);
	ivshmem_responder_close(responder);
}

static void live_as_caller(void)
{
	struct calls calls = {.caller = ivshmem_caller_open(there, "call", &options)};

	call_all(&calls);
	ivshmem_caller_close(calls.caller);
	if (calls.wrong || calls.failures > 0)
		abort();
}

static pid_t begin(void (*live)(void), unsigned long until)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	mortal = true;
	stores = until;
	live();
	_exit(0);
}

static bool was_killed(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == KILLED);
	return WEXITSTATUS(status) == KILLED;
}

static void test_responder_killed(void **state)
{
	unsigned kills = 0, failures = 0;
	(void)state;

	for (bool killed = true; killed; kills++) {
		pthread_t thread;
		start_anew();
		struct calls calls = {.caller = ivshmem_caller_open(here, "call", &options)};
		assert_non_null(calls.caller);
		pid_t pid = begin(live_as_responder, kills);
		assert_int_equal(pthread_create(&thread, NULL, call_all, &calls), 0);
		killed = was_killed(pid);

		/* The next one: until the caller has had all that it wants. */
		struct ivshmem_responder *next = ivshmem_responder_open(here, "call", &options);
		assert_non_null(next);
		const int done_ms = 1;
		struct ivshmem_request request;
		unsigned number, answer;
		while (pthread_tryjoin_np(thread, NULL) != 0)
			if (ivshmem_responder_next(next, &number, sizeof(number), &request,
				    done_ms) == sizeof(number)) {
				__atomic_add_fetch(&carried_out[number], 1, __ATOMIC_RELEASE);
				answer = ~number;
				ivshmem_responder_reply(next, &request, &answer, sizeof(answer), 0);
			}
		assert_false(calls.wrong);
		assert_int_equal(calls.replies + calls.failures, CALLS);
		assert_true(calls.failures <= 1);
		failures += calls.failures;
		for (unsigned i = 0; i <= STOP; i++)
			assert_true(carried_out[i] <= 1);
		ivshmem_responder_close(next);
		ivshmem_caller_close(calls.caller);
	}
	assert_true(kills > 50);
	assert_true(failures > 0 && failures < kills);
}

static void test_caller_killed(void **state)
{
	unsigned kills = 0;
	(void)state;

	for (bool killed = true; killed; kills++) {
		pthread_t thread;
		start_anew();
		struct ivshmem_responder *responder =
			ivshmem_responder_open(here, "call", &options);
		assert_non_null(responder);
		pid_t pid = begin(live_as_caller, kills);
		assert_int_equal(pthread_create(&thread, NULL, serve_lazily, responder), 0);
		killed = was_killed(pid);

		struct calls calls = {.caller = ivshmem_caller_open(there, "call", &options)};
		assert_non_null(calls.caller);
		for (unsigned i = 0; i < CALLS; i++)
			assert_true(call(calls.caller, NEXT + i, &calls));
		assert_true(call(calls.caller, STOP, &calls));
		assert_int_equal(calls.failures, 0);
		pthread_join(thread, NULL);
		for (unsigned i = 0; i <= STOP; i++)
			assert_true(carried_out[i] <= 1);
		ivshmem_caller_close(calls.caller);
		ivshmem_responder_close(responder);
	}
	assert_true(kills > 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_responder_killed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_caller_killed, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
