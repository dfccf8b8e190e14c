/* SPDX-License-Identifier: MIT */
/* Regions and what accesses to them do: docs/vfio-user.md, 5, 7 and 9. */
#include "../common/vfuvmm.h"

#include <errno.h>

static void check_region(unsigned index, uint32_t flags, uint64_t size, int fd)
{
	/* As SPDK sends it: a payload of argsz bytes. */
	struct {
		struct vfu_region_info info;
		uint8_t more[96];
	} request = {.info = {.argsz = sizeof(request), .index = index}};

	for (size_t sent = sizeof(request.info); sent <= sizeof(request); sent += 96) {
		assert_int_equal(ask(VFU_GET_REGION_INFO, &request, sent), 0);
		struct vfu_region_info info = ANSWER(struct vfu_region_info);
		assert_int_equal(info.argsz, 32);
		assert_int_equal(info.index, index);
		assert_int_equal(info.flags, flags);
		assert_int_equal(info.cap_offset, 0);
		assert_int_equal(info.size, size);
		assert_int_equal(info.offset, 0);
		assert_int_equal(vmm.reply.fd, fd);
	}
}

static void test_region_info(void **state)
{
	(void)state;
	up(1, 2, 0);
	check_region(0, 3, 256, -1);
	check_region(1, 3, 4096, -1);
	check_region(2, 7, BOX_SIZE, 0);
	for (unsigned index = 3; index < 7; index++)
		check_region(index, 0, 0, -1);
	check_region(7, 3, 256, -1);
	check_region(8, 0, 0, -1);

	vmm.box.function.memory.read_only = true;
	check_region(2, 5, BOX_SIZE, 0);
	vmm.box.function.memory.fd = -1;
	check_region(2, 1, BOX_SIZE, -1);
	vmm.box.function.memory.read_only = false;
	check_region(2, 3, BOX_SIZE, -1);
	down();

	up(0, 0, -1);
	check_region(1, 0, 0, -1); /* without MSI-X */
	down();
}

static const uint8_t *read_region(uint32_t region, uint64_t offset, uint32_t count)
{
	const struct vfu_region_access access = {offset, region, count};
	assert_int_equal(ASK(VFU_REGION_READ, access), 0);
	assert_int_equal(vmm.reply.size, 32 + count);
	assert_memory_equal(vmm.buffer + 16, &access, sizeof(access));
	return vmm.buffer + 32;
}

static void write_region(uint32_t region, uint64_t offset, const void *bytes, uint32_t count)
{
	static uint8_t payload[16 + VFU_DATA_MAX];
	const struct vfu_region_access access = {offset, region, count};
	memcpy(payload, &access, sizeof(access));
	memcpy(payload + 16, bytes, count);
	assert_int_equal(ask(VFU_REGION_WRITE, payload, 16 + count), 0);
	assert_int_equal(vmm.reply.size, 32); /* without the data */
	assert_memory_equal(vmm.buffer + 16, &access, sizeof(access));
}

static void test_config_space_in_one_read(void **state)
{
	(void)state;
	up(1, 1, -1);
	const uint8_t *config = read_region(VFU_REGION_CONFIG, 0, 256);
	assert_int_equal(load_le(config, 4), 0x11101af4);
	assert_int_equal(config[8], 1);
	assert_int_equal(config[0x34], 0x40);
	down();
}

static void test_bars_are_sized_through_config_space(void **state)
{
	(void)state;
	static const uint32_t ones = UINT32_MAX;

	up(1, 1, -1);
	write_region(VFU_REGION_CONFIG, 0x18, &ones, 4);
	write_region(VFU_REGION_CONFIG, 0x1c, &ones, 4);
	assert_int_equal(load_le(read_region(VFU_REGION_CONFIG, 0x18, 4), 4), 0xffff000c);
	assert_int_equal(load_le(read_region(VFU_REGION_CONFIG, 0x1c, 4), 4), 0xffffffff);
	down();
}

