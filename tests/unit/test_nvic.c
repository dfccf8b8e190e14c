/* SPDX-License-Identifier: MIT */
/* The board's NVIC: what is taken when, as the manual of the architecture says. */
#include "../common/fdcheck.h"

#include "../../tools/board/core/nvic.h"

enum { LINES = 40 };

static const struct nvic_masks none;
static struct nvic nvic;

static int set_up(void **state)
{
	(void)state;
	nvic_init(&nvic, LINES, 3);
	return 0;
}

/* Line `line` enabled at that priority. */
static unsigned enabled(unsigned line, uint8_t priority)
{
	nvic_enable(&nvic, line / 32, 1u << line % 32);
	nvic_set_priority(&nvic, EXC_LINE0 + line, priority);
	return EXC_LINE0 + line;
}

/* What is taken now, and is being handled from now on. */
static unsigned take(const struct nvic_masks *masks)
{
	unsigned number = nvic_next(&nvic, masks);

	if (number != 0)
		nvic_activate(&nvic, number);
	return number;
}

static void test_one(void **state)
{
	(void)state;
	assert_int_equal(nvic_next(&nvic, &none), 0);
	nvic_pend(&nvic, 16 + 3);
	assert_int_equal(nvic_next(&nvic, &none), 0); /* not enabled */
	enabled(3, 0);
	assert_int_equal(take(&none), 16 + 3);
	assert_false(nvic_bit(&nvic.pending, 16 + 3));
	assert_true(nvic_bit(&nvic.active, 16 + 3));
	assert_int_equal(nvic.current, 16 + 3);
	nvic_pend(&nvic, 16 + 3); /* again, while it is being handled */
	assert_int_equal(nvic_next(&nvic, &none), 0);
	assert_true(nvic_complete(&nvic, 16 + 3));
	assert_int_equal(nvic_next(&nvic, &none), 16 + 3);
}

static void test_order(void **state)
{
	(void)state;
	enabled(5, 0x40);
	enabled(35, 0x20);
	enabled(4, 0x40);
	nvic_pend_lines(&nvic, 0, 1u << 5 | 1u << 4);
	nvic_pend_lines(&nvic, 1, 1u << 3);
	assert_int_equal(take(&none), 16 + 35); /* the most urgent */
	nvic_complete(&nvic, 16 + 35);
	assert_int_equal(take(&none), 16 + 4); /* of equals the lowest number */
	assert_int_equal(take(&none), 0);      /* equals do not preempt */
	nvic_complete(&nvic, 16 + 4);
	assert_int_equal(take(&none), 16 + 5);
	nvic_bit_put(&nvic.pending, EXC_PENDSV, true); /* priority 0 */
	assert_int_equal(take(&none), EXC_PENDSV);
	nvic_bit_put(&nvic.pending, EXC_HARD, true);
	nvic_bit_put(&nvic.pending, EXC_NMI, true);
	assert_int_equal(take(&none), EXC_NMI);
	assert_int_equal(take(&none), 0);
	assert_int_equal(nvic_active_count(&nvic), 3);
	nvic_complete(&nvic, EXC_NMI);
	assert_int_equal(take(&none), EXC_HARD);
}

/* Three bits; those below them are not there. */
static void test_priority_bits(void **state)
{
	(void)state;
	nvic_set_priority(&nvic, 16, 0xff);
	assert_int_equal(nvic.priority[16], 0xe0);
	nvic_set_priority(&nvic, EXC_SVC, 0x5f);
	assert_int_equal(nvic.priority[EXC_SVC], 0x40);
	nvic_set_priority(&nvic, EXC_HARD, 0x20);
	assert_int_equal(nvic.priority[EXC_HARD], 0);
	nvic_set_priority(&nvic, 16 + LINES, 0x20); /* does not exist */
	nvic_init(&nvic, 32, 2);
	nvic_set_priority(&nvic, 16, 0xff);
	assert_int_equal(nvic.priority[16], 0xc0);
}

static void test_groups(void **state)
{
	(void)state;
	enabled(0, 0x60);
	enabled(1, 0x40);
	enabled(2, 0x20);
	nvic.prigroup = 5; /* two bits of group, one below */
	nvic_pend_lines(&nvic, 0, 1u << 0);
	assert_int_equal(take(&none), 16 + 0);
	nvic_pend_lines(&nvic, 0, 1u << 1);
	assert_int_equal(take(&none), 0); /* the same group */
	nvic_pend_lines(&nvic, 0, 1u << 2);
	assert_int_equal(take(&none), 16 + 2); /* the next one */
	nvic_complete(&nvic, 16 + 2);
	nvic_complete(&nvic, 16 + 0);
	nvic_pend_lines(&nvic, 0, 1u << 0);
	assert_int_equal(take(&none), 16 + 1); /* the rest of the priority decides the order */

	nvic.prigroup = 7; /* one group only */
	nvic_pend_lines(&nvic, 0, 1u << 2);
	assert_int_equal(take(&none), 0);
	nvic_bit_put(&nvic.pending, EXC_NMI, true);
	assert_int_equal(take(&none), EXC_NMI);
}

static void test_masks(void **state)
{
	const struct nvic_masks primask = {.primask = true}, faultmask = {.faultmask = true};
	struct nvic_masks basepri = {.basepri = 0x40};

	(void)state;
	enabled(0, 0x40);
	nvic_pend_lines(&nvic, 0, 1);
	assert_int_equal(nvic_next(&nvic, &primask), 0);
	assert_int_equal(nvic_next(&nvic, &faultmask), 0);
	assert_int_equal(nvic_next(&nvic, &basepri), 0);
	basepri.basepri = 0x60;
	assert_int_equal(nvic_next(&nvic, &basepri), 16);
	basepri.basepri = 0x1f; /* bits that are not there: no mask */
	assert_int_equal(nvic_next(&nvic, &basepri), 16);
	assert_int_equal(nvic_candidate(&nvic), 16);

	nvic_bit_put(&nvic.pending, EXC_HARD, true);
	assert_int_equal(nvic_next(&nvic, &primask), EXC_HARD);
	assert_int_equal(nvic_next(&nvic, &faultmask), 0);
	nvic_bit_put(&nvic.pending, EXC_NMI, true);
	assert_int_equal(nvic_next(&nvic, &faultmask), EXC_NMI);
}

