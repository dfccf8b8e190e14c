/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Each kind of fault has its exception and its bit in CFSR or HFSR. An exception that is disabled,
 * or not urgent enough for where the fault happened, becomes HardFault; a fault where HardFault is
 * not possible either locks the processor up. A processor in lock-up could only be woken by a
 * debugger or reset, so the board ends there, and the text says how it came about.
 *
 * A write that finds nothing is reported as precise, like a read: no write buffer is modelled.
 */
#include "faults.h"

#include "internal.h"

#include <stdio.h>
#include <string.h>

static const struct {
	unsigned exception;
	uint32_t cfsr, hfsr;
	const char *what;
} kinds[] = {
	[FAULT_READ] = {EXC_BUS, CFSR_PRECISERR | CFSR_BFARVALID, 0, "read of"},
	[FAULT_WRITE] = {EXC_BUS, CFSR_PRECISERR | CFSR_BFARVALID, 0, "write to"},
	[FAULT_FETCH] = {EXC_BUS, CFSR_IBUSERR, 0, "jump to where nothing is"},
	[FAULT_EXECUTE_NEVER] = {EXC_MEM, CFSR_IACCVIOL, 0, "jump to where no code may be"},
	[FAULT_UNALIGNED] = {EXC_USAGE, CFSR_UNALIGNED, 0, "unaligned access"},
	[FAULT_DIVISION] = {EXC_USAGE, CFSR_DIVBYZERO, 0, "division by zero"},
	[FAULT_UNDEFINED] = {EXC_USAGE, CFSR_UNDEFINSTR, 0, "undefined instruction"},
	[FAULT_STATE] = {EXC_USAGE, CFSR_INVSTATE, 0, "jump to an even address"},
	[FAULT_COPROCESSOR] = {EXC_USAGE, CFSR_NOCP, 0, "coprocessor instruction"},
	[FAULT_RETURN] = {EXC_USAGE, CFSR_INVPC, 0, "impossible exception return"},
	[FAULT_STACKING] = {EXC_BUS, CFSR_STKERR, 0, "no memory for the stack frame"},
	[FAULT_LAZY_STACKING] = {EXC_BUS, CFSR_LSPERR, 0, "no memory for the FPU's registers"},
	[FAULT_UNSTACKING] = {EXC_BUS, CFSR_UNSTKERR, 0, "no stack frame to return by"},
	[FAULT_VECTOR] = {EXC_HARD, 0, HFSR_VECTTBL, "no vector table"},
	[FAULT_BREAKPOINT] = {EXC_HARD, 0, HFSR_DEBUGEVT, "breakpoint"},
	[FAULT_NO_SUPERVISOR] = {EXC_SVC, 0, 0, "SVC"},
};

/* What happens in the handler of a fault comes behind what that was: often there is no handler, and
 * the first is the one that explains it. */
static void describe(struct core *core, const struct fault *fault)
{
	unsigned current = core->scs.nvic.current;
	bool follows = current >= EXC_HARD && current <= EXC_USAGE && core->reason[0] != '\0';
	size_t length = follows ? strlen(core->reason) : 0;
	char data[48] = "";

	if (fault->kind == FAULT_READ || fault->kind == FAULT_WRITE)
		snprintf(data, sizeof(data), " 0x%08x, where nothing is,", fault->address);
	snprintf(core->reason + length, sizeof(core->reason) - length, "%s%s%s at pc 0x%08x",
		follows ? "; then " : "", kinds[fault->kind].what, data, fault->at);
}

void fault_raise(struct core *core, const struct fault *fault)
{
	struct scs *scs = &core->scs;
	unsigned number = kinds[fault->kind].exception;
	struct nvic_masks masks = core_masks(core);
	unsigned raised = nvic_raise(&scs->nvic, number, &masks);

	if (number != EXC_SVC || raised != number)
		describe(core, fault);
	scs->cfsr |= kinds[fault->kind].cfsr;
	scs->hfsr |= kinds[fault->kind].hfsr;
	if (kinds[fault->kind].cfsr & CFSR_BFARVALID)
		scs->bfar = fault->address;
	if (raised == 0)
		core_lock_up(core, masks.faultmask ? "with FAULTMASK set" : "in a fault handler");
	else if (raised != number)
		scs->hfsr |= HFSR_FORCED;
	core_attend(core);
}
