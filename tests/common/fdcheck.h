/* SPDX-License-Identifier: MIT */
/*
 * A test that leaks a descriptor fails. Use as set-up and tear-down of every cmocka test:
 *     cmocka_unit_test_setup_teardown(test_x, fdcheck_setup, fdcheck_teardown)
 * or TEST(test_x) for short.
 */
#ifndef TESTS_FDCHECK_H
#define TESTS_FDCHECK_H

/* Order matters to cmocka. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Number of descriptors that are open in this process. */
int fdcheck_count(void);

int fdcheck_setup(void **state);
int fdcheck_teardown(void **state);

#define TEST(function) cmocka_unit_test_setup_teardown(function, fdcheck_setup, fdcheck_teardown)

#endif
