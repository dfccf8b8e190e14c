/* SPDX-License-Identifier: MIT */
/* Bytes to requests, replies back: docs/vfio-user.md, 1, 7 and 9. */
#include "../common/vfupair.h"

static void test_a_request_and_its_reply(void **state)
{
	(void)state;
	uint8_t bytes[64];
	const struct vfu_region_access access = {IVSHMEM_REG_IVPOSITION, 0, 4};
	uint8_t reply[20];

	up(1, -1);
	send_bytes(bytes, add(bytes, 0xfffe, VFU_REGION_READ, &access, sizeof(access)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(0xfffe, VFU_REGION_READ, 0, 36, reply);
	assert_int_equal(load_le(reply + 16, 4), 7);
	nothing_came();
	assert_int_equal(ready(0), VFU_WAIT_READ); /* nothing there: fine */
	down();
}

static void test_bytes_come_one_by_one(void **state)
{
	(void)state;
	uint8_t bytes[64];
	struct vfu_device_info info = {.argsz = sizeof(info)};

	up(1, -1);
	for (unsigned id = 2; id < 5; id++) {
		size_t size = add(bytes, id, VFU_GET_INFO, &info, sizeof(info));
		for (size_t i = 0; i < size; i++) {
			nothing_came();
			send_bytes(bytes + i, 1);
			assert_int_equal(ready(i == size - 1), VFU_WAIT_READ);
		}
		receive(id, VFU_GET_INFO, 0, 32, NULL);
	}
	down();
}

static void test_a_burst_is_answered_in_order(void **state)
{
	(void)state;
	uint8_t bytes[8192];
	size_t size = 0;
	const struct vfu_dma_map map = {.argsz = sizeof(map), .size = 4096};
	const struct vfu_dma_unmap unmap = {.argsz = sizeof(unmap), .size = 4096};

	up(1, -1);
	for (unsigned id = 0; id < 100; id += 2) {
		size += add(bytes + size, id, VFU_DMA_MAP, &map, sizeof(map));
		size += add(bytes + size, id + 1, VFU_DMA_UNMAP, &unmap, sizeof(unmap));
	}
	/* The last one is not whole yet. */
	send_bytes(bytes, size - 3);
	assert_int_equal(ready(99), VFU_WAIT_READ);
	send_bytes(bytes + size - 3, 3);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	for (unsigned id = 0; id < 100; id += 2) {
		receive(id, VFU_DMA_MAP, 0, 16, NULL);
		receive(id + 1, VFU_DMA_UNMAP, 0, 40, NULL);
	}
	nothing_came();
	down();
}

static void test_what_is_no_message_ends_it(void **state)
{
	(void)state;
	static const uint32_t sizes[] = {0, 15, VFU_MESSAGE_MAX + 1, UINT32_MAX};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		uint8_t bytes[64];
		up(1, -1);
		int before = fdcheck_count(), fd = dup(0);
		size_t size = add(bytes, 2, VFU_RESET, NULL, 0);
		size_t bad = add(bytes + size, 3, VFU_RESET, NULL, 0);
		memcpy(bytes + size + 4, &sizes[i], 4);
		send_fds(bytes, size + bad, &fd, 1);
		assert_int_equal(ready(1), VFU_WAIT_OVER);
		receive(2, VFU_RESET, 0, 16, NULL); /* what came before it is answered */
		nothing_came();
		assert_int_equal(lines, 1);
		vfu_connection_destroy(pair.connection);
		assert_int_equal(fdcheck_count(), before - 1); /* that of the connection */
		close(pair.vmm);
		function_down();
	}
}

static void test_the_longest_messages(void **state)
{
	(void)state;
	static uint8_t bytes[VFU_MESSAGE_MAX], payload[16 + VFU_DATA_MAX], reply[VFU_MESSAGE_MAX];
	const struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX};

	up(1, -1);
	memcpy(payload, &access, sizeof(access));
	for (size_t i = 16; i < sizeof(payload); i++)
		payload[i] = (uint8_t)(i * 13);
	for (unsigned round = 0; round < 3; round++) { /* behind an odd number of bytes, too */
		size_t size = add(bytes, round, VFU_RESET, NULL, 0);
		send_bytes(bytes, size);
		size = add(bytes, round, VFU_REGION_WRITE, payload, sizeof(payload));
		assert_int_equal(size, VFU_MESSAGE_MAX);
		send_bytes(bytes, size);
		assert_int_equal(ready(1), VFU_WAIT_READ);
		assert_int_equal(ready(1), VFU_WAIT_READ);
		receive(round, VFU_RESET, 0, 16, NULL);
		receive(round, VFU_REGION_WRITE, 0, 32, NULL);
	}
	send_bytes(bytes, add(bytes, 9, VFU_REGION_READ, &access, sizeof(access)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(9, VFU_REGION_READ, 0, VFU_MESSAGE_MAX, reply);
	assert_memory_equal(reply, payload, sizeof(payload));
	down();
}

/* A VMM that sends and doesn't read. */
static void test_a_vmm_that_does_not_read_is_not_read_from(void **state)
{
	(void)state;
	uint8_t bytes[64], reply[VFU_MESSAGE_MAX];
	const struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX};
	unsigned sent = 0, handled = 0, received = 0, requests;
	enum vfu_wait wait = VFU_WAIT_READ;

	up(1, -1);
	memset(pair.box.memory, 0xab, BOX_SIZE);
	while (sent < 2000) {
		add(bytes, sent, VFU_REGION_READ, &access, sizeof(access));
		if (send(pair.vmm, bytes, 32, 0) != 32)
			break;
		sent++;
		wait = vfu_connection_ready(pair.connection, &requests);
		handled += requests;
	}
	/* It stands still, with one reply too many and the requests in the socket. */
	assert_int_equal(wait, VFU_WAIT_WRITE);
	assert_true(handled < sent);
	assert_int_equal(ready(0), VFU_WAIT_WRITE);

	/* The VMM reads, and gets all of it. */
	while (received < sent) {
		for (size_t have = 0; have < sizeof(reply);) {
			ssize_t got = recv(pair.vmm, reply + have, sizeof(reply) - have, 0);
			if (got > 0) {
				have += (size_t)got;
				continue;
			}
			wait = vfu_connection_ready(pair.connection, &requests);
			assert_int_not_equal(wait, VFU_WAIT_OVER);
			handled += requests;
		}
		struct vfu_header header;
		memcpy(&header, reply, sizeof(header));
		assert_int_equal(header.id, received++ & 0xffff);
		assert_int_equal(header.size, sizeof(reply));
		assert_int_equal(reply[sizeof(reply) - 1], 0xab);
	}
	assert_int_equal(handled, sent);
	nothing_came();
	down();
}

static void test_requests_behind_a_stuck_reply_wait_in_the_buffer(void **state)
{
	(void)state;
	uint8_t bytes[64], burst[256], reply[4096];
	struct vfu_region_info info = {.argsz = sizeof(info), .index = IVSHMEM_BAR_MEMORY};
	const struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX};
	int memory = eventfd(0, 0);
	size_t size = 0;

	up(1, memory);
	/* Fill the socket, then a reply with a descriptor that has to wait. */
	enum vfu_wait wait = VFU_WAIT_READ;
	while (wait == VFU_WAIT_READ) {
		send_bytes(bytes, add(bytes, 0, VFU_REGION_READ, &access, sizeof(access)));
		wait = ready(1);
	}
	assert_int_equal(wait, VFU_WAIT_WRITE);
	for (unsigned id = 1; id < 4; id++)
		size += add(burst + size, id, VFU_GET_REGION_INFO, &info, sizeof(info));
	send_bytes(burst, size);
	unsigned handled = 0, fds_received = 0;
	for (ssize_t got = 1; got > 0 || handled < 3;) {
		int fds[FDPASS_RECV_MAX];
		size_t n_fds;
		got = fdpass_recv(pair.vmm, reply, sizeof(reply), fds, &n_fds);
		fds_received += (unsigned)n_fds;
		for (size_t i = 0; i < n_fds; i++)
			close(fds[i]);
		unsigned requests;
		assert_int_not_equal(
			vfu_connection_ready(pair.connection, &requests), VFU_WAIT_OVER);
		handled += requests;
	}
	assert_int_equal(fds_received, 3);
	down();
	close(memory);
}

