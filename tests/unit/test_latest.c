/* SPDX-License-Identifier: MIT */
/* The latest value: first of one thread in its own memory, what is promised and what a reader may
 * meet; then by name, between two peers of libivshmem. Killed writers are in
 * tests/fault/fault_latest.c, every order of memory accesses in tests/model. */
#include "../common/fdcheck.h"
#include "../common/lane.h"
#include "../common/twopeers.h"

#include <ivshmem/channels.h>
#include <ivshmem/latest.h>

#include <time.h>

#define REGION_SIZE (256u << 10)
#define LONG_MS     20000
#define PAUSE_US    30000
#define LARGEST     (LANE_LINES / 4 * 64 - 16)

static struct lane lane;
static struct ivshmem_latest_writer writer;
static struct ivshmem_latest_reader reader;
static unsigned char buffer[LARGEST + 8];

static void attach_writer(void)
{
	const struct ivshmem_channel channel = lane_latest(&lane);
	assert_int_equal(ivshmem_latest_writer_attach(&writer, &channel, lane.memory, 0, 5), 0);
}

static void attach_reader(int anew)
{
	const struct ivshmem_channel channel = lane_latest(&lane);
	assert_int_equal(ivshmem_latest_reader_attach(&reader, &channel, lane.memory, 0, anew), 0);
}

static int set_up(void **state)
{
	(void)state;
	lane_init(&lane, IVSHMEM_CHANNEL_WAIT);
	attach_reader(0);
	attach_writer();
	return 0;
}

static int32_t next(void)
{
	return ivshmem_latest_next(&reader, buffer, sizeof(buffer), NULL);
}

static void write_value(uint32_t number)
{
	lane_message(&lane, buffer, number);
	assert_int_equal(
		ivshmem_latest_write(&writer, buffer, lane_size(&lane, number), number), 0);
}

static void assert_next(uint32_t number)
{
	uint32_t tag = ~number;

	memset(buffer, 0, sizeof(buffer));
	assert_int_equal(ivshmem_latest_next(&reader, buffer, sizeof(buffer), &tag),
		lane_size(&lane, number));
	assert_int_equal(tag, number);
	assert_true(lane_is_message(&lane, buffer, number));
}

static volatile struct ivshmem_latest_cell *cell_of(uint32_t number)
{
	return (volatile struct ivshmem_latest_cell *)(volatile void *)((char *)lane.memory +
		IVSHMEM_LANE_RING + number % 4 * ((size_t)LANE_LINES / 4 * 64));
}

/* ---- values ---- */

static void test_values(void **state)
{
	(void)state;
	assert_int_equal(
		ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL), IVSHMEM_LATEST_EMPTY);
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	for (uint32_t i = 0; i < 100; i++) {
		write_value(i);
		if (i % 7 == 3) /* not looked at each */
			continue;
		assert_next(i);
		assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
		assert_int_equal(ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL),
			lane_size(&lane, i)); /* that is not new, but there */
	}
	assert_int_equal(ivshmem_channel_get(&lane_slot(&lane, 0)->messages), 100);
}

static void test_sizes(void **state)
{
	const volatile uint32_t huge = UINT32_MAX;
	(void)state;
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_int_equal(
		ivshmem_latest_write(&writer, buffer, LARGEST + 1, 0), IVSHMEM_LATEST_TOO_BIG);
	assert_int_equal(ivshmem_latest_write(&writer, buffer, huge, 0), IVSHMEM_LATEST_TOO_BIG);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	assert_int_equal(ivshmem_latest_write(&writer, buffer, LARGEST, 0), 0);
	assert_int_equal(next(), LARGEST);
	assert_int_equal(ivshmem_latest_write(&writer, "abcde", 5, 0), 0);
	/* One that does not fit is still there, and nothing behind the buffer changes. */
	memset(buffer, 0xcb, 8);
	assert_int_equal(ivshmem_latest_next(&reader, buffer, 4, NULL), IVSHMEM_LATEST_TOO_BIG);
	assert_memory_equal(buffer + 4, "\xcb\xcb\xcb\xcb", 4);
	assert_int_equal(ivshmem_latest_next(&reader, buffer, 5, NULL), 5);
	assert_memory_equal(buffer, "abcde\xcb\xcb\xcb", 8);
}

static void test_in_place(void **state)
{
	volatile void *place = buffer;
	(void)state;

	assert_int_equal(ivshmem_latest_reserve(&writer, 100, &place), 0);
	assert_int_equal((uintptr_t)place % 16, 0);
	assert_int_equal(
		ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL), IVSHMEM_LATEST_EMPTY);
	((volatile char *)place)[1] = 'x';
	ivshmem_latest_commit(&writer, 2, 7);
	assert_int_equal(ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL), 2);
	assert_int_equal(buffer[1], 'x');
}

