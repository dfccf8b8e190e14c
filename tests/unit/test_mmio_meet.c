/* SPDX-License-Identifier: MIT */
/* Firmware that meets the library, and firmware that meets firmware. Nobody here has a clock: who
 * sleeps wakes by a doorbell, or the test has found what it was looking for. */
#include "../common/fdcheck.h"
#include "../common/scripted.h"

#include <ivshmem/peer.h>

#include <poll.h>

static void sleep_until_rung(const volatile uint32_t *word, uint32_t value);
#define IVSHMEM_MMIO_SLEEP sleep_until_rung
#include "../../examples/hello-metal.c"

#define REGION_SIZE 8192
#define LONG_MS     20000
#define PAUSE_US    30000
#define NOTHING     0xdeadbeefu

enum { LIBRARY_ID = 5, FIRMWARE_ID = 6 };

/* A device whose doorbell register is looked at when its firmware goes to sleep. */
struct firmware {
	uint32_t registers[4];
	struct ivshmem_mmio iv;
	int bell, others_bell;
	unsigned lose; /* that many rings: the other is not known yet */
	unsigned sent;
};

static _Thread_local struct firmware *running;

static void power_on(struct firmware *firmware, unsigned id, void *memory, int bell, int others)
{
	*firmware = (struct firmware){.bell = bell, .others_bell = others};
	firmware->registers[IVSHMEM_REG_IVPOSITION / 4] = id;
	firmware->registers[IVSHMEM_REG_DOORBELL / 4] = NOTHING;
	ivshmem_mmio_init(
		&firmware->iv, (uintptr_t)firmware->registers, (uintptr_t)memory, REGION_SIZE);
	running = firmware;
}

static void deliver(struct firmware *firmware)
{
	uint32_t *doorbell = &firmware->registers[IVSHMEM_REG_DOORBELL / 4];
	const uint64_t one = 1;

	if (*doorbell == NOTHING)
		return;
	*doorbell = NOTHING;
	if (firmware->lose > 0)
		firmware->lose--;
	else if (write(firmware->others_bell, &one, sizeof(one)) == sizeof(one))
		firmware->sent++;
}

static void sleep_until_rung(const volatile uint32_t *word, uint32_t value)
{
	struct pollfd bell = {.fd = running->bell, .events = POLLIN};

	deliver(running);
	if (*word != value)
		return;
	if (poll(&bell, 1, LONG_MS) != 1) {
		fprintf(stderr, "nobody wakes the firmware\n");
		abort(); /* this may be a thread of its own, in which no assertion works */
	}
	if (scripted_rung(running->bell))
		ivshmem_mmio_interrupt(&running->iv, 0);
}

static unsigned meet(struct firmware *firmware, unsigned seat)
{
	struct ivshmem_mmio_meeting meeting;

	assert_int_equal(ivshmem_mmio_meet_start(&meeting, &firmware->iv, PLACE, seat, 0), 0);
	while (!ivshmem_mmio_meet(&meeting))
		ivshmem_mmio_sleep(&firmware->iv, 0);
	deliver(firmware);
	return meeting.other;
}

/* ---- with the library ---- */

static struct scripted server;
static struct ivshmem_peer *peer;
static struct firmware fw;
static int region, bells[2]; /* the library's, the firmware's */

static int set_up(void **state)
{
	fdcheck_setup(state);
	region = scripted_region(REGION_SIZE);
	bells[0] = scripted_bell();
	bells[1] = scripted_bell();
	const struct line lines[] = {{0, -1}, {LIBRARY_ID, -1}, {-1, region},
		{FIRMWARE_ID, bells[1]}, {LIBRARY_ID, bells[0]}};
	server = (struct scripted){.lines = lines, .n_lines = 5};
	scripted_start(&server);
	peer = ivshmem_open(server.uri, NULL);
	assert_non_null(peer);
	scripted_join(&server);
	power_on(&fw, FIRMWARE_ID, ivshmem_region(peer, NULL), bells[1], bells[0]);
	return 0;
}

static int tear_down(void **state)
{
	ivshmem_close(peer);
	scripted_stop(&server);
	close(region);
	close(bells[0]);
	close(bells[1]);
	return fdcheck_teardown(state);
}

/* ivshmem_meet() in a thread. */
struct call {
	unsigned seat, delay_us, other;
	int result;
	pthread_t thread;
};

static void *run(void *arg)
{
	struct call *call = arg;
	usleep(call->delay_us);
	call->result = ivshmem_meet(peer, PLACE, call->seat, 0, LONG_MS, &call->other);
	return NULL;
}

