/* SPDX-License-Identifier: MIT */
/* Two parties that meet in memory and by doorbells: in any order, after any past. The other one is
 * another thread with a handle of its own, or played by the test, slot by slot. */
#include "../common/fdcheck.h"
#include "../common/twopeers.h"

#include <ivshmem/abi.h>
#include <ivshmem/peer.h>

#include <endian.h>
#include <limits.h>
#include <pthread.h>

#define REGION_SIZE 8192
#define OFFSET      4096u
#define LONG_MS     20000
#define PAUSE_US    30000

static int set_up(void **state)
{
	fdcheck_setup(state);
	twopeers_open(REGION_SIZE);
	return 0;
}

static int tear_down(void **state)
{
	twopeers_close();
	return fdcheck_teardown(state);
}

/* A call of ivshmem_meet() in a thread. */
struct call {
	struct ivshmem_peer *peer;
	unsigned seat, delay_us, other;
	int timeout_ms, result, error;
	pthread_t thread;
};

static void *run(void *arg)
{
	struct call *call = arg;
	usleep(call->delay_us);
	call->result =
		ivshmem_meet(call->peer, OFFSET, call->seat, 0, call->timeout_ms, &call->other);
	call->error = errno;
	return NULL;
}

static void start(struct call *call, struct ivshmem_peer *peer, unsigned seat, unsigned delay_us)
{
	*call = (struct call){
		.peer = peer, .seat = seat, .delay_us = delay_us, .timeout_ms = LONG_MS};
	assert_int_equal(pthread_create(&call->thread, NULL, run, call), 0);
}

static void assert_met(struct call *call, unsigned other)
{
	pthread_join(call->thread, NULL);
	assert_int_equal(call->result, 0);
	assert_int_equal(call->other, other);
}

static void meet_both(unsigned delay_0, unsigned delay_1)
{
	struct call calls[2];
	start(&calls[0], peers[0], 0, delay_0);
	start(&calls[1], peers[1], 1, delay_1);
	assert_met(&calls[0], 6);
	assert_met(&calls[1], 5);
}

static void test_any_order(void **state)
{
	(void)state;
	meet_both(0, 0);
	meet_both(0, PAUSE_US);
	meet_both(PAUSE_US, 0);
}

static void test_any_content(void **state)
{
	(void)state;
	for (int fill = 1; fill < 256; fill += 127) {
		memset((char *)ivshmem_region(peers[0], NULL) + OFFSET, fill, 128);
		meet_both(0, PAUSE_US);
	}
}

/* Who starts may clear the memory, with the other's slot in it. */
static void test_cleared_meanwhile(void **state)
{
	struct call calls[2];
	(void)state;

	start(&calls[0], peers[0], 0, 0);
	usleep(PAUSE_US);
	memset(ivshmem_region(peers[1], NULL), 0, REGION_SIZE);
	start(&calls[1], peers[1], 1, 0);
	assert_met(&calls[0], 6);
	assert_met(&calls[1], 5);
}

/* What a meeting leaves behind is not the other one. */
static void test_alone(void **state)
{
	(void)state;
	meet_both(0, 0);
	assert_int_equal(ivshmem_meet(peers[0], OFFSET, 0, 0, 50, NULL), -1);
	assert_int_equal(errno, ETIMEDOUT);
	assert_int_equal(ivshmem_meet(peers[1], OFFSET, 1, 0, 0, NULL), -1);
	assert_int_equal(errno, ETIMEDOUT);
}

/* One that was killed half way and is started again. */
static void test_restarted(void **state)
{
	struct call calls[2];
	(void)state;

	start(&calls[0], peers[0], 0, 0);
	ivshmem_meet(peers[1], OFFSET, 1, 0, 0, NULL);
	usleep(PAUSE_US);
	start(&calls[1], peers[1], 1, 0);
	assert_met(&calls[0], 6);
	assert_met(&calls[1], 5);
}

/* ---- the other one played by hand ---- */

static uint32_t *word(unsigned seat, enum ivshmem_meeting which)
{
	char *memory = ivshmem_region(peers[0], NULL);
	return (uint32_t *)(memory + OFFSET + seat * IVSHMEM_MEETING_SLOT + which);
}

static uint32_t said(unsigned seat, enum ivshmem_meeting which)
{
	return le32toh(__atomic_load_n(word(seat, which), __ATOMIC_ACQUIRE));
}

static void say(unsigned seat, enum ivshmem_meeting which, uint32_t value)
{
	__atomic_store_n(word(seat, which), htole32(value), __ATOMIC_RELEASE);
}

static bool becomes(unsigned seat, enum ivshmem_meeting which, uint32_t value)
{
	for (int i = 0; i < LONG_MS; i++) {
		if (said(seat, which) == value)
			return true;
		usleep(1000);
	}
	return false;
}

static bool is_rung(int bell)
{
	for (int i = 0; i < LONG_MS; i++) {
		if (scripted_rung(bell))
			return true;
		usleep(1000);
	}
	return false;
}

