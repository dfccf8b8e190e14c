/* SPDX-License-Identifier: MIT */
/* Many senders and one who reads them all, of libivshmem: lanes by number and any, asleep and
 * awake, and when one of them lies, hangs or goes. */
#include "../common/crowd.h"
#include "../common/fdcheck.h"

#include <ivshmem/channels.h>

#include <pthread.h>

enum { LANES = 3, LONG_MS = 20000, MANY = 20000, READER = 2 /* who reads */ };

static char *memory;

static const struct ivshmem_channel_plan plan[] = {
	{.name = "gather", .ring = 4096, .shape = IVSHMEM_CHANNEL_GATHER, .lanes = LANES},
	{.name = "stream", .ring = 4096},
};

static int set_up(void **state)
{
	fdcheck_setup(state);
	crowd_open(256u << 10);
	memory = ivshmem_region(peers[0], NULL);
	assert_int_equal(ivshmem_channels_format(peers[0], 0, plan, 2), 0);
	return 0;
}

static int tear_down(void **state)
{
	crowd_close();
	return fdcheck_teardown(state);
}

static struct ivshmem_sender *open_lane(struct ivshmem_peer *peer, unsigned lane)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;

	options.lane = lane;
	return ivshmem_sender_open(peer, "gather", &options);
}

static struct ivshmem_sender *sender_of(unsigned seat, unsigned lane)
{
	struct ivshmem_sender *sender = open_lane(peers[seat], lane);
	assert_non_null(sender);
	return sender;
}

static struct ivshmem_gatherer *gatherer_of(unsigned seat)
{
	struct ivshmem_gatherer *gatherer = ivshmem_gatherer_open(peers[seat], "gather", NULL);
	assert_non_null(gatherer);
	return gatherer;
}

static void send_text(struct ivshmem_sender *sender, const char *text)
{
	assert_int_equal(ivshmem_send(sender, text, (uint32_t)strlen(text), 0, 0), 0);
}

static void assert_gets(struct ivshmem_gatherer *gatherer, unsigned lane, const char *text)
{
	char buffer[2048];
	unsigned from = 77;
	int size = ivshmem_gather(gatherer, buffer, sizeof(buffer), &from, NULL, CROWD_TIMEOUT_MS);

	assert_int_equal(size, strlen(text));
	assert_int_equal(from, lane);
	assert_memory_equal(buffer, text, strlen(text));
}

static void assert_told(struct ivshmem_gatherer *gatherer, unsigned lane, int error, int timeout_ms)
{
	char buffer[2048];
	unsigned from = 77;

	assert_int_equal(
		ivshmem_gather(gatherer, buffer, sizeof(buffer), &from, NULL, timeout_ms), -1);
	assert_int_equal(errno, error);
	assert_int_equal(from, lane);
}

static void assert_nothing(struct ivshmem_gatherer *gatherer)
{
	assert_told(gatherer, IVSHMEM_CHANNEL_ANY_LANE, ETIMEDOUT, 0);
	assert_told(gatherer, IVSHMEM_CHANNEL_ANY_LANE, ETIMEDOUT, 10);
}

static volatile struct ivshmem_channel_slot *slot_of(unsigned lane)
{
	struct ivshmem_channel channel = {0};

	assert_int_equal(ivshmem_channel_find(memory, 256u << 10, 4096, "gather", &channel), 0);
	return (volatile struct ivshmem_channel_slot *)(memory +
		ivshmem_channel_place(&channel, lane));
}

/* ---- opening ---- */

