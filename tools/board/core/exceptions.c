/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Unicorn knows handler and thread mode, both stack pointers and the mask registers, but neither
 * enters nor leaves a handler by itself. All of this happens between two runs of it, on its
 * registers.
 *
 * A write to IPSR changes the mode and puts the right stack pointer into r13. What is privileged is
 * so for us, too: CONTROL, MSP, PSP and the masks cannot be touched as long as unprivileged thread
 * mode is on, nor CONTROL.SPSEL in handler mode. So enter_handler_mode() goes into handler mode for
 * the privilege, back to thread mode for SPSEL, and into handler mode again. Unicorn decides by
 * hidden flags of mode and privilege how to translate; only a write to the condition flags makes it
 * work them out again, and has to be the last.
 *
 * With an FPU and CONTROL.FPCA set there is room for its registers in the frame. They are saved at
 * once, or, by FPCCR.LSPEN, before the next instruction that uses the FPU: see instructions.c.
 */
#include "exceptions.h"

#include "internal.h"

enum { FRAME_WORDS = 8, FRAME_FPU_WORDS = 26 };

/* Words of a frame. */
enum { R0, R1, R2, R3, R12, LR, PC, XPSR, S0 };

/* EXC_RETURN: all others of its bits are 1. */
#define RETURN_BITS    0xffffffe0u
#define RETURN_NO_FPU  0x10u
#define RETURN_MODE    0xfu
#define RETURN_HANDLER 0x1u
#define RETURN_TO_MSP  0x9u
#define RETURN_TO_PSP  0xdu

static const int frame_registers[] = {
	UC_ARM_REG_R0, UC_ARM_REG_R1, UC_ARM_REG_R2, UC_ARM_REG_R3, UC_ARM_REG_R12, UC_ARM_REG_LR};

/* ---- modes ---- */

static void rebuild_flags(struct core *core)
{
	core_set(core, UC_ARM_REG_APSR_NZCV, core_get(core, UC_ARM_REG_APSR_NZCV));
}

/*
 * What of CONTROL exceptions leave alone. FPCA is to be clear after entry, but not where software
 * looks after the FPU (ASPEN is 0): unicorn makes a new context where it is clear, regardless.
 */
static uint32_t lasting_control(const struct core *core)
{
	uint32_t lasting = CONTROL_NPRIV;

	if ((core->scs.fpccr & FPCCR_ASPEN) == 0)
		lasting |= CONTROL_FPCA;
	return core_get(core, UC_ARM_REG_CONTROL) & lasting;
}

/* Handler mode, and CONTROL as a handler finds it. */
static void enter_handler_mode(struct core *core, unsigned number)
{
	uint32_t control = core_get(core, UC_ARM_REG_CONTROL), lasting = lasting_control(core);

	core_set(core, UC_ARM_REG_IPSR, number);
	if (control != lasting) {
		core_set(core, UC_ARM_REG_CONTROL, 0);
		core_set(core, UC_ARM_REG_IPSR, 0);
		core_set(core, UC_ARM_REG_CONTROL, 0);
		core_set(core, UC_ARM_REG_IPSR, number);
		core_set(core, UC_ARM_REG_CONTROL, lasting);
	}
	core_set(core, UC_ARM_REG_IEPSR, number | XPSR_THUMB);
	rebuild_flags(core);
}

/* Go on where `psr` has been interrupted, from handler mode; r13 is the main stack pointer. */
static void resume(struct core *core, uint32_t psr, bool process_stack, bool fpu)
{
	uint32_t control = lasting_control(core);

	core_set(core, UC_ARM_REG_CONTROL, 0);
	core_set(core, UC_ARM_REG_XPSR_NZCVQG, psr);
	control |= (process_stack ? CONTROL_SPSEL : 0) | (fpu ? CONTROL_FPCA : 0);
	core_set(core, UC_ARM_REG_CONTROL, control);
	core->scs.nvic.current = psr & XPSR_NUMBER;
	/* In an IT block CLREX would be conditional. */
	core->clears_exclusive = (psr & XPSR_IT) == 0;
	rebuild_flags(core);
}

/* ---- the FPU ---- */

void fpu_save(const struct core *core, uint32_t words[FPU_WORDS])
{
	for (unsigned i = 0; i < 16; i++)
		words[i] = core_get(core, UC_ARM_REG_S0 + (int)i);
	words[16] = core_get(core, UC_ARM_REG_FPSCR);
}