static void test_memory_is_read_and_written_in_any_size(void **state)
{
	(void)state;
	static uint8_t data[VFU_DATA_MAX];

	up(1, 1, -1);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7 + i / 256);
	for (uint32_t size = 1; size <= VFU_DATA_MAX; size = size * 2 + (size > 8)) {
		uint64_t offset = 3 * size % 64;
		write_region(IVSHMEM_BAR_MEMORY, offset, data, size);
		assert_memory_equal(vmm.box.memory + offset, data, size);
		assert_memory_equal(read_region(IVSHMEM_BAR_MEMORY, offset, size), data, size);
	}
	write_region(IVSHMEM_BAR_MEMORY, 0, data, 0);
	assert_int_equal(vmm.box.function.accesses % 2, 1);

	vmm.box.function.memory.read_only = true;
	write_region(IVSHMEM_BAR_MEMORY, 0, "????", 4);
	assert_memory_not_equal(vmm.box.memory, "????", 4);
	down();
}

static void test_memory_that_comes_late(void **state)
{
	(void)state;
	up(0, 0, -1);
	struct vfu_memory memory = vmm.box.function.memory;
	memory.fd = STDERR_FILENO; /* something to map */
	vmm.box.function.memory.address = NULL;
	check_region(IVSHMEM_BAR_MEMORY, 3, BOX_SIZE, -1);
	memset(vmm.box.memory, 0x55, BOX_SIZE);

	assert_int_equal(load_le(read_region(IVSHMEM_BAR_MEMORY, 8, 8), 8), 0);
	write_region(IVSHMEM_BAR_MEMORY, 8, "dropped", 8);
	vfu_function_attach(&vmm.box.function, &memory, 12);
	assert_int_equal(load_le(read_region(IVSHMEM_BAR_MEMORY, 8, 4), 4), 0x55555555);
	assert_int_equal(load_le(read_region(0, IVSHMEM_REG_IVPOSITION, 4), 4), 12);
	check_region(IVSHMEM_BAR_MEMORY, 3, BOX_SIZE, -1); /* too late for this VMM */
	vfu_function_release(&vmm.box.function);
	check_region(IVSHMEM_BAR_MEMORY, 7, BOX_SIZE, memory.fd);
	down();
}

/* Rule 2: an access is never an error, wherever it goes. */
static void test_accesses_to_nowhere(void **state)
{
	(void)state;
	static const uint64_t offsets[] = {0, 255, 256, 4095, 4096, BOX_SIZE - 1, BOX_SIZE,
		UINT32_MAX, UINT64_MAX - 7, UINT64_MAX};
	static const uint32_t regions[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 1000, UINT32_MAX};

	up(1, 1, -1);
	for (size_t r = 0; r < sizeof(regions) / sizeof(regions[0]); r++) {
		for (size_t o = 0; o < sizeof(offsets) / sizeof(offsets[0]); o++) {
			read_region(regions[r], offsets[o], 8);
			write_region(regions[r], offsets[o], "12345678", 8);
		}
	}
	down();
}

static void test_what_is_not_there_reads_zero(void **state)
{
	(void)state;
	static const struct {
		unsigned region;
		uint64_t offset;
	} cases[] = {{0, 256}, {3, 0}, {VFU_REGION_ROM, 0}, {VFU_REGION_VGA, 0}, {UINT32_MAX, 0},
		{VFU_REGION_CONFIG, 256}, {VFU_REGION_CONFIG, UINT64_C(1) << 32},
		{IVSHMEM_BAR_MEMORY, BOX_SIZE}, {IVSHMEM_BAR_MEMORY, UINT64_MAX}};
	uint64_t value;

	up(1, 1, -1);
	memset(vmm.box.memory, 0x55, BOX_SIZE);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&value, 0xee, sizeof(value));
		vfu_function_read(
			&vmm.box.function, cases[i].region, cases[i].offset, &value, sizeof(value));
		assert_int_equal(value, 0);
	}
	vmm.box.function.memory.address = NULL;
	memset(&value, 0xee, sizeof(value));
	vfu_function_read(&vmm.box.function, IVSHMEM_BAR_MEMORY, 0, &value, sizeof(value));
	assert_int_equal(value, 0);
	down();
}

