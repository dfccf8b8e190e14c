/* SPDX-License-Identifier: MIT */
/*
 * The board's processor as the board sees it: what tools/board/core/core.h says. How it executes
 * firmware is the matter of tests/cortex/conformance.c.
 */
#include "../common/fdcheck.h"

#include "../../tools/board/core/core.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PAGE = 4096, FLASH = 0, RAM = 0x20000000, DEVICE = 0x40000000, WINDOW = 8 };
enum { LINE = 3, STACK = RAM + 0x800, CODE = 0x100, HANDLER = 0x200 };

/* Thumb instructions. */
enum {
	NOP = 0xbf00,
	WFI = 0xbf30,
	BX_LR = 0x4770,
	HERE = 0xe7fe,        /* b . */
	SEMIHOST = 0xbeab,    /* bkpt 0xab */
	CPSID = 0xb672,       /* cpsid i */
	COUNT = 0x3501,       /* adds r5, #1 */
	STR_R0_R1 = 0x6008,   /* str r0, [r1] */
	STR_R0_R1_4 = 0x6048, /* str r0, [r1, #4] */
	LDR_R2_R1_8 = 0x688a, /* ldr r2, [r1, #8] */
	BX_R1 = 0x4708,
};

static struct core *core;
static uint8_t *flash, *ram;
static uint32_t written, written_size;

static uint32_t device_read(void *data, uint32_t offset, unsigned size)
{
	assert_ptr_equal(data, &core);
	return offset << 8 | size;
}

/* A doorbell to itself: offset 4 raises the line, and offset 0 takes it back. */
static void device_write(void *data, uint32_t offset, unsigned size, uint32_t value)
{
	assert_ptr_equal(data, &core);
	written = value;
	written_size = size;
	core_line(core, LINE, offset == 4);
}

static const struct core_device device = {device_read, device_write, &core};

static void put(uint32_t address, uint16_t code)
{
	const uint8_t bytes[2] = {(uint8_t)code, (uint8_t)(code >> 8)};

	assert_int_equal(core_write(core, address, bytes, 2), 0);
}

static void put_word(uint32_t address, uint32_t value)
{
	put(address, (uint16_t)value);
	put(address + 2, (uint16_t)(value >> 16));
}

static int set_up(void **state)
{
	const struct core_config config = {CORTEX_M3, 8, 1000000};

	(void)state;
	flash = aligned_alloc(PAGE, PAGE);
	ram = aligned_alloc(PAGE, PAGE);
	assert_int_equal(core_open(&core, &config), 0);
	assert_int_equal(core_map_memory(core, FLASH, PAGE, flash), 0);
	assert_int_equal(core_map_memory(core, RAM, PAGE, ram), 0);
	assert_int_equal(core_map_device(core, DEVICE, WINDOW, &device), 0);
	memset(flash, 0, PAGE);
	put_word(0, STACK);
	for (uint32_t vector = 4; vector < 4 * 24; vector += 4)
		put_word(vector, HANDLER | 1);
	put_word(4, CODE | 1);
	put(HANDLER, COUNT);
	put(HANDLER + 2, BX_LR);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	core_close(core);
	free(flash);
	free(ram);
	return 0;
}

/* Run these instructions, with r0 and r1 set; the last one is for ever. */
static enum core_stop run(const uint16_t *code, unsigned n, uint32_t r0, uint32_t r1)
{
	for (unsigned i = 0; i < n; i++)
		put(CODE + 2 * i, code[i]);
	put(CODE + 2 * n, HERE);
	core_reset(core);
	core_set_register(core, 0, r0);
	core_set_register(core, 1, r1);
	return core_run(core);
}

#define RUN(r0, r1, ...)                                                                           \
	run((const uint16_t[]){__VA_ARGS__}, sizeof((const uint16_t[]){__VA_ARGS__}) / 2, r0, r1)

/* Code that lets the line interrupt: executed once. */
static void enable_line(void)
{
	assert_int_equal(RUN(1u << LINE, 0xe000e100, STR_R0_R1, SEMIHOST), CORE_SEMIHOSTING);
}

static void test_open(void **state)
{
	static const struct core_config bad[] = {
		{CORTEX_M0, 33, 1}, {CORTEX_M3, 241, 1}, {CORTEX_M3, 0, 1}, {CORTEX_M4, 8, 0}};
	struct core *other = (struct core *)&other;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(core_open(&other, &bad[i]), -EINVAL);
		assert_null(other);
	}
	core_close(NULL);
	assert_non_null(core_reason(core));
}