void fpu_restore(struct core *core, const uint32_t words[FPU_WORDS])
{
	for (unsigned i = 0; i < 16; i++)
		core_set(core, UC_ARM_REG_S0 + (int)i, words[i]);
	core_set(core, UC_ARM_REG_FPSCR, words[16]);
}

/* ---- entry ---- */

/* Save what a handler may change, on the stack in use. */
static bool push_frame(struct core *core, bool fpu)
{
	uint32_t frame[FRAME_FPU_WORDS] = {0};
	unsigned words = fpu ? FRAME_FPU_WORDS : FRAME_WORDS;
	uint32_t stack = core_get(core, UC_ARM_REG_SP) & ~3u;
	uint32_t align = core->scs.ccr & CCR_STKALIGN || fpu ? 4 : 0;

	for (unsigned i = 0; i < 6; i++)
		frame[i] = core_get(core, frame_registers[i]);
	frame[PC] = core->next & ~1u;
	frame[XPSR] = (core_get(core, UC_ARM_REG_XPSR) & ~(XPSR_THUMB | XPSR_NUMBER)) |
		(core->next & 1 ? XPSR_THUMB : 0) | core->scs.nvic.current;
	bool lazy = fpu && core->scs.fpccr & FPCCR_LSPEN;
	if (fpu && !lazy)
		fpu_save(core, &frame[S0]);
	uint32_t to = stack - 4 * words;
	if (to & align) {
		to -= align;
		frame[XPSR] |= XPSR_ALIGNED;
	}
	core_set(core, UC_ARM_REG_SP, to);
	if (fpu)
		core->scs.fpcar = to + 4 * S0;
	if (lazy)
		core->scs.fpccr |= FPCCR_LSPACT;
	return core_store(core, to, frame, lazy ? FRAME_WORDS : words);
}

/* Where the handler is; or that of HardFault, if there is nothing to read it from. */
static bool find_handler(struct core *core, unsigned *number, uint32_t *vector)
{
	const struct fault fault = {.kind = FAULT_VECTOR, .at = core->at};

	if (core_load(core, core->scs.vtor + 4 * *number, vector, 1))
		return true;
	fault_raise(core, &fault);
	bool found = *number > EXC_HARD && !core->locked_up &&
		core_load(core, core->scs.vtor + 4 * EXC_HARD, vector, 1);
	if (!found && !core->locked_up)
		core_lock_up(core, "for a fault handler");
	*number = EXC_HARD;
	return found;
}

/* What a handler may change is on a stack: go to it. */
static void enter(struct core *core, unsigned number, uint32_t exc_return)
{
	uint32_t vector;

	if (!find_handler(core, &number, &vector))
		return;
	enter_handler_mode(core, number);
	nvic_activate(&core->scs.nvic, number);
	core_set(core, UC_ARM_REG_LR, exc_return);
	core->next = vector;
	core->clears_exclusive = core->event = true;
	core_attend(core);
}

void exception_take(struct core *core)
{
	struct nvic *nvic = &core->scs.nvic;
	uint32_t control = core_get(core, UC_ARM_REG_CONTROL);
	bool fpu = control & CONTROL_FPCA && core->scs.fpccr & FPCCR_ASPEN;
	uint32_t exc_return = RETURN_BITS | (fpu ? 0 : RETURN_NO_FPU);
	struct nvic_masks masks = core_masks(core);
	unsigned number = nvic_next(nvic, &masks);

	if (number == 0)
		return;
	if (nvic->current != 0)
		exc_return |= RETURN_HANDLER;
	else
		exc_return |= control & CONTROL_SPSEL ? RETURN_TO_PSP : RETURN_TO_MSP;
	if (!push_frame(core, fpu)) {
		const struct fault fault = {.kind = FAULT_STACKING, .at = core->at};
		fault_raise(core, &fault);
		if (number <= EXC_HARD)
			core_lock_up(core, "of a fault handler");
		if (core->locked_up)
			return;
		number = nvic_next(nvic, &masks); /* which may be that fault's */
	}
	enter(core, number, exc_return);
}

/* ---- return ---- */

/* Enter what is next with the frame that lies there. False: there is nothing. */
static bool tail_chain(struct core *core, uint32_t exc_return)
{
	struct nvic_masks masks = core_masks(core);
	unsigned number = nvic_next(&core->scs.nvic, &masks);

	if (number != 0)
		enter(core, number, exc_return);
	return number != 0;
}

