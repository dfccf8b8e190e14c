/* SPDX-License-Identifier: MIT */
/* Request and reply of libivshmem: whose reply it is, how often a request is carried out, and when
 * either side goes, comes again, lies, or does not look. */
#include "../common/crowd.h"
#include "../common/fdcheck.h"

#include <ivshmem/channels.h>

#include <pthread.h>

enum { CALLERS = 3, LONG_MS = 20000, SERVER = 2, REGION = 256 << 10, MANY = 10000, BUFFER = 2048 };

static char *memory;
static char buffer[BUFFER];

static const struct ivshmem_channel_plan plan[] = {
	{.name = "call",
		.ring = 4096,
		.largest = 1000,
		.shape = IVSHMEM_CHANNEL_CALL,
		.lanes = 2 * CALLERS},
	{.name = "stream", .ring = 4096},
};

static int set_up(void **state)
{
	fdcheck_setup(state);
	crowd_open(REGION);
	memory = ivshmem_region(peers[0], NULL);
	assert_int_equal(ivshmem_channels_format(peers[0], 0, plan, 2), 0);
	return 0;
}

static int tear_down(void **state)
{
	crowd_close();
	return fdcheck_teardown(state);
}

static struct ivshmem_caller *open_lane(unsigned seat, unsigned lane)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;

	options.lane = lane;
	return ivshmem_caller_open(peers[seat], "call", &options);
}

static volatile struct ivshmem_channel_slot *slot_of(unsigned lane, size_t seat)
{
	struct ivshmem_channel channel = {0};

	assert_int_equal(ivshmem_channel_find(memory, REGION, 4096, "call", &channel), 0);
	return (volatile struct ivshmem_channel_slot *)(memory +
		ivshmem_channel_place(&channel, lane) + seat);
}

/* Changes when there is one more request, which another thread writes. */
static uint32_t written_to(unsigned lane)
{
	return __atomic_load_n(&slot_of(lane, IVSHMEM_LANE_WRITER)->position, __ATOMIC_ACQUIRE);
}

static struct ivshmem_caller *caller_of(unsigned seat, unsigned lane)
{
	struct ivshmem_caller *caller = open_lane(seat, lane);
	assert_non_null(caller);
	return caller;
}

static struct ivshmem_responder *responder_of(unsigned seat)
{
	struct ivshmem_responder *responder = ivshmem_responder_open(peers[seat], "call", NULL);
	assert_non_null(responder);
	return responder;
}

static int call(struct ivshmem_caller *caller, const char *request, int timeout_ms)
{
	memset(buffer, 0, sizeof(buffer));
	return ivshmem_call(
		caller, request, (uint32_t)strlen(request), buffer, sizeof(buffer) - 1, timeout_ms);
}

static void assert_fails(
	struct ivshmem_caller *caller, const char *request, int error, int timeout_ms)
{
	assert_int_equal(call(caller, request, timeout_ms), -1);
	assert_int_equal(errno, error);
}

static void assert_requested(struct ivshmem_responder *responder, const char *text, unsigned lane,
	struct ivshmem_request *request)
{
	char bytes[BUFFER] = {0};

	assert_int_equal(ivshmem_responder_next(responder, bytes, sizeof(bytes), request, LONG_MS),
		strlen(text));
	assert_string_equal(bytes, text);
	assert_int_equal(request->lane, lane);
}

static void assert_no_request(struct ivshmem_responder *responder, int error)
{
	struct ivshmem_request request;
	char bytes[BUFFER];

	assert_int_equal(ivshmem_responder_next(responder, bytes, sizeof(bytes), &request, 0), -1);
	assert_int_equal(errno, error);
}

static int reply(struct ivshmem_responder *responder, const struct ivshmem_request *request,
	const char *text)
{
	return ivshmem_responder_reply(responder, request, text, (uint32_t)strlen(text), 0);
}

/* A server of its own thread: answers with what it was asked, until it is asked to stop. */
struct server {
	unsigned seat, pause_every, served;
	pthread_t thread;
};

static void *serve(void *arg)
{
	struct server *server = arg;
	struct ivshmem_responder *responder = responder_of(server->seat);
	struct ivshmem_request request;
	char bytes[BUFFER];

	for (bool stop = false; !stop;) {
		int size =
			ivshmem_responder_next(responder, bytes, sizeof(bytes), &request, LONG_MS);
		if (size < 0)
			continue; /* callers come and go */
		server->served++;
		stop = size == 4 && memcmp(bytes, "stop", 4) == 0;
		if (server->pause_every != 0 && server->served % server->pause_every == 0)
			usleep(200);
		assert_int_equal(
			ivshmem_responder_reply(responder, &request, bytes, (uint32_t)size, 0), 0);
	}
	ivshmem_responder_close(responder);
	return NULL;
}