static void test_refused(void **state)
{
	(void)state;
	assert_null(ivshmem_gatherer_open(peers[0], "stream", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_gatherer_open(peers[0], "nobody", NULL));
	assert_int_equal(errno, ENOENT);
	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	assert_false(scripted_rung(bells[0])); /* 0 in an empty slot is nobody's ID */
	assert_null(ivshmem_gatherer_open(peers[0], "gather", NULL));
	assert_int_equal(errno, EBUSY);
	assert_int_equal(ivshmem_gatherer_lanes(gatherer), LANES);
	ivshmem_gatherer_close(gatherer);
	ivshmem_gatherer_close(gatherer_of(0));
	ivshmem_gatherer_close(NULL);
}

/* Any lane is one that surely nobody has. */
static void test_any_lane(void **state)
{
	struct ivshmem_sender *senders[LANES];
	(void)state;

	for (unsigned i = 0; i < LANES; i++) { /* two of them are the same peer's */
		senders[i] = sender_of(i % 2, IVSHMEM_CHANNEL_ANY_LANE);
		assert_int_equal(ivshmem_sender_lane(senders[i]), i);
	}
	assert_null(open_lane(peers[1], IVSHMEM_CHANNEL_ANY_LANE));
	assert_int_equal(errno, EBUSY);
	send_text(senders[1], "last");
	ivshmem_sender_close(senders[1]);
	senders[1] = sender_of(2, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(senders[1]), 1);
	send_text(senders[1], "first");

	/* What the one before has left is whole, and has an end. */
	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	assert_gets(gatherer, 1, "last");
	assert_told(gatherer, 1, ESHUTDOWN, 0);
	assert_gets(gatherer, 1, "first");
	ivshmem_gatherer_close(gatherer);

	/* One that has gone without a word, as the server says. */
	crowd_tell_gone(1, 2);
	struct ivshmem_sender *next = sender_of(1, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(next), 1);
	for (unsigned i = 0; i < LANES; i++)
		ivshmem_sender_close(senders[i]);
	ivshmem_sender_close(next);
}

/* Who has come since we last listened to the server has not gone. */
static void test_newcomer_keeps_his_lane(void **state)
{
	struct ivshmem_sender *sender = sender_of(0, 0);
	(void)state;

	slot_of(0)->id = ivshmem_channel_le(7);
	scripted_say(&servers[1], 7, bells[0]);
	struct ivshmem_sender *other = sender_of(1, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(other), 1);
	crowd_tell_gone(1, 7);
	struct ivshmem_sender *next = sender_of(1, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(next), 0);
	ivshmem_sender_close(sender);
	ivshmem_sender_close(other);
	ivshmem_sender_close(next);
}

/* Where nobody says who has gone, only who has closed has left his lane. */
static void test_any_lane_without_a_server(void **state)
{
	struct ivshmem_sender *senders[LANES];
	char uri[64];
	(void)state;

	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	struct ivshmem_peer *plain = ivshmem_open(uri, NULL);
	assert_non_null(plain);
	for (unsigned i = 0; i < LANES; i++) {
		assert_non_null(senders[i] = open_lane(plain, IVSHMEM_CHANNEL_ANY_LANE));
		assert_int_equal(ivshmem_sender_lane(senders[i]), i);
	}
	slot_of(0)->id = ivshmem_channel_le(5); /* whoever that is */
	assert_null(open_lane(plain, IVSHMEM_CHANNEL_ANY_LANE));
	assert_int_equal(errno, EBUSY);
	for (unsigned i = 0; i < LANES; i++)
		ivshmem_sender_close(senders[i]);
	assert_non_null(senders[0] = open_lane(plain, IVSHMEM_CHANNEL_ANY_LANE));
	ivshmem_sender_close(senders[0]);
	ivshmem_close(plain);
}

/* What another does while somebody who wants any lane pauses, to see whether it is his. */
static enum { NOTHING, AFTER_US, BEFORE_US } rival_comes;

static void rival_comes_now(void)
{
	struct ivshmem_channel channel = {0};
	struct ivshmem_stream stream;
	struct ivshmem_writer writer;
	const uint32_t number = slot_of(0)->beat;

	if (rival_comes == NOTHING)
		return;
	assert_int_equal(ivshmem_channel_find(memory, 256u << 10, 4096, "gather", &channel), 0);
	assert_int_equal(ivshmem_channel_lane(&channel, memory, 0, &stream), 0);
	ivshmem_writer_attach(&writer, &stream, 1, 0);
	slot_of(0)->beat = rival_comes == AFTER_US ? ~number : number;
	rival_comes = NOTHING;
}

int __wrap_clock_nanosleep(
	clockid_t clock, int flags, const struct timespec *time, struct timespec *left);
int __real_clock_nanosleep(
	clockid_t clock, int flags, const struct timespec *time, struct timespec *left);

/* Rivals of whom none is stopped between his look and his number for longer than the others pause:
 * a pause is over when all pause who have no lane yet. A thread may be stopped for any time, and
 * then nothing holds (src/channel/seat.c). */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t over;
	unsigned without_lane, pausing, turn;
} rivalry = {.lock = PTHREAD_MUTEX_INITIALIZER, .over = PTHREAD_COND_INITIALIZER};