static void start(struct call *call, unsigned seat, unsigned delay_us)
{
	*call = (struct call){.seat = seat, .delay_us = delay_us};
	assert_int_equal(pthread_create(&call->thread, NULL, run, call), 0);
}

static void assert_met(struct call *call)
{
	pthread_join(call->thread, NULL);
	assert_int_equal(call->result, 0);
	assert_int_equal(call->other, FIRMWARE_ID);
}

/* The library on `seat`; who of the two comes first. */
static void meet_library(unsigned seat, unsigned library_us, unsigned firmware_us)
{
	struct call call;

	start(&call, seat, library_us);
	usleep(firmware_us);
	assert_int_equal(meet(&fw, !seat), LIBRARY_ID);
	assert_met(&call);
}

static void test_any_order(void **state)
{
	(void)state;
	for (unsigned seat = 0; seat < 2; seat++) {
		meet_library(seat, 0, 0);
		meet_library(seat, 0, PAUSE_US);
		meet_library(seat, PAUSE_US, 0);
	}
}

static void test_any_content(void **state)
{
	(void)state;
	for (int fill = 1; fill < 256; fill += 127) {
		memset((char *)ivshmem_region(peer, NULL) + PLACE, fill, LINES - PLACE);
		meet_library(fill == 1, 0, PAUSE_US);
	}
}

/* The library rings until it is told that it was heard, and it is told so last. */
static void test_rings_into_nothing(void **state)
{
	(void)state;
	for (unsigned lose = 1; lose < 6; lose++)
		for (unsigned seat = 0; seat < 2; seat++) {
			fw.lose = lose;
			meet_library(seat, lose % 2 ? PAUSE_US : 0, 0);
			assert_int_equal(fw.lose, 0);
		}
}

/* Firmware that is reset at any step and begins again, next to a library that does not. */
static void test_reset(void **state)
{
	(void)state;
	for (unsigned steps = 0; steps < 6; steps++) {
		struct ivshmem_mmio_meeting meeting;
		struct call call;
		int met = 0;

		start(&call, 1, 0);
		ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0);
		for (unsigned i = 0; i < steps && !met; i++) {
			met = ivshmem_mmio_meet(&meeting);
			if (!met)
				ivshmem_mmio_sleep(&fw.iv, 0);
		}
		if (met) {
			deliver(&fw);
		} else {
			power_on(&fw, FIRMWARE_ID, ivshmem_region(peer, NULL), bells[1], bells[0]);
			assert_int_equal(meet(&fw, 0), LIBRARY_ID);
		}
		assert_met(&call);
	}
}

/* ---- slot by slot ---- */

static uint32_t memory[REGION_SIZE / 4];

static uint32_t *word(unsigned seat, enum ivshmem_meeting which)
{
	return &memory[(PLACE + seat * IVSHMEM_MEETING_SLOT + which) / 4];
}

static int set_up_slots(void **state)
{
	fdcheck_setup(state);
	memset(memory, 0, sizeof(memory));
	for (unsigned i = 0; i < 2; i++)
		bells[i] = scripted_bell();
	power_on(&fw, FIRMWARE_ID, memory, bells[1], bells[0]);
	return 0;
}

static int tear_down_slots(void **state)
{
	for (unsigned i = 0; i < 2; i++)
		close(bells[i]);
	return fdcheck_teardown(state);
}

/* No session is one that the other's slot has named, or that was the own one. */
static void test_sessions(void **state)
{
	struct ivshmem_mmio_meeting meeting;
	const struct {
		uint32_t old, seen, heard, fresh;
	} cases[] = {{0, 0, 0, 1}, {7, 7, 7, 8}, {7, 8, 9, 10}, {7, 9, 8, 10},
		{UINT32_MAX, 0, 0, 1}, {UINT32_MAX, 1, 0, 2}, {UINT32_MAX - 1, UINT32_MAX, 1, 2}};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		*word(0, IVSHMEM_MEETING_SESSION) = cases[i].old;
		*word(1, IVSHMEM_MEETING_SEEN) = cases[i].seen;
		*word(1, IVSHMEM_MEETING_HEARD) = cases[i].heard;
		assert_int_equal(ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0), 0);
		assert_int_equal(*word(0, IVSHMEM_MEETING_SESSION), cases[i].fresh);
	}
}

