/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Unicorn executes instructions as a Cortex-M does but for some things, which are done here, before
 * the instruction:
 *
 *   SEV                   sets the event register, which unicorn does not know
 *   multiple and double   fault unless aligned to words; unicorn lets them pass, as it does with
 *   loads and stores      all of them where CCR.UNALIGN_TRP forbids it
 *   SDIV, UDIV            fault if the divisor is 0 and CCR.DIV_0_TRP is set
 *   those of the FPU      fault if CPACR denies access; the first one of a handler saves the
 *                         registers of the code below, for which its entry has left room, and has
 *                         FPSCR from FPDSCR; without FPCCR.ASPEN they are left alone
 *
 * What kinds an instruction may be of is looked up for each that is executed, so it has to be fast:
 * in a table, and only for those kinds that matter now.
 */
#include "instructions.h"

#include "internal.h"

/* Opcodes: first halfwords. */
#define OP_IT         0xbf00 /* with a condition and a mask */
#define OP_SEV        0xbf40
#define OP_LONG       0xe800 /* from here on, a second one follows */
#define OP_LONG_HINT  0xf3af
#define OP_BYTES      0xe8c0 /* TBB, LDREXB and the like: need no words */
#define OP_BYTES_MASK 0xffe0
#define OP_FPU_PAIR   0xec40 /* two registers to or from the FPU: no memory */

/* CPACR: two bits for coprocessor 10, and as many for 11, which is a part of it. */
#define CPACR_SHIFT 20
enum { ACCESS_PRIVILEGED = 1, ACCESS_FULL = 3 };

/* Entries of the table for the halfwords from `first` to `last`. */
#define KINDS(first, last, kinds) [(first) >> 6 ...(last) >> 6] = (kinds)

const uint8_t instruction_kinds[1024] = {
	KINDS(0x5000, 0x53ff, CARE_UNALIGNED), /* STR, STRH */
	KINDS(0x5800, 0x5bff, CARE_UNALIGNED), /* LDR, LDRH */
	KINDS(0x5e00, 0x5fff, CARE_UNALIGNED), /* LDRSH */
	KINDS(0x6000, 0x6fff, CARE_UNALIGNED), /* STR, LDR */
	KINDS(0x8000, 0x8fff, CARE_UNALIGNED), /* STRH, LDRH */
	KINDS(OP_SEV, OP_SEV, CARE_EVENT),
	KINDS(0xc000, 0xcfff, CARE_MULTIPLE), /* STM, LDM */
	KINDS(0xe800, 0xe9ff, CARE_MULTIPLE), /* STM, LDM, STRD, LDRD, STREX, LDREX */
	KINDS(0xec00, 0xedff, CARE_FPU | CARE_MULTIPLE),
	KINDS(0xee00, 0xefff, CARE_FPU),
	KINDS(OP_LONG_HINT, OP_LONG_HINT, CARE_EVENT),
	KINDS(0xf800, 0xf9ff, CARE_UNALIGNED), /* STR, LDR and their like */
	KINDS(0xfb80, 0xfbbf, CARE_DIVISION),
	KINDS(0xfc00, 0xffff, CARE_FPU),
};

uint8_t instruction_care(const struct core *core)
{
	const struct scs *scs = &core->scs;
	unsigned care = CARE_EVENT;

	if (scs->kind == CORTEX_M0)
		return CARE_EVENT; /* unicorn's faults on all that is unaligned */
	care |= CARE_MULTIPLE;
	if (scs->ccr & CCR_UNALIGN_TRP)
		care |= CARE_UNALIGNED;
	if (scs->ccr & CCR_DIV_0_TRP)
		care |= CARE_DIVISION;
	if (scs->kind == CORTEX_M4 &&
		((scs->cpacr >> CPACR_SHIFT & 3) != ACCESS_FULL || scs->fpccr & FPCCR_LSPACT ||
			(scs->fpccr & FPCCR_ASPEN) == 0 || scs->fpdscr != 0))
		care |= CARE_FPU;
	return (uint8_t)care;
}

/* ---- loads and stores ---- */

/* PC is relative to a word, wherever that is. */
static uint32_t base_of(const struct core *core, unsigned number)
{
	return number == 15 ? 0 : core_register(core, number);
}

/* Bits of the address that have to be 0: of those that access several words. */
static uint32_t multiple_misfit(const struct core *core, uint16_t code, uint16_t second)
{
	if (code < OP_LONG)
		return core_register(core, code >> 8 & 7) & 3;
	if ((code & OP_BYTES_MASK) == OP_FPU_PAIR)
		return 0;
	uint32_t base = base_of(core, code & 15);
	if ((code & OP_BYTES_MASK) == OP_BYTES)
		return (second & 0xf0) == 0x50 ? base & 1 : 0; /* LDREXH, STREXH */
	return base & 3;
}