static void refuse_return(struct core *core, enum fault_kind kind, uint32_t exc_return)
{
	const struct fault fault = {.kind = kind, .at = core->at};

	fault_raise(core, &fault);
	if (!core->locked_up)
		tail_chain(core, exc_return);
}

/* May the handler return by that, `active` of them being active? */
static bool return_is_possible(const struct core *core, uint32_t exc_return, unsigned active)
{
	if ((exc_return & RETURN_BITS) != RETURN_BITS)
		return false;
	if (core->scs.kind != CORTEX_M4 && (exc_return & RETURN_NO_FPU) == 0)
		return false;
	switch (exc_return & RETURN_MODE) {
	case RETURN_HANDLER:
		return active > 1;
	case RETURN_TO_MSP:
	case RETURN_TO_PSP:
		return active == 1 || core->scs.ccr & CCR_NONBASETHRDENA;
	}
	return false;
}

static void pop_frame(struct core *core, uint32_t exc_return)
{
	uint32_t frame[FRAME_FPU_WORDS];
	bool handler = (exc_return & RETURN_MODE) == RETURN_HANDLER;
	bool process = (exc_return & RETURN_MODE) == RETURN_TO_PSP;
	bool fpu = (exc_return & RETURN_NO_FPU) == 0;
	unsigned words = fpu ? FRAME_FPU_WORDS : FRAME_WORDS;
	int stack = process ? UC_ARM_REG_PSP : UC_ARM_REG_MSP;
	uint32_t from = core_get(core, stack);

	if (!core_load(core, from, frame, words)) {
		refuse_return(core, FAULT_UNSTACKING, exc_return);
		return;
	}
	if (handler != ((frame[XPSR] & XPSR_NUMBER) != 0)) {
		refuse_return(core, FAULT_RETURN, exc_return);
		return;
	}
	for (unsigned i = 0; i < 6; i++)
		core_set(core, frame_registers[i], frame[i]);
	/* Nobody has used it: it has not been saved either. */
	if (fpu && (core->scs.fpccr & FPCCR_LSPACT) == 0)
		fpu_restore(core, &frame[S0]);
	if (fpu)
		core->scs.fpccr &= ~FPCCR_LSPACT;
	from += 4 * words;
	if (frame[XPSR] & XPSR_ALIGNED)
		from |= 4;
	core_set(core, stack, from);
	core->next = (frame[PC] & ~1u) | (frame[XPSR] & XPSR_THUMB ? 1 : 0);
	resume(core, frame[XPSR], process, fpu);
	if (!handler && core->scs.scr & SCR_SLEEPONEXIT)
		core->sleep = WAIT_FOR_INTERRUPT;
}

void exception_return(struct core *core, uint32_t exc_return)
{
	struct nvic *nvic = &core->scs.nvic;
	bool possible = return_is_possible(core, exc_return, nvic_active_count(nvic));

	if (nvic->current != EXC_NMI)
		core_set(core, UC_ARM_REG_FAULTMASK, 0);
	core->event = true;
	if (!nvic_complete(nvic, nvic->current) || !possible)
		refuse_return(core, FAULT_RETURN, exc_return);
	else if (!tail_chain(core, exc_return))
		pop_frame(core, exc_return);
	core_attend(core);
}

/* ---- reset ---- */

void exception_reset(struct core *core)
{
	static const int zeroed[] = {UC_ARM_REG_PRIMASK, UC_ARM_REG_BASEPRI, UC_ARM_REG_FAULTMASK,
		UC_ARM_REG_PSP, UC_ARM_REG_FPSCR};
	uint32_t vectors[2] = {0};

	core_set(core, UC_ARM_REG_IPSR, EXC_RESET);
	core_set(core, UC_ARM_REG_CONTROL, 0);
	core_set(core, UC_ARM_REG_IPSR, 0);
	core_set(core, UC_ARM_REG_CONTROL, 0);
	for (unsigned i = 0; i < sizeof(zeroed) / sizeof(zeroed[0]); i++)
		core_set(core, zeroed[i], 0);
	for (unsigned i = 0; i <= 12; i++)
		core_set_register(core, i, 0);
	if (!core_load(core, 0, vectors, 2))
		core_lock_up(core, "no vector table");
	core_set(core, UC_ARM_REG_SP, vectors[0] & ~3u);
	core_set(core, UC_ARM_REG_LR, UINT32_MAX);
	core_set(core, UC_ARM_REG_XPSR_NZCVQG, XPSR_THUMB);
	core->next = vectors[1];
	rebuild_flags(core);
}