static void test_accesses_that_lie_about_their_size(void **state)
{
	(void)state;
	struct {
		struct vfu_region_access access;
		uint8_t data[8];
	} write = {.access = {0, IVSHMEM_BAR_MEMORY, 9}, .data = "abcdefgh"};
	const struct vfu_region_access read = {0, IVSHMEM_BAR_MEMORY, VFU_DATA_MAX + 1};

	up(1, 1, -1);
	/* Fewer data than announced: a success that wrote nothing. */
	assert_int_equal(ask(VFU_REGION_WRITE, &write, 24), 0);
	assert_int_equal(vmm.reply.size, 32);
	write.access.count = UINT32_MAX;
	assert_int_equal(ask(VFU_REGION_WRITE, &write, 24), 0);
	assert_int_equal(vmm.box.memory[0], 0);
	/* More: what was announced. */
	write.access.count = 4;
	assert_int_equal(ask(VFU_REGION_WRITE, &write, 24), 0);
	assert_memory_equal(vmm.box.memory, "abcd\0\0\0", 8);
	/* More than we said we would send. */
	assert_int_equal(ASK(VFU_REGION_READ, read), EINVAL);
	down();
}

static void test_reset(void **state)
{
	(void)state;
	static const uint8_t memory_on[] = {2, 0}, msix_on[] = {0, 0x80};

	up(1, 1, -1);
	write_region(VFU_REGION_CONFIG, BOX_COMMAND, memory_on, 2);
	write_region(VFU_REGION_CONFIG, BOX_MSIX_CONTROL, msix_on, 2);
	assert_int_equal(load_le(read_region(VFU_REGION_CONFIG, BOX_COMMAND, 2), 2), 2);
	memcpy(vmm.box.memory, "stays", 5);
	assert_int_equal(ask(VFU_RESET, NULL, 0), 0);
	assert_int_equal(vmm.reply.size, 16);
	assert_int_equal(load_le(read_region(VFU_REGION_CONFIG, BOX_COMMAND, 2), 2), 0);
	assert_int_equal(load_le(read_region(VFU_REGION_CONFIG, BOX_MSIX_CONTROL, 2), 2), 0);
	assert_int_equal(load_le(read_region(0, IVSHMEM_REG_IVPOSITION, 4), 4), 7);
	assert_memory_equal(vmm.box.memory, "stays", 5);
	down();
}

static void test_a_guest_from_elsewhere_is_noticed(void **state)
{
	(void)state;
	static const uint8_t on[] = {2, 0};

	up(1, 1, -1);
	static const uint8_t off[] = {0, 0}, ones[] = {255, 255, 255, 255};

	/* What a VMM does by itself is not the guest. */
	read_region(VFU_REGION_CONFIG, 0, 256);
	write_region(VFU_REGION_CONFIG, BOX_COMMAND, off, 2);
	write_region(VFU_REGION_CONFIG, 0x10, ones, 4);
	assert_false(vmm.session.configured);
	assert_int_equal(lines, 0);
	read_region(0, IVSHMEM_REG_IVPOSITION, 4);
	read_region(0, IVSHMEM_REG_IVPOSITION, 4);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last_line, "test: "));
	assert_non_null(strstr(last_line, "migrated"));

	assert_int_equal(ask(VFU_RESET, NULL, 0), 0);
	read_region(0, IVSHMEM_REG_IVPOSITION, 4);
	assert_int_equal(lines, 2);
	assert_int_equal(ask(VFU_RESET, NULL, 0), 0);
	assert_false(vmm.session.configured);
	write_region(VFU_REGION_CONFIG, BOX_COMMAND, on, 2);
	assert_true(vmm.session.configured);
	read_region(0, IVSHMEM_REG_IVPOSITION, 4);
	assert_int_equal(lines, 2);
	down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_region_info),
		TEST(test_config_space_in_one_read),
		TEST(test_bars_are_sized_through_config_space),
		TEST(test_memory_is_read_and_written_in_any_size),
		TEST(test_memory_that_comes_late),
		TEST(test_accesses_to_nowhere),
		TEST(test_what_is_not_there_reads_zero),
		TEST(test_accesses_that_lie_about_their_size),
		TEST(test_reset),
		TEST(test_a_guest_from_elsewhere_is_noticed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
