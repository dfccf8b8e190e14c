/* SPDX-License-Identifier: MIT */
/* Cortex-M4 with an FPU: its registers across exceptions, saved at once, late, or not at all. */
#include "conformance.h"

#define SCB_CPACR     0xe000ed88u
#define FPU_CPACR     0xf00000u /* full access */
#define FPU_FPCCR     0xe000ef34u
#define FPU_FPCAR     0xe000ef38u
#define FPU_FPDSCR    0xe000ef3cu
#define FPCCR_LSPACT  1u
#define FPCCR_LSPEN   0x40000000u
#define FPCCR_ASPEN   0x80000000u
#define CONTROL_FPCA  4u
#define FPSCR_TO_ZERO 0xc00000u
#define FPSCR_DN      0x2000000u
#define FPSCR_MODES   0x7c00000u /* what a new context takes from FPDSCR */

static void set_access(uint32_t access)
{
	*reg(SCB_CPACR) = access;
	__asm__ volatile("dsb\n\tisb" : : : "memory");
}

/* No context: what follows has not used the FPU yet. */
static void forget(void)
{
	WRITE_SPECIAL(control, READ_SPECIAL(control) & ~CONTROL_FPCA);
}

/* ---- instructions ---- */

#define RUN(instructions, a, b)                                                                    \
	do {                                                                                       \
		uint32_t run_result;                                                               \
		__asm__ volatile("vmov s0, %1\n\tvmov s1, %2\n\t" instructions "\n\tvmov %0, s0"   \
				 : "=r"(run_result)                                                \
				 : "r"(a), "r"(b)                                                  \
				 : "s0", "s1");                                                    \
		print(instructions ": 0x%x\n", run_result);                                        \
	} while (0)

static uint32_t fpscr(void)
{
	uint32_t value;
	__asm__ volatile("vmrs %0, fpscr" : "=r"(value));
	return value;
}

static void set_fpscr(uint32_t value)
{
	__asm__ volatile("vmsr fpscr, %0" : : "r"(value));
}

void test_fpu(void)
{
	handlers[HARD_FAULT] = handlers[USAGE_FAULT] = note_fault;
	*reg(SCB_SHCSR) = SHCSR_USGFAULTENA;
	set_access(0);
	PROVOKE("vmov s0, r0", 0);
	show_fault("no access");
	*reg(SCB_SHCSR) = 0;
	set_access(FPU_CPACR);
	print("access 0x%x, automatic 0x%x\n", *reg(SCB_CPACR), *reg(FPU_FPCCR) >> 30);

	forget();
	print("control 0x%x", READ_SPECIAL(control));
	set_fpscr(0);
	print(", now 0x%x\n", READ_SPECIAL(control));
	RUN("vadd.f32 s0, s0, s1", 0x3fc00000, 0x40200000);
	RUN("vdiv.f32 s0, s0, s1", 0x3f800000, 0x40400000);
	RUN("vsqrt.f32 s0, s1", 0, 0x40000000);
	RUN("vfma.f32 s0, s1, s1", 0xbf801000, 0x3f800800);
	RUN("vmla.f32 s0, s1, s1", 0xbf801000, 0x3f800800);
	RUN("vcvt.s32.f32 s0, s0", 0xc2280000, 0);
	RUN("vcvt.f32.u32 s0, s0", 0xffffffff, 0);
	RUN("vneg.f32 s0, s1", 0, 0x7f800000);
	print("inexact: 0x%x\n", fpscr());
	set_fpscr(0);
	RUN("vdiv.f32 s0, s0, s1", 0x3f800000, 0);
	print("division by zero: 0x%x\n", fpscr());
	set_fpscr(FPSCR_TO_ZERO);
	RUN("vdiv.f32 s0, s0, s1", 0x3f800000, 0x40400000);
	set_fpscr(0);
	RUN("vcmp.f32 s0, s1", 0x3f800000, 0x40400000);
	print("less: 0x%x\n", fpscr());
}

/* ---- frames ---- */

/* Loads s0..s31 from `before`, stores `value` to `address`, stores them to `after`. */
__attribute__((naked)) static void interrupted(__attribute__((unused)) const uint32_t before[32],
	__attribute__((unused)) uint32_t after[32],
	__attribute__((unused)) volatile uint32_t *address, __attribute__((unused)) uint32_t value)
{
	__asm__ volatile("vpush	{s16-s31}\n\t"
			 "vldmia	r0, {s0-s31}\n\t"
			 "str	r3, [r2]\n\t"
			 "dsb\n\t"
			 "isb\n\t"
			 "vstmia	r1, {s0-s31}\n\t"
			 "vpop	{s16-s31}\n\t"
			 "bx	lr");
}

