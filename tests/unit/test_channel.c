/* SPDX-License-Identifier: MIT */
/* Channels of libivshmem between two peers of servers that the test plays: by name, in any order,
 * asleep and awake, and when the other one goes. */
#include "../common/fdcheck.h"
#include "../common/twopeers.h"

#include <ivshmem/channels.h>

#include <pthread.h>
#include <time.h>

#define REGION_SIZE (256u << 10)
#define LONG_MS     20000
#define PAUSE_US    30000
#define MANY        20000u

static char *memory;

static const struct ivshmem_channel_plan plan[] = {
	{.name = "wait", .ring = 4096},
	{.name = "drop", .ring = 4096, .policy = IVSHMEM_CHANNEL_DROP, .largest = 100},
	{.name = "overwrite", .ring = 4096, .policy = IVSHMEM_CHANNEL_OVERWRITE},
	{.name = "lanes", .ring = 4096, .shape = IVSHMEM_CHANNEL_GATHER, .lanes = 3},
};

static int set_up(void **state)
{
	fdcheck_setup(state);
	twopeers_open(REGION_SIZE);
	memory = ivshmem_region(peers[0], NULL);
	return 0;
}

static int tear_down(void **state)
{
	twopeers_close();
	return fdcheck_teardown(state);
}

static void format_both(void)
{
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(ivshmem_channels_format(peers[i], 0, plan, 4), 0);
}

static const struct ivshmem_channel_options *patient(void)
{
	static struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;

	options.timeout_ms = LONG_MS;
	return &options;
}

static struct ivshmem_sender *sender_of(unsigned seat, const char *name)
{
	struct ivshmem_sender *sender = ivshmem_sender_open(peers[seat], name, patient());
	assert_non_null(sender);
	return sender;
}

static struct ivshmem_receiver *receiver_of(unsigned seat, const char *name)
{
	struct ivshmem_receiver *receiver = ivshmem_receiver_open(peers[seat], name, patient());
	assert_non_null(receiver);
	return receiver;
}

/* A header that says where the directory is; with or without a sum that is right. */
static void write_header(uint32_t directory, bool right)
{
	volatile uint32_t *page = (volatile uint32_t *)(volatile void *)memory;
	uint32_t crc = UINT32_MAX;

	for (unsigned i = 0; i < IVSHMEM_HEADER_SIZE / 4; i++)
		ivshmem_channel_set(page + i, 0);
	ivshmem_channel_set(page, IVSHMEM_HEADER_MAGIC_VALUE);
	ivshmem_channel_set(page + IVSHMEM_HEADER_VERSION / 4, IVSHMEM_HEADER_VERSION_VALUE);
	ivshmem_channel_set(page + IVSHMEM_HEADER_DIRECTORY / 4, directory);
	for (unsigned i = 0; i < IVSHMEM_HEADER_SIZE / 4; i++)
		crc = ivshmem_channel_crc(crc, ivshmem_channel_get(page + i));
	ivshmem_channel_set(page + IVSHMEM_HEADER_CHECK / 4, right ? ~crc : crc);
}

static void assert_receives(struct ivshmem_receiver *receiver, const char *text)
{
	char buffer[2048];
	int size = ivshmem_receive(receiver, buffer, sizeof(buffer), NULL, LONG_MS);

	assert_int_equal(size, strlen(text));
	assert_memory_equal(buffer, text, strlen(text));
}

static void assert_told(struct ivshmem_receiver *receiver, int timeout_ms, int error)
{
	char buffer[2048];

	assert_int_equal(ivshmem_receive(receiver, buffer, sizeof(buffer), NULL, timeout_ms), -1);
	assert_int_equal(errno, error);
}

/* ---- the directory ---- */

/* The example of docs/channel.md, byte by byte. */
static void test_where_the_header_says(void **state)
{
	(void)state;
	struct ivshmem_channel_options elsewhere = *patient();

	write_header(16384, true);
	format_both();
	assert_int_equal(ivshmem_channels_at(memory, REGION_SIZE), 16384);
	assert_int_equal(memcmp(memory + 16384, "ivch", 4), 0);
	assert_int_equal(memory[IVSHMEM_CHANNELS_OFFSET], 0);
	ivshmem_sender_close(sender_of(0, "wait"));
	/* What somebody has spoilt, or what leads into the header, does not count. */
	write_header(16384, false);
	assert_int_equal(ivshmem_channels_at(memory, REGION_SIZE), IVSHMEM_CHANNELS_OFFSET);
	write_header(128, true);
	assert_int_equal(ivshmem_channels_at(memory, REGION_SIZE), IVSHMEM_CHANNELS_OFFSET);
	/* Nor does what does not fit. */
	write_header(UINT32_MAX - 127, true);
	assert_int_equal(ivshmem_channels_format(peers[0], 0, plan, 4), -1);
	assert_int_equal(errno, ENOSPC);
	/* Who says where does not look. */
	elsewhere.offset = 16384;
	struct ivshmem_sender *sender = ivshmem_sender_open(peers[0], "wait", &elsewhere);
	assert_non_null(sender);
	ivshmem_sender_close(sender);
}