static void test_one_call_is_bounded(void **state)
{
	(void)state;
	static uint8_t bytes[2 * VFU_MESSAGE_MAX];
	const struct vfu_region_access access = {IVSHMEM_REG_DOORBELL, 0, 4};
	uint8_t payload[20];
	size_t size = 0;

	up(1, -1);
	memcpy(payload, &access, sizeof(access));
	store_le(payload + 16, 4, 0x00010000);
	while (size + 36 <= sizeof(bytes))
		size += vfubox_message(
			bytes + size, 1, VFU_REGION_WRITE, VFU_NO_REPLY, payload, sizeof(payload));
	send_bytes(bytes, size);
	unsigned requests;
	assert_int_equal(vfu_connection_ready(pair.connection, &requests), VFU_WAIT_READ);
	assert_int_equal(requests, VFU_MESSAGE_MAX / 36);
	while (pair.box.rings < size / 36)
		assert_int_equal(vfu_connection_ready(pair.connection, NULL), VFU_WAIT_READ);
	nothing_came();
	down();
}

static void test_a_second_vmm_reads_ebusy_and_then_the_end(void **state)
{
	(void)state;
	uint8_t bytes[64];

	connect_to(NULL);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	send_bytes(bytes, add(bytes, 1, VFU_VERSION, &version, sizeof(version)));
	assert_int_equal(ready(1), VFU_WAIT_OVER);
	vfu_connection_destroy(pair.connection);
	receive(1, VFU_VERSION, EBUSY, 16, NULL);
	has_ended();
	close(pair.vmm);
}