static void test_map(void **state)
{
	(void)state;
	assert_int_equal(core_map_memory(core, 0x1001, PAGE, ram), -EINVAL);
	assert_int_equal(core_map_memory(core, 0x1000, PAGE + 1, ram), -EINVAL);
	assert_int_equal(core_map_memory(core, 0x1000, 0, ram), -EINVAL);
	assert_int_equal(core_map_memory(core, RAM, PAGE, ram), -EINVAL);
	assert_int_equal(core_map_memory(core, RAM - PAGE, 2 * PAGE, ram), -EINVAL);
	assert_int_equal(core_map_memory(core, 0xfffff000, 2 * PAGE, ram), -EINVAL);
	assert_int_equal(core_map_device(core, DEVICE + 8, 8, &device), -EINVAL);
	assert_int_equal(core_map_device(core, DEVICE, 8, &device), -EINVAL);
	assert_int_equal(core_map_device(core, 0xe000e000, PAGE, &device), -EINVAL);
	assert_int_equal(core_map_device(core, 0xfffff000, PAGE, &device), 0);
	int error = 0;
	for (uint32_t at = 0x60000000; error == 0; at += PAGE)
		error = core_map_device(core, at, 4, &device);
	assert_int_equal(error, -ENOMEM); /* there is a limit */
}

static void test_memory(void **state)
{
	char bytes[16] = "";

	(void)state;
	assert_int_equal(core_write(core, RAM + PAGE - 8, "12345678", 8), 0);
	assert_memory_equal(ram + PAGE - 8, "12345678", 8);
	assert_int_equal(core_read(core, RAM + PAGE - 4, bytes, 4), 0);
	assert_string_equal(bytes, "5678");
	assert_int_equal(core_read(core, RAM + PAGE - 4, bytes, 5), -EFAULT);
	assert_int_equal(core_write(core, RAM + PAGE - 4, bytes, 5), -EFAULT);
	assert_int_equal(core_read(core, DEVICE, bytes, 1), -EFAULT);
	assert_int_equal(core_read(core, 0xfffffffe, bytes, 4), -EFAULT);
	assert_int_equal(core_write(core, 0xfffffffe, bytes, 4), -EFAULT);
	assert_int_equal(core_write(core, 0x9ffff000, bytes, 4), -EFAULT); /* the processor's */
}

static void test_reset(void **state)
{
	(void)state;
	assert_int_equal(RUN(1, 2, CPSID, SEMIHOST, WFI), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 15), CODE + 4); /* behind the instruction */
	core_set_register(core, 13, RAM);
	core_line(core, LINE, true);
	core_line(core, LINE, false);
	core_reset(core);
	assert_int_equal(core_register(core, 0), 0);
	assert_int_equal(core_register(core, 13), STACK);
	assert_int_equal(core_register(core, 14), UINT32_MAX);
	assert_int_equal(core_register(core, 15), CODE);
	/* Nothing there to start from. */
	put_word(0, 0);
	put_word(4, 0x70000001);
	core_reset(core);
	assert_int_equal(core_run(core), CORE_LOCKUP);
}

static void test_semihosting(void **state)
{
	(void)state;
	assert_int_equal(RUN(7, 0, COUNT, SEMIHOST, COUNT, SEMIHOST), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 0), 7);
	core_set_register(core, 0, 9);
	core_set_register(core, 5, 40);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 0), 9);
	assert_int_equal(core_register(core, 5), 41);
	assert_int_equal(core_run(core), CORE_LOOK); /* it never keeps the board from looking */
	core_set_register(core, 15, CODE);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
}

static void test_sleep(void **state)
{
	(void)state;
	enable_line();
	put(CODE + 4, WFI);
	put(CODE + 6, SEMIHOST);
	assert_int_equal(core_run(core), CORE_SLEEPS);
	assert_int_equal(core_run(core), CORE_SLEEPS); /* nothing has come */
	assert_true(core_deadline(core) == UINT64_MAX);
	core_line(core, 200, true); /* does not exist */
	core_line(core, LINE + 1, true);
	assert_int_equal(core_run(core), CORE_SLEEPS); /* not enabled */
	core_line(core, LINE, true);
	core_line(core, LINE, false);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 5), 1);
}