static void test_lines(void **state)
{
	unsigned number = enabled(33, 0);

	(void)state;
	nvic_line(&nvic, 33, true);
	assert_int_equal(take(&none), number);
	nvic_line(&nvic, 33, true); /* no edge */
	assert_false(nvic_bit(&nvic.pending, number));
	nvic_complete(&nvic, number);
	assert_int_equal(take(&none), number); /* still up: once more */
	nvic_line(&nvic, 33, false);
	nvic_line(&nvic, 33, true); /* an edge while it is being handled */
	nvic_line(&nvic, 33, false);
	nvic_complete(&nvic, number);
	assert_int_equal(take(&none), number);
	nvic_complete(&nvic, number);
	assert_int_equal(take(&none), 0);

	nvic_line(&nvic, 33, true);
	nvic_line(&nvic, 33, false); /* a pulse stays pending... */
	assert_int_equal(nvic_candidate(&nvic), number);
	nvic_unpend_lines(&nvic, 1, 1u << 1); /* ...until somebody takes it back */
	assert_int_equal(nvic_candidate(&nvic), 0);
	nvic_line(&nvic, 33, true);
	nvic_unpend_lines(&nvic, 1, 1u << 1); /* which a line that is up does not allow */
	assert_int_equal(nvic_candidate(&nvic), number);

	nvic_line(&nvic, LINES, true); /* there is none */
	nvic_line(&nvic, UINT32_MAX, true);
	nvic_enable(&nvic, 1, UINT32_MAX);
	nvic_pend_lines(&nvic, 7, UINT32_MAX);
	nvic_pend(&nvic, 16 + LINES);
	assert_int_equal(nvic.enabled.word[2], 0xff);
	assert_int_equal(nvic.pending.word[8], 0);
	assert_int_equal(nvic.pending.word[2], 1u << 1);
}

static void test_raise(void **state)
{
	const struct nvic_masks primask = {.primask = true}, faultmask = {.faultmask = true};

	(void)state;
	assert_int_equal(nvic_raise(&nvic, EXC_USAGE, &none), EXC_HARD); /* disabled */
	nvic_bit_put(&nvic.pending, EXC_HARD, false);
	nvic_bit_put(&nvic.enabled, EXC_USAGE, true);
	assert_int_equal(nvic_raise(&nvic, EXC_USAGE, &none), EXC_USAGE);
	assert_true(nvic_bit(&nvic.pending, EXC_USAGE));
	assert_int_equal(nvic_raise(&nvic, EXC_USAGE, &primask), EXC_HARD);
	assert_int_equal(nvic_raise(&nvic, EXC_USAGE, &faultmask), 0);

	nvic_activate(&nvic, EXC_USAGE);
	assert_int_equal(nvic_raise(&nvic, EXC_USAGE, &none), EXC_HARD); /* in its own handler */
	assert_int_equal(nvic_raise(&nvic, EXC_SVC, &none), EXC_HARD);   /* an equal */
	nvic_set_priority(&nvic, EXC_USAGE, 0x20);
	assert_int_equal(nvic_raise(&nvic, EXC_SVC, &none), EXC_SVC);

	nvic_activate(&nvic, EXC_HARD);
	nvic_bit_put(&nvic.pending, EXC_SVC, false);
	assert_int_equal(nvic_raise(&nvic, EXC_SVC, &none), 0);
	assert_int_equal(nvic_raise(&nvic, EXC_HARD, &none), 0);
	assert_false(nvic_bit(&nvic.pending, EXC_SVC));
}

/* A number comes from the stack, where anything may be. */
static void test_complete(void **state)
{
	(void)state;
	assert_false(nvic_complete(&nvic, 0));
	assert_false(nvic_complete(&nvic, EXC_PENDSV));
	assert_false(nvic_complete(&nvic, 16 + LINES));
	assert_false(nvic_complete(&nvic, 511));
}

static void test_reset(void **state)
{
	(void)state;
	enabled(1, 0x20);
	nvic.prigroup = 3;
	nvic_line(&nvic, 1, true);
	nvic_line(&nvic, 2, true);
	nvic_line(&nvic, 2, false);
	take(&none);
	nvic_reset(&nvic);
	assert_int_equal(nvic.current, 0);
	assert_int_equal(nvic_active_count(&nvic), 0);
	assert_int_equal(nvic.prigroup, 0);
	assert_int_equal(nvic.pending.word[1], 1u << 1); /* what is still up */
	assert_int_equal(nvic_next(&nvic, &none), 0);
	enabled(1, 0x30);
	assert_int_equal(nvic_next(&nvic, &none), 17);
	assert_int_equal(nvic.priority[17], 0x20); /* the number of bits has stayed */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_one, set_up),
		cmocka_unit_test_setup(test_order, set_up),
		cmocka_unit_test_setup(test_priority_bits, set_up),
		cmocka_unit_test_setup(test_groups, set_up),
		cmocka_unit_test_setup(test_masks, set_up),
		cmocka_unit_test_setup(test_lines, set_up),
		cmocka_unit_test_setup(test_raise, set_up),
		cmocka_unit_test_setup(test_complete, set_up),
		cmocka_unit_test_setup(test_reset, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
