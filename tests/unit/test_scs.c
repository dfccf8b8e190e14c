/* SPDX-License-Identifier: MIT */
/* The board's System Control Space: registers by bytes, halves and words, and what they do. */
#include "../common/fdcheck.h"

#include "../../tools/board/core/scs.h"

enum {
	SYST_CSR = 0x010,
	SYST_RVR = 0x014,
	ISER = 0x100,
	ICER = 0x180,
	ISPR = 0x200,
	ICPR = 0x280,
	IABR = 0x300,
	IPR = 0x400,
	CPUID = 0xd00,
	ICSR = 0xd04,
	VTOR = 0xd08,
	AIRCR = 0xd0c,
	SCR = 0xd10,
	CCR = 0xd14,
	SHPR1 = 0xd18,
	SHPR2 = 0xd1c,
	SHPR3 = 0xd20,
	SHCSR = 0xd24,
	CFSR = 0xd28,
	HFSR = 0xd2c,
	MMFAR = 0xd34,
	BFAR = 0xd38,
	MPU_TYPE = 0xd90,
	CPACR = 0xd88,
	STIR = 0xf00,
	FPCCR = 0xf34,
	FPCAR = 0xf38,
	MVFR0 = 0xf40,
	MVFR1 = 0xf44,
};

static struct scs scs;

static void open_kind(enum core_kind kind)
{
	const struct core_config config = {
		.kind = kind, .interrupts = kind == CORTEX_M0 ? 32 : 70, .clock_hz = 1000000};

	scs_init(&scs, &config);
}

static int set_up(void **state)
{
	(void)state;
	open_kind(CORTEX_M3);
	return 0;
}

static uint32_t get(uint32_t offset)
{
	return scs_read(&scs, offset, 4, 0);
}

static void set(uint32_t offset, uint32_t value)
{
	scs_write(&scs, offset, 4, value, 0);
}

static void test_lines(void **state)
{
	(void)state;
	set(ISER, 0x80000001);
	set(ISER + 8, UINT32_MAX); /* lines 64..69 are there */
	assert_int_equal(get(ISER), 0x80000001);
	assert_int_equal(get(ICER + 8), 0x3f);
	scs_write(&scs, ICER + 3, 1, 0x80, 0);
	assert_int_equal(get(ISER), 1);
	assert_int_equal(get(ISER + 12), 0);

	scs_write(&scs, ISPR + 2, 2, 0x8001, 0);
	assert_int_equal(get(ICPR), 0x80010000);
	assert_int_equal(scs_read(&scs, ISPR + 3, 1, 0), 0x80);
	set(ICPR, 0x10000);
	assert_int_equal(get(ISPR), 0x80000000);
	nvic_activate(&scs.nvic, EXC_LINE0 + 31);
	assert_int_equal(get(IABR), 0x80000000);
	set(IABR, 0); /* read-only */
	assert_int_equal(get(IABR), 0x80000000);
	set(STIR, 69);
	assert_int_equal(get(ISPR + 8), 0x20);
	set(STIR, 70);
	assert_int_equal(get(ISPR + 8), 0x20);
}

static void test_priorities(void **state)
{
	(void)state;
	set(IPR + 4, 0xff7f3f1f);
	assert_int_equal(get(IPR + 4), 0xe0602000);
	scs_write(&scs, IPR + 5, 1, 0xc0, 0);
	scs_write(&scs, IPR + 6, 2, 0x2040, 0);
	assert_int_equal(get(IPR + 4), 0x2040c000);
	assert_int_equal(scs_read(&scs, IPR + 6, 2, 0), 0x2040);
	set(IPR + 68, UINT32_MAX); /* lines 68 and 69, and two that are not there */
	assert_int_equal(get(IPR + 68), 0xe0e0);
	set(SHPR1, UINT32_MAX);
	set(SHPR2, UINT32_MAX);
	set(SHPR3, UINT32_MAX);
	assert_int_equal(get(SHPR1), 0x00e0e0e0);
	assert_int_equal(get(SHPR2), 0xe0000000);
	assert_int_equal(get(SHPR3), 0xe0e00000);
	scs_write(&scs, SHPR3 + 2, 1, 0x40, 0);
	assert_int_equal(scs.nvic.priority[EXC_PENDSV], 0x40);
}

static void test_icsr(void **state)
{
	(void)state;
	assert_int_equal(get(ICSR), 0x800);
	set(ICSR, 0x94000000);
	assert_int_equal(get(ICSR), 0x94002800); /* the next one is NMI */
	set(ICSR, 0x0a000000);
	assert_int_equal(get(ICSR), 0x80002800);
	nvic_activate(&scs.nvic, EXC_NMI);
	set(ISPR, 1);
	assert_int_equal(get(ICSR), 0x00400802); /* pending, not enabled */
	set(ISER, 1);
	assert_int_equal(get(ICSR), 0x00410802);
	nvic_activate(&scs.nvic, EXC_LINE0);
	assert_int_equal(get(ICSR), 0x00000010); /* not the only one */
}

static void test_aircr(void **state)
{
	(void)state;
	set(AIRCR, 0x05fb0704); /* not the key */
	assert_int_equal(get(AIRCR), 0xfa050000);
	assert_false(scs.reset);
	set(AIRCR, 0x05fa0300);
	assert_int_equal(get(AIRCR), 0xfa050300);
	assert_int_equal(scs.nvic.prigroup, 3);
	set(AIRCR, 0x05fa0004);
	assert_true(scs.reset);
	scs_reset(&scs);
	assert_false(scs.reset);
	assert_int_equal(get(AIRCR), 0xfa050000);
}