static void end_pause_of_all(void)
{
	if (rivalry.pausing < rivalry.without_lane)
		return;
	rivalry.pausing = 0;
	rivalry.turn++;
	pthread_cond_broadcast(&rivalry.over);
}

static void pause_for_all(void)
{
	pthread_mutex_lock(&rivalry.lock);
	if (rivalry.without_lane > 0) {
		const unsigned turn = rivalry.turn;
		rivalry.pausing++;
		end_pause_of_all();
		while (rivalry.turn == turn)
			pthread_cond_wait(&rivalry.over, &rivalry.lock);
	}
	pthread_mutex_unlock(&rivalry.lock);
}

static void has_lane(void)
{
	pthread_mutex_lock(&rivalry.lock);
	rivalry.without_lane--;
	end_pause_of_all();
	pthread_mutex_unlock(&rivalry.lock);
}

int __wrap_clock_nanosleep(
	clockid_t clock, int flags, const struct timespec *time, struct timespec *left)
{
	rival_comes_now();
	pause_for_all();
	return __real_clock_nanosleep(clock, flags, time, left);
}

/* Of two who have seen a lane free, the one whose number is there in the end has it. */
static void test_rival(void **state)
{
	(void)state;

	rival_comes = AFTER_US;
	struct ivshmem_sender *sender = sender_of(0, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(sender), 1);
	assert_int_equal(ivshmem_channel_le(slot_of(0)->id), 1);
	ivshmem_sender_close(sender);

	slot_of(0)->state = ivshmem_channel_le(IVSHMEM_SLOT_CLOSED);
	rival_comes = BEFORE_US;
	sender = sender_of(0, IVSHMEM_CHANNEL_ANY_LANE);
	assert_int_equal(ivshmem_sender_lane(sender), 0);
	assert_int_equal(ivshmem_channel_le(slot_of(0)->id), 0); /* whom to ring */
	ivshmem_sender_close(sender);
}

struct rival {
	struct ivshmem_peer *peer;
	pthread_barrier_t *start;
	struct ivshmem_sender *sender;
	pthread_t thread;
};

static void *open_any(void *arg)
{
	struct rival *rival = arg;

	pthread_barrier_wait(rival->start);
	rival->sender = open_lane(rival->peer, IVSHMEM_CHANNEL_ANY_LANE);
	has_lane();
	return NULL;
}

static void test_rivals(void **state)
{
	pthread_barrier_t start;
	struct rival rivals[LANES];
	(void)state;

	pthread_barrier_init(&start, NULL, LANES);
	for (unsigned round = 0; round < 10; round++) {
		unsigned lanes = 0;
		rivalry.without_lane = LANES;
		for (unsigned i = 0; i < LANES; i++) {
			rivals[i] = (struct rival){.peer = peers[i], .start = &start};
			assert_int_equal(
				pthread_create(&rivals[i].thread, NULL, open_any, &rivals[i]), 0);
		}
		for (unsigned i = 0; i < LANES; i++) {
			pthread_join(rivals[i].thread, NULL);
			assert_non_null(rivals[i].sender);
			lanes |= 1u << ivshmem_sender_lane(rivals[i].sender);
		}
		assert_int_equal(lanes, (1u << LANES) - 1); /* each has another */
		for (unsigned i = 0; i < LANES; i++)
			ivshmem_sender_close(rivals[i].sender);
	}
	pthread_barrier_destroy(&start);
}

/* ---- messages ---- */