/* Seat 1, ID 6, says that it is there. Returns the session of seat 0. */
static uint32_t enter(uint32_t id)
{
	while (said(0, IVSHMEM_MEETING_SESSION) == 0)
		usleep(1000);
	uint32_t session = said(0, IVSHMEM_MEETING_SESSION);
	say(1, IVSHMEM_MEETING_ID, id);
	say(1, IVSHMEM_MEETING_FLAGS, IVSHMEM_MEETING_RINGS | IVSHMEM_MEETING_HEARS);
	say(1, IVSHMEM_MEETING_SEEN, session);
	say(1, IVSHMEM_MEETING_SESSION, 77);
	return session;
}

static uint64_t write_bell(int bell)
{
	const uint64_t one = 1;
	return write(bell, &one, sizeof(one)) == sizeof(one);
}

/* Rings that are lost are repeated, and it does not end before one of ours has come. */
static void test_lost_rings(void **state)
{
	struct call call;
	(void)state;

	write_bell(bells[0]); /* one from the past */
	start(&call, peers[0], 0, 0);
	uint32_t session = enter(6);
	assert_int_equal(said(0, IVSHMEM_MEETING_ID), 5);
	assert_true(becomes(0, IVSHMEM_MEETING_SEEN, 77));
	for (int i = 0; i < 3; i++)
		assert_true(is_rung(bells[1]));

	say(1, IVSHMEM_MEETING_HEARD, session);
	usleep(PAUSE_US);
	scripted_rung(bells[1]);
	assert_false(scripted_rung(bells[1])); /* no need to */
	assert_int_equal(said(0, IVSHMEM_MEETING_HEARD), 0);
	assert_true(write_bell(bells[0]));
	assert_met(&call, 6);
	assert_int_equal(said(0, IVSHMEM_MEETING_HEARD), 77);
}

/* An ID that nobody can have is no slot of anybody. */
static void test_nonsense(void **state)
{
	struct call call;
	(void)state;

	start(&call, peers[0], 0, 0);
	enter(65536);
	usleep(PAUSE_US);
	assert_int_equal(said(0, IVSHMEM_MEETING_SEEN), 0);
	say(1, IVSHMEM_MEETING_HEARD, said(0, IVSHMEM_MEETING_SESSION));
	say(1, IVSHMEM_MEETING_ID, 6);
	assert_true(becomes(0, IVSHMEM_MEETING_SEEN, 77));
	assert_true(write_bell(bells[0]));
	assert_met(&call, 6);
}

/* ---- without doorbells ---- */

static struct ivshmem_peer *open_file(int read_only)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	char uri[64];

	params.read_only = read_only;
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	struct ivshmem_peer *peer = ivshmem_open(uri, &params);
	assert_non_null(peer);
	return peer;
}

static void test_memory_only(void **state)
{
	struct ivshmem_peer *plain[2] = {open_file(0), open_file(0)};
	struct call calls[2];
	(void)state;

	start(&calls[0], plain[0], 0, 0);
	start(&calls[1], plain[1], 1, PAUSE_US);
	assert_met(&calls[0], UINT_MAX);
	assert_met(&calls[1], UINT_MAX);

	/* One with doorbells does not wait for a ring of one without. */
	start(&calls[0], plain[0], 0, 0);
	start(&calls[1], peers[1], 1, 0);
	assert_met(&calls[0], 6);
	assert_met(&calls[1], UINT_MAX);
	ivshmem_close(plain[0]);
	ivshmem_close(plain[1]);
}

static void test_refused(void **state)
{
	(void)state;
	const struct {
		uint64_t offset;
		unsigned seat;
	} wrong[] = {{OFFSET + 4, 0}, {REGION_SIZE - 64, 0}, {REGION_SIZE, 0}, {UINT64_MAX - 63, 0},
		{OFFSET, 2}};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(
			ivshmem_meet(peers[0], wrong[i].offset, wrong[i].seat, 0, 0, NULL), -1);
		assert_int_equal(errno, EINVAL);
	}
	assert_int_equal(ivshmem_meet(peers[0], REGION_SIZE - 128, 0, 0, 0, NULL), -1);
	assert_int_equal(errno, ETIMEDOUT);

	struct ivshmem_peer *reader = open_file(1);
	assert_int_equal(ivshmem_meet(reader, OFFSET, 0, 0, 0, NULL), -1);
	assert_int_equal(errno, EACCES);
	ivshmem_close(reader);
}

#define MEET_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEET_TEST(test_any_order),
		MEET_TEST(test_any_content),
		MEET_TEST(test_cleared_meanwhile),
		MEET_TEST(test_alone),
		MEET_TEST(test_restarted),
		MEET_TEST(test_lost_rings),
		MEET_TEST(test_nonsense),
		MEET_TEST(test_memory_only),
		MEET_TEST(test_refused),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