/* The reader has looked at the position, and the writer goes on before it has copied. */
static void test_overtaken(void **state)
{
	volatile uint32_t *position = &lane_slot(&lane, 0)->position;
	volatile void *place = buffer;
	(void)state;

	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	for (uint32_t i = 1; i <= 4; i++)
		write_value(i);
	assert_int_equal(ivshmem_latest_reserve(&writer, 1, &place), 0); /* 5, where 1 was */
	*position = ivshmem_channel_le(1);
	assert_int_equal(next(), IVSHMEM_LATEST_BUSY);
	for (uint32_t i = 2; i <= 4; i++) {
		*position = ivshmem_channel_le(i);
		assert_next(i);
	}
}

/* Numbers go around, and none is 0. */
static void test_around(void **state)
{
	(void)state;
	lane_slot(&lane, 0)->position = ivshmem_channel_le(UINT32_MAX - 5);
	attach_writer();
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	for (uint32_t i = 0; i < 12; i++) {
		write_value(i);
		assert_next(i);
		assert_int_not_equal(lane_slot(&lane, 0)->position, 0);
	}
	assert_int_equal(ivshmem_channel_get(&lane_slot(&lane, 0)->position), 7);
}

/* ---- lives ---- */

static void test_lives(void **state)
{
	volatile void *place = buffer;
	(void)state;

	write_value(1);
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_next(1);
	assert_int_equal(ivshmem_latest_reserve(&writer, 9, &place), 0);
	ivshmem_channel_put(place, "torn torn", 9);
	attach_writer(); /* the one before was cut off */
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	assert_int_equal(ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL),
		lane_size(&lane, 1)); /* its value stays */
	write_value(2);
	assert_next(2);

	write_value(3);
	ivshmem_latest_writer_close(&writer);
	assert_next(3);
	assert_int_equal(next(), IVSHMEM_LATEST_END);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY); /* told once */
	assert_int_equal(
		ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL), lane_size(&lane, 3));
	attach_writer();
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	ivshmem_latest_writer_close(&writer);
	assert_int_equal(next(), IVSHMEM_LATEST_END);

	/* Who comes later gets the value, and hears that it was the last; or wants new ones. */
	attach_reader(0);
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_next(3);
	assert_int_equal(next(), IVSHMEM_LATEST_END);
	attach_reader(1);
	attach_writer();
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	write_value(4);
	assert_next(4);
}

/* Another directory: what is left in the lane says nothing. */
static void test_formatted_again(void **state)
{
	(void)state;
	write_value(1);
	lane.stream.key++;
	attach_reader(0);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	assert_int_equal(
		ivshmem_latest_read(&reader, buffer, sizeof(buffer), NULL), IVSHMEM_LATEST_EMPTY);
	attach_writer();
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	write_value(0);
	assert_next(0);
}

static void test_lies(void **state)
{
	volatile struct ivshmem_channel_slot *slot = lane_slot(&lane, 0);
	static const uint32_t sizes[] = {LARGEST + 1, 0x7fffffff, 0x80000000, UINT32_MAX};
	(void)state;

	write_value(1);
	assert_int_equal(next(), IVSHMEM_LATEST_BEGIN);
	for (unsigned i = 0; i < 4; i++) {
		cell_of(1)->size = ivshmem_channel_le(sizes[i]);
		assert_int_equal(next(), IVSHMEM_LATEST_BROKEN);
	}
	slot->position = ivshmem_channel_le(2);
	assert_int_equal(next(), IVSHMEM_LATEST_BUSY);
	slot->position = 0;
	assert_int_equal(next(), IVSHMEM_LATEST_EMPTY);
	write_value(2); /* says again where it is */
	assert_next(2);
}

static void test_other_shapes(void **state)
{
	struct ivshmem_channel channel = lane_latest(&lane);
	struct ivshmem_stream stream;
	(void)state;

	assert_int_equal(ivshmem_latest_writer_attach(&writer, &channel, lane.memory, 1, 5),
		IVSHMEM_CHANNEL_BAD);
	assert_int_equal(ivshmem_latest_reader_attach(&reader, &channel, lane.memory, 1, 0),
		IVSHMEM_CHANNEL_BAD);
	assert_int_equal(
		ivshmem_channel_lane(&channel, lane.memory, 0, &stream), IVSHMEM_CHANNEL_BAD);
	channel.shape = IVSHMEM_CHANNEL_STREAM;
	assert_int_equal(ivshmem_latest_writer_attach(&writer, &channel, lane.memory, 0, 5),
		IVSHMEM_CHANNEL_BAD);
	assert_int_equal(ivshmem_latest_reader_attach(&reader, &channel, lane.memory, 0, 0),
		IVSHMEM_CHANNEL_BAD);
}