/* As any function may: s0..s15 are other ones afterwards. */
__attribute__((naked)) static void spoil(__attribute__((unused)) uint32_t value)
{
	__asm__ volatile("vpush	{s16-s31}\n\t"
			 ".irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 31\n\t"
			 "vmov	s\\n, r0\n\t"
			 ".endr\n\t"
			 "vpop	{s16-s31}\n\t"
			 "bx	lr");
}

static uint32_t before[32], after[32];
static unsigned spoilers; /* handlers that use the FPU: bit 0 FIRST, bit 1 FIRST + 1 */
static bool nests;        /* the first is preempted by the second */

static bool spoils(unsigned number)
{
	return (spoilers >> (number - FIRST) & 1) != 0;
}

#define SPOILT 0xdeadbeefu

static bool has_extended_frame(void)
{
	return (taken->context->exc_return & 0x10) == 0;
}

/* Is the interrupted code's s0 in the frame? */
static void show_saved(void)
{
	uint32_t s0 = exception_number() > FIRST && spoils(FIRST) ? SPOILT : before[0];

	if (has_extended_frame())
		print("saved %u\n", ((const uint32_t *)(taken->frame + 1))[0] == s0);
}

static void look(void)
{
	unsigned number = exception_number();

	print("in %u: lr 0x%x control 0x%x\n", number, taken->context->exc_return,
		READ_SPECIAL(control));
	if ((*reg(FPU_FPCCR) & FPCCR_LSPACT) != 0)
		print("late: fpcar %u\n", *reg(FPU_FPCAR) - (uint32_t)taken->frame);
	show_saved();
	if (spoils(number)) {
		spoil(SPOILT);
		print("used: control 0x%x modes 0x%x late %u\n", READ_SPECIAL(control),
			fpscr() & FPSCR_MODES, *reg(FPU_FPCCR) & FPCCR_LSPACT);
		show_saved();
	}
	if (nests && number == FIRST) {
		pend(FIRST + 1);
		print("in 40 again: control 0x%x late %u\n", READ_SPECIAL(control),
			*reg(FPU_FPCCR) & FPCCR_LSPACT);
		show_saved();
	}
}

static void run(const char *what, unsigned who_spoils, bool nested)
{
	static uint32_t pattern = 0x10000;
	unsigned damaged = 0;

	pattern += 0x10000;
	spoilers = who_spoils;
	nests = nested;
	for (unsigned i = 0; i < 32; i++)
		before[i] = pattern + i;
	print("%s\n", what);
	interrupted(before, after, reg(NVIC_ISPR), 1u << LINE);
	for (unsigned i = 0; i < 32; i++)
		damaged += before[i] != after[i];
	print("damaged %u, control 0x%x fpscr 0x%x\n", damaged, READ_SPECIAL(control), fpscr());
}

/* The FPU is not being used when the interrupt comes. */
static void run_unused(const char *what, unsigned who_spoils)
{
	forget();
	spoilers = who_spoils;
	nests = false;
	print("%s\n", what);
	pend(FIRST);
	print("control 0x%x\n", READ_SPECIAL(control));
}

static void look_at_modes(void)
{
	print("not automatic: lr 0x%x modes 0x%x\n", taken->context->exc_return,
		fpscr() & FPSCR_MODES);
}

void test_fpu_frames(void)
{
	set_access(FPU_CPACR);
	lines_on(2, look, LOW);
	set_priority(FIRST + 1, HIGH);
	run_unused("unused", 0);
	run_unused("used in the handler", 1);

	*reg(FPU_FPDSCR) = FPSCR_DN;
	set_fpscr(FPSCR_TO_ZERO);
	run("handler without", 0, false);
	run("handler with", 1, false);
	run("nested without", 0, true);
	run("nested, the outer with", 1, true);
	run("nested, the inner with", 2, true);
	run("nested with", 3, true);
	*reg(FPU_FPCCR) &= ~FPCCR_LSPEN;
	run("at once, handler without", 0, false);
	run("at once, handler with", 1, false);
	run("at once, nested", 3, true);
	*reg(FPU_FPCCR) |= FPCCR_LSPEN;

	/* Left to software: neither room in the frame nor a new FPSCR. CONTROL.FPCA stays as it is
	 * then, which our board cannot have clear while the FPU is in use: not compared. */
	*reg(FPU_FPCCR) &= ~FPCCR_ASPEN;
	forget();
	handlers[FIRST] = look_at_modes;
	set_fpscr(FPSCR_TO_ZERO);
	pend(FIRST);
	print("back: fpscr 0x%x\n", fpscr());
	forget();
	*reg(FPU_FPCCR) |= FPCCR_ASPEN;
	*reg(FPU_FPDSCR) = 0;
	set_fpscr(0);
}

