/* SPDX-License-Identifier: MIT */
/* A device that outlives its process, without a kill: what is taken over, what is refused, what is
 * held. Kills: tests/fault/fault_device_kept.c. */
#include "../common/vfupair.h"

#include "vfio-user/kept_state.h"

#include <fcntl.h>

/* Of the process nothing is left but what is kept, and a copy of the VMM's connection. */
static int end_process(int sock)
{
	int copy = dup(sock);

	assert_true(copy >= 0);
	vfu_connection_destroy(pair.connection);
	pair.connection = NULL;
	vfu_function_fini(&pair.box.function);
	return copy;
}

static void begin_process(unsigned revision, unsigned vectors, int memory)
{
	assert_int_equal(vfubox_up(&pair.box, revision, vectors, memory), 0);
	assert_int_equal(keptbox_resume(&pair.keptbox), 0);
	pair.box.function.kept = pair.keptbox.kept;
}

static void go_on(int sock)
{
	assert_int_equal(vfu_connection_resume(&pair.connection, sock, &pair.box.function, "test",
				 &counting, &pair.keptbox.why),
		0);
}

static int sock; /* the device's end */

/* Up and agreed; the lowest free descriptor becomes the device's end. */
static void kept_up(unsigned vectors, int memory)
{
	int next = dup(0);

	close(next);
	sock = next;
	up(vectors, memory);
}

static void replace_process(unsigned vectors, int memory)
{
	sock = end_process(sock);
	begin_process(1, vectors, memory);
	go_on(sock);
}

static void set_irqs(unsigned id, uint32_t start, uint32_t count, int *fds, size_t n)
{
	uint8_t bytes[64];

	send_fds(bytes, add_set_irqs(bytes, id, start, count), fds, n);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(id, VFU_SET_IRQS, 0, 16, NULL);
}

/* A vector of the VMM, of which it has `mine`. */
static void set_vector(unsigned id, uint32_t vector, int mine)
{
	int fd = dup(mine);
	set_irqs(id, vector, 1, &fd, 1);
}

static void write_region(
	unsigned id, uint32_t region, uint64_t offset, uint32_t value, uint32_t size)
{
	uint8_t bytes[64];
	struct {
		struct vfu_region_access access;
		uint8_t value[4];
	} payload = {{offset, region, size}, {0}};

	store_le(payload.value, 4, value);
	send_bytes(bytes, add(bytes, id, VFU_REGION_WRITE, &payload, 16 + size));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(id, VFU_REGION_WRITE, 0, 32, NULL);
}

