/* SPDX-License-Identifier: MIT */
/* SVC, and with it what an exception finds on the stack. */
#include "conformance.h"

#define SVC(number, argument)                                                                      \
	({                                                                                         \
		register uint32_t svc_r0 __asm__("r0") = (argument);                               \
		__asm__ volatile("svc %1" : "+r"(svc_r0) : "i"(number) : "memory");                \
		svc_r0;                                                                            \
	})

static uint32_t seen_exc_return, seen_from; /* by the last SVC */

static void answer(void)
{
	seen_exc_return = taken->context->exc_return;
	seen_from = taken->frame->xpsr & 0x1ff;
	taken->frame->r0 += svc_number() * 256;
}

static void ask(void)
{
	print("in a handler: 0x%x", SVC(3, 7));
	print(" lr 0x%x from %u", seen_exc_return, seen_from);
	print(" ours 0x%x from %u\n", taken->context->exc_return, taken->frame->xpsr & 0x1ff);
}

void test_svc(void)
{
	handlers[SVCALL] = answer;
	set_priority(SVCALL, LOW);
	print("svc 0: 0x%x\n", SVC(0, 1));
	print("svc 1: 0x%x\n", SVC(1, 2));
	print("svc 255: 0x%x\n", SVC(255, 3));
	print("lr 0x%x from %u\n", seen_exc_return, seen_from);
	lines_on(1, ask, LOWEST);
	pend(FIRST);
	print("afterwards: 0x%x\n", SVC(4, 8));
}

/* ---- frames ---- */

static struct frame seen;

static void exchange_frame(void)
{
	struct frame *frame = taken->frame;

	seen = *frame;
	*frame = (struct frame){0x30, 0x31, 0x32, 0x33, 0x3c, 0x3e, frame->pc,
		(frame->xpsr & 0xfffffff) | 0x90000000};
	taken->context->r4_r7[0] ^= 0x40;
	taken->context->r4_r7[1] ^= 0x40;
}

/* With known registers and flags into the SVC; stores r0..r3, r12, lr and the flags afterwards. */
__attribute__((naked)) static void svc_with_registers(__attribute__((unused)) uint32_t after[7])
{
	__asm__ volatile("push	{r4, r5, lr}\n\t"
			 "mov	r4, r0\n\t"
			 "movs	r5, #0x2c\n\t"
			 "mov	r12, r5\n\t"
			 "movs	r5, #0x2e\n\t"
			 "mov	lr, r5\n\t"
			 "movs	r0, #0x20\n\t"
			 "movs	r1, #0x21\n\t"
			 "movs	r2, #0x22\n\t"
			 "movs	r3, #0x23\n\t"
			 "movs	r5, #0x40\n\t"
			 "eors	r4, r5\n\t"
			 "movs	r5, #0\n\t"
			 "cmp	r5, #0\n\t" /* Z and C */
			 "svc	9\n\t"
			 "stmia	r4!, {r0-r3}\n\t"
			 "mrs	r0, apsr\n\t"
			 "mov	r1, r12\n\t"
			 "mov	r2, lr\n\t"
			 "mov	r3, r5\n\t"
			 "stmia	r4!, {r0-r3}\n\t"
			 "pop	{r4, r5, pc}");
}

static volatile uint32_t seen_frame, seen_xpsr;

static void note_frame(void)
{
	seen_frame = (uint32_t)taken->frame;
	seen_xpsr = taken->frame->xpsr;
}

/* An SVC with the stack pointer at a multiple of 8, or not; returns it, 0 if it has changed. */
__attribute__((naked)) static uint32_t svc_aligned(void)
{
	__asm__ volatile("mov	r1, sp\n\t"
			 "svc	0\n\t"
			 "mov	r0, sp\n\t"
			 "eors	r1, r0\n\t"
			 "bne	1f\n\t"
			 "bx	lr\n"
			 "1:\tmovs	r0, #0\n\t"
			 "bx	lr");
}

__attribute__((naked)) static uint32_t svc_unaligned(void)
{
	__asm__ volatile("sub	sp, #4\n\t"
			 "mov	r1, sp\n\t"
			 "svc	0\n\t"
			 "mov	r0, sp\n\t"
			 "add	sp, #4\n\t"
			 "eors	r1, r0\n\t"
			 "bne	1f\n\t"
			 "bx	lr\n"
			 "1:\tmovs	r0, #0\n\t"
			 "bx	lr");
}

static void show_alignment(const char *what, uint32_t sp)
{
	print("%s: below sp %u, aligned %u, padded %u\n", what, sp - seen_frame,
		(seen_frame & 7) == 0, seen_xpsr >> 9 & 1);
}

void test_frames(void)
{
	uint32_t after[8];

	handlers[SVCALL] = exchange_frame;
	svc_with_registers(after);
	print("r0 0x%x r1 0x%x r2 0x%x r3 0x%x r12 0x%x lr 0x%x flags 0x%x T %u IPSR %u\n", seen.r0,
		seen.r1, seen.r2, seen.r3, seen.r12, seen.lr, seen.xpsr >> 28, seen.xpsr >> 24 & 1,
		seen.xpsr & 0x1ff);
	print("r0 0x%x r1 0x%x r2 0x%x r3 0x%x flags 0x%x r12 0x%x lr 0x%x r5 0x%x\n", after[0],
		after[1], after[2], after[3], after[4] >> 28, after[5], after[6], after[7]);

#if ARMV7M
	*reg(SCB_CCR) |= CCR_STKALIGN; /* early Cortex-M3s start without */
#endif
	handlers[SVCALL] = note_frame;
	show_alignment("aligned", svc_aligned());
	show_alignment("not aligned", svc_unaligned());
}