/* Of the others. */
static uint32_t unaligned_misfit(const struct core *core, uint16_t code, uint16_t second)
{
	static const uint8_t masks[] = {3, 1, 0, 0, 3, 1, 0, 1};
	uint32_t low = base_of(core, code & 15);

	if (code < 0x6000)
		return (core_register(core, code >> 3 & 7) + core_register(core, code >> 6 & 7)) &
			masks[code >> 9 & 7];
	if (code < OP_LONG)
		return core_register(core, code >> 3 & 7) & (code < 0x8000 ? 3 : 1);
	if (code & 0x80 || (code & 15) == 15)
		low += second & 0xfff;
	else if ((second & 0x800) == 0)
		low += core_register(core, second & 15) << (second >> 4 & 3);
	else if (second & 0x400)
		low += second & 0x200 ? second & 0xff : -(second & 0xffu);
	return low & ((1u << (code >> 5 & 3)) - 1) & 3;
}

/* ---- the FPU ---- */

static bool may_use_fpu(const struct core *core)
{
	uint32_t access = core->scs.cpacr >> CPACR_SHIFT & 3;

	return access == ACCESS_FULL || (access == ACCESS_PRIVILEGED && core_is_privileged(core));
}

static void prepare_fpu(struct core *core)
{
	if (!may_use_fpu(core)) {
		core_access_fault(core, FAULT_COPROCESSOR, 0);
		return;
	}
	if (core->scs.fpccr & FPCCR_LSPACT) {
		uint32_t words[FPU_WORDS];
		core->scs.fpccr &= ~FPCCR_LSPACT;
		fpu_save(core, words);
		if (!core_store(core, core->scs.fpcar, words, FPU_WORDS))
			core_access_fault(core, FAULT_LAZY_STACKING, core->scs.fpcar);
		core_attend(core);
	}
	/* Else unicorn does what is to be done. */
	bool differs = core->scs.fpdscr != 0 || (core->scs.fpccr & FPCCR_ASPEN) == 0;
	if (differs && (core_get(core, UC_ARM_REG_CONTROL) & CONTROL_FPCA) == 0)
		core->begins_fpu = core->attention = true;
}

void instruction_begin_fpu(struct core *core)
{
	core->begins_fpu = false;
	if (core->scs.fpccr & FPCCR_ASPEN)
		core_set(core, UC_ARM_REG_FPSCR, core->scs.fpdscr);
	core_set_control(core, core_get(core, UC_ARM_REG_CONTROL) | CONTROL_FPCA);
}

/* ---- all of them ---- */

void instruction_prepare(struct core *core, uint32_t address, uint16_t code)
{
	uint8_t kinds = instruction_kinds[code >> 6] & core->care;
	uint16_t second = 0;

	if (code >= OP_LONG)
		core_fetch(core, address + 2, &second);
	if (kinds & CARE_EVENT && (code == OP_SEV || (code == OP_LONG_HINT && second == 0x8004)))
		core->event = true;
	/* Coprocessors 10 and 11. */
	bool fpu = (code & 0xec00) == 0xec00 && (second & 0xe00) == 0xa00;
	if (kinds & CARE_FPU && fpu)
		prepare_fpu(core);
	if (code >= 0xec00 && code <= 0xefff && !fpu)
		return;
	if (kinds & CARE_MULTIPLE && multiple_misfit(core, code, second) != 0)
		core_access_fault(core, FAULT_UNALIGNED, 0);
	if (kinds & CARE_UNALIGNED && unaligned_misfit(core, code, second) != 0)
		core_access_fault(core, FAULT_UNALIGNED, 0);
	if (kinds & CARE_DIVISION && (code & 0xffd0) == 0xfb90 &&
		core_register(core, second & 15) == 0)
		core_access_fault(core, FAULT_DIVISION, 0);
}

/* ---- IT ---- */

/* `n` instructions further in a block. */
static uint32_t advance_it(uint32_t state, unsigned n)
{
	while (n-- > 0)
		state = state & 7 ? (state & 0xe0) | (state << 1 & 0x1f) : 0;
	return state;
}

uint32_t instruction_it_bits(const struct core *core, uint32_t address)
{
	enum { REACH = 7 }; /* halfwords: IT and three long instructions */
	uint16_t code[REACH] = {0};

	for (unsigned i = 0; i < REACH; i++)
		core_fetch(core, address - 2 * (REACH - i), &code[i]);
	for (unsigned it = 0; it < REACH; it++) {
		unsigned n = 0, at = it + 1;
		if ((code[it] & 0xff00) != OP_IT || (code[it] & 15) == 0)
			continue;
		for (; at < REACH; n++)
			at += code[at] >= OP_LONG ? 2 : 1;
		uint32_t state = advance_it(code[it] & 0xff, n);
		if (at == REACH && state != 0)
			return (state & 3) << 25 | (state & 0xfc) << 8;
	}
	return 0;
}
