/* SPDX-License-Identifier: MIT */
/* What each request does and answers: docs/vfio-user.md, 2 to 4, 6, 7 and 9. */
#include "../common/vfuvmm.h"

#include <errno.h>
#include <fcntl.h>

static const char json[] = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":16384}}";

static void fresh(void)
{
	vfu_session_init(&vmm.session, &vmm.box.function, "test", NULL);
}

static void test_version(void **state)
{
	(void)state;
	static const struct {
		uint16_t minor, answered;
		const char *json;
	} clients[] = {
		{0, 0, "{\"capabilities\": {\"max_msg_fds\": 16, \"write_multiple\": true}}"},
		{1, 1, "{\"capabilities\":{\"max_msg_fds\":1}}"},
		{0, 0, NULL}, /* just the numbers */
		{0, 0, "no JSON"},
		{9, 1, "{}"},
	};

	up(1, 1, -1);
	for (size_t i = 0; i < sizeof(clients) / sizeof(clients[0]); i++) {
		uint8_t payload[256] = {0};
		struct vfu_version version = {0, clients[i].minor};
		size_t size = sizeof(version);
		memcpy(payload, &version, sizeof(version));
		if (clients[i].json) {
			strcpy((char *)payload + 4, clients[i].json);
			size += strlen(clients[i].json) + 1;
		}
		fresh();
		assert_int_equal(ask(VFU_VERSION, payload, size), 0);
		/* Numbers, JSON with `capabilities`, NUL; QEMU's buffer has 214 bytes. */
		assert_int_equal(vmm.reply.size, 16 + 4 + sizeof(json));
		memcpy(&version, vmm.buffer + 16, sizeof(version));
		assert_int_equal(version.major, 0);
		assert_int_equal(version.minor, clients[i].answered);
		assert_memory_equal(vmm.buffer + 20, json, sizeof(json));
		assert_true(vmm.session.agreed);
	}
	/* Once is enough. */
	const struct vfu_version again = {0, 0};
	assert_int_equal(ASK(VFU_VERSION, again), EINVAL);
	assert_true(vmm.session.agreed);
	down();
}

static void test_a_version_that_does_not_fit_ends_it(void **state)
{
	(void)state;
	const struct vfu_version other = {1, 0};

	up(1, 1, -1);
	fresh();
	assert_int_equal(
		send_with(VFU_VERSION, 0, &other, sizeof(other), NULL, 0), VFU_SEND_AND_CLOSE);
	assert_int_equal(vmm.reply.size, 16);
	fresh();
	assert_int_equal(send_with(VFU_VERSION, 0, &other, 3, NULL, 0), VFU_SEND_AND_CLOSE);
	fresh();
	assert_int_equal(
		send_with(VFU_VERSION, VFU_NO_REPLY, &other, sizeof(other), NULL, 0), VFU_CLOSE);
	down();
}

static void test_nothing_comes_before_version(void **state)
{
	(void)state;
	uint8_t payload[64] = {0};

	up(1, 1, -1);
	fresh();
	for (unsigned command = 0; command < 32; command++) {
		if (command != VFU_VERSION)
			assert_int_equal(ask(command, payload, sizeof(payload)), EINVAL);
	}
	const struct vfu_version version = {0, 0};
	assert_int_equal(ASK(VFU_VERSION, version), 0); /* and it is not too late */
	down();
}

static void test_a_second_vmm_is_told_that_the_device_is_busy(void **state)
{
	(void)state;
	const struct vfu_version version = {0, 0};
	struct vfu_header header;

	for (unsigned command = 1; command < 20; command++) {
		vfu_session_init(&vmm.session, NULL, "test", NULL);
		assert_int_equal(send_with(command, 0, &version, sizeof(version), NULL, 0),
			VFU_SEND_AND_CLOSE);
		memcpy(&header, vmm.buffer, sizeof(header));
		assert_int_equal(header.error, EBUSY);
	}
}

static void test_dma_is_accepted_and_forgotten(void **state)
{
	(void)state;
	const struct vfu_dma_map map = {32, 3, 0, 0x100000, 0x10000000};
	const struct vfu_dma_unmap unmap = {24, 0, 0xfef00000, UINT64_C(0xffffffff01100000)};

	up(1, 1, -1);
	int before = fdcheck_count(), fd = dup(0);
	assert_int_equal(send_with(VFU_DMA_MAP, 0, &map, sizeof(map), &fd, 1), VFU_SEND);
	assert_int_equal(vmm.reply.size, 16);
	assert_int_equal(fdcheck_count(), before);

	/* Never mapped: a virtual IOMMU does that. With a descriptor: SPDK does that. */
	fd = dup(0);
	assert_int_equal(send_with(VFU_DMA_UNMAP, 0, &unmap, sizeof(unmap), &fd, 1), VFU_SEND);
	struct vfu_dma_unmap echo = ANSWER(struct vfu_dma_unmap);
	assert_memory_equal(&echo, &unmap, sizeof(unmap));
	assert_int_equal(fdcheck_count(), before);
	down();
}