static void test_directory(void **state)
{
	static const struct ivshmem_channel_plan example = {.name = "frames", .ring = 4096};
	static const unsigned char head[] = {'i', 'v', 'c', 'h', 1, 0, 0, 0, 192, 0, 0, 0, 0x25,
		0xeb, 0x0b, 0x7c, /* CHECK */
		1, 0, 0, 0, 0, 0x31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
	static const unsigned char numbers[] = {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0,
		0, /* shape to lanes */
		64, 0, 0, 0, 0xf8, 7, 0, 0, 0, 0x20, 0, 0, 0, 0, 0, 0};
	(void)state;

	assert_int_equal(ivshmem_channels_format(peers[0], 0, &example, 1), 0);
	assert_memory_equal(memory + 4096, head, sizeof(head));
	assert_string_equal(memory + 4096 + 64, "frames");
	assert_memory_equal(memory + 4096 + 128, numbers, sizeof(numbers));
}

static void test_format(void **state)
{
	struct ivshmem_channel_plan other[4];
	(void)state;

	format_both();
	memcpy(other, plan, sizeof(plan));
	other[3].lanes = 2;
	assert_int_equal(ivshmem_channels_format(peers[1], 0, other, 4), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(ivshmem_channels_format(peers[1], 0, plan, 3), -1);
	assert_int_equal(errno, EEXIST);
	/* One that was killed in the middle leaves what does not add up: written anew. */
	memset(memory + 4096 + 70, 0, 500);
	assert_int_equal(ivshmem_channels_format(peers[1], 0, plan, 4), 0);
	/* Somebody's data stays his. */
	memory[8192 + 100] = 1;
	assert_int_equal(ivshmem_channels_format(peers[1], 8192, plan, 4), -1);
	assert_int_equal(errno, EEXIST);
}

static void test_plans(void **state)
{
	static const struct {
		struct ivshmem_channel_plan plan;
		int error;
	} cases[] = {
		{{.name = "Wait"}, EINVAL},
		{{.name = NULL}, EINVAL},
		{{.name = "a", .ring = 4097}, EINVAL},
		{{.name = "a", .ring = 512}, EINVAL},
		{{.name = "a", .ring = 3 << 12}, EINVAL},
		{{.name = "a", .largest = 32761}, EINVAL},
		{{.name = "a", .policy = IVSHMEM_CHANNEL_OVERWRITE, .largest = 16377}, EINVAL},
		{{.name = "a", .policy = 3}, EINVAL},
		{{.name = "a", .shape = 5}, EINVAL},
		{{.name = "a", .shape = IVSHMEM_CHANNEL_LATEST, .policy = 1}, EINVAL},
		{{.name = "a", .shape = IVSHMEM_CHANNEL_LATEST, .flags = 1}, EINVAL},
		{{.name = "a", .shape = IVSHMEM_CHANNEL_LATEST, .largest = 16369}, EINVAL},
		{{.name = "a", .ring = REGION_SIZE}, ENOSPC},
		{{.name = "a", .lanes = 1025}, EINVAL},
		{{.name = "a", .lanes = 1000}, ENOSPC},
	};
	const struct ivshmem_channel_plan twice[] = {{.name = "a"}, {.name = "a"}};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(ivshmem_channels_format(peers[0], 0, &cases[i].plan, 1), -1);
		assert_int_equal(errno, cases[i].error);
	}
	assert_int_equal(ivshmem_channels_format(peers[0], 0, twice, 2), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ivshmem_channels_format(peers[0], 0, NULL, 0), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(memory[4096], 0); /* nothing was written */
}

static void test_open_refused(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	(void)state;

	assert_null(ivshmem_sender_open(peers[0], "wait", NULL));
	assert_int_equal(errno, EAGAIN); /* nobody has formatted */
	format_both();
	assert_null(ivshmem_sender_open(peers[0], "wai", NULL));
	assert_int_equal(errno, ENOENT);
	assert_null(ivshmem_receiver_open(peers[0], "waiter", NULL));
	assert_int_equal(errno, ENOENT);
	options.lane = 3;
	assert_null(ivshmem_sender_open(peers[0], "lanes", &options));
	assert_int_equal(errno, ENOENT);
	options.struct_size--;
	assert_null(ivshmem_sender_open(peers[0], "lanes", &options));
	assert_int_equal(errno, EINVAL);

	/* A seat that another peer has, who is connected. */
	struct ivshmem_sender *sender = sender_of(0, "wait");
	assert_null(ivshmem_sender_open(peers[1], "wait", NULL));
	assert_int_equal(errno, EBUSY);
	ivshmem_sender_close(sender);
	ivshmem_sender_close(sender_of(1, "wait"));
}

/* Who is there is what the server has said up to now, not when we last listened. */
static void test_seat_of_who_comes_and_goes(void **state)
{
	(void)state;

	format_both();
	struct ivshmem_sender *sender = sender_of(0, "wait");
	scripted_say(&servers[1], 5, -1);
	ivshmem_sender_close(sender_of(1, "wait"));
	ivshmem_sender_close(sender);
	sender = sender_of(0, "wait");
	scripted_say(&servers[1], 5, bells[0]);
	assert_null(ivshmem_sender_open(peers[1], "wait", NULL));
	assert_int_equal(errno, EBUSY);
	ivshmem_sender_close(sender);
}

/* ---- messages ---- */

static void test_messages(void **state)
{
	char buffer[64];
	uint32_t tag = 0;
	(void)state;

	format_both();
	struct ivshmem_sender *sender = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(sender, "before", 6, 77, 0), 0); /* nobody is there */
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");
	assert_int_equal(ivshmem_receive(receiver, buffer, sizeof(buffer), &tag, 0), 6);
	assert_int_equal(tag, 77);
	assert_told(receiver, 0, ETIMEDOUT);
	assert_told(receiver, 10, ETIMEDOUT);

	assert_int_equal(ivshmem_send(sender, buffer, 2048, 0, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ivshmem_stream_add(ivshmem_sender_writer(sender), "abc", 3, 0), 0);
	assert_told(receiver, 0, ETIMEDOUT);
	assert_int_equal(ivshmem_sender_publish(sender), 0);
	assert_int_equal(ivshmem_receive(receiver, buffer, 2, NULL, 0), -1);
	assert_int_equal(errno, EMSGSIZE);
	for (int i = 0; i < 3; i++)
		assert_receives(receiver, "abc");
	ivshmem_sender_close(sender);
	assert_told(receiver, LONG_MS, ESHUTDOWN);
	assert_told(receiver, 0, ETIMEDOUT);
	ivshmem_receiver_close(receiver);
	ivshmem_receiver_close(NULL);
	ivshmem_sender_close(NULL);
}

/* What a receiver that opens is told of the sender before it. */
static void test_end_of_before(void **state)
{
	(void)state;

	format_both();
	struct ivshmem_sender *sender = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(sender, "x", 1, 0, 0), 0);
	ivshmem_sender_close(sender);
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");
	assert_receives(receiver, "x");
	assert_told(receiver, 0, ESHUTDOWN);
	ivshmem_receiver_close(receiver);

	receiver = receiver_of(1, "wait"); /* all was received, and no other has come */
	assert_told(receiver, 0, ETIMEDOUT);
	ivshmem_receiver_close(receiver);

	sender = sender_of(0, "wait");
	receiver = receiver_of(1, "wait");
	assert_int_equal(ivshmem_send(sender, "y", 1, 0, 0), 0);
	assert_told(receiver, 0, ESHUTDOWN);
	assert_receives(receiver, "y");
	ivshmem_sender_close(sender);
	ivshmem_receiver_close(receiver);
}

/* Many messages from another thread, with pauses on one side, so that each sleeps now and then. */
struct load {
	unsigned seat, pause_every;
	const char *name;
	struct ivshmem_channel_counters counters;
	pthread_t thread;
};

static void *send_many(void *arg)
{
	struct load *load = arg;
	unsigned char bytes[600];
	struct ivshmem_sender *sender = sender_of(load->seat, load->name);

	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t size = i * 37 % sizeof(bytes);
		memset(bytes, (int)(i & 0xff), size);
		if (ivshmem_send(sender, bytes, size, i, LONG_MS) != 0)
			break;
		if (load->pause_every != 0 && i % load->pause_every == 0)
			usleep(200);
	}
	ivshmem_sender_counters(sender, &load->counters);
	ivshmem_sender_close(sender);
	return NULL;
}