static uint32_t read_region(unsigned id, uint32_t region, uint64_t offset)
{
	uint8_t bytes[64];
	const struct vfu_region_access access = {offset, region, 4};

	send_bytes(bytes, add(bytes, id, VFU_REGION_READ, &access, sizeof(access)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(id, VFU_REGION_READ, 0, 36, bytes);
	return (uint32_t)load_le(bytes + 16, 4);
}

static bool has_rung(int fd)
{
	eventfd_t count;
	return eventfd_read(fd, &count) == 0;
}

static void test_a_vmm_notices_nothing(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(2, -1);
	write_region(2, VFU_REGION_CONFIG, BOX_COMMAND, 7, 2);
	write_region(3, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
	write_region(4, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 0xabcd, 4);
	set_vector(5, 1, mine);
	assert_int_equal(pair.keptbox.n_held, 1);
	for (unsigned id = 6; id < 9; id++) {
		replace_process(2, -1);
		assert_int_equal(
			read_region(id, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK), 0xabcd);
		assert_int_equal(vfu_kept_restarts(pair.keptbox.kept), id - 5);
		assert_true(vfu_connection_session(pair.connection)->configured);
		vfu_function_interrupt(&pair.box.function, 1);
		assert_true(has_rung(mine));
		assert_int_equal(pair.keptbox.n_held, 1);
	}
	close(mine);
	down();
}

/* All kinds of descriptors, put, replaced and taken away one by one and as a whole. */
static void test_only_what_is_needed_is_held(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	int fds[3], mine = eventfd(0, EFD_NONBLOCK);
	const struct vfu_set_irqs err = {
		sizeof(err), VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER, VFU_ERR, 0, 1};
	const struct vfu_set_irqs none = {
		sizeof(none), VFU_DATA_NONE | VFU_ACTION_TRIGGER, VFU_MSIX, 0, 0};
	const struct vfu_dma_map map = {.argsz = sizeof(map)};

	kept_up(4, -1);
	for (int i = 0; i < 3; i++)
		fds[i] = dup(mine);
	set_irqs(2, 1, 3, fds, 3);
	assert_int_equal(pair.keptbox.n_held, 3);
	set_vector(3, 2, mine); /* another one in its place */
	assert_int_equal(pair.keptbox.n_held, 3);
	set_irqs(4, 1, 1, NULL, 0); /* and none */
	assert_int_equal(pair.keptbox.n_held, 2);
	int fd = dup(mine);
	send_fds(bytes, add(bytes, 5, VFU_SET_IRQS, &err, sizeof(err)), &fd, 1);
	fd = dup(mine);
	send_fds(bytes, add(bytes, 6, VFU_DMA_MAP, &map, sizeof(map)), &fd, 1);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	assert_int_equal(pair.keptbox.n_held, 3);
	send_bytes(bytes, add(bytes, 7, VFU_SET_IRQS, &none, sizeof(none)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	assert_int_equal(pair.keptbox.n_held, 1);
	replace_process(4, -1);
	assert_int_equal(pair.keptbox.n_held, 1);
	for (unsigned id = 5; id < 8; id++)
		receive(id, id == 6 ? VFU_DMA_MAP : VFU_SET_IRQS, 0, 16, NULL);
	close(mine);
	down();
}

static void test_in_the_middle_of_a_request(void **unused)
{
	(void)unused;
	uint8_t bytes[64], next[64];
	int mine = eventfd(0, EFD_NONBLOCK), other = eventfd(0, EFD_NONBLOCK);
	int fds[2] = {dup(mine), dup(other)};

	kept_up(2, -1);
	size_t size = add_set_irqs(bytes, 2, 0, 1);
	send_fds(bytes, 20, &fds[0], 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	replace_process(2, -1);
	/* The rest of it, and the beginning of the next. */
	send_bytes(bytes + 20, size - 20);
	size = add_set_irqs(next, 3, 1, 1);
	send_fds(next, 20, &fds[1], 1);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	replace_process(2, -1);
	replace_process(2, -1);
	send_bytes(next + 20, size - 20);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_SET_IRQS, 0, 16, NULL);
	receive(3, VFU_SET_IRQS, 0, 16, NULL);
	write_region(4, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
	vfu_function_interrupt(&pair.box.function, 0);
	assert_true(has_rung(mine) && !has_rung(other));
	vfu_function_interrupt(&pair.box.function, 1);
	assert_true(!has_rung(mine) && has_rung(other));
	close(mine);
	close(other);
	down();
}

/* A message that began near the middle of the buffer, and is as long as it may be. */
static void test_a_long_request_in_many_pieces(void **unused)
{
	(void)unused;
	static uint8_t bytes[2 * VFU_MESSAGE_MAX];
	struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX};
	size_t first, second;

	kept_up(1, -1);
	memset(bytes, 0x5a, sizeof(bytes));
	first = add(bytes, 2, VFU_REGION_WRITE, bytes + 16, 16 + VFU_DATA_MAX - 1000);
	access.count = VFU_DATA_MAX - 1000;
	memcpy(bytes + 16, &access, sizeof(access));
	second = add(bytes + first, 3, VFU_REGION_WRITE, bytes + first + 16, 16 + VFU_DATA_MAX);
	access.count = VFU_DATA_MAX;
	memcpy(bytes + first + 16, &access, sizeof(access));
	send_bytes(bytes, first - 1);
	assert_int_equal(ready(0), VFU_WAIT_READ);
	send_bytes(bytes + first - 1, 1 + 900);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	for (size_t at = first + 900; at < first + second; at += 1000) {
		size_t rest = first + second - at;
		replace_process(1, -1);
		send_bytes(bytes + at, rest < 1000 ? rest : 1000);
		assert_int_equal(ready(rest <= 1000), VFU_WAIT_READ);
	}
	receive(2, VFU_REGION_WRITE, 0, 32, NULL);
	receive(3, VFU_REGION_WRITE, 0, 32, NULL);
	assert_int_equal(pair.box.memory[VFU_DATA_MAX - 1], 0x5a);
	down();
}

/* What fits ends with a request without a descriptor, and the next one has one: which Linux shows
 * to who looks at the first, and which is not its. */
static void test_a_descriptor_behind_what_fits(void **unused)
{
	(void)unused;
	static uint8_t bytes[VFU_MESSAGE_MAX];
	uint8_t next[64];
	const size_t last = 16 + sizeof(struct vfu_set_irqs);
	const struct vfu_region_access access = {
		0, IVSHMEM_BAR_MEMORY, (uint32_t)(VFU_DATA_MAX - last)};
	int mine = eventfd(0, EFD_NONBLOCK), fd = dup(mine);

	kept_up(2, -1);
	size_t first = add(bytes, 2, VFU_REGION_WRITE, bytes + 16, 16 + access.count);
	memcpy(bytes + 16, &access, sizeof(access));
	assert_int_equal(first + add_set_irqs(bytes + first, 3, 0, 1), sizeof(bytes));
	send_bytes(bytes, sizeof(bytes));
	send_fds(next, add_set_irqs(next, 4, 1, 1), &fd, 1);
	assert_int_equal(ready(2), VFU_WAIT_READ);
	replace_process(2, -1);
	assert_int_equal(pair.keptbox.n_held, 0);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_REGION_WRITE, 0, 32, NULL);
	receive(3, VFU_SET_IRQS, 0, 16, NULL);
	receive(4, VFU_SET_IRQS, 0, 16, NULL);
	assert_int_equal(pair.keptbox.n_held, 1);
	vfu_function_interrupt(&pair.box.function, 0);
	assert_false(has_rung(mine));
	vfu_function_interrupt(&pair.box.function, 1);
	assert_true(has_rung(mine));
	close(mine);
	down();
}

static void test_in_the_middle_of_a_reply(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	static uint8_t replies[4 * VFU_MESSAGE_MAX];
	const struct vfu_region_access access = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX};
	int small = 1;
	size_t have = 0;
	unsigned id = 2;

	kept_up(1, -1);
	assert_int_equal(setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	for (; id < 5; id++)
		send_bytes(bytes, add(bytes, id, VFU_REGION_READ, &access, sizeof(access)));
	enum vfu_wait wait = VFU_WAIT_WRITE;
	for (unsigned i = 0; have < 3 * (size_t)VFU_MESSAGE_MAX; i++) {
		wait = vfu_connection_ready(pair.connection, NULL);
		if (i % 2 == 0)
			replace_process(1, -1);
		ssize_t got = recv(pair.vmm, replies + have, sizeof(replies) - have, 0);
		assert_true(got > 0);
		have += (size_t)got;
	}
	assert_int_equal(wait, VFU_WAIT_READ);
	for (size_t at = 0; at < have; at += VFU_MESSAGE_MAX) {
		struct vfu_header header;
		memcpy(&header, replies + at, sizeof(header));
		assert_int_equal(header.size, VFU_MESSAGE_MAX);
		assert_int_equal(header.id, 2 + at / VFU_MESSAGE_MAX);
	}
	down();
}

/* What a peer has rung while it could not be passed on. */
static void test_what_is_pending_stays(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(2, -1);
	write_region(2, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
	vfu_function_interrupt(&pair.box.function, 1); /* outside of any request */
	replace_process(2, -1);
	replace_process(2, -1);
	set_vector(3, 1, mine);
	assert_true(has_rung(mine));
	replace_process(2, -1);
	assert_false(has_rung(mine)); /* once is enough */
	vfu_function_interrupt(&pair.box.function, 1);
	assert_true(has_rung(mine));
	replace_process(2, -1);
	assert_false(has_rung(mine));
	close(mine);
	down();
}

static void test_who_was_hearing_hears_all(void **unused)
{
	(void)unused;
	int mine[2] = {eventfd(0, EFD_NONBLOCK), eventfd(0, EFD_NONBLOCK)};

	kept_up(2, -1);
	write_region(2, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
	set_vector(3, 0, mine[0]);
	set_vector(4, 1, mine[1]);
	vfu_kept_hearing(pair.keptbox.kept, true);
	replace_process(2, -1);
	assert_true(has_rung(mine[0]) && has_rung(mine[1]));
	assert_false(vfu_kept_was_hearing(pair.keptbox.kept));
	vfu_kept_hearing(pair.keptbox.kept, true);
	vfu_kept_hearing(pair.keptbox.kept, false);
	replace_process(2, -1);
	assert_false(has_rung(mine[0]) || has_rung(mine[1]));
	close(mine[0]);
	close(mine[1]);
	down();
}

/* A level that is high is told once more, since nobody knows whether it is masked. */
static void test_intx_goes_on(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	int mine = eventfd(0, EFD_NONBLOCK), resample = eventfd(0, EFD_NONBLOCK);
	struct vfu_set_irqs set = {
		sizeof(set), VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER, VFU_INTX, 0, 1};

	int next = dup(0);
	close(next);
	sock = next;
	function_up(0, 0, -1);
	connect_to(&pair.box.function);
	send_bytes(bytes, add(bytes, 1, VFU_VERSION, &version, sizeof(version)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(1, VFU_VERSION, 0, VERSION_REPLY, NULL);
	int fd = dup(mine);
	send_fds(bytes, add(bytes, 2, VFU_SET_IRQS, &set, sizeof(set)), &fd, 1);
	set.flags = VFU_DATA_EVENTFD | VFU_ACTION_UNMASK;
	fd = dup(resample);
	send_fds(bytes, add(bytes, 3, VFU_SET_IRQS, &set, sizeof(set)), &fd, 1);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(2, VFU_SET_IRQS, 0, 16, NULL);
	receive(3, VFU_SET_IRQS, 0, 16, NULL);
	write_region(4, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 1, 4);
	vfu_function_interrupt(&pair.box.function, 0);
	assert_true(has_rung(mine));

	sock = end_process(sock);
	begin_process(0, 0, -1);
	go_on(sock);
	assert_true(pair.box.watched >= 0);
	assert_true(has_rung(mine));
	assert_int_equal(read_region(5, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS), 1);
	assert_int_equal(eventfd_write(resample, 1), 0);
	vfu_irqs_resampled(&pair.box.function.irqs);
	assert_false(has_rung(mine));
	vfu_function_interrupt(&pair.box.function, 0);
	assert_true(has_rung(mine));
	close(mine);
	close(resample);
	down();
}

static void test_the_next_vmm_begins_anew(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(2, -1);
	set_vector(2, 0, mine);
	write_region(3, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 0xabcd, 4);
	vfu_connection_destroy(pair.connection);
	close(pair.vmm);
	vfu_function_release(&pair.box.function);
	vfu_kept_detach(pair.keptbox.kept);
	assert_int_equal(vfu_kept_attached(pair.keptbox.kept), 0);
	assert_int_equal(pair.keptbox.n_held, 0);

	connect_to(&pair.box.function);
	assert_int_equal(vfu_kept_attached(pair.keptbox.kept), 1);
	replace_process(2, -1); /* before it has said anything */
	uint8_t bytes[64];
	send_bytes(bytes, add(bytes, 4, VFU_RESET, NULL, 0));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(4, VFU_RESET, EINVAL, 16, NULL); /* there was no VERSION yet */
	send_bytes(bytes, add(bytes, 5, VFU_VERSION, &version, sizeof(version)));
	assert_int_equal(ready(1), VFU_WAIT_READ);
	receive(5, VFU_VERSION, 0, VERSION_REPLY, NULL);
	replace_process(2, -1);
	assert_int_equal(read_region(6, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK), 0);
	close(mine);
	down();
}

/* An earlier process was killed between the end of a VMM and letting go. */
static void test_a_vmm_that_was_half_detached(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(2, -1);
	set_vector(2, 0, mine);
	((struct vfu_kept_header *)pair.keptbox.memory)->attached = 0;
	close(end_process(sock));
	begin_process(1, 2, -1);
	assert_int_equal(pair.keptbox.n_held, 0);
	close(mine);
	close(pair.vmm);
	function_down();
}

/* The last reply is out; nobody is waited for any more. */
static void test_a_refused_vmm_stays_refused(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	const struct vfu_version other = {7, 0};

	int next = dup(0);
	close(next);
	sock = next;
	function_up(1, 1, -1);
	connect_to(&pair.box.function);
	send_bytes(bytes, add(bytes, 1, VFU_VERSION, &other, sizeof(other)));
	assert_int_equal(ready(1), VFU_WAIT_OVER);
	replace_process(1, -1);
	assert_int_equal(ready(0), VFU_WAIT_OVER);
	assert_int_equal(vfu_connection_await(pair.connection, 0), VFU_WAIT_OVER);
	receive(1, VFU_VERSION, EPROTONOSUPPORT, 16, NULL);
	down();
}

static void test_a_thread_of_its_own(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	int memory = eventfd(0, EFD_NONBLOCK);
	struct vfu_region_info info = {.argsz = sizeof(info), .index = IVSHMEM_BAR_MEMORY};

	kept_up(1, memory);
	assert_int_equal(fcntl(sock, F_SETFL, 0), 0);
	for (unsigned id = 2; id < 4; id++)
		send_bytes(bytes, add(bytes, id, VFU_GET_REGION_INFO, &info, sizeof(info)));
	for (unsigned id = 2; id < 4; id++) {
		assert_int_equal(vfu_connection_await(pair.connection, 1000), VFU_WAIT_READ);
		replace_process(1, memory); /* read, and not handled */
		assert_int_equal(vfu_connection_await(pair.connection, 1000), VFU_WAIT_READ);
		assert_int_equal(vfu_connection_handle(pair.connection), VFU_WAIT_READ);
		close(receive(id, VFU_GET_REGION_INFO, 0, 48, NULL));
	}
	shutdown(pair.vmm, SHUT_WR);
	assert_int_equal(vfu_connection_await(pair.connection, 0), VFU_WAIT_OVER);
	close(memory);
	down();
}

static void test_a_holder_that_is_full(void **unused)
{
	(void)unused;
	uint8_t bytes[64];
	int fd = dup(0);

	kept_up(1, -1);
	pair.keptbox.put_error = -ENOSPC;
	send_fds(bytes, add_set_irqs(bytes, 2, 0, 1), &fd, 1);
	assert_int_equal(ready(0), VFU_WAIT_OVER);
	assert_int_equal(lines, 1);
	down();
}

static void test_a_descriptor_that_is_not_held_any_more(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(2, -1);
	set_vector(2, 0, mine);
	set_vector(3, 1, mine);
	sock = end_process(sock);
	keptbox_drop(&pair.keptbox, pair.keptbox.last);
	begin_process(1, 2, -1);
	int before = fdcheck_count();
	assert_int_equal(vfu_connection_resume(&pair.connection, sock, &pair.box.function, "test",
				 &counting, &pair.keptbox.why),
		-ENOENT);
	assert_string_equal(
		pair.keptbox.why.text, "descriptor 2 of the VMM: it is not held any more");
	vfu_function_release(&pair.box.function);
	assert_int_equal(fdcheck_count(), before);
	vfu_kept_detach(pair.keptbox.kept);
	close(sock);
	close(pair.vmm);
	close(mine);
	function_down();
}

static void test_what_is_held_must_be_an_eventfd(void **unused)
{
	(void)unused;
	int mine = eventfd(0, EFD_NONBLOCK);

	kept_up(1, -1);
	set_vector(2, 0, mine);
	sock = end_process(sock);
	dup2(sock, pair.keptbox.held[0].fd);
	begin_process(1, 1, -1);
	assert_int_equal(vfu_connection_resume(&pair.connection, sock, &pair.box.function, "test",
				 &counting, &pair.keptbox.why),
		-EPROTO);
	vfu_kept_detach(pair.keptbox.kept);
	close(sock);
	close(pair.vmm);
	close(mine);
	function_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_vmm_notices_nothing),
		TEST(test_only_what_is_needed_is_held),
		TEST(test_in_the_middle_of_a_request),
		TEST(test_a_long_request_in_many_pieces),
		TEST(test_a_descriptor_behind_what_fits),
		TEST(test_in_the_middle_of_a_reply),
		TEST(test_what_is_pending_stays),
		TEST(test_who_was_hearing_hears_all),
		TEST(test_intx_goes_on),
		TEST(test_the_next_vmm_begins_anew),
		TEST(test_a_vmm_that_was_half_detached),
		TEST(test_a_refused_vmm_stays_refused),
		TEST(test_a_thread_of_its_own),
		TEST(test_a_holder_that_is_full),
		TEST(test_a_descriptor_that_is_not_held_any_more),
		TEST(test_what_is_held_must_be_an_eventfd),
	};
	keeping = true;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
