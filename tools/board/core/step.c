/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * One hook is called before each instruction. It tells where the program is, which unicorn knows
 * exactly only at the ends of the blocks that it translates, and it is the only place from which
 * unicorn is stopped: anywhere else it may go on at a wrong place afterwards. It costs less than
 * the checks that unicorn makes for each store; some fifty million instructions a second are left.
 *
 * Three things make it look twice. `attention` is set by whatever may have made an exception
 * possible; it stays set while only PRIMASK and its like are in the way, because a change of those
 * is not announced. `budget` is for coming back once in a while. And some instructions need help
 * (instructions.c).
 *
 * Unicorn cannot stop within an IT block, it would forget how much of it is left. If code looks as
 * if it were in one for longer than any block, it is not.
 */
#include "exceptions.h"
#include "instructions.h"
#include "internal.h"

#include "base/le.h"

enum { MOST_DELAYS = 16 };

/* Exceptions as unicorn numbers them. */
enum {
	TRAP_SVC = 2,
	TRAP_EXECUTE_NEVER = 3,
	TRAP_UNALIGNED = 4,
	TRAP_BREAKPOINT = 7,
	TRAP_RETURN = 8,
	TRAP_COPROCESSOR = 17,
	TRAP_STATE = 18,
};

/* Opcodes: first halfwords. */
enum {
	OP_SEMIHOSTING = 0xbeab,
	OP_HINT = 0xbf00,
	OP_YIELD = 0xbf10,
	OP_WFE = 0xbf20,
	OP_LONG_HINT = 0xf3af,
};

/* ---- hooks ---- */

/* Something may have to happen before the next instruction: is it so? */
static bool has_to_stop(struct core *core)
{
	if (core->budget <= 0 || core->scs.reset || core->fault.kind != FAULT_NONE ||
		core->begins_fpu)
		return true;
	if (!core->attention)
		return false;
	struct nvic_masks masks = core_masks(core);
	return nvic_next(&core->scs.nvic, &masks) != 0;
}

static void look(struct core *core, uint32_t address, uint16_t code)
{
	if (instruction_kinds[code >> 6] & core->care)
		instruction_prepare(core, address, code);
	if (!has_to_stop(core))
		return;
	if (core->delays < MOST_DELAYS && instruction_it_bits(core, address) != 0) {
		core->delays++;
		return;
	}
	core->delays = 0;
	core->stopped = true;
	uc_emu_stop(core->uc);
}

static void before_instruction(uc_engine *uc, uint64_t at, uint32_t size, void *data)
{
	struct core *core = data;
	uint32_t address = (uint32_t)at;

	(void)uc, (void)size;
	core->at = address;
	/* Not in memory: in the page of core_by_stub(), where it cannot stop either. */
	if (address - core->code_start >= core->code_size && !core_find_code(core, address))
		return;
	uint16_t code = (uint16_t)load_le(core->code + (address - core->code_start), 2);
	if (--core->budget <= 0 || core->attention || instruction_kinds[code >> 6] & core->care)
		look(core, address, code);
}

static void on_trap(uc_engine *uc, uint32_t number, void *data)
{
	struct core *core = data;

	core->trapped = number;
	uc_emu_stop(uc);
}

static bool on_bad_access(
	uc_engine *uc, uc_mem_type type, uint64_t address, int size, int64_t value, void *data)
{
	bool fetch = type == UC_MEM_FETCH_UNMAPPED || type == UC_MEM_FETCH_PROT;
	bool write = type == UC_MEM_WRITE_UNMAPPED || type == UC_MEM_WRITE_PROT;

	(void)uc, (void)size, (void)value;
	if (!fetch)
		core_access_fault(data, write ? FAULT_WRITE : FAULT_READ, (uint32_t)address);
	return false;
}

/* ---- why unicorn has stopped ---- */

static void raise_at(struct core *core, enum fault_kind kind, uint32_t at)
{
	const struct fault fault = {.kind = kind, .at = at};

	fault_raise(core, &fault);
}

/* Where the default memory map has no code: devices, and all that is private. */
static bool is_execute_never(uint32_t address)
{
	return (address >= 0x40000000 && address < 0x60000000) || address >= 0xa0000000;
}