static void test_faults(void **state)
{
	(void)state;
	set(SHCSR, 0x70000);
	assert_int_equal(get(SHCSR), 0x70000);
	assert_true(nvic_bit(&scs.nvic.enabled, EXC_BUS));
	nvic_activate(&scs.nvic, EXC_USAGE);
	nvic_pend(&scs.nvic, EXC_SVC);
	assert_int_equal(get(HFSR), 0);
	assert_int_equal(get(SHCSR), 0x78008);
	scs_write(&scs, SHCSR + 2, 1, 0x02, 0); /* that byte only */
	assert_int_equal(get(SHCSR), 0x28008);
	set(SHCSR, 0);
	assert_false(nvic_bit(&scs.nvic.active, EXC_USAGE));

	scs.cfsr = CFSR_UNDEFINSTR | CFSR_PRECISERR | CFSR_BFARVALID;
	scs.hfsr = HFSR_FORCED;
	assert_int_equal(scs_read(&scs, CFSR + 1, 1, 0), 0x82);
	scs_write(&scs, CFSR + 1, 1, 0xff, 0); /* ones clear */
	assert_int_equal(get(CFSR), CFSR_UNDEFINSTR);
	assert_int_equal(get(HFSR), HFSR_FORCED);
	set(HFSR, HFSR_FORCED);
	assert_int_equal(get(HFSR), 0);
}

static void test_kept(void **state)
{
	(void)state;
	set(VTOR, 0x200001ff);
	assert_int_equal(get(VTOR), 0x20000180);
	set(SCR, UINT32_MAX);
	assert_int_equal(get(SCR), 0x16);
	assert_int_equal(get(CCR), 0x200);
	scs_write(&scs, CCR, 1, 0xff, 0);
	assert_int_equal(get(CCR), 0x21b);
	scs.mmfar = 0x11111111;
	scs.bfar = 0x22222222;
	assert_int_equal(get(MMFAR), 0x11111111);
	assert_int_equal(get(BFAR), 0x22222222);
	assert_int_equal(get(MPU_TYPE), 0);
	assert_int_equal(get(CPUID), 0x410fc231);
	set(CPUID, 0);
	assert_int_equal(get(CPUID), 0x410fc231);
	assert_int_equal(get(0x004), 2); /* ICTR: up to 96 lines */
}

/* SysTick's exception. */
static void test_systick(void **state)
{
	(void)state;
	set(SYST_RVR, 9);
	set(SYST_CSR, 3);
	scs_advance(&scs, 9999);
	assert_false(nvic_bit(&scs.nvic.pending, EXC_SYSTICK));
	/* Reading is looking at the time, too. */
	assert_int_equal(scs_read(&scs, SYST_CSR, 4, 10000), 0x10007);
	assert_true(nvic_bit(&scs.nvic.pending, EXC_SYSTICK));
}

/* What the smallest and the largest have. */
static void test_kinds(void **state)
{
	static const uint32_t missing[] = {
		0x004, VTOR, SHPR1, CFSR, HFSR, IABR, CPACR, FPCCR, MMFAR, BFAR};

	(void)state;
	open_kind(CORTEX_M0);
	for (size_t i = 0; i < sizeof(missing) / sizeof(missing[0]); i++) {
		set(missing[i], UINT32_MAX);
		assert_int_equal(get(missing[i]), 0);
	}
	assert_int_equal(get(CPUID), 0x410cc200);
	set(CCR, 0);
	assert_int_equal(get(CCR), 0x208);
	set(IPR, UINT32_MAX);
	assert_int_equal(get(IPR), 0xc0c0c0c0);
	set(SHCSR, 0x70000);
	assert_int_equal(get(SHCSR), 0);
	set(AIRCR, 0x05fa0700);
	assert_int_equal(get(AIRCR), 0xfa050000);
	assert_int_equal(get(ICSR), 0);

	open_kind(CORTEX_M4);
	assert_int_equal(get(CPUID), 0x410fc240);
	assert_int_equal(get(FPCCR), 0xc0000000);
	set(CPACR, UINT32_MAX);
	assert_int_equal(get(CPACR), 0x00f00000);
	set(FPCAR, UINT32_MAX);
	assert_int_equal(get(FPCAR), 0xfffffff8);
	assert_int_equal(get(MVFR0), 0x10110021);
	assert_int_equal(get(MVFR1), 0x11000011);
	open_kind(CORTEX_M3);
	assert_int_equal(get(FPCCR), 0);
	set(CPACR, UINT32_MAX);
	assert_int_equal(get(CPACR), 0);
	assert_int_equal(get(MVFR1), 0);
}

/* Whatever is written to it, in all sizes. */
static void test_hostile(void **state)
{
	(void)state;
	for (enum core_kind kind = CORTEX_M0; kind <= CORTEX_M4; kind++) {
		open_kind(kind);
		for (unsigned size = 1; size <= 4; size *= 2)
			for (uint32_t offset = 0; offset < SCS_SIZE; offset += size) {
				scs_write(&scs, offset, size, UINT32_MAX, offset);
				scs_read(&scs, offset, size, offset);
			}
		assert_true(nvic_candidate(&scs.nvic) < EXC_LINE0 + scs.nvic.lines);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_lines, set_up),
		cmocka_unit_test_setup(test_priorities, set_up),
		cmocka_unit_test_setup(test_icsr, set_up),
		cmocka_unit_test_setup(test_aircr, set_up),
		cmocka_unit_test_setup(test_faults, set_up),
		cmocka_unit_test_setup(test_kept, set_up),
		cmocka_unit_test_setup(test_systick, set_up),
		cmocka_unit_test_setup(test_kinds, set_up),
		cmocka_unit_test_setup(test_hostile, set_up),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