static void receive_many(unsigned pause_every)
{
	unsigned char bytes[600];
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");

	for (uint32_t i = 0; i < MANY; i++) {
		uint32_t tag = 0;
		int size;
		do /* the end of the round before is news until the next sender is there */
			size = ivshmem_receive(receiver, bytes, sizeof(bytes), &tag, LONG_MS);
		while (i == 0 && size < 0 && errno == ESHUTDOWN);
		assert_int_equal(tag, i);
		assert_int_equal(size, i * 37 % sizeof(bytes));
		for (int at = 0; at < size; at++)
			assert_int_equal(bytes[at], i & 0xff);
		if (pause_every != 0 && i % pause_every == 0)
			usleep(200);
	}
	assert_told(receiver, LONG_MS, ESHUTDOWN);
	ivshmem_receiver_close(receiver);
}

static void test_many(void **state)
{
	struct load load = {.seat = 0, .name = "wait"};
	(void)state;

	format_both();
	for (unsigned round = 0; round < 3; round++) {
		load.pause_every = round == 1 ? 100 : 0;
		assert_int_equal(pthread_create(&load.thread, NULL, send_many, &load), 0);
		receive_many(round == 2 ? 100 : 0);
		pthread_join(load.thread, NULL);
		assert_int_equal(load.counters.messages, MANY);
		assert_true(load.counters.rings < MANY / 2);
	}
}