static void settle_breakpoint(struct core *core)
{
	uint16_t code = 0;

	core_fetch(core, core->at, &code);
	core->semihosting = code == OP_SEMIHOSTING;
	core->next = (core->at + (core->semihosting ? 2 : 0)) | 1;
	if (!core->semihosting)
		raise_at(core, FAULT_BREAKPOINT, core->at);
}

static void settle_trap(struct core *core, uint32_t pc)
{
	switch (core->trapped) {
	case TRAP_SVC:
		raise_at(core, FAULT_NO_SUPERVISOR, core->at);
		break;
	case TRAP_EXECUTE_NEVER:
		raise_at(core, FAULT_EXECUTE_NEVER, pc);
		break;
	case TRAP_UNALIGNED:
		core->next = core->at | 1;
		raise_at(core, FAULT_UNALIGNED, core->at);
		break;
	case TRAP_BREAKPOINT:
		settle_breakpoint(core);
		break;
	case TRAP_RETURN:
		exception_return(core, core->next);
		break;
	case TRAP_COPROCESSOR:
		core->next = core->at | 1;
		raise_at(core, FAULT_COPROCESSOR, core->at);
		break;
	case TRAP_STATE:
		raise_at(core, FAULT_STATE, pc);
		break;
	default:
		raise_at(core, FAULT_UNDEFINED, core->at);
		break;
	}
}

/* Unicorn calls it an invalid instruction: it may be a hint, which it has gone past. */
static void settle_invalid(struct core *core, uint32_t pc)
{
	uint16_t code = 0, second = 0;

	if ((core->next & 1) == 0) {
		raise_at(core, FAULT_STATE, pc);
		return;
	}
	core_fetch(core, core->at, &code);
	if (code == OP_LONG_HINT) {
		core_fetch(core, core->at + 2, &second);
		code = (uint16_t)(OP_HINT | (second & 0xf) << 4);
	}
	if (pc == core->at || (code != OP_WFE && code != OP_YIELD)) {
		raise_at(core, FAULT_UNDEFINED, pc);
		return;
	}
	if (code == OP_WFE && !core->event)
		core->sleep = WAIT_FOR_EVENT;
	if (code == OP_WFE)
		core->event = false;
}

static void settle(struct core *core, uc_err error)
{
	uint32_t pc = core_get(core, UC_ARM_REG_PC);

	core->next = pc | (core_get(core, UC_ARM_REG_XPSR) & XPSR_THUMB ? 1 : 0);
	if (core->fault.kind != FAULT_NONE) {
		const struct fault fault = core->fault;
		core->fault.kind = FAULT_NONE;
		core->next = fault.at | 1;
		core_set(core, UC_ARM_REG_EPSR, instruction_it_bits(core, fault.at) | XPSR_THUMB);
		fault_raise(core, &fault);
	} else if (core->trapped != 0) {
		settle_trap(core, pc);
	} else if (error == UC_ERR_OK) {
		if (!core->stopped)
			core->sleep = WAIT_FOR_INTERRUPT;
	} else if (error == UC_ERR_FETCH_UNMAPPED || error == UC_ERR_FETCH_PROT) {
		raise_at(core, is_execute_never(pc) ? FAULT_EXECUTE_NEVER : FAULT_FETCH, pc);
	} else if (error == UC_ERR_INSN_INVALID || error == UC_ERR_EXCEPTION) {
		settle_invalid(core, pc);
	} else {
		core->reason[0] = '\0';
		core_lock_up(core, uc_strerror(error));
	}
}

void core_step(struct core *core)
{
	if (core->begins_fpu)
		instruction_begin_fpu(core);
	uint32_t from = core->clears_exclusive ? core_by_stub(core, core->next) : core->next;

	core->clears_exclusive = core->stopped = false;
	core->trapped = 0;
	settle(core, uc_emu_start(core->uc, from, 0, 0, 0));
}

uc_err core_hook(struct core *core)
{
	const struct {
		int type;
		void *function;
	} hooks[] = {
		{UC_HOOK_CODE, before_instruction},
		{UC_HOOK_INTR, on_trap},
		{UC_HOOK_MEM_INVALID, on_bad_access},
	};
	uc_hook handle;
	/* No address is the end of a run. */
	uc_err error = uc_ctl_exits_enable(core->uc);

	for (unsigned i = 0; i < sizeof(hooks) / sizeof(hooks[0]) && error == UC_ERR_OK; i++)
		error = uc_hook_add(
			core->uc, &handle, hooks[i].type, hooks[i].function, core, 1, 0);
	return error;
}