/* A line that goes up in the middle of an instruction interrupts behind it. */
static void test_line_in_callback(void **state)
{
	(void)state;
	enable_line();
	put(HANDLER, STR_R0_R1); /* takes it back */
	put(CODE + 4, STR_R0_R1_4);
	put(CODE + 6, SEMIHOST);
	core_set_register(core, 0, 0xabcd);
	core_set_register(core, 1, DEVICE);
	written = 0;
	core_set_register(core, 15, CODE + 4);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 15), CODE + 8);
	assert_int_equal(written, 0xabcd);
	assert_int_equal(written_size, 4);
	uint8_t frame[4]; /* the handler has been where it was to be: its frame is below the stack
			   */
	assert_int_equal(core_read(core, STACK - 8, frame, 4), 0);
	assert_int_equal(frame[0] | frame[1] << 8, CODE + 6);
}

static void test_window(void **state)
{
	(void)state;
	put_word(12, 0x300 | 1); /* HardFault */
	put(0x300, SEMIHOST);
	assert_int_equal(RUN(0, DEVICE - 4, LDR_R2_R1_8, SEMIHOST), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 2), 0x404);
	assert_int_equal(core_register(core, 15), CODE + 4);
	assert_int_equal(RUN(0, DEVICE, LDR_R2_R1_8, SEMIHOST), CORE_SEMIHOSTING);
	assert_int_equal(core_register(core, 15), 0x302);
	assert_non_null(strstr(core_reason(core), "read of 0x40000008"));
}

static void test_lock_up(void **state)
{
	(void)state;
	put(HANDLER, STR_R0_R1);
	assert_int_equal(RUN(0, 0x70000000, STR_R0_R1), CORE_LOCKUP);
	assert_non_null(strstr(core_reason(core), "write to 0x70000000"));
	assert_non_null(strstr(core_reason(core), "pc 0x00000200"));
	assert_non_null(strstr(core_reason(core), "in a fault handler"));
	core_line(core, LINE, true);
	assert_int_equal(core_run(core), CORE_LOCKUP); /* for good */
	assert_int_equal(RUN(0, 0, NOP), CORE_LOOK);   /* but for a reset */
}

static void test_reset_request(void **state)
{
	(void)state;
	assert_int_equal(RUN(0x05fa0004, 0xe000ed0c, STR_R0_R1), CORE_RESET);
	assert_int_equal(core_run(core), CORE_RESET); /* nothing else, until it gets it */
	assert_int_equal(RUN(0, 0, NOP), CORE_LOOK);
}

/* The page that is the processor's own is no place to hide from the board in. */
static void test_own_page(void **state)
{
	(void)state;
	assert_int_equal(RUN(0, 0x9ffff001, BX_R1), CORE_LOOK);
	core_reset(core);
	core_set_register(core, 15, 0x9ffff000);
	assert_int_equal(core_run(core), CORE_LOOK);
}

static void test_deadline(void **state)
{
	(void)state;
	assert_int_equal(RUN(0xffffff, 0xe000e014, CPSID, STR_R0_R1, SEMIHOST), CORE_SEMIHOSTING);
	assert_true(core_deadline(core) == UINT64_MAX);
	core_set_register(core, 0, 3);
	core_set_register(core, 1, 0xe000e010);
	core_set_register(core, 15, CODE);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
	assert_true(core_deadline(core) != UINT64_MAX);
	/* A tick that is pending and masked is nothing to wake up for. */
	core_set_register(core, 0, 1u << 26);
	core_set_register(core, 1, 0xe000ed04); /* ICSR.PENDSTSET */
	core_set_register(core, 15, CODE);
	assert_int_equal(core_run(core), CORE_SEMIHOSTING);
	assert_true(core_deadline(core) == UINT64_MAX);
}

#define TEST_CORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST_CORE(test_open),
		TEST_CORE(test_map),
		TEST_CORE(test_memory),
		TEST_CORE(test_reset),
		TEST_CORE(test_semihosting),
		TEST_CORE(test_sleep),
		TEST_CORE(test_line_in_callback),
		TEST_CORE(test_window),
		TEST_CORE(test_lock_up),
		TEST_CORE(test_reset_request),
		TEST_CORE(test_own_page),
		TEST_CORE(test_deadline),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