/* One that says again and again that it begins does not put off the end of the time. */
static void test_endless_beginnings(void **state)
{
	(void)state;

	format_both();
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");
	struct ivshmem_sender *liar = sender_of(0, "wait");
	struct ivshmem_writer *writer = ivshmem_sender_writer(liar);
	for (unsigned i = 0; i < 4; i++)
		ivshmem_stream_mark(writer, IVSHMEM_RECORD_BEGIN, 1);
	writer->begin = 0;
	assert_int_equal(ivshmem_send(liar, "at last", 7, 0, 0), 0);
	assert_told(receiver, 0, ETIMEDOUT);
	assert_told(receiver, 0, ETIMEDOUT);
	assert_receives(receiver, "at last");
	ivshmem_sender_close(liar);
	ivshmem_receiver_close(receiver);
}

static void *format_later(void *arg)
{
	usleep(PAUSE_US);
	ivshmem_channels_format(peers[0], 0, plan, 4);
	return arg;
}

static void test_any_order(void **state)
{
	pthread_t thread;
	(void)state;

	assert_int_equal(pthread_create(&thread, NULL, format_later, NULL), 0);
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");
	pthread_join(thread, NULL);
	struct ivshmem_sender *sender = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(sender, "x", 1, 0, 0), 0);
	assert_receives(receiver, "x");
	ivshmem_sender_close(sender);
	ivshmem_receiver_close(receiver);
}

/* ---- when there is no room ---- */

static void test_policies(void **state)
{
	struct ivshmem_channel_counters counters;
	unsigned sent = 0;
	(void)state;

	format_both();
	struct ivshmem_sender *sender = sender_of(0, "wait");
	while (ivshmem_send(sender, "wait", 4, 0, 0) == 0)
		sent++;
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(sent, 4096 / 64 - 1); /* and one to say that it begins */
	ivshmem_sender_close(sender);

	sender = sender_of(0, "drop");
	for (sent = 0; ivshmem_send(sender, "drop", 4, sent, -1) == 0;)
		sent++;
	assert_int_equal(ivshmem_send(sender, "drop", 4, 0, -1), 1);
	ivshmem_sender_counters(sender, &counters);
	assert_int_equal(counters.messages, sent);
	assert_int_equal(counters.lost, 2);
	ivshmem_sender_close(sender);
	struct ivshmem_receiver *receiver = receiver_of(1, "drop");
	for (unsigned i = 0; i < sent; i++)
		assert_receives(receiver, "drop");
	assert_told(receiver, 0, ESHUTDOWN);
	ivshmem_receiver_close(receiver);

	sender = sender_of(0, "overwrite");
	receiver = receiver_of(1, "overwrite");
	for (unsigned i = 0; i < 1000; i++)
		assert_int_equal(ivshmem_send(sender, "newest", i == 999 ? 6 : 3, 0, -1), 0);
	assert_told(receiver, 0, EOVERFLOW);
	char buffer[8];
	int size;
	while ((size = ivshmem_receive(receiver, buffer, sizeof(buffer), NULL, LONG_MS)) == 3)
		;
	assert_int_equal(size, 6);
	ivshmem_receiver_close(receiver);
	ivshmem_sender_close(sender);
}