static void start(struct server *server)
{
	assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

/* ---- opening ---- */

static void test_plans(void **state)
{
	static const struct ivshmem_channel_plan bad[] = {
		{.name = "a", .shape = IVSHMEM_CHANNEL_CALL, .lanes = 3},
		{.name = "a", .shape = IVSHMEM_CHANNEL_CALL, .policy = IVSHMEM_CHANNEL_DROP},
		{.name = "a", .shape = IVSHMEM_CHANNEL_CALL, .policy = IVSHMEM_CHANNEL_OVERWRITE},
	};
	static const struct ivshmem_channel_plan good = {
		.name = "a", .ring = 4096, .shape = IVSHMEM_CHANNEL_CALL};
	struct ivshmem_channel channel = {0};
	(void)state;

	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(ivshmem_channels_format(peers[0], 131072, &bad[i], 1), -1);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(ivshmem_channels_format(peers[0], 131072, &good, 1), 0);
	assert_int_equal(ivshmem_channel_find(memory, REGION, 131072, "a", &channel), 0);
	assert_int_equal(channel.lanes, 2);
}

static void test_refused(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	(void)state;

	assert_null(ivshmem_caller_open(peers[0], "stream", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_responder_open(peers[0], "stream", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_caller_open(peers[0], "nobody", NULL));
	assert_int_equal(errno, ENOENT);
	assert_null(open_lane(0, CALLERS));
	assert_int_equal(errno, ENOENT);
	assert_null(open_lane(0, 1u << 31)); /* twice that is 0 */
	assert_int_equal(errno, ENOENT);
	options.struct_size = 4;
	assert_null(ivshmem_caller_open(peers[0], "call", &options));
	assert_int_equal(errno, EINVAL);

	struct ivshmem_caller *caller = caller_of(0, 1);
	assert_null(open_lane(1, 1));
	assert_int_equal(errno, EBUSY);
	struct ivshmem_responder *responder = responder_of(SERVER);
	assert_null(ivshmem_responder_open(peers[0], "call", NULL));
	assert_int_equal(errno, EBUSY);
	assert_int_equal(ivshmem_responder_lanes(responder), CALLERS);

	struct ivshmem_caller *any = caller_of(1, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_caller_lane(any), 0);
	struct ivshmem_caller *other = caller_of(1, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_caller_lane(other), 2);
	assert_null(open_lane(1, IVSHMEM_CHANNEL_ANY_LANE));
	assert_int_equal(errno, EBUSY);
	ivshmem_caller_close(any);
	ivshmem_caller_close(other);
	ivshmem_caller_close(caller);
	ivshmem_responder_close(responder);
	ivshmem_caller_close(NULL);
	ivshmem_responder_close(NULL);
}

/* ---- calls ---- */

static void test_calls(void **state)
{
	struct ivshmem_channel_counters counters;
	struct server server = {.seat = SERVER};
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	assert_fails(caller, "too early", ETIMEDOUT, 0); /* but it will be carried out */
	start(&server);
	assert_int_equal(call(caller, "hello", LONG_MS), 5);
	assert_string_equal(buffer, "hello");
	assert_int_equal(call(caller, "", LONG_MS), 0);

	assert_int_equal(ivshmem_call(caller, memory, 1001, buffer, BUFFER, LONG_MS), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(ivshmem_call(caller, "large", 5, buffer, 4, LONG_MS), -1);
	assert_int_equal(errno, ENOBUFS);
	assert_int_equal(call(caller, "stop", LONG_MS), 4);
	pthread_join(server.thread, NULL);
	assert_int_equal(server.served, 5);
	ivshmem_caller_counters(caller, &counters);
	assert_int_equal(counters.messages, 3);
	assert_int_equal(counters.lost, 1); /* the reply to the first */
	ivshmem_caller_close(caller);
}

struct load {
	unsigned seat, failed;
	pthread_t thread;
};

static void *call_many(void *arg)
{
	struct load *load = arg;
	struct ivshmem_caller *caller = caller_of(load->seat, load->seat);
	unsigned char bytes[900], got[900];

	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t size = 10 + (i * 37 + load->seat) % 800;
		memset(bytes, (int)(i * 2 + load->seat) & 0xff, size);
		load->failed +=
			ivshmem_call(caller, bytes, size, got, sizeof(got), LONG_MS) != (int)size ||
			memcmp(bytes, got, size) != 0;
	}
	ivshmem_caller_close(caller);
	return NULL;
}

static void test_many(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		struct server server = {.seat = SERVER, .pause_every = round == 0 ? 0 : 100};
		struct load loads[2] = {{.seat = 0}, {.seat = 1}};

		start(&server);
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(
				pthread_create(&loads[i].thread, NULL, call_many, &loads[i]), 0);
		for (unsigned i = 0; i < 2; i++)
			pthread_join(loads[i].thread, NULL);
		struct ivshmem_caller *last = caller_of(0, 2);
		assert_int_equal(call(last, "stop", LONG_MS), 4);
		pthread_join(server.thread, NULL);
		ivshmem_caller_close(last);
		assert_int_equal(loads[0].failed + loads[1].failed, 0);
		assert_int_equal(server.served, 2 * MANY + 1);
	}
}

/* A reply that comes too late is for nobody, however many there are. */
static void test_late(void **state)
{
	struct ivshmem_channel_counters counters;
	struct ivshmem_request late, requests[2];
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 1);
	struct ivshmem_responder *responder = responder_of(SERVER);
	for (unsigned i = 0; i < 100; i++) {
		assert_fails(caller, "slow", ETIMEDOUT, 0);
		assert_requested(responder, "slow", 1, &late);
		assert_int_equal(reply(responder, &late, "too late"), 0);
	}
	assert_fails(caller, "first", ETIMEDOUT, 0);
	assert_fails(caller, "second", ETIMEDOUT, 0);
	assert_requested(responder, "first", 1, &requests[0]);
	assert_requested(responder, "second", 1, &requests[1]);
	assert_int_equal(reply(responder, &requests[1], "to the second"), 0);
	assert_int_equal(reply(responder, &requests[0], "to the first"), 0);
	assert_fails(caller, "third", ETIMEDOUT, 0);
	ivshmem_caller_counters(caller, &counters);
	assert_int_equal(counters.lost, 102);
	assert_int_equal(counters.messages, 0);
	ivshmem_responder_close(responder);
	ivshmem_caller_close(caller);
}

/* Nobody waits for a caller that does not take its replies. */
static void test_full(void **state)
{
	char text[900] = {0};
	struct ivshmem_request request;
	unsigned lost = 0;
	(void)state;

	memset(text, 'x', sizeof(text) - 1);
	struct ivshmem_sender *deaf = NULL; /* asks, and never reads: a caller is not made so */
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	options.lane = 2;
	assert_non_null(deaf = ivshmem_sender_open(peers[1], "call", &options));
	struct ivshmem_responder *responder = responder_of(SERVER);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(ivshmem_send(deaf, "what", 4, i, 0), 0);
		assert_requested(responder, "what", 1, &request);
		if (reply(responder, &request, text) < 0) {
			assert_int_equal(errno, ETIMEDOUT);
			lost++;
		}
	}
	assert_true(lost > 10);

	struct ivshmem_caller *caller = caller_of(0, 0);
	assert_fails(caller, "and I", ETIMEDOUT, 0);
	assert_requested(responder, "and I", 0, &request);
	assert_int_equal(reply(responder, &request, "you, too"), 0);
	ivshmem_caller_close(caller);
	ivshmem_sender_close(deaf);
	ivshmem_responder_close(responder);
}

