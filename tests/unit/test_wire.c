/* SPDX-License-Identifier: MIT */
/* The codec and the handshake, docs/protocol.md, sections 2.1 to 2.7. */
#include "wire/wire.h"

#include "../common/fdcheck.h"

#include <string.h>

static const struct wire_format narrow_be = {.width = 4, .big_endian = true};

static void test_current_is_little_endian_64_bit(void **state)
{
	(void)state;
	uint8_t bytes[WIRE_WIDTH_MAX];
	static const uint8_t minus_one[8] = {255, 255, 255, 255, 255, 255, 255, 255};
	static const uint8_t max_id[8] = {255, 255, 0, 0, 0, 0, 0, 0};

	assert_int_equal(wire_encode(&wire_current, -1, bytes), 8);
	assert_memory_equal(bytes, minus_one, 8);
	assert_int_equal(wire_encode(&wire_current, 65535, bytes), 8);
	assert_memory_equal(bytes, max_id, 8);
}

static void test_pre_2_5_is_the_hosts_long(void **state)
{
	(void)state;
	uint8_t bytes[WIRE_WIDTH_MAX];
	long value = 258;

	assert_int_equal(wire_encode(&wire_pre_2_5, value, bytes), sizeof(long));
	assert_memory_equal(bytes, &value, sizeof(long));
}

static void test_four_byte_numbers_keep_their_sign(void **state)
{
	(void)state;
	struct wire_decoder decoder;
	struct wire_message message;
	uint8_t bytes[WIRE_WIDTH_MAX];

	wire_decoder_init(&decoder, &narrow_be);
	assert_int_equal(wire_encode(&narrow_be, -1, bytes), 4);
	assert_int_equal(wire_decoder_push(&decoder, bytes, 4, 9, &message), WIRE_PUSH_MESSAGE);
	assert_int_equal(message.number, -1);
	assert_int_equal(message.fd, 9);
}

/* However the bytes are cut, the number is the same and the descriptor belongs to it. */
static void test_any_cut_gives_the_same_message(void **state)
{
	(void)state;
	uint8_t bytes[WIRE_WIDTH_MAX];

	wire_encode(&wire_current, 0x0123456789abcdef, bytes);
	for (size_t cut = 1; cut < 8; cut++) {
		for (size_t with_fd = 0; with_fd < 2; with_fd++) {
			struct wire_decoder decoder;
			struct wire_message message;
			wire_decoder_init(&decoder, &wire_current);
			assert_int_equal(wire_decoder_want(&decoder), 8);
			assert_int_equal(wire_decoder_push(&decoder, bytes, cut,
						 with_fd == 0 ? 5 : -1, &message),
				WIRE_PUSH_MORE);
			assert_int_equal(wire_decoder_want(&decoder), 8 - cut);
			assert_int_equal(wire_decoder_push(&decoder, bytes + cut, 8 - cut,
						 with_fd == 1 ? 5 : -1, &message),
				WIRE_PUSH_MESSAGE);
			assert_true(message.number == 0x0123456789abcdef);
			assert_int_equal(message.fd, 5);
			assert_int_equal(wire_decoder_want(&decoder), 8);
		}
	}
}

static void test_second_descriptor_in_a_message_stays_with_the_caller(void **state)
{
	(void)state;
	struct wire_decoder decoder;
	struct wire_message message;
	uint8_t bytes[WIRE_WIDTH_MAX] = {0};

	wire_decoder_init(&decoder, &wire_current);
	wire_decoder_push(&decoder, bytes, 3, 7, &message);
	assert_int_equal(wire_decoder_push(&decoder, bytes, 5, 8, &message), WIRE_PUSH_SURPLUS_FD);
	assert_int_equal(wire_decoder_abandon(&decoder), 7);
	assert_int_equal(wire_decoder_abandon(&decoder), -1);
}

static struct wire_event feed(struct wire_session *session, int64_t number, int fd)
{
	struct wire_message message = {.number = number, .fd = fd};
	return wire_session_feed(session, &message);
}

/* A session that has gone as far as `state`; own ID is 3. */
static struct wire_session session_in(enum wire_state state)
{
	struct wire_session session;
	wire_session_init(&session, &wire_current);
	if (state >= WIRE_STATE_ID)
		feed(&session, 0, -1);
	if (state >= WIRE_STATE_SETUP)
		feed(&session, 3, -1);
	if (state >= WIRE_STATE_RUN)
		feed(&session, -1, 10);
	if (state >= WIRE_STATE_DEAD)
		feed(&session, -2, -1);
	assert_int_equal(session.state, state);
	return session;
}

static void test_handshake_of_contrib(void **state)
{
	(void)state;
	struct wire_session session;
	wire_session_init(&session, &wire_current);

	assert_int_equal(feed(&session, 0, -1).type, WIRE_EVENT_VERSION);
	struct wire_event event = feed(&session, 3, -1);
	assert_int_equal(event.type, WIRE_EVENT_OWN_ID);
	assert_int_equal(event.peer, 3);
	event = feed(&session, -1, 20);
	assert_int_equal(event.type, WIRE_EVENT_REGION);
	assert_int_equal(event.fd, 20);
	event = feed(&session, 0, 21);
	assert_int_equal(event.type, WIRE_EVENT_PEER_VECTOR);
	assert_int_equal(event.peer, 0);
	assert_int_equal(event.fd, 21);
	event = feed(&session, 3, 22);
	assert_int_equal(event.type, WIRE_EVENT_OWN_VECTOR);
	assert_int_equal(event.fd, 22);
	event = feed(&session, 0, -1);
	assert_int_equal(event.type, WIRE_EVENT_PEER_LEFT);
	assert_int_equal(event.peer, 0);
	assert_int_equal(session.state, WIRE_STATE_RUN);
}