static void test_device_info(void **state)
{
	(void)state;
	up(1, 1, -1);
	for (uint32_t argsz = 16; argsz <= 32; argsz += 16) { /* 32: Cloud Hypervisor */
		struct vfu_device_info info = {argsz, 0xff, 1, 2};
		assert_int_equal(ASK(VFU_GET_INFO, info), 0);
		info = ANSWER(struct vfu_device_info);
		assert_int_equal(info.argsz, 16);
		assert_int_equal(info.flags, 3);
		assert_int_equal(info.num_regions, 9);
		assert_int_equal(info.num_irqs, 5);
	}
	down();
}

static void test_irq_info(void **state)
{
	(void)state;
	static const uint32_t msix[VFU_IRQS][2] = {{0, 0}, {0, 0}, {1, 3}, {1, 1}, {0, 0}};
	static const uint32_t intx[VFU_IRQS][2] = {{7, 1}, {0, 0}, {0, 0}, {1, 1}, {0, 0}};

	for (int legacy = 0; legacy < 2; legacy++) {
		up(!legacy, legacy ? 0 : 3, -1);
		for (uint32_t index = 0; index < VFU_IRQS; index++) {
			struct vfu_irq_info info = {64, 0, index, 99};
			assert_int_equal(ASK(VFU_GET_IRQ_INFO, info), 0);
			info = ANSWER(struct vfu_irq_info);
			assert_int_equal(info.argsz, 16);
			assert_int_equal(info.index, index);
			assert_int_equal(info.flags, (legacy ? intx : msix)[index][0]);
			assert_int_equal(info.count, (legacy ? intx : msix)[index][1]);
		}
		const struct vfu_irq_info none = {16, 0, VFU_IRQS, 0};
		assert_int_equal(ASK(VFU_GET_IRQ_INFO, none), EINVAL);
		down();
	}
}

static void test_no_descriptors_for_doorbells_are_offered(void **state)
{
	(void)state;
	struct vfu_region_io_fds io_fds = {4096, 0, 0, 0};

	up(1, 1, -1);
	assert_int_equal(ASK(VFU_GET_REGION_IO_FDS, io_fds), 0);
	io_fds = ANSWER(struct vfu_region_io_fds);
	assert_int_equal(io_fds.argsz, 16);
	assert_int_equal(io_fds.count, 0);
	down();
}

/* What doesn't make sense gets an error and changes nothing; the connection stays. */
static void test_malformed_requests(void **state)
{
	(void)state;
	static const struct {
		unsigned command;
		size_t smallest;
	} fixed[] = {
		{VFU_DMA_MAP, 32},
		{VFU_DMA_UNMAP, 24},
		{VFU_GET_INFO, 16},
		{VFU_GET_REGION_INFO, 32},
		{VFU_GET_REGION_IO_FDS, 16},
		{VFU_GET_IRQ_INFO, 16},
		{VFU_SET_IRQS, 20},
		{VFU_REGION_READ, 16},
		{VFU_REGION_WRITE, 16},
	};
	uint32_t payload[64] = {0};

	up(1, 1, -1);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
		payload[0] = 4096; /* argsz, where there is one */
		for (size_t size = 0; size < fixed[i].smallest; size++)
			assert_int_equal(ask(fixed[i].command, payload, size), EINVAL);
		if (fixed[i].command == VFU_SET_IRQS)
			payload[1] = VFU_DATA_NONE | VFU_ACTION_TRIGGER;
		assert_int_equal(ask(fixed[i].command, payload, fixed[i].smallest), 0);

		if (fixed[i].command < VFU_GET_INFO || fixed[i].command > VFU_SET_IRQS)
			continue;
		payload[0] = (uint32_t)fixed[i].smallest - 1;
		assert_int_equal(ask(fixed[i].command, payload, fixed[i].smallest), EINVAL);
		payload[0] = (uint32_t)fixed[i].smallest;
		payload[2] = VFU_REGIONS; /* index, where there is one */
		bool indexed = fixed[i].command != VFU_GET_INFO;
		assert_int_equal(
			ask(fixed[i].command, payload, fixed[i].smallest), indexed ? EINVAL : 0);
		payload[2] = 0;
	}
	down();
}