static void test_requests_sent_before_a_refusal_do_not_swallow_it(void **state)
{
	(void)state;
	uint8_t bytes[64];

	connect_to(NULL);
	send_bytes(bytes, add(bytes, 1, VFU_VERSION, &version, sizeof(version)));
	send_bytes(bytes, add(bytes, 2, VFU_RESET, NULL, 0));
	assert_int_equal(ready(1), VFU_WAIT_OVER);
	vfu_connection_destroy(pair.connection);
	receive(1, VFU_VERSION, EBUSY, 16, NULL);
	close(pair.vmm);
}

static void test_the_vmm_hangs_up(void **state)
{
	(void)state;
	uint8_t bytes[64];

	/* In the middle of a request; nothing is wrong with that. */
	up(1, -1);
	size_t size = add_set_irqs(bytes, 2, 0, 1);
	send_bytes(bytes, size - 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	close(pair.vmm);
	assert_int_equal(ready(0), VFU_WAIT_OVER);
	vfu_connection_destroy(pair.connection);
	function_down();

	/* Before the reply: no SIGPIPE. */
	up(1, -1);
	send_bytes(bytes, add(bytes, 2, VFU_RESET, NULL, 0));
	close(pair.vmm);
	unsigned requests;
	assert_int_equal(vfu_connection_ready(pair.connection, &requests), VFU_WAIT_OVER);
	assert_int_equal(requests, 1);
	vfu_connection_destroy(pair.connection);
	function_down();
	assert_int_equal(lines, 0);
}

static void test_requests_before_the_end_are_answered(void **state)
{
	(void)state;
	uint8_t bytes[64];

	up(1, -1);
	send_bytes(bytes, add(bytes, 2, VFU_RESET, NULL, 0));
	shutdown(pair.vmm, SHUT_WR);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	assert_int_equal(ready(0), VFU_WAIT_OVER);
	receive(2, VFU_RESET, 0, 16, NULL);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_request_and_its_reply),
		TEST(test_bytes_come_one_by_one),
		TEST(test_a_burst_is_answered_in_order),
		TEST(test_what_is_no_message_ends_it),
		TEST(test_the_longest_messages),
		TEST(test_a_vmm_that_does_not_read_is_not_read_from),
		TEST(test_requests_behind_a_stuck_reply_wait_in_the_buffer),
		TEST(test_one_call_is_bounded),
		TEST(test_a_second_vmm_reads_ebusy_and_then_the_end),
		TEST(test_requests_sent_before_a_refusal_do_not_swallow_it),
		TEST(test_the_vmm_hangs_up),
		TEST(test_requests_before_the_end_are_answered),
	};
	return run_both_ways("alone", tests, sizeof(tests) / sizeof(tests[0]));
}
