/* SPDX-License-Identifier: MIT */
#include "../../tools/varlink/varlink.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* As a connection does: make room, take what fits. */
static void feed(struct varlink_reader *reader, const char *bytes, size_t size)
{
	while (size > 0) {
		size_t room;
		char *to = varlink_reader_room(reader, &room);
		assert_non_null(to);
		assert_true(room > 0);
		if (room > size)
			room = size;
		memcpy(to, bytes, room);
		varlink_reader_add(reader, room);
		bytes += room;
		size -= room;
	}
}

/* One message, given whole, with its zero. */
static int read_message(const char *text, json_t **message)
{
	struct varlink_reader reader;
	varlink_reader_init(&reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	feed(&reader, text, strlen(text) + 1);
	int result = varlink_reader_next(&reader, message);
	varlink_reader_fini(&reader);
	return result;
}

static int outcome(const char *text)
{
	json_t *message;
	int result = read_message(text, &message);
	assert_int_equal(message != NULL, result == 1);
	json_decref(message);
	return result;
}

static void expect_member(json_t *message, const char *name, const char *value)
{
	assert_string_equal(json_string_value(json_object_get(message, name)), value);
	json_decref(message);
}

static void test_messages_are_cut_at_zero_bytes(void **state)
{
	(void)state;
	static const char bytes[] = "{\"a\":\"1\"}\0{\"a\":\"2\"}\0{\"a\":";
	struct varlink_reader reader;
	json_t *message;

	varlink_reader_init(&reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	assert_int_equal(varlink_reader_next(&reader, &message), 0);
	feed(&reader, bytes, sizeof(bytes) - 1);
	assert_int_equal(varlink_reader_next(&reader, &message), 1);
	expect_member(message, "a", "1");
	assert_int_equal(varlink_reader_next(&reader, &message), 1);
	expect_member(message, "a", "2");
	assert_int_equal(varlink_reader_next(&reader, &message), 0);
	assert_null(message);
	feed(&reader, "\"3\"}", 5);
	assert_int_equal(varlink_reader_next(&reader, &message), 1);
	expect_member(message, "a", "3");
	assert_int_equal(varlink_reader_next(&reader, &message), 0);
	varlink_reader_fini(&reader);
}

static void test_a_message_may_come_byte_by_byte(void **state)
{
	(void)state;
	static const char bytes[] = "{\"method\":\"a.B\"}";
	struct varlink_reader reader;
	json_t *message;

	varlink_reader_init(&reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		assert_int_equal(varlink_reader_next(&reader, &message), 0);
		feed(&reader, bytes + i, 1);
	}
	assert_int_equal(varlink_reader_next(&reader, &message), 1);
	expect_member(message, "method", "a.B");
	varlink_reader_fini(&reader);
}

/* {"a":"xxx"} of so many bytes */
static char *message_of(size_t size)
{
	char *text = malloc(size + 1);
	assert_non_null(text);
	memset(text, 'x', size);
	memcpy(text, "{\"a\":\"", 6);
	memcpy(text + size - 2, "\"}", 3);
	return text;
}

static void test_the_longest_message_and_one_byte_more(void **state)
{
	(void)state;
	char *longest = message_of(VARLINK_MAX_CALL), *longer = message_of(VARLINK_MAX_CALL + 1);
	assert_int_equal(outcome(longest), 1);
	free(longest);

	struct varlink_reader reader;
	json_t *message;
	varlink_reader_init(&reader, VARLINK_MAX_CALL, VARLINK_MAX_VALUES);
	feed(&reader, longer, VARLINK_MAX_CALL); /* its end may still come */
	assert_int_equal(varlink_reader_next(&reader, &message), 0);
	feed(&reader, "}", 1);
	assert_int_equal(varlink_reader_next(&reader, &message), -EMSGSIZE);
	varlink_reader_fini(&reader);
	free(longer);
}

static void test_what_is_no_object_is_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"", " ", "[]", "1", "null", "\"{}\"", "{", "{}}", "{} {}",
		"{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}",
		"{\"a\":\"\\u0000\"}", "{\"a\":\"\xff\"}", "{\"a\":99999999999999999999}",
		"{\"a\":01}", "{'a':1}", "\"", "{\"a\":\"\\"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(outcome(bad[i]), -EBADMSG);
	assert_int_equal(outcome(" {\"a\": [1, {\"a\": null}]}\n"), 1);
}

static void nest(char *text, unsigned depth, char open, char close)
{
	char *end = stpcpy(text, "{\"a\":");
	memset(end, open, depth - 1);
	memset(end + depth - 1, close, depth - 1);
	strcpy(end + 2 * (size_t)(depth - 1), "}");
}

static void test_nesting_has_an_end(void **state)
{
	(void)state;
	char text[128];
	nest(text, VARLINK_MAX_DEPTH, '[', ']');
	assert_int_equal(outcome(text), 1);
	nest(text, VARLINK_MAX_DEPTH + 1, '[', ']');
	assert_int_equal(outcome(text), -EBADMSG);
	/* Neither brackets in a string count, nor do those that a string seems to hide. */
	assert_int_equal(outcome("{\"[[[[[[[[[[[[[[[[[[[[[[[\\\"[[[\":1}"), 1);
	assert_int_equal(outcome("{\"\\\\\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}"), -EBADMSG);
	/* Closing brackets before opening ones lend no depth. */
	assert_int_equal(outcome("]]]]]]]]]{\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]}"), -EBADMSG);
}

static void test_so_have_values(void **state)
{
	(void)state;
	char text[VARLINK_MAX_CALL], *end = stpcpy(text, "{\"a\":[1");
	for (int i = 2; i < VARLINK_MAX_VALUES; i++)
		end = stpcpy(end, ",1");
	strcpy(end, "]}");
	assert_int_equal(outcome(text), 1);
	strcpy(end, ",1]}");
	assert_int_equal(outcome(text), -EMSGSIZE);
}

static int parse_call(const char *text, struct varlink_call *call, json_t **message)
{
	assert_int_equal(read_message(text, message), 1);
	return varlink_parse_call(*message, call);
}

static void test_calls(void **state)
{
	(void)state;
	struct varlink_call call;
	json_t *message;

	assert_int_equal(parse_call("{\"method\":\"a.B\",\"parameters\":{\"x\":1},\"more\":true,"
				    "\"oneway\":false,\"new\":1}",
				 &call, &message),
		0);
	assert_string_equal(call.method, "a.B");
	assert_int_equal(json_integer_value(json_object_get(call.parameters, "x")), 1);
	assert_true(call.more);
	assert_false(call.oneway);
	assert_false(call.upgrade);
	json_decref(message);

	static const char *const without[] = {
		"{\"method\":\"a.B\"}", "{\"method\":\"a.B\",\"parameters\":null}"};
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(parse_call(without[i], &call, &message), 0);
		assert_true(json_is_object(call.parameters));
		json_decref(message);
	}
}