/* ---- by name, between two peers ---- */

static const struct ivshmem_channel_plan plan[] = {
	{.name = "pose", .shape = IVSHMEM_CHANNEL_LATEST, .ring = 4096, .lanes = 2},
	{.name = "stream", .ring = 4096},
};

static int set_up_peers(void **state)
{
	fdcheck_setup(state);
	twopeers_open(REGION_SIZE);
	assert_int_equal(ivshmem_channels_format(peers[0], 0, plan, 2), 0);
	return 0;
}

static int tear_down_peers(void **state)
{
	twopeers_close();
	return fdcheck_teardown(state);
}

static struct ivshmem_setter *setter_of(unsigned seat)
{
	struct ivshmem_setter *setter = ivshmem_setter_open(peers[seat], "pose", NULL);
	assert_non_null(setter);
	return setter;
}

static struct ivshmem_getter *getter_of(unsigned seat)
{
	struct ivshmem_getter *getter = ivshmem_getter_open(peers[seat], "pose", NULL);
	assert_non_null(getter);
	return getter;
}

static void assert_awaits(struct ivshmem_getter *getter, int timeout_ms, const char *text)
{
	char bytes[64];

	assert_int_equal(
		ivshmem_await(getter, bytes, sizeof(bytes), NULL, timeout_ms), strlen(text));
	assert_memory_equal(bytes, text, strlen(text));
}

static void assert_told(struct ivshmem_getter *getter, int timeout_ms, int error)
{
	char bytes[64];

	assert_int_equal(ivshmem_await(getter, bytes, sizeof(bytes), NULL, timeout_ms), -1);
	assert_int_equal(errno, error);
}

