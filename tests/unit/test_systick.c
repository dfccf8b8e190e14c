/* SPDX-License-Identifier: MIT */
/* The board's SysTick, with a clock that the test turns. */
#include "../common/fdcheck.h"

#include "../../tools/board/core/systick.h"

enum { ENABLE = 1, TICKINT = 2, CLKSOURCE = 4, COUNTFLAG = 0x10000 };
enum { HZ = 1000000, US = 1000 }; /* a tick is a microsecond */

static struct systick systick;
static uint64_t now; /* nanoseconds */

static int set_up(void **state)
{
	(void)state;
	systick_init(&systick, HZ);
	now = UINT64_C(123456789012345);
	return 0;
}

static bool pass(uint64_t ns)
{
	now += ns;
	return systick_advance(&systick, now);
}

static uint32_t get(uint32_t offset)
{
	return systick_read(&systick, offset, now);
}

static void set(uint32_t offset, uint32_t value)
{
	systick_write(&systick, offset, value, now);
}

static void start(uint32_t reload)
{
	now -= now % US; /* a tick begins */
	set(SYSTICK_RVR, reload);
	set(SYSTICK_CVR, 0);
	set(SYSTICK_CSR, ENABLE | TICKINT);
}

static void test_counts(void **state)
{
	(void)state;
	start(9);
	assert_int_equal(get(SYSTICK_CVR), 0);
	assert_false(pass(1 * US));
	assert_int_equal(get(SYSTICK_CVR), 9);
	assert_false(pass(8 * US));
	assert_int_equal(get(SYSTICK_CVR), 1);
	assert_false(pass(US - 1));
	assert_int_equal(get(SYSTICK_CVR), 1);
	assert_int_equal(get(SYSTICK_CSR), ENABLE | TICKINT | CLKSOURCE);
	assert_true(pass(1));
	assert_int_equal(get(SYSTICK_CVR), 0);
	assert_false(pass(1 * US)); /* once */
	assert_int_equal(get(SYSTICK_CVR), 9);
	assert_int_equal(get(SYSTICK_CSR), ENABLE | TICKINT | CLKSOURCE | COUNTFLAG);
	assert_int_equal(get(SYSTICK_CSR), ENABLE | TICKINT | CLKSOURCE); /* reading clears */
	assert_true(pass(9 * US));
}

/* What nobody has seen in between is one; the phase stays. */
static void test_late(void **state)
{
	(void)state;
	start(9);
	assert_true(pass(37 * US));
	assert_int_equal(get(SYSTICK_CVR), 3);
	assert_false(pass(2 * US));
	assert_true(pass(1 * US));
}

static void test_deadline(void **state)
{
	(void)state;
	assert_true(systick_deadline(&systick) == UINT64_MAX);
	start(9);
	assert_int_equal(systick_deadline(&systick), now + 10 * US);
	assert_false(pass(systick_deadline(&systick) - now - 1));
	assert_true(pass(1));
	assert_int_equal(systick_deadline(&systick), now + 10 * US);
	set(SYSTICK_CSR, ENABLE); /* without interrupt */
	assert_true(systick_deadline(&systick) == UINT64_MAX);
	assert_false(pass(15 * US));
	assert_int_equal(get(SYSTICK_CSR), ENABLE | CLKSOURCE | COUNTFLAG);

	/* At a frequency that nanoseconds do not divide: never too early, nor a tick late. */
	systick_init(&systick, 7372800);
	start(1000);
	for (int i = 0; i < 1000; i++) {
		uint64_t deadline = systick_deadline(&systick);
		assert_false(pass(deadline - 1 - now));
		assert_true(pass(1));
	}
}

static void test_reload(void **state)
{
	(void)state;
	start(9);
	pass(3 * US);
	set(SYSTICK_RVR, 0xff000004); /* 24 bits; from the next zero on */
	assert_int_equal(get(SYSTICK_RVR), 4);
	assert_int_equal(get(SYSTICK_CVR), 7);
	assert_true(pass(7 * US));
	assert_false(pass(4 * US));
	assert_true(pass(1 * US));
	assert_false(pass(1 * US));
	set(SYSTICK_RVR, 0); /* stays at 0 when it gets there */
	assert_true(pass(4 * US));
	assert_false(pass(1000 * US));
	assert_int_equal(get(SYSTICK_CVR), 0);
	assert_true(systick_deadline(&systick) == UINT64_MAX);
	set(SYSTICK_RVR, 2);
	assert_true(pass(3 * US));
}

static void test_clear(void **state)
{
	(void)state;
	start(9);
	assert_true(pass(12 * US));
	set(SYSTICK_CVR, 5); /* whatever is written */
	assert_int_equal(get(SYSTICK_CVR), 0);
	assert_int_equal(get(SYSTICK_CSR), ENABLE | TICKINT | CLKSOURCE);
	assert_false(pass(9 * US));
	assert_true(pass(1 * US));
}

static void test_stop(void **state)
{
	(void)state;
	start(9);
	pass(4 * US);
	set(SYSTICK_CSR, TICKINT);
	assert_false(pass(100 * US));
	assert_int_equal(get(SYSTICK_CVR), 6);
	assert_true(systick_deadline(&systick) == UINT64_MAX);
	set(SYSTICK_CSR, ENABLE | TICKINT);
	assert_false(pass(5 * US));
	assert_true(pass(1 * US));
}

static void test_longest(void **state)
{
	(void)state;
	start(0xffffff);
	assert_int_equal(get(SYSTICK_CVR), 0);
	assert_false(pass(1 * US));
	assert_int_equal(get(SYSTICK_CVR), 0xffffff);
	assert_false(pass(UINT64_C(0xfffffe) * US));
	assert_int_equal(get(SYSTICK_CVR), 1);
	assert_true(pass(1 * US));
}

static void test_calib(void **state)
{
	(void)state;
	assert_int_equal(get(SYSTICK_CALIB), 0x80000000 | 9999); /* 10 ms, exactly */
	systick_init(&systick, 1234567);
	assert_int_equal(get(SYSTICK_CALIB), 0xc0000000 | 12344);
	systick_init(&systick, UINT32_MAX);
	assert_int_equal(get(SYSTICK_CALIB) & 0xff000000, 0xc0000000);
	systick_init(&systick, 1);
	start(1);
	assert_true(pass(UINT64_C(2000000000)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_counts, set_up),
		cmocka_unit_test_setup(test_late, set_up),
		cmocka_unit_test_setup(test_deadline, set_up),
		cmocka_unit_test_setup(test_reload, set_up),
		cmocka_unit_test_setup(test_clear, set_up),
		cmocka_unit_test_setup(test_stop, set_up),
		cmocka_unit_test_setup(test_longest, set_up),
		cmocka_unit_test_setup(test_calib, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
