/* SPDX-License-Identifier: MIT */
/* src/base/uuid: text to bytes and back, and nothing but whole UUIDs. */
#include "base/uuid.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TEXT "00112233-4455-6677-8899-aabbccddeeff"

static const uint8_t bytes[UUID_SIZE] = {0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99,
	0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

static void test_text(void **state)
{
	uint8_t uuid[UUID_SIZE] = {0};
	char text[UUID_TEXT_SIZE];
	(void)state;

	assert_int_equal(uuid_parse(TEXT, uuid), 0);
	assert_memory_equal(uuid, bytes, sizeof(bytes));
	assert_string_equal(uuid_format(uuid, text), TEXT);
	memset(uuid, 0, sizeof(uuid));
	assert_int_equal(uuid_parse("00112233-4455-6677-8899-AaBbCcDdEeFf", uuid), 0);
	assert_memory_equal(uuid, bytes, sizeof(bytes));
}

static void test_malformed(void **state)
{
	static const char *const cases[] = {"", "0", "-", TEXT "0", TEXT " ", " " TEXT,
		"{" TEXT "}", "00112233445566778899aabbccddeeff",
		"00112233-4455-6677-8899-aabbccddeef", "00112233-4455-6677-8899aabbccddeeff-",
		"0011223-34455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeefg",
		"00112233-4455-6677-8899-aabbccddee f", "0x112233-4455-6677-8899-aabbccddeeff",
		"00112233 4455 6677 8899 aabbccddeeff"};
	uint8_t uuid[UUID_SIZE], before[UUID_SIZE];
	(void)state;

	memset(uuid, 0x5a, sizeof(uuid));
	memcpy(before, uuid, sizeof(uuid));
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* Exactly as long as it is, so that a sanitizer sees what reads on. */
		char *exact = strdup(cases[i]);
		assert_int_equal(uuid_parse(exact, uuid), -EINVAL);
		free(exact);
	}
	assert_memory_equal(uuid, before, sizeof(uuid));
}

static void test_random(void **state)
{
	uint8_t one[UUID_SIZE], other[UUID_SIZE];
	char text[UUID_TEXT_SIZE];
	(void)state;

	for (int i = 0; i < 100; i++) {
		assert_int_equal(uuid_random(one), 0);
		assert_int_equal(uuid_random(other), 0);
		assert_memory_not_equal(one, other, sizeof(one));
		uuid_format(one, text);
		assert_int_equal(text[14], '4');
		assert_non_null(strchr("89ab", text[19]));
		assert_false(uuid_is_nil(one));
	}
}

static void test_nil(void **state)
{
	uint8_t uuid[UUID_SIZE] = {0};
	(void)state;

	assert_true(uuid_is_nil(uuid));
	for (unsigned i = 0; i < UUID_SIZE; i++) {
		uuid[i] = 1;
		assert_false(uuid_is_nil(uuid));
		uuid[i] = 0;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_nil),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