/* ---- threads ---- */

/* As keep_registers(), of s0..s31. */
__attribute__((naked)) static unsigned keep_fpu(__attribute__((unused)) uint32_t pattern,
	__attribute__((unused)) volatile uint32_t *address, __attribute__((unused)) uint32_t value)
{
	__asm__ volatile(
		"vpush	{s16-s31}\n\t"
		"mov	r3, r0\n\t"
		".irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, "
		"20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n\t"
		"vmov	s\\n, r3\n\t"
		"adds	r3, #1\n\t"
		".endr\n\t"
		"str	r2, [r1]\n\t"
		"dsb\n\t"
		"isb\n\t"
		"movs	r3, #0\n\t"
		".irp	n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, "
		"20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31\n\t"
		"vmov	r2, s\\n\n\t"
		"cmp	r2, r0\n\t"
		"it	ne\n\t"
		"addne	r3, #1\n\t"
		"adds	r0, #1\n\t"
		".endr\n\t"
		"mov	r0, r3\n\t"
		"vpop	{s16-s31}\n\t"
		"bx	lr");
}

static volatile unsigned damaged, progress[2];

static void yielding(char name, uint32_t pattern, bool with_fpu)
{
	for (unsigned i = 0; i < 3; i++) {
		note(name, i);
		if (with_fpu)
			damaged += keep_fpu(pattern + i * 32, reg(SCB_ICSR), ICSR_PENDSVSET);
		else
			damaged += keep_registers(pattern, reg(SCB_ICSR), ICSR_PENDSVSET);
	}
	pend(FIRST);
}

static void yielding_with_a(void)
{
	yielding('a', 0xa0a00000, true);
}

static void yielding_with_b(void)
{
	yielding('b', 0xb0b00000, true);
}

static void yielding_without(void)
{
	yielding('w', 0xc0c00000, false);
}

/* What the compiler makes of floating point. */
static float series(float ratio)
{
	float sum = 0, term = 1;

	for (unsigned i = 0; i < 24; i++) {
		sum += term;
		term /= ratio;
	}
	return sum;
}

/* Until there have been twenty switches, and both have seen some. */
static void preempted(unsigned self, uint32_t pattern)
{
	const float ratio = (float)(3 + self), sum = series(ratio);
	uint32_t nowhere;

	while (switches < 20 || progress[0] == 0 || progress[1] == 0) {
		damaged += keep_fpu(pattern + progress[self] * 32, &nowhere, 0);
		damaged += series(ratio) != sum;
		progress[self]++;
	}
}

static void preempted_a(void)
{
	preempted(0, 0xa0a00000);
}

static void preempted_b(void)
{
	preempted(1, 0xb0b00000);
}

static void show_return(void)
{
	print("lr 0x%x\n", taken->context->exc_return);
}

static volatile float wasted;

static void switch_later(void)
{
	wasted = series(5);
	*reg(SCB_ICSR) = ICSR_PENDSVSET;
}

static void yield_in_turn(const char *what, handler *a, handler *b)
{
	forget();
	damaged = 0;
	threads_run(a, b);
	show(what);
	print("%u registers damaged\n", damaged);
}

void test_fpu_threads(void)
{
	set_access(FPU_CPACR);
	lines_on(1, show_return, LOW);
	yield_in_turn("both", yielding_with_a, yielding_with_b);
	yield_in_turn("the first", yielding_with_a, yielding_without);
	yield_in_turn("the second", yielding_without, yielding_with_b);

	set_priority(SYSTICK, HIGH);
	ticks_on(switch_later);
	threads_run(preempted_a, preempted_b);
	ticks_off();
	print("preempted: %u registers damaged\n", damaged);
}