static void test_messages(void **state)
{
	struct ivshmem_channel_counters counters;
	char buffer[64];
	unsigned lane;
	uint32_t tag;
	(void)state;

	struct ivshmem_sender *first = sender_of(0, 0);
	assert_int_equal(ivshmem_send(first, "before", 6, 77, 0), 0); /* nobody is there */
	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	assert_int_equal(ivshmem_gather(gatherer, buffer, sizeof(buffer), &lane, &tag, 0), 6);
	assert_int_equal(lane, 0);
	assert_int_equal(tag, 77);
	assert_nothing(gatherer);

	struct ivshmem_sender *second = sender_of(1, 2);
	send_text(second, "hello");
	assert_int_equal(ivshmem_gather(gatherer, buffer, 4, &lane, NULL, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(lane, 2);
	assert_gets(gatherer, 2, "hello");
	ivshmem_sender_close(second);
	assert_told(gatherer, 2, ESHUTDOWN, 0);
	send_text(first, "still here");
	assert_gets(gatherer, 0, "still here");
	assert_nothing(gatherer);

	assert_int_equal(ivshmem_gatherer_counters(gatherer, 0, &counters), 0);
	assert_int_equal(counters.messages, 2);
	assert_int_equal(counters.lives, 1);
	assert_int_equal(ivshmem_gatherer_counters(gatherer, 1, &counters), 0);
	assert_int_equal(counters.messages, 0);
	assert_int_equal(counters.lives, 0);
	assert_int_equal(ivshmem_gatherer_counters(gatherer, LANES, &counters), -1);
	assert_int_equal(errno, ENOENT);

	/* The next life gets what came meanwhile. */
	ivshmem_gatherer_close(gatherer);
	send_text(first, "meanwhile");
	gatherer = gatherer_of(READER);
	assert_gets(gatherer, 0, "meanwhile");
	ivshmem_gatherer_close(gatherer);
	ivshmem_sender_close(first);
}

/* Senders that pause at times, and a reader that falls asleep meanwhile; and the other way round.
 */
struct load {
	unsigned seat, pause_every;
	pthread_t thread;
};

static void *send_many(void *arg)
{
	struct load *load = arg;
	struct ivshmem_sender *sender = sender_of(load->seat, load->seat);
	unsigned char bytes[600];

	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t size = i * 37 % sizeof(bytes);
		memset(bytes, (int)(i & 0xff), size);
		if (ivshmem_send(sender, bytes, size, i, LONG_MS) != 0)
			break;
		if (load->pause_every != 0 && i % load->pause_every == 0)
			usleep(200);
	}
	ivshmem_sender_close(sender);
	return NULL;
}

static void test_many(void **state)
{
	struct load loads[2];
	unsigned char bytes[600];
	(void)state;

	for (unsigned round = 0; round < 3; round++) {
		struct ivshmem_gatherer *gatherer = gatherer_of(READER);
		uint32_t next[2] = {0}, tag;
		unsigned lane, ends = 0;

		for (unsigned i = 0; i < 2; i++) {
			loads[i] = (struct load){
				.seat = i, .pause_every = round == 1 ? 100 + i * 900 : 0};
			assert_int_equal(
				pthread_create(&loads[i].thread, NULL, send_many, &loads[i]), 0);
		}
		while (next[0] + next[1] < 2 * MANY || ends < 2) {
			int size = ivshmem_gather(
				gatherer, bytes, sizeof(bytes), &lane, &tag, LONG_MS);
			if (size < 0) {
				assert_int_equal(errno, ESHUTDOWN);
				ends += next[lane] == MANY; /* or that of the round before */
				continue;
			}
			assert_int_equal(tag, next[lane]);
			assert_int_equal(size, tag * 37 % sizeof(bytes));
			for (int at = 0; at < size; at++)
				assert_int_equal(bytes[at], tag & 0xff);
			next[lane]++;
			if (round == 2 && tag % 100 == 0)
				usleep(200);
		}
		for (unsigned i = 0; i < 2; i++)
			pthread_join(loads[i].thread, NULL);
		ivshmem_gatherer_close(gatherer);
	}
}

/* ---- when one of them goes, hangs or lies ---- */

static void *tell_later(void *arg)
{
	usleep(30000);
	crowd_tell_gone(READER, 0);
	return arg;
}

static void test_sender_dies(void **state)
{
	pthread_t thread;
	(void)state;

	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	struct ivshmem_sender *dies = sender_of(0, 1), *lives = sender_of(1, 2);
	send_text(dies, "last");
	assert_gets(gatherer, 1, "last");
	assert_nothing(gatherer);
	assert_int_equal(pthread_create(&thread, NULL, tell_later, NULL), 0);
	assert_told(gatherer, 1, EOWNERDEAD, LONG_MS);
	pthread_join(thread, NULL);
	send_text(lives, "and I");
	assert_gets(gatherer, 2, "and I");
	assert_nothing(gatherer); /* told once */

	struct ivshmem_sender *next = sender_of(0, 1);
	send_text(next, "first");
	assert_told(gatherer, 1, ECONNRESET, LONG_MS);
	assert_gets(gatherer, 1, "first");
	ivshmem_sender_close(next);
	assert_told(gatherer, 1, ESHUTDOWN, LONG_MS);
	free(dies);
	ivshmem_sender_close(lives);
	ivshmem_gatherer_close(gatherer);
}

/* A lane where nobody has ever been is not silent, nor one that is closed. */
static void test_silence(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	(void)state;

	options.silent_ms = 20;
	struct ivshmem_sender *closed = sender_of(0, 0), *hangs = sender_of(1, 1);
	send_text(closed, "bye");
	ivshmem_sender_close(closed);
	struct ivshmem_gatherer *gatherer =
		ivshmem_gatherer_open(peers[READER], "gather", &options);
	assert_non_null(gatherer);
	assert_gets(gatherer, 0, "bye");
	assert_told(gatherer, 0, ESHUTDOWN, 0);
	scripted_rung(bells[1]);
	assert_told(gatherer, 1, EHOSTDOWN, LONG_MS);
	assert_true(scripted_rung(bells[1])); /* it was asked */
	assert_told(gatherer, 1, EHOSTDOWN, LONG_MS);
	ivshmem_sender_close(hangs);
	ivshmem_gatherer_close(gatherer);
}

static void *heal_later(void *arg)
{
	usleep(30000);
	slot_of(0)->position = *(uint32_t *)arg;
	return NULL;
}

static void test_broken(void **state)
{
	pthread_t thread;
	(void)state;

	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	struct ivshmem_sender *spoilt = sender_of(0, 0), *other = sender_of(1, 1);
	send_text(spoilt, "zero");
	assert_gets(gatherer, 0, "zero");
	send_text(spoilt, "one");
	uint32_t position = slot_of(0)->position;
	slot_of(0)->position = ivshmem_channel_le(123456);
	assert_told(gatherer, 0, EPROTO, LONG_MS);
	assert_nothing(gatherer); /* told once, and nobody is kept busy by it */
	send_text(other, "two");
	assert_gets(gatherer, 1, "two");
	/* It heals without anybody ringing. */
	assert_int_equal(pthread_create(&thread, NULL, heal_later, &position), 0);
	char one[3];
	unsigned lane;
	assert_int_equal(ivshmem_gather(gatherer, one, sizeof(one), &lane, NULL, -1), 3);
	assert_int_equal(lane, 0);
	pthread_join(thread, NULL);
	assert_nothing(gatherer);

	slot_of(0)->position = ivshmem_channel_le(123456);
	assert_told(gatherer, 0, EPROTO, LONG_MS);
	ivshmem_sender_close(spoilt);
	spoilt = sender_of(0, 0);
	send_text(spoilt, "anew");
	assert_told(gatherer, 0, ESHUTDOWN, LONG_MS);
	assert_gets(gatherer, 0, "anew");
	ivshmem_sender_close(spoilt);
	ivshmem_sender_close(other);
	ivshmem_gatherer_close(gatherer);
}

/* One that says again and again that it begins does not put off the end of the time. */
static void test_endless_beginnings(void **state)
{
	(void)state;

	struct ivshmem_gatherer *gatherer = gatherer_of(READER);
	struct ivshmem_sender *liar = sender_of(0, 0);
	struct ivshmem_writer *writer = ivshmem_sender_writer(liar);
	for (unsigned i = 0; i < 60; i++)
		ivshmem_stream_mark(writer, IVSHMEM_RECORD_BEGIN, 1);
	writer->begin = 0;
	send_text(liar, "at last");
	assert_told(gatherer, IVSHMEM_CHANNEL_ANY_LANE, ETIMEDOUT, 0);
	assert_told(gatherer, IVSHMEM_CHANNEL_ANY_LANE, ETIMEDOUT, 0);
	assert_gets(gatherer, 0, "at last");
	ivshmem_sender_close(liar);
	ivshmem_gatherer_close(gatherer);
}

#define GATHER_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GATHER_TEST(test_refused),
		GATHER_TEST(test_any_lane),
		GATHER_TEST(test_newcomer_keeps_his_lane),
		GATHER_TEST(test_any_lane_without_a_server),
		GATHER_TEST(test_rival),
		GATHER_TEST(test_rivals),
		GATHER_TEST(test_messages),
		GATHER_TEST(test_many),
		GATHER_TEST(test_sender_dies),
		GATHER_TEST(test_silence),
		GATHER_TEST(test_broken),
		GATHER_TEST(test_endless_beginnings),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