static void test_unknown_commands(void **state)
{
	(void)state;
	static const unsigned commands[] = {0, VFU_DMA_READ, VFU_DMA_WRITE, 14,
		VFU_REGION_WRITE_MULTI, VFU_FEATURE, VFU_MIG_DATA_READ, VFU_MIG_DATA_WRITE, 19,
		0x8000, 0xffff};
	uint8_t payload[64] = {0};

	up(1, 1, -1);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		assert_int_equal(ask(commands[i], payload, sizeof(payload)), EOPNOTSUPP);
		assert_int_equal(ask(commands[i], NULL, 0), EOPNOTSUPP);
	}
	/* What is no command at all. */
	struct vfu_header header;
	assert_int_equal(send_with(VFU_RESET, VFU_TYPE_REPLY, NULL, 0, NULL, 0), VFU_SEND);
	memcpy(&header, vmm.buffer, sizeof(header));
	assert_int_equal(header.error, EINVAL);
	assert_int_equal(ask(VFU_RESET, NULL, 0), 0);
	down();
}

/* Descriptors are closed whatever they come with; 19: unknown. */
static void test_no_request_leaks_descriptors(void **state)
{
	(void)state;
	uint32_t payload[64] = {64};

	up(1, 1, -1);
	int before = fdcheck_count();
	for (unsigned command = 0; command < 20; command++) {
		for (size_t size = 0; size <= sizeof(payload); size += 4) {
			int fds[VFU_FDS_MAX];
			for (int i = 0; i < VFU_FDS_MAX; i++)
				fds[i] = dup(0);
			send_with(command, 0, payload, size, fds, VFU_FDS_MAX);
			if (fdcheck_count() != before)
				fail_msg("command %u with %zu bytes leaks", command, size);
		}
	}
	down();
}

static void test_no_reply_is_honoured(void **state)
{
	(void)state;
	uint32_t payload[64] = {64};
	const struct vfu_region_access access = {IVSHMEM_REG_DOORBELL, 0, 4};
	uint8_t write[20];

	up(1, 1, -1);
	for (unsigned command = 2; command < 20; command++) {
		for (size_t size = 0; size <= sizeof(payload); size += sizeof(payload))
			assert_int_equal(send_with(command, VFU_NO_REPLY, payload, size, NULL, 0),
				VFU_NOTHING);
	}
	memcpy(write, &access, sizeof(access));
	store_le(write + 16, 4, 0x00030001);
	assert_int_equal(send_with(VFU_REGION_WRITE, VFU_NO_REPLY, write, sizeof(write), NULL, 0),
		VFU_NOTHING);
	assert_int_equal(vmm.box.rings, 1); /* and yet done */
	assert_int_equal(vmm.box.peer, 3);
	down();
}

static void test_set_irqs_takes_its_descriptors(void **state)
{
	(void)state;
	struct vfu_set_irqs set = {
		sizeof(set), VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER, VFU_MSIX, 0, 2};
	uint8_t payload[32] = {0};
	int fds[2];

	up(1, 2, -1);
	int before = fdcheck_count();
	for (int i = 0; i < 2; i++)
		fds[i] = eventfd(0, 0);
	assert_int_equal(send_with(VFU_SET_IRQS, 0, &set, sizeof(set), fds, 2), VFU_SEND);
	assert_int_equal(vmm.reply.size, 16);
	assert_int_equal(fdcheck_count(), before + 2);

	/* Data behind the structure are DATA_BOOL's. */
	set = (struct vfu_set_irqs){22, VFU_DATA_BOOL | VFU_ACTION_TRIGGER, VFU_MSIX, 0, 2};
	memcpy(payload, &set, sizeof(set));
	payload[21] = 1;
	assert_int_equal(ask(VFU_SET_IRQS, payload, 21), EINVAL);
	assert_int_equal(ask(VFU_SET_IRQS, payload, 22), 0);
	eventfd_t count;
	assert_int_equal(eventfd_read(fds[1], &count), 0);
	assert_int_equal(fcntl(fds[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	assert_int_equal(eventfd_read(fds[0], &count), -1);
	down();
	assert_int_equal(fdcheck_count(), before);
}

static void test_what_a_vmm_makes_us_log_is_limited(void **state)
{
	(void)state;
	static struct log chatty = {LOG_LEVEL_DEBUG, count_line};

	up(1, 1, -1);
	vmm.session.log = &chatty;
	for (int i = 0; i < 1000; i++)
		assert_int_equal(ask(99, NULL, 0), EOPNOTSUPP);
	assert_in_range(lines, 1, 20);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_version),
		TEST(test_a_version_that_does_not_fit_ends_it),
		TEST(test_nothing_comes_before_version),
		TEST(test_a_second_vmm_is_told_that_the_device_is_busy),
		TEST(test_dma_is_accepted_and_forgotten),
		TEST(test_device_info),
		TEST(test_irq_info),
		TEST(test_no_descriptors_for_doorbells_are_offered),
		TEST(test_malformed_requests),
		TEST(test_unknown_commands),
		TEST(test_no_request_leaks_descriptors),
		TEST(test_no_reply_is_honoured),
		TEST(test_set_irqs_takes_its_descriptors),
		TEST(test_what_a_vmm_makes_us_log_is_limited),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