static void test_what_is_no_call(void **state)
{
	(void)state;
	static const char *const bad[] = {"{}", "{\"method\":1}", "{\"method\":null}",
		"{\"method\":\"a.B\",\"parameters\":[]}", "{\"method\":\"a.B\",\"more\":1}",
		"{\"method\":\"a.B\",\"oneway\":\"true\"}",
		"{\"method\":\"a.B\",\"upgrade\":null}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct varlink_call call;
		json_t *message;
		assert_int_equal(parse_call(bad[i], &call, &message), -EBADMSG);
		json_decref(message);
	}
}

static void expect_packed(json_t *message, const char *text)
{
	size_t size;
	char *bytes = varlink_pack(message, &size);
	assert_string_equal(bytes, text);
	assert_int_equal(size, strlen(text) + 1);
	free(bytes);
}

static void test_messages_to_send(void **state)
{
	(void)state;
	size_t size;
	expect_packed(
		varlink_make_call("a.B", NULL, false), "{\"method\":\"a.B\",\"parameters\":{}}");
	expect_packed(varlink_make_call("a.B", json_pack("{s:i}", "x", 1), true),
		"{\"method\":\"a.B\",\"parameters\":{\"x\":1},\"more\":true}");
	expect_packed(varlink_make_reply(NULL, false), "{\"parameters\":{}}");
	expect_packed(varlink_make_reply(json_pack("{s:i}", "x", 1), true),
		"{\"parameters\":{\"x\":1},\"continues\":true}");
	expect_packed(varlink_make_error("a.Bad", NULL), "{\"error\":\"a.Bad\",\"parameters\":{}}");
	assert_null(varlink_pack(NULL, &size));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_messages_are_cut_at_zero_bytes),
		TEST(test_a_message_may_come_byte_by_byte),
		TEST(test_the_longest_message_and_one_byte_more),
		TEST(test_what_is_no_object_is_refused),
		TEST(test_nesting_has_an_end),
		TEST(test_so_have_values),
		TEST(test_calls),
		TEST(test_what_is_no_call),
		TEST(test_messages_to_send),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
