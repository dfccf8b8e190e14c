/* SPDX-License-Identifier: MIT */
/* Which bytes are a message, and what replies look like to the byte: docs/vfio-user.md, 1 and 2. */
#include "../common/fdcheck.h"

#include "vfio-user/message.h"

#include <string.h>

static const struct vfu_header some_request = {
	.id = 0x1234, .command = VFU_GET_INFO, .size = 32, .flags = VFU_TYPE_COMMAND};

static void test_a_message_is_whole_with_its_last_byte(void **state)
{
	(void)state;
	uint8_t bytes[64] = {0};
	struct vfu_header header;

	memcpy(bytes, &some_request, sizeof(some_request));
	for (size_t have = 0; have < 32; have++)
		assert_int_equal(vfu_frame(bytes, have, &header), VFU_FRAME_MORE);
	for (size_t have = 32; have <= sizeof(bytes); have++) {
		memset(&header, 0xff, sizeof(header));
		assert_int_equal(vfu_frame(bytes, have, &header), VFU_FRAME_WHOLE);
		assert_memory_equal(&header, &some_request, sizeof(header));
	}
}

static void test_impossible_sizes_are_known_from_the_header(void **state)
{
	(void)state;
	static const struct {
		uint32_t size;
		enum vfu_frame frame;
	} cases[] = {
		{0, VFU_FRAME_BAD},
		{15, VFU_FRAME_BAD},
		{16, VFU_FRAME_WHOLE},
		{17, VFU_FRAME_MORE},
		{VFU_MESSAGE_MAX, VFU_FRAME_MORE},
		{VFU_MESSAGE_MAX + 1, VFU_FRAME_BAD},
		{UINT32_MAX, VFU_FRAME_BAD},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vfu_header in = some_request, out;
		in.size = cases[i].size;
		uint8_t bytes[VFU_HEADER_SIZE];
		memcpy(bytes, &in, sizeof(in));
		assert_int_equal(vfu_frame(bytes, sizeof(bytes), &out), cases[i].frame);
	}
}

static void test_a_structure_is_taken_whole_or_not_at_all(void **state)
{
	(void)state;
	const uint8_t payload[5] = {1, 2, 3, 4, 5};
	uint8_t out[4] = {9, 9, 9, 9};

	assert_false(vfu_take(payload, 3, out, 4));
	assert_int_equal(out[0], 9);
	assert_true(vfu_take(payload, 4, out, 4));
	assert_memory_equal(out, payload, 4);
	assert_true(vfu_take(payload, 5, out, 4)); /* more than needed is fine */
}

/* The fields at their places on the wire, in the order of this machine's bytes. */
static void check_header(const uint8_t *bytes, uint32_t size, uint32_t flags, uint32_t error)
{
	const uint16_t id = 0x1234, command = VFU_GET_INFO;

	assert_memory_equal(bytes, &id, 2);
	assert_memory_equal(bytes + 2, &command, 2);
	assert_memory_equal(bytes + 4, &size, 4);
	assert_memory_equal(bytes + 8, &flags, 4);
	assert_memory_equal(bytes + 12, &error, 4);
}

static void test_a_reply_echoes_id_and_command(void **state)
{
	(void)state;
	static uint8_t buffer[VFU_MESSAGE_MAX];
	struct vfu_reply reply;
	static const uint8_t payload[] = {'a', 'b', 0, 0, 0, 'c'};

	memset(buffer, 0xee, sizeof(buffer));
	vfu_reply_init(&reply, buffer);
	assert_int_equal(reply.fd, -1);
	vfu_reply_add(&reply, "ab", 2);
	uint8_t *place = vfu_reply_add(&reply, NULL, 4);
	place[3] = 'c';
	vfu_reply_finish(&reply, &some_request, 0);
	assert_int_equal(reply.size, 22);
	check_header(buffer, 22, 1, 0);
	assert_memory_equal(buffer + 16, payload, sizeof(payload));
}

static void test_an_error_reply_is_a_header_and_nothing_else(void **state)
{
	(void)state;
	static uint8_t buffer[VFU_MESSAGE_MAX];
	struct vfu_reply reply;

	vfu_reply_init(&reply, buffer);
	vfu_reply_add(&reply, "payload", 7);
	reply.fd = 3;
	vfu_reply_finish(&reply, &some_request, 95);
	assert_int_equal(reply.size, 16);
	check_header(buffer, 16, 0x21, 95);
	assert_int_equal(reply.fd, -1);
}

static void test_the_largest_read_fits_a_reply(void **state)
{
	(void)state;
	static uint8_t buffer[VFU_MESSAGE_MAX];
	struct vfu_reply reply;

	vfu_reply_init(&reply, buffer);
	vfu_reply_add(&reply, NULL, sizeof(struct vfu_region_access));
	vfu_reply_add(&reply, NULL, VFU_DATA_MAX);
	assert_int_equal(reply.size, VFU_MESSAGE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_message_is_whole_with_its_last_byte),
		TEST(test_impossible_sizes_are_known_from_the_header),
		TEST(test_a_structure_is_taken_whole_or_not_at_all),
		TEST(test_a_reply_echoes_id_and_command),
		TEST(test_an_error_reply_is_a_header_and_nothing_else),
		TEST(test_the_largest_read_fits_a_reply),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
