/* SPDX-License-Identifier: MIT */
/* Each way in which an eventfd can be rung and taken between two looks. */
#include "../../tools/server/hub/bellset.h"

#include "../common/fdcheck.h"

#include <sys/eventfd.h>
#include <unistd.h>

static struct bell_set set;
static struct bell bell;
static unsigned told;

static void note(void *data, struct bell *which)
{
	assert_ptr_equal(data, &told);
	assert_ptr_equal(which, &bell);
	told++;
}

static int set_up(void **state)
{
	fdcheck_setup(state);
	told = 0;
	bell = (struct bell){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
	return bell_set_open(&set, note, &told);
}

static int tear_down(void **state)
{
	bell_set_close(&set);
	close(bell.fd);
	return fdcheck_teardown(state);
}

/* What happens between two looks: 'w' it is rung, 'r' it is taken; a space is a look. */
static void play(const char *script)
{
	uint64_t value = 1;
	for (; *script; script++) {
		if (*script == 'w')
			assert_int_equal(write(bell.fd, &value, sizeof(value)), sizeof(value));
		else if (*script == 'r')
			assert_int_equal(
				read(bell.fd, &(uint64_t){0}, sizeof(value)), sizeof(value));
		else
			assert_false(bell_set_look(&set));
	}
	assert_false(bell_set_look(&set));
	assert_int_equal(told, bell.seen);
}

static void expect(const char *script, unsigned rings)
{
	unsigned before = told;
	play(script);
	assert_int_equal(told - before, rings);
}

static void test_a_ring_is_seen_once(void **state)
{
	(void)state;
	assert_int_equal(bell_set_watch(&set, &bell, 1), 1);
	expect("", 0);
	expect("w", 1);
	expect("   ", 0); /* it stays unread */
	expect("w", 1);
	expect("r", 0);
	expect("wr", 0); /* could be the end of the taking of those two */
	expect("wr", 1); /* taken before we looked */
	expect("wr wr wr", 3);
	expect("w r w r", 2);
	expect("w w w r", 3);
	expect("wr", 0);
	expect("wr", 1);
}

static void test_never_more_than_were_rung(void **state)
{
	(void)state;
	assert_int_equal(bell_set_watch(&set, &bell, 1), 1);
	expect("www", 1);
	expect("rw", 1);
	expect("rwr", 0);
	for (unsigned i = 0, rung = 0; i < 3000; i++) {
		static const char *const steps[] = {"w", "wr", "w wr", "ww r", "wrwr", "w rwr"};
		static const unsigned rings[] = {1, 1, 2, 2, 2, 2};
		unsigned before = told, step = (i * 2654435761u >> 7) % 6;
		play(steps[step]);
		rung += rings[step];
		assert_true(told - before <= rings[step]);
		(void)rung;
	}
	assert_true(told > 2000);
}

static void test_what_was_before_does_not_count(void **state)
{
	(void)state;
	uint64_t value = 1;
	assert_int_equal(write(bell.fd, &value, sizeof(value)), sizeof(value));
	assert_int_equal(bell_set_watch(&set, &bell, 1), 1);
	expect("", 0);
	expect("r", 0); /* the taking of that one */
	expect("wr", 1);
	bell_set_unwatch(&set, &bell, 1);
	expect("wr w", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_a_ring_is_seen_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_never_more_than_were_rung, set_up, tear_down),
		cmocka_unit_test_setup_teardown(
			test_what_was_before_does_not_count, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
