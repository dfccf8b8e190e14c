/* SPDX-License-Identifier: MIT */
/*
 * iceoryx - Eclipse iceoryx 2 by its C binding: how many messages of 64 bytes a second, and the
 * round trip of two that sleep in a WaitSet. Starts a RouDi daemon of its own; the other side is
 * this program executed again: "iceoryx produce|answer". It is asked to leave and not killed: a
 * publisher killed in the middle of publishing leaves RouDi deaf.
 */
#include "common.h"
#include "timing.h"

#include <fcntl.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "iceoryx_binding_c/enums.h"
#include "iceoryx_binding_c/publisher.h"
#include "iceoryx_binding_c/runtime.h"
#include "iceoryx_binding_c/subscriber.h"
#include "iceoryx_binding_c/types.h"
#include "iceoryx_binding_c/wait_set.h"

#define SIZE     64
#define QUEUE    256
#define LIMIT_S  30
#define START_US 700000
#define LEAVE_NS UINT64_C(2000000000)
#define WAIT_NS  200000000

static iox_pub_storage_t publisher_memory;
static iox_sub_storage_t subscriber_memory;
static iox_ws_storage_t wait_set_memory;
static volatile sig_atomic_t leaving;

struct ends {
	iox_pub_t publisher;
	iox_sub_t subscriber;
	iox_ws_t wait_set;
};

static void leave(int signal)
{
	(void)signal;
	leaving = 1;
}

static iox_pub_t publish_to(const char *event)
{
	iox_pub_options_t options;

	iox_pub_options_init(&options);
	options.historyCapacity = 0;
	options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
	return iox_pub_init(&publisher_memory, "ivshmem", "bench", event, &options);
}

static iox_sub_t subscribe_to(const char *event)
{
	iox_sub_options_t options;

	iox_sub_options_init(&options);
	options.queueCapacity = QUEUE;
	options.historyRequest = 0;
	options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	return iox_sub_init(&subscriber_memory, "ivshmem", "bench", event, &options);
}

static void put(iox_pub_t publisher)
{
	static const char bytes[SIZE] = {1};
	void *chunk;

	while (iox_pub_loan_chunk(publisher, &chunk, SIZE) != AllocationResult_SUCCESS)
		cpu_relax();
	memcpy(chunk, bytes, SIZE);
	iox_pub_publish_chunk(publisher, chunk);
}

static bool take(iox_sub_t subscriber)
{
	const void *chunk;

	if (iox_sub_take_chunk(subscriber, &chunk) != ChunkReceiveResult_SUCCESS)
		return false;
	(void)*(const volatile uint64_t *)chunk;
	iox_sub_release_chunk(subscriber, chunk);
	return true;
}

static void await(const struct ends *ends)
{
	const struct timespec limit = {0, WAIT_NS};
	iox_notification_info_t news[2];
	uint64_t missed;

	while (!take(ends->subscriber) && !leaving)
		iox_ws_timed_wait(ends->wait_set, limit, news, 2, &missed);
}

static struct ends open_ends(const char *out, const char *in)
{
	struct ends ends = {publish_to(out), subscribe_to(in), iox_ws_init(&wait_set_memory)};

	iox_ws_attach_subscriber_state(
		ends.wait_set, ends.subscriber, SubscriberState_HAS_DATA, 1, NULL);
	return ends;
}

static void close_ends(const struct ends *ends)
{
	iox_ws_deinit(ends->wait_set);
	iox_sub_deinit(ends->subscriber);
	iox_pub_deinit(ends->publisher);
}

/* The other side. */
static int take_part(const char *role)
{
	char name[32];

	snprintf(name, sizeof(name), "other%d", getpid());
	iox_runtime_init(name);
	signal(SIGTERM, leave); /* the runtime has put its own there */
	if (strcmp(role, "produce") == 0) {
		iox_pub_t publisher = publish_to("rate");
		while (!leaving && !iox_pub_has_subscribers(publisher))
			usleep(1000);
		while (!leaving)
			put(publisher);
		iox_pub_deinit(publisher);
	} else {
		const struct ends ends = open_ends("back", "there");
		for (await(&ends); !leaving; await(&ends))
			put(ends.publisher);
		close_ends(&ends);
	}
	iox_runtime_shutdown();
	return 0;
}

static void execute(void *role)
{
	execl("/proc/self/exe", "iceoryx", (char *)role, (char *)NULL);
	die("execl");
}

static void dismiss(pid_t pid, iox_sub_t subscriber)
{
	const uint64_t end = now_ns() + LEAVE_NS;

	kill(pid, SIGTERM);
	while (waitpid(pid, NULL, WNOHANG) == 0) {
		while (take(subscriber))
			;
		usleep(1000);
		if (now_ns() > end)
			reap(pid);
	}
	while (take(subscriber))
		;
}

static unsigned consume(void *data)
{
	return take(*(iox_sub_t *)data) ? 1 : 0;
}

static void trip(void *data)
{
	const struct ends *ends = data;

	put(ends->publisher);
	await(ends);
}

static void measure_trip(void)
{
	test_begin();
	pid_t other = spawn(cpu_b(), execute, (void *)(uintptr_t) "answer");
	struct ends ends = open_ends("there", "back");
	while (!iox_pub_has_subscribers(ends.publisher) ||
		iox_sub_get_subscription_state(ends.subscriber) != SubscribeState_SUBSCRIBED)
		usleep(1000);
	const double time = trip_of(trip, &ends, 1);
	dismiss(other, ends.subscriber);
	test_end();
	emit("iceoryx.trip", time, "ns");
	close_ends(&ends);
}

static void measure_rate(void)
{
	test_begin();
	pid_t other = spawn(cpu_b(), execute, (void *)(uintptr_t) "produce");
	iox_sub_t subscriber = subscribe_to("rate");
	while (!take(subscriber))
		usleep(1000);
	const double rate = rate_of(consume, &subscriber, 8);
	dismiss(other, subscriber);
	test_end();
	emit("iceoryx.rate.1", rate, "messages/s");
	iox_sub_deinit(subscriber);
}

static pid_t start_daemon(void)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp("iox-roudi", "iox-roudi", "-l", "off", (char *)NULL);
		_exit(127);
	}
	usleep(START_US);
	return pid;
}

int main(int argc, char **argv)
{
	const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
	const struct passwd *user = getpwuid(getuid());
	const int output = dup(STDOUT_FILENO);
	char name[64];

	if (argc == 2)
		return take_part(argv[1]);
	alarm(LIMIT_S);
	dup2(nowhere, STDERR_FILENO); /* their log */
	dup2(nowhere, STDOUT_FILENO);
	pid_t roudi = start_daemon();
	dup2(output, STDOUT_FILENO);
	pin(cpu_a());
	snprintf(name, sizeof(name), "main%d", getpid());
	iox_runtime_init(name);
	measure_rate();
	measure_trip();
	/* Its orderly end takes 45 s. */
	reap(roudi);
	snprintf(name, sizeof(name), "/%s", user ? user->pw_name : "root");
	shm_unlink("/iceoryx_mgmt");
	shm_unlink(name);
	_exit(0);
}