/* What an earlier meeting has left behind is nobody. */
static void test_alone(void **state)
{
	struct ivshmem_mmio_meeting meeting;

	(void)state;
	*word(1, IVSHMEM_MEETING_SESSION) = 77;
	*word(1, IVSHMEM_MEETING_FLAGS) = IVSHMEM_MEETING_RINGS | IVSHMEM_MEETING_HEARS;
	*word(1, IVSHMEM_MEETING_SEEN) = *word(1, IVSHMEM_MEETING_HEARD) = 3;
	*word(0, IVSHMEM_MEETING_SESSION) = 3;
	ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0);
	for (int i = 0; i < 10; i++) {
		ivshmem_mmio_interrupt(&fw.iv, 0);
		assert_int_equal(ivshmem_mmio_meet(&meeting), 0);
		assert_int_equal(*word(0, IVSHMEM_MEETING_SEEN), 77);
		assert_int_equal(*word(0, IVSHMEM_MEETING_HEARD), 0);
	}
}

/* An ID that nobody can have is no slot of anybody, and nobody is rung for it. */
static void test_nonsense(void **state)
{
	struct ivshmem_mmio_meeting meeting;

	(void)state;
	*word(1, IVSHMEM_MEETING_SESSION) = 77;
	*word(1, IVSHMEM_MEETING_ID) = 65536;
	*word(1, IVSHMEM_MEETING_FLAGS) = UINT32_MAX;
	ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0);
	assert_int_equal(ivshmem_mmio_meet(&meeting), 0);
	assert_int_equal(*word(0, IVSHMEM_MEETING_SEEN), 0);
	assert_int_equal(fw.registers[IVSHMEM_REG_DOORBELL / 4], NOTHING);
}

/* One without doorbells is not rung, and is not waited for; its ID is none. */
static void test_memory_only(void **state)
{
	struct ivshmem_mmio_meeting meeting;

	(void)state;
	ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0);
	*word(1, IVSHMEM_MEETING_ID) = IVSHMEM_MEETING_NO_ID;
	*word(1, IVSHMEM_MEETING_SESSION) = 77;
	assert_int_equal(ivshmem_mmio_meet(&meeting), 0);
	*word(1, IVSHMEM_MEETING_SEEN) = *word(0, IVSHMEM_MEETING_SESSION);
	assert_int_equal(ivshmem_mmio_meet(&meeting), 1);
	assert_int_equal(meeting.other, IVSHMEM_MEETING_NO_ID);
	assert_int_equal(fw.registers[IVSHMEM_REG_DOORBELL / 4], NOTHING);
}

