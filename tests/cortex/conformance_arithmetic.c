/* SPDX-License-Identifier: MIT */
/* Some instructions: is it the processor that it says it is? */
#include "conformance.h"

#define RUN(instructions, a, b)                                                                    \
	({                                                                                         \
		register uint32_t run_r0 __asm__("r0") = (a);                                      \
		register uint32_t run_r1 __asm__("r1") = (b);                                      \
		__asm__ volatile(instructions : "+r"(run_r0), "+r"(run_r1) : : "r2", "r3", "cc");  \
		print(instructions " 0x%x 0x%x: 0x%x 0x%x\n", (uint32_t)(a), (uint32_t)(b),        \
			run_r0, run_r1);                                                           \
	})

/* With flags, and those of saturation, in r1. */
#define RUN_FLAGS(instructions, a, b) RUN(instructions "; mrs r1, apsr", a, b)

void test_arithmetic(void)
{
	RUN("muls r0, r1", 0x12345678, 0x9abcdef1);
	RUN_FLAGS("adds r0, r1", 0x7fffffff, 1);
	RUN_FLAGS("subs r0, r1", 0, 1);
	RUN_FLAGS("lsls r0, r1", 0xc0000001, 1);
	RUN_FLAGS("rors r0, r1", 0x80000001, 32);
	RUN("rev r0, r1", 0, 0x12345678);
	RUN("rev16 r0, r1", 0, 0x12345678);
	RUN("revsh r0, r1", 0, 0x12345698);
	RUN("sxtb r0, r1", 0, 0x80);
	RUN("uxth r0, r1", 0, 0x12348765);
#if ARMV7M
	RUN("umull r0, r1, r0, r1", 0xffffffff, 0xfffffffe);
	RUN("smull r0, r1, r0, r1", 0xffffffff, 0x7ffffffe);
	RUN("movs r2, #5; movs r3, #6; umlal r0, r1, r2, r3", 0xfffffff0, 7);
	RUN("mla r0, r0, r1, r1", 0x10001, 0x10001);
	RUN("mls r0, r0, r1, r1", 0x10001, 0x10001);
	RUN("udiv r0, r0, r1", 0x80000001, 3);
	RUN("sdiv r0, r0, r1", 0x80000001, 3);
	RUN("sdiv r0, r0, r1", 0x80000000, 0xffffffff);
	RUN("udiv r0, r0, r1", 5, 0);
	RUN("msr apsr_nzcvq, r1; ssat r0, #8, r0; mrs r1, apsr", 0x1234, 0);
	RUN("msr apsr_nzcvq, r1; ssat r0, #8, r0; mrs r1, apsr", 0xfffff234, 0);
	RUN("msr apsr_nzcvq, r1; usat r0, #8, r0; mrs r1, apsr", 0x80000000, 0);
	RUN("msr apsr_nzcvq, r1; usat r0, #8, r0; mrs r1, apsr", 0x80, 0);
	RUN("clz r0, r1", 0, 0x00012345);
	RUN("rbit r0, r1", 0, 0x12345678);
	RUN("bfi r0, r1, #8, #12", 0xffffffff, 0x12345678);
	RUN("sbfx r0, r1, #4, #8", 0, 0x00000ff0);
#endif
#ifdef __ARM_FEATURE_DSP
	RUN("msr apsr_nzcvq, r1; qadd r0, r0, r1; mrs r1, apsr", 0x7fffffff, 1);
	RUN("sadd8 r0, r0, r1", 0x7f80ff01, 0x01ff0180);
	RUN("uadd8 r2, r0, r1; sel r0, r0, r1", 0x10f020e0, 0x01200320);
	RUN("smlad r0, r0, r1, r1", 0x00030004, 0x00050006);
	RUN("smmul r0, r0, r1", 0x40000000, 0x80000000);
	RUN("pkhbt r0, r0, r1, lsl #8", 0x12345678, 0x9abcdef0);
	RUN("usad8 r0, r0, r1", 0x01020304, 0x04030201);
#endif
}