static void test_set_and_get(void **state)
{
	struct ivshmem_channel_counters counters;
	char bytes[64];
	uint32_t tag = 0;
	(void)state;

	struct ivshmem_getter *getter = getter_of(1);
	assert_int_equal(ivshmem_get(getter, bytes, sizeof(bytes), NULL), -1);
	assert_int_equal(errno, ENODATA);
	struct ivshmem_setter *setter = setter_of(0);
	assert_int_equal(ivshmem_get(getter, bytes, sizeof(bytes), NULL), -1);
	assert_int_equal(errno, ENODATA);
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(ivshmem_set(setter, "0123456789", i, i), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ivshmem_get(getter, bytes, sizeof(bytes), &tag), 9);
		assert_int_equal(tag, 9);
		assert_memory_equal(bytes, "012345678", 9);
	}
	assert_int_equal(ivshmem_get(getter, bytes, 8, NULL), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_int_equal(ivshmem_set(setter, bytes, 1009, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_told(getter, 0, ETIMEDOUT); /* which it has */
	assert_told(getter, 10, ETIMEDOUT);
	assert_int_equal(ivshmem_set(setter, "new", 3, 0), 0);
	assert_awaits(getter, 0, "new");

	ivshmem_setter_counters(setter, &counters);
	assert_int_equal(counters.messages, 11);
	ivshmem_getter_counters(getter, &counters);
	assert_int_equal(counters.messages, 3);
	assert_int_equal(counters.rings, 0);
	ivshmem_setter_close(setter);
	ivshmem_getter_close(getter);
	ivshmem_setter_close(NULL);
	ivshmem_getter_close(NULL);
}

static void test_open_refused(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	char uri[64], bytes[8];
	(void)state;

	assert_null(ivshmem_setter_open(peers[0], "stream", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_getter_open(peers[0], "stream", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_sender_open(peers[0], "pose", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_receiver_open(peers[0], "pose", NULL));
	assert_int_equal(errno, EPROTOTYPE);
	assert_null(ivshmem_setter_open(peers[0], "poses", NULL));
	assert_int_equal(errno, ENOENT);
	options.silent_ms = 1;
	assert_null(ivshmem_getter_open(peers[0], "pose", &options));
	assert_int_equal(errno, EINVAL);
	options.silent_ms = 0;
	options.lane = 2;
	assert_null(ivshmem_setter_open(peers[0], "pose", &options));
	assert_int_equal(errno, ENOENT);

	/* Another one sets it, who is connected; the other lane is another value. */
	struct ivshmem_setter *setter = setter_of(0);
	assert_null(ivshmem_setter_open(peers[1], "pose", NULL));
	assert_int_equal(errno, EBUSY);
	options.lane = 1;
	struct ivshmem_setter *other = ivshmem_setter_open(peers[1], "pose", &options);
	assert_non_null(other);
	assert_int_equal(ivshmem_set(setter, "zero", 4, 0), 0);
	assert_int_equal(ivshmem_set(other, "one", 3, 0), 0);

	/* A mapping for reading is enough to get it. */
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	params.read_only = 1;
	struct ivshmem_peer *watcher = ivshmem_open(uri, &params);
	assert_non_null(watcher);
	assert_null(ivshmem_setter_open(watcher, "pose", NULL));
	assert_int_equal(errno, EACCES);
	struct ivshmem_getter *getter = ivshmem_getter_open(watcher, "pose", &options);
	assert_non_null(getter);
	assert_awaits(getter, 0, "one");
	assert_int_equal(ivshmem_get(getter, bytes, sizeof(bytes), NULL), 3);
	ivshmem_getter_close(getter);
	ivshmem_close(watcher);
	ivshmem_setter_close(other);
	ivshmem_setter_close(setter);
}

static void *set_later(void *setter)
{
	usleep(PAUSE_US);
	ivshmem_set(setter, "later", 5, 0);
	return NULL;
}

static void test_await(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_channel_counters counters;
	pthread_t thread;
	(void)state;

	struct ivshmem_setter *setter = setter_of(0);
	assert_int_equal(ivshmem_set(setter, "before", 6, 0), 0);
	options.anew = 1;
	options.poll_us = 100;
	struct ivshmem_getter *getter = ivshmem_getter_open(peers[1], "pose", &options);
	assert_non_null(getter);
	do { /* it sleeps, unless its time is over before it comes to that */
		assert_told(getter, 10, ETIMEDOUT);
		ivshmem_getter_counters(getter, &counters);
	} while (counters.sleeps == 0);
	assert_int_equal(pthread_create(&thread, NULL, set_later, setter), 0);
	assert_awaits(getter, LONG_MS, "later");
	pthread_join(thread, NULL);
	ivshmem_getter_close(getter);
	ivshmem_setter_close(setter);
}

static void *leave_later(void *unused)
{
	usleep(PAUSE_US);
	scripted_say(&servers[1], 5, -1);
	return unused;
}

static void test_setter_goes(void **state)
{
	struct ivshmem_channel_counters counters;
	pthread_t thread;
	(void)state;

	struct ivshmem_getter *getter = getter_of(1);
	struct ivshmem_setter *setter = setter_of(0);
	assert_told(getter, 10, ETIMEDOUT); /* that one has come is no news */
	assert_int_equal(ivshmem_set(setter, "a", 1, 0), 0);
	assert_awaits(getter, LONG_MS, "a");
	assert_told(getter, 0, ETIMEDOUT);
	ivshmem_setter_close(setter);
	assert_told(getter, 0, ESHUTDOWN);
	assert_told(getter, 0, ETIMEDOUT);

	setter = setter_of(0);
	assert_int_equal(ivshmem_set(setter, "b", 1, 0), 0);
	assert_awaits(getter, LONG_MS, "b"); /* nobody was cut off */
	assert_told(getter, 10, ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, leave_later, NULL), 0);
	assert_told(getter, LONG_MS, EOWNERDEAD);
	pthread_join(thread, NULL);
	assert_told(getter, 10, ETIMEDOUT); /* told once */

	struct ivshmem_setter *other = setter_of(0);
	assert_told(getter, 0, ECONNRESET);
	assert_int_equal(ivshmem_set(other, "c", 1, 0), 0);
	assert_awaits(getter, LONG_MS, "c");
	ivshmem_getter_counters(getter, &counters);
	assert_int_equal(counters.lives, 3);
	ivshmem_setter_close(other);
	free(setter);
	ivshmem_getter_close(getter);
}

#define ALONE(function)   cmocka_unit_test_setup(function, set_up)
#define BETWEEN(function) cmocka_unit_test_setup_teardown(function, set_up_peers, tear_down_peers)

int main(void)
{
	const struct CMUnitTest tests[] = {
		ALONE(test_values),
		ALONE(test_sizes),
		ALONE(test_in_place),
		ALONE(test_overtaken),
		ALONE(test_around),
		ALONE(test_lives),
		ALONE(test_formatted_again),
		ALONE(test_lies),
		ALONE(test_other_shapes),
		BETWEEN(test_set_and_get),
		BETWEEN(test_open_refused),
		BETWEEN(test_await),
		BETWEEN(test_setter_goes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