/* One that rings and can't be rung. What came before it was there was not of it. */
static void test_rings_of_the_past(void **state)
{
	struct ivshmem_mmio_meeting meeting;

	(void)state;
	ivshmem_mmio_meet_start(&meeting, &fw.iv, PLACE, 0, 0);
	for (uint32_t session = 77; session < 80; session++) {
		*word(1, IVSHMEM_MEETING_ID) = 9;
		*word(1, IVSHMEM_MEETING_FLAGS) = IVSHMEM_MEETING_RINGS;
		*word(1, IVSHMEM_MEETING_SESSION) = session;
		*word(1, IVSHMEM_MEETING_SEEN) = *word(0, IVSHMEM_MEETING_SESSION);
		ivshmem_mmio_interrupt(&fw.iv, 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(ivshmem_mmio_meet(&meeting), 0);
		assert_int_equal(*word(0, IVSHMEM_MEETING_SEEN), session);
	}
	ivshmem_mmio_interrupt(&fw.iv, 0);
	assert_int_equal(ivshmem_mmio_meet(&meeting), 1);
	assert_int_equal(*word(0, IVSHMEM_MEETING_HEARD), 79);
	assert_int_equal(meeting.other, 9);
	assert_int_equal(fw.registers[IVSHMEM_REG_DOORBELL / 4], NOTHING);
}

static void test_refused(void **state)
{
	struct ivshmem_mmio_meeting meeting;
	const struct {
		uint32_t offset;
		unsigned seat, vector;
	} wrong[] = {{PLACE + 4, 0, 0}, {REGION_SIZE - 64, 0, 0}, {REGION_SIZE, 0, 0},
		{UINT32_MAX - 63, 0, 0}, {PLACE, 2, 0}, {PLACE, 0, IVSHMEM_MMIO_VECTORS}};

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(ivshmem_mmio_meet_start(&meeting, &fw.iv, wrong[i].offset,
					 wrong[i].seat, wrong[i].vector),
			-1);
	assert_int_equal(ivshmem_mmio_meet_start(&meeting, &fw.iv, REGION_SIZE - 128, 1, 0), 0);
	fw.iv.size = 127;
	assert_int_equal(ivshmem_mmio_meet_start(&meeting, &fw.iv, 0, 0, 0), -1);
}

/* ---- firmware with firmware ---- */

static struct firmware both[2];

static void power_on_both(void)
{
	memset(memory, 0, sizeof(memory));
	for (unsigned i = 0; i < 2; i++)
		power_on(&both[i], i, memory, bells[i], bells[!i]);
}

/* Both until nothing moves any more. Returns how many have met. */
static unsigned step_both(struct ivshmem_mmio_meeting *meetings, unsigned *met)
{
	int news;

	do {
		news = 0;
		for (unsigned i = 0; i < 2; i++) {
			if (met[i] || !scripted_rung(bells[i]))
				continue;
			news = 1;
			ivshmem_mmio_interrupt(&both[i].iv, 0);
			met[i] = (unsigned)ivshmem_mmio_meet(&meetings[i]);
			deliver(&both[i]);
		}
	} while (news);
	return met[0] + met[1];
}

/* By doorbells alone, if none is lost. And by the tick of one, when some are. */
static void test_two_firmwares(void **state)
{
	(void)state;
	for (unsigned lose = 0; lose < 4; lose++)
		for (unsigned ticking = 0; ticking < 2; ticking++) {
			struct ivshmem_mmio_meeting meetings[2];
			unsigned met[2] = {0, 0}, ticks = 0;

			power_on_both();
			both[0].lose = both[1].lose = lose;
			for (unsigned i = 0; i < 2; i++)
				ivshmem_mmio_meet_start(&meetings[i], &both[i].iv, PLACE, i, 0);
			for (unsigned i = 0; i < 2; i++) {
				ivshmem_mmio_meet(&meetings[i]);
				deliver(&both[i]);
			}
			while (step_both(meetings, met) < 2) {
				assert_true(lose > 0 && ++ticks < 20);
				met[ticking] |= (unsigned)ivshmem_mmio_meet(&meetings[ticking]);
				deliver(&both[ticking]);
			}
			assert_int_equal(meetings[0].other, 1);
			assert_int_equal(meetings[1].other, 0);
			while (scripted_rung(bells[0]) || scripted_rung(bells[1]))
				;
		}
}

static unsigned lines_printed[2];

static void print(const char *text)
{
	char wanted[64];
	unsigned *line = &lines_printed[running - both];

	snprintf(wanted, sizeof(wanted), "hello %u from peer %u", ++*line, running == both);
	if (*line == SHOWN + 1)
		snprintf(wanted, sizeof(wanted), "hello: passed rounds=1000");
	if (strcmp(text, wanted) != 0) {
		fprintf(stderr, "%s\n", text);
		abort();
	}
}

static void *greet(void *arg)
{
	struct firmware *firmware = running = arg;

	if (hello(&firmware->iv, firmware == &both[1], 1000, print) != 0)
		abort();
	deliver(firmware);
	return NULL;
}

/* examples/hello-metal.c on both seats. Seat 1 comes when seat 0 sleeps: no ring is lost here. */
static void test_hello(void **state)
{
	pthread_t first;

	(void)state;
	power_on_both();
	lines_printed[0] = lines_printed[1] = 0;
	assert_int_equal(pthread_create(&first, NULL, greet, &both[0]), 0);
	greet(&both[1]);
	pthread_join(first, NULL);
	assert_int_equal(lines_printed[0], SHOWN + 1);
	assert_int_equal(lines_printed[1], SHOWN + 1);

	assert_int_equal(hello(&both[0].iv, 2, 1, print), -1);
	both[0].iv.size = LINES + LINE;
	assert_int_equal(hello(&both[0].iv, 0, 1, print), -1);
}

#define MEET_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
#define SLOT_TEST(function) cmocka_unit_test_setup_teardown(function, set_up_slots, tear_down_slots)

int main(void)
{
	const struct CMUnitTest tests[] = {
		MEET_TEST(test_any_order),
		MEET_TEST(test_any_content),
		MEET_TEST(test_rings_into_nothing),
		MEET_TEST(test_reset),
		SLOT_TEST(test_sessions),
		SLOT_TEST(test_alone),
		SLOT_TEST(test_nonsense),
		SLOT_TEST(test_memory_only),
		SLOT_TEST(test_rings_of_the_past),
		SLOT_TEST(test_refused),
		SLOT_TEST(test_two_firmwares),
		SLOT_TEST(test_hello),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