static void *reply_patiently(void *arg)
{
	struct ivshmem_responder *responder = arg;
	struct ivshmem_request request;
	char text[900], bytes[BUFFER];

	memset(text, 'x', sizeof(text));
	for (unsigned i = 0; i < 10; i++)
		if (ivshmem_responder_next(responder, bytes, sizeof(bytes), &request, LONG_MS) <
				0 ||
			ivshmem_responder_reply(responder, &request, text, sizeof(text), LONG_MS) !=
				0)
			return responder;
	return NULL;
}

/* A responder that gives the time waits for a caller who sleeps himself: it rings. */
static void test_both_wait(void **state)
{
	pthread_t thread;
	void *failed;
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	for (unsigned i = 0; i < 9; i++)
		assert_fails(caller, "slow", ETIMEDOUT, 0);
	assert_int_equal(pthread_create(&thread, NULL, reply_patiently, responder), 0);
	usleep(30000); /* until there is no more room */
	assert_int_equal(call(caller, "last", LONG_MS), 900);
	pthread_join(thread, &failed);
	assert_null(failed);
	ivshmem_responder_close(responder);
	ivshmem_caller_close(caller);
}

static void test_too_large(void **state)
{
	char text[900] = {0}, bytes[100];
	struct ivshmem_request request;
	(void)state;

	memset(text, 'x', sizeof(text) - 1);
	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	assert_fails(caller, text, ETIMEDOUT, 0);
	assert_fails(caller, "small", ETIMEDOUT, 0);
	assert_int_equal(ivshmem_responder_next(responder, bytes, 100, &request, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(request.lane, 0);
	assert_int_equal(ivshmem_responder_next(responder, bytes, 100, &request, 0), 5);
	request.lane = CALLERS;
	assert_int_equal(ivshmem_responder_reply(responder, &request, "", 0, 0), -1);
	assert_int_equal(errno, EINVAL);
	ivshmem_responder_close(responder);
	ivshmem_caller_close(caller);
}

/* ---- the responder goes ---- */

/* Call in a thread of its own, since something has to happen meanwhile. */
struct waiting {
	struct ivshmem_caller *caller;
	int result, error;
	char reply[64];
	pthread_t thread;
};

static void *wait_for_reply(void *arg)
{
	struct waiting *waiting = arg;

	waiting->result = ivshmem_call(
		waiting->caller, "ask", 3, waiting->reply, sizeof(waiting->reply) - 1, LONG_MS);
	waiting->error = errno;
	return NULL;
}

static void begin_call(struct waiting *waiting, struct ivshmem_caller *caller)
{
	*waiting = (struct waiting){.caller = caller};
	assert_int_equal(pthread_create(&waiting->thread, NULL, wait_for_reply, waiting), 0);
}

static void assert_call_fails(struct waiting *waiting, int error)
{
	pthread_join(waiting->thread, NULL);
	assert_int_equal(waiting->result, -1);
	assert_int_equal(waiting->error, error);
}

static void assert_call_gets(struct waiting *waiting, const char *text)
{
	pthread_join(waiting->thread, NULL);
	assert_int_equal(waiting->result, strlen(text));
	assert_string_equal(waiting->reply, text);
}

/* The caller asks, and gets this. */
static void assert_answers(
	struct ivshmem_responder *responder, struct ivshmem_caller *caller, const char *text)
{
	struct ivshmem_request request;
	struct waiting waiting;

	begin_call(&waiting, caller);
	assert_requested(responder, "ask", 0, &request);
	assert_int_equal(reply(responder, &request, text), 0);
	assert_call_gets(&waiting, text);
}

static void test_responder_dies(void **state)
{
	struct ivshmem_request request;
	struct waiting waiting;
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	begin_call(&waiting, caller);
	assert_requested(responder, "ask", 0, &request);
	usleep(30000); /* until it sleeps */
	crowd_tell_gone(0, SERVER);
	assert_call_fails(&waiting, EOWNERDEAD);
	assert_fails(caller, "told once", ETIMEDOUT, 10);

	/* Its next life answers what came since, and does not get again what was taken. */
	struct ivshmem_responder *next = responder_of(SERVER);
	scripted_say(&servers[0], SERVER, bells[SERVER]);
	assert_requested(next, "told once", 0, &request);
	assert_no_request(next, ETIMEDOUT);
	assert_answers(next, caller, "here again");
	ivshmem_caller_close(caller);
	ivshmem_responder_close(next);
	ivshmem_responder_close(responder);
}

/* It is killed, and there again before anybody has told that it was gone. */
static void test_responder_again(void **state)
{
	struct ivshmem_request request;
	struct waiting waiting;
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	begin_call(&waiting, caller);
	assert_requested(responder, "ask", 0, &request);
	struct ivshmem_responder *next = responder_of(SERVER);
	assert_call_fails(&waiting, EOWNERDEAD);
	assert_no_request(next, ETIMEDOUT);

	/* What nobody has taken is for the next one. */
	begin_call(&waiting, caller);
	usleep(30000);
	struct ivshmem_responder *third = responder_of(SERVER);
	assert_requested(third, "ask", 0, &request);
	assert_int_equal(reply(third, &request, "mine"), 0);
	assert_call_gets(&waiting, "mine");

	/* Who has begun more than half of all positions ago has not begun behind a request. */
	slot_of(0, IVSHMEM_LANE_READER)->floor = ivshmem_channel_le(0x80000000u - 100);
	begin_call(&waiting, caller);
	assert_requested(third, "ask", 0, &request);
	usleep(30000);
	assert_int_equal(reply(third, &request, "long ago"), 0);
	assert_call_gets(&waiting, "long ago");

	/* Unless he does not want it. */
	const uint32_t before = written_to(0);
	begin_call(&waiting, caller);
	while (written_to(0) == before)
		usleep(1000);
	usleep(30000); /* until it sleeps */
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	options.anew = 1;
	struct ivshmem_responder *fresh = ivshmem_responder_open(peers[SERVER], "call", &options);
	assert_non_null(fresh);
	assert_call_fails(&waiting, EOWNERDEAD);
	ivshmem_caller_close(caller);
	ivshmem_responder_close(fresh);
	ivshmem_responder_close(third);
	ivshmem_responder_close(next);
	ivshmem_responder_close(responder);
}

static void test_responder_closes(void **state)
{
	struct ivshmem_request request;
	struct waiting waiting;
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	begin_call(&waiting, caller);
	assert_requested(responder, "ask", 0, &request);
	usleep(30000);
	ivshmem_responder_close(responder);
	assert_call_fails(&waiting, EOWNERDEAD);

	/* One who comes asks in vain, until the next is there. */
	begin_call(&waiting, caller);
	usleep(30000);
	responder = responder_of(SERVER);
	assert_requested(responder, "ask", 0, &request);
	assert_int_equal(reply(responder, &request, "open"), 0);
	ivshmem_responder_close(responder); /* a reply that is there is not lost by it */
	assert_call_gets(&waiting, "open");
	ivshmem_caller_close(caller);
}

/* ---- the caller goes ---- */

/* Let go of one that was killed: it has no part in what is there. */
static void forget(struct ivshmem_caller *caller)
{
	static char kept[REGION];

	memcpy(kept, memory, sizeof(kept));
	ivshmem_caller_close(caller);
	memcpy(memory, kept, sizeof(kept));
}

static void test_caller_again(void **state)
{
	struct ivshmem_request old, request;
	(void)state;

	struct ivshmem_responder *responder = responder_of(SERVER);
	for (unsigned i = 0; i < 50; i++) {
		struct ivshmem_caller *caller = caller_of(0, 0);
		assert_fails(caller, "of a former life", ETIMEDOUT, 0);
		assert_requested(responder, "of a former life", 0, &old);
		if (i % 2 == 0) /* it comes before the next life does */
			assert_int_equal(reply(responder, &old, "too late"), 0);

		struct ivshmem_caller *next = caller_of(0, 0);
		assert_fails(next, "of this life", ETIMEDOUT, 0);
		assert_int_equal(
			ivshmem_responder_next(responder, buffer, sizeof(buffer), &request, 0), -1);
		assert_int_equal(errno, ECONNRESET);
		assert_requested(responder, "of this life", 0, &request);
		assert_int_not_equal(request.tag, old.tag);
		assert_int_equal(reply(responder, &old, "for nobody"), 1);
		old.generation = request.generation; /* it began behind the last look */
		assert_int_equal(reply(responder, &old, "for nobody, either"), 0);
		assert_int_equal(reply(responder, &request, "for this one"), 0);
		forget(caller);
		ivshmem_caller_close(next);
		assert_int_equal(reply(responder, &request, "it has left"), 1);
		assert_no_request(responder, ESHUTDOWN);
	}
	ivshmem_responder_close(responder);
}

/* ---- lies ---- */

static void test_lies(void **state)
{
	volatile struct ivshmem_channel_slot *replies = slot_of(1, IVSHMEM_LANE_WRITER);
	struct ivshmem_request request;
	(void)state;

	struct ivshmem_caller *caller = caller_of(0, 0);
	struct ivshmem_responder *responder = responder_of(SERVER);
	assert_answers(responder, caller, "true");

	replies->position = ivshmem_channel_le(1u << 20);
	assert_fails(caller, "what", EPROTO, LONG_MS);
	assert_fails(caller, "what", EPROTO, LONG_MS);
	struct ivshmem_responder *next = responder_of(SERVER);
	assert_answers(next, caller, "true again");

	/* Replies that nobody has asked for, as many as one likes. */
	for (unsigned i = 0; i < 300; i++) {
		request.tag = 1000000 + i;
		reply(next, &request, "spam");
	}
	assert_answers(next, caller, "and true");
	ivshmem_caller_close(caller);
	ivshmem_responder_close(next);
	ivshmem_responder_close(responder);
}

#define CALL_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CALL_TEST(test_plans),
		CALL_TEST(test_refused),
		CALL_TEST(test_calls),
		CALL_TEST(test_many),
		CALL_TEST(test_late),
		CALL_TEST(test_full),
		CALL_TEST(test_both_wait),
		CALL_TEST(test_too_large),
		CALL_TEST(test_responder_dies),
		CALL_TEST(test_responder_again),
		CALL_TEST(test_responder_closes),
		CALL_TEST(test_caller_again),
		CALL_TEST(test_lies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