/* ---- when the other one goes ---- */

static void *leave_later(void *arg)
{
	usleep(PAUSE_US);
	scripted_say(&servers[1], 5, -1);
	return arg;
}

static void test_sender_dies(void **state)
{
	pthread_t thread;
	(void)state;

	format_both();
	struct ivshmem_receiver *receiver = receiver_of(1, "wait");
	struct ivshmem_sender *sender = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(sender, "last", 4, 0, 0), 0);
	assert_receives(receiver, "last");
	assert_told(receiver, 10, ETIMEDOUT);
	assert_int_equal(pthread_create(&thread, NULL, leave_later, NULL), 0);
	assert_told(receiver, LONG_MS, EOWNERDEAD);
	pthread_join(thread, NULL);
	assert_told(receiver, 10, ETIMEDOUT); /* told once */

	/* The next one, without the last one's leave. */
	struct ivshmem_sender *next = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(next, "first", 5, 0, 0), 0);
	assert_told(receiver, LONG_MS, ECONNRESET);
	assert_receives(receiver, "first");
	ivshmem_sender_close(next);
	assert_told(receiver, LONG_MS, ESHUTDOWN);
	next = sender_of(0, "wait");
	assert_int_equal(ivshmem_send(next, "again", 5, 0, 0), 0);
	assert_receives(receiver, "again"); /* nobody was cut off */
	ivshmem_sender_close(next);
	free(sender);
	ivshmem_receiver_close(receiver);
}

static void test_receiver_dies(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	(void)state;

	format_both();
	struct ivshmem_sender *sender = sender_of(1, "wait");
	struct ivshmem_receiver *receiver = receiver_of(0, "wait");
	while (ivshmem_send(sender, "x", 1, 0, 10) == 0)
		;
	assert_int_equal(errno, ETIMEDOUT);
	scripted_say(&servers[1], 5, -1);
	assert_int_equal(ivshmem_send(sender, "y", 1, 0, LONG_MS), -1);
	assert_int_equal(errno, EOWNERDEAD);
	/* The next one goes on, or starts with what is new. */
	struct ivshmem_receiver *next = receiver_of(0, "wait");
	assert_receives(next, "x");
	ivshmem_receiver_close(next);
	options.anew = 1;
	next = ivshmem_receiver_open(peers[0], "wait", &options);
	assert_non_null(next);
	assert_int_equal(ivshmem_send(sender, "z", 1, 0, LONG_MS), 0);
	assert_receives(next, "z");
	free(receiver);
	ivshmem_receiver_close(next);
	ivshmem_sender_close(sender);
}

/* Nobody tells of a partner that hangs, but it does not look when it is rung. */
static void test_silence(void **state)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	(void)state;

	format_both();
	options.silent_ms = 20;
	struct ivshmem_sender *sender = sender_of(0, "wait");
	struct ivshmem_receiver *receiver = ivshmem_receiver_open(peers[1], "wait", &options);
	assert_non_null(receiver);
	scripted_rung(bells[0]);
	assert_told(receiver, LONG_MS, EHOSTDOWN);
	assert_true(scripted_rung(bells[0])); /* it was asked */
	ivshmem_sender_close(sender);
	ivshmem_receiver_close(receiver);
}

#define CHANNEL_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHANNEL_TEST(test_directory),
		CHANNEL_TEST(test_format),
		CHANNEL_TEST(test_where_the_header_says),
		CHANNEL_TEST(test_plans),
		CHANNEL_TEST(test_open_refused),
		CHANNEL_TEST(test_seat_of_who_comes_and_goes),
		CHANNEL_TEST(test_messages),
		CHANNEL_TEST(test_endless_beginnings),
		CHANNEL_TEST(test_end_of_before),
		CHANNEL_TEST(test_many),
		CHANNEL_TEST(test_any_order),
		CHANNEL_TEST(test_policies),
		CHANNEL_TEST(test_sender_dies),
		CHANNEL_TEST(test_receiver_dies),
		CHANNEL_TEST(test_silence),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
