/* SPDX-License-Identifier: MIT */
/* Channels where one of the two is not rung: it has no doorbells, its partner has none, or the
 * channel says that it polls. Both wait, the one for messages and the other for room. */
#include "../common/fdcheck.h"
#include "../common/twopeers.h"

#include <ivshmem/channels.h>

#include <pthread.h>

#define REGION_SIZE (64u << 10)
#define LONG_MS     20000
#define MESSAGES    500u
#define LARGE       1000u /* four fill the ring */

static struct ivshmem_peer *plain[2]; /* on the same memory, without a server */

static int set_up(void **state)
{
	char uri[64];

	fdcheck_setup(state);
	twopeers_open(REGION_SIZE);
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	for (unsigned i = 0; i < 2; i++)
		assert_non_null(plain[i] = ivshmem_open(uri, NULL));
	return 0;
}

static int tear_down(void **state)
{
	for (unsigned i = 0; i < 2; i++)
		ivshmem_close(plain[i]);
	twopeers_close();
	return fdcheck_teardown(state);
}

static void *send_all(void *arg)
{
	static const char bytes[LARGE];
	struct ivshmem_sender *sender = ivshmem_sender_open(arg, "c", NULL);

	assert_non_null(sender);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		if (i % 100 == 0) /* the other one sleeps */
			usleep(2000);
		assert_int_equal(ivshmem_send(sender, bytes, LARGE, i, LONG_MS), 0);
	}
	ivshmem_sender_close(sender);
	return NULL;
}

/* Whoever comes first. */
static void pass(struct ivshmem_peer *from, struct ivshmem_peer *to, unsigned flags)
{
	const struct ivshmem_channel_plan plan = {.name = "c", .ring = 4096, .flags = flags};
	char bytes[2048];
	pthread_t thread;
	uint32_t tag;

	assert_int_equal(ivshmem_channels_format(from, 0, &plan, 1), 0);
	struct ivshmem_receiver *receiver = ivshmem_receiver_open(to, "c", NULL);
	assert_non_null(receiver);
	assert_int_equal(pthread_create(&thread, NULL, send_all, from), 0);
	for (uint32_t i = 0; i < MESSAGES; i++) {
		if (i % 100 == 50) /* the other one sleeps */
			usleep(2000);
		assert_int_equal(
			ivshmem_receive(receiver, bytes, sizeof(bytes), &tag, LONG_MS), LARGE);
		assert_int_equal(tag, i);
	}
	assert_int_equal(ivshmem_receive(receiver, bytes, sizeof(bytes), NULL, LONG_MS), -1);
	assert_int_equal(errno, ESHUTDOWN);
	assert_int_equal(ivshmem_receive(receiver, bytes, sizeof(bytes), NULL, 10), -1);
	assert_int_equal(errno, ETIMEDOUT);
	pthread_join(thread, NULL);
	ivshmem_receiver_close(receiver);
}

static void test_no_doorbells(void **state)
{
	(void)state;
	pass(plain[0], plain[1], 0);
}

static void test_sender_cannot_ring(void **state)
{
	(void)state;
	pass(plain[0], peers[0], 0);
}

static void test_receiver_cannot_ring(void **state)
{
	(void)state;
	pass(peers[0], plain[0], 0);
}

static void test_both_poll(void **state)
{
	(void)state;
	pass(peers[0], peers[1], IVSHMEM_CHANNEL_READER_POLLS | IVSHMEM_CHANNEL_WRITER_POLLS);
}

#define TIMED_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TIMED_TEST(test_no_doorbells),
		TIMED_TEST(test_sender_cannot_ring),
		TIMED_TEST(test_receiver_cannot_ring),
		TIMED_TEST(test_both_poll),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