static void test_pre_2_5_starts_with_the_id(void **state)
{
	(void)state;
	struct wire_session session;
	wire_session_init(&session, &wire_pre_2_5);
	assert_int_equal(feed(&session, 0, -1).type, WIRE_EVENT_OWN_ID);
	assert_int_equal(feed(&session, -1, 5).type, WIRE_EVENT_REGION);
}

static void test_peers_may_come_before_the_region(void **state)
{
	(void)state;
	struct wire_session session = session_in(WIRE_STATE_SETUP);
	assert_int_equal(feed(&session, 1, 5).type, WIRE_EVENT_PEER_VECTOR);
	assert_int_equal(feed(&session, 3, 6).type, WIRE_EVENT_OWN_VECTOR);
	assert_int_equal(feed(&session, 1, -1).type, WIRE_EVENT_PEER_LEFT);
	assert_int_equal(session.state, WIRE_STATE_SETUP);
	assert_int_equal(feed(&session, -1, 7).type, WIRE_EVENT_REGION);
}

/* Every wrong message in every state: the session dies, and the descriptor comes out for closing.
 */
static void test_errors_kill_the_session(void **state)
{
	(void)state;
	static const struct {
		enum wire_state in;
		int64_t number;
		int fd;
		enum wire_error error;
	} cases[] = {
		{WIRE_STATE_VERSION, 1, -1, WIRE_ERROR_BAD_VERSION},
		{WIRE_STATE_VERSION, -1, 9, WIRE_ERROR_BAD_VERSION},
		{WIRE_STATE_VERSION, INT64_MIN, -1, WIRE_ERROR_BAD_VERSION},
		{WIRE_STATE_VERSION, 0, 9, WIRE_ERROR_STRAY_FD},
		{WIRE_STATE_VERSION, WIRE_REFUSAL_FULL, -1, WIRE_ERROR_REFUSED},
		{WIRE_STATE_VERSION, WIRE_REFUSAL_UID_FULL, -1, WIRE_ERROR_REFUSED},
		{WIRE_STATE_VERSION, WIRE_REFUSAL_RESOURCES, -1, WIRE_ERROR_REFUSED},
		{WIRE_STATE_VERSION, WIRE_REFUSAL_RULES, -1, WIRE_ERROR_REFUSED},
		{WIRE_STATE_VERSION, WIRE_REFUSAL_RULES - 1, -1, WIRE_ERROR_BAD_VERSION},
		{WIRE_STATE_ID, -1, -1, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_ID, -1, 9, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_ID, 65536, -1, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_ID, 3, 9, WIRE_ERROR_STRAY_FD},
		{WIRE_STATE_SETUP, -1, -1, WIRE_ERROR_NO_REGION_FD},
		{WIRE_STATE_SETUP, -2, 9, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_SETUP, 3, -1, WIRE_ERROR_OWN_LEFT},
		{WIRE_STATE_RUN, -1, 9, WIRE_ERROR_SECOND_REGION},
		{WIRE_STATE_RUN, -1, -1, WIRE_ERROR_SECOND_REGION},
		{WIRE_STATE_RUN, 65536, 9, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_RUN, INT64_MAX, -1, WIRE_ERROR_BAD_ID},
		{WIRE_STATE_RUN, 3, -1, WIRE_ERROR_OWN_LEFT},
		{WIRE_STATE_DEAD, 1, 9, WIRE_ERROR_AFTER_DEATH},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct wire_session session = session_in(cases[i].in);
		struct wire_event event = feed(&session, cases[i].number, cases[i].fd);
		assert_int_equal(event.type, WIRE_EVENT_ERROR);
		assert_int_equal(event.error, cases[i].error);
		assert_int_equal(event.fd, cases[i].fd);
		assert_int_equal(session.state, WIRE_STATE_DEAD);
	}
}

static void test_all_65536_ids_are_legal(void **state)
{
	(void)state;
	for (int id = 0; id <= WIRE_MAX_ID; id += WIRE_MAX_ID) {
		struct wire_session session = session_in(WIRE_STATE_ID);
		assert_int_equal(feed(&session, id, -1).type, WIRE_EVENT_OWN_ID);
		assert_int_equal(session.own_id, id);
	}
}

static void test_every_error_has_words(void **state)
{
	(void)state;
	for (int i = 0; i < WIRE_ERROR_COUNT; i++)
		assert_string_not_equal(wire_error_text((enum wire_error)i), "?");
	assert_non_null(strstr(wire_refusal_text(WIRE_REFUSAL_FULL), "--max-peers"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_current_is_little_endian_64_bit),
		TEST(test_pre_2_5_is_the_hosts_long),
		TEST(test_four_byte_numbers_keep_their_sign),
		TEST(test_any_cut_gives_the_same_message),
		TEST(test_second_descriptor_in_a_message_stays_with_the_caller),
		TEST(test_handshake_of_contrib),
		TEST(test_pre_2_5_starts_with_the_id),
		TEST(test_peers_may_come_before_the_region),
		TEST(test_errors_kill_the_session),
		TEST(test_all_65536_ids_are_legal),
		TEST(test_every_error_has_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
