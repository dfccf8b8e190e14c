/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * core_run() alternates between two things. An exception that may be taken is taken, which is done
 * on unicorn's registers (exceptions.c); and unicorn executes instructions until something comes
 * that it does not know (step.c). The state that both look at is the NVIC's (nvic.c): what
 * makes an exception possible, a line, a register, SysTick or a fault, only makes it pending there.
 *
 * It comes back after some 4000 instructions, about 80 microseconds: long enough for the board's
 * look at its inputs to cost little, short enough for nobody to notice the delay.
 */
#include "exceptions.h"
#include "instructions.h"
#include "internal.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUDGET = 4096 };

/* ---- state ---- */

/* What unprivileged code may not do, unicorn does not let us do in its place: be a handler
 * meanwhile. */
static bool gain_privilege(const struct core *core)
{
	uint32_t handler = EXC_HARD;

	if (core_is_privileged(core))
		return false;
	uc_reg_write(core->uc, UC_ARM_REG_IPSR, &handler);
	return true;
}

static void lose_privilege(const struct core *core, bool gained)
{
	uint32_t thread = 0;

	if (gained)
		uc_reg_write(core->uc, UC_ARM_REG_IPSR, &thread);
}

struct nvic_masks core_masks(const struct core *core)
{
	bool gained = gain_privilege(core);
	const struct nvic_masks masks = {
		.primask = core_get(core, UC_ARM_REG_PRIMASK),
		.faultmask = core_get(core, UC_ARM_REG_FAULTMASK),
		.basepri = (uint8_t)core_get(core, UC_ARM_REG_BASEPRI),
	};

	lose_privilege(core, gained);
	return masks;
}

void core_set_control(struct core *core, uint32_t control)
{
	bool gained = gain_privilege(core);

	core_set(core, UC_ARM_REG_CONTROL, control);
	lose_privilege(core, gained);
}

void core_attend(struct core *core)
{
	const struct nvic_masks none = {0};

	core->care = instruction_care(core);
	core->attention = core->scs.reset || core->fault.kind != FAULT_NONE || core->begins_fpu ||
		nvic_next(&core->scs.nvic, &none) != 0;
}

void core_access_fault(struct core *core, enum fault_kind kind, uint32_t address)
{
	if (core->fault.kind == FAULT_NONE)
		core->fault = (struct fault){.kind = kind, .address = address, .at = core->at};
	core->attention = true;
}

void core_lock_up(struct core *core, const char *why)
{
	size_t length = strlen(core->reason);

	snprintf(core->reason + length, sizeof(core->reason) - length, "%s%s",
		length > 0 ? ", " : "", why);
	core->locked_up = true;
}

/* ---- running ---- */

static bool wakes(struct core *core)
{
	struct nvic_masks masks = core_masks(core);

	masks.primask = false; /* it keeps from being taken, not from waking */
	if (nvic_next(&core->scs.nvic, &masks) != 0)
		return true;
	if (core->sleep != WAIT_FOR_EVENT || !core->event)
		return false;
	core->event = false;
	return true;
}

/* Whoever gets one of these looks at the world, so that need not be soon again. With the others it
 * comes as soon as it would have: a firmware may ask for something every few instructions. */
static enum core_stop come_back(struct core *core, enum core_stop why)
{
	core->budget = BUDGET;
	return why;
}

enum core_stop core_run(struct core *core)
{
	for (;;) {
		if (core->scs.reset)
			return CORE_RESET;
		scs_advance(&core->scs, clock_ns());
		core_attend(core);
		if (core->sleep != AWAKE && !wakes(core))
			return come_back(core, CORE_SLEEPS);
		core->sleep = AWAKE;
		if (core->attention)
			exception_take(core);
		if (core->locked_up)
			return CORE_LOCKUP;
		if (core->budget <= 0)
			return come_back(core, CORE_LOOK);
		core_step(core);
		if (core->semihosting) {
			core->semihosting = false;
			return CORE_SEMIHOSTING;
		}
	}
}

void core_reset(struct core *core)
{
	core->budget = BUDGET;
	core->sleep = AWAKE;
	core->event = core->locked_up = core->semihosting = core->begins_fpu = false;
	core->reason[0] = '\0';
	core->at = 0;
	core->fault.kind = FAULT_NONE;
	core->clears_exclusive = true;
	scs_reset(&core->scs);
	exception_reset(core);
	core_attend(core);
}

void core_line(struct core *core, unsigned line, bool level)
{
	nvic_line(&core->scs.nvic, line, level);
	if (level && core->scs.scr & SCR_SEVONPEND)
		core->event = true;
	core_attend(core);
}

uint64_t core_deadline(const struct core *core)
{
	/* A tick that is pending already, because it is masked, has nothing new to say. */
	if (nvic_bit(&core->scs.nvic.pending, EXC_SYSTICK))
		return UINT64_MAX;
	return systick_deadline(&core->scs.systick);
}

uint32_t core_register(const struct core *core, unsigned number)
{
	switch (number) {
	case 13:
		return core_get(core, UC_ARM_REG_SP);
	case 14:
		return core_get(core, UC_ARM_REG_LR);
	case 15:
		return core->next & ~1u;
	}
	return core_get(core, UC_ARM_REG_R0 + (int)number);
}

void core_set_register(struct core *core, unsigned number, uint32_t value)
{
	if (number == 13)
		core_set(core, UC_ARM_REG_SP, value & ~3u);
	else if (number == 14)
		core_set(core, UC_ARM_REG_LR, value);
	else if (number == 15)
		core->next = value | 1;
	else
		core_set(core, UC_ARM_REG_R0 + (int)number, value);
}

const char *core_reason(const struct core *core)
{
	return core->reason;
}

/* ---- open and close ---- */

static uc_err set_up(struct core *core, enum core_kind kind)
{
	static const int models[] = {
		[CORTEX_M0] = UC_CPU_ARM_CORTEX_M0,
		[CORTEX_M3] = UC_CPU_ARM_CORTEX_M3,
		[CORTEX_M4] = UC_CPU_ARM_CORTEX_M4,
	};
	/* Not UC_MODE_MCLASS: that is a Cortex-M33, with its security extension. */
	uc_err error = uc_open(UC_ARCH_ARM, UC_MODE_THUMB, &core->uc);

	if (error == UC_ERR_OK)
		error = uc_ctl_set_cpu_model(core->uc, models[kind]);
	if (error == UC_ERR_OK)
		error = core_hook(core);
	return error;
}

int core_open(struct core **core, const struct core_config *config)
{
	unsigned most = config->kind == CORTEX_M0 ? 32 : NVIC_LINES_MAX;

	*core = NULL;
	if (config->interrupts == 0 || config->interrupts > most || config->clock_hz == 0)
		return -EINVAL;
	struct core *opened = calloc(1, sizeof(*opened));
	if (opened == NULL)
		return -ENOMEM;
	scs_init(&opened->scs, config);
	if (set_up(opened, config->kind) != UC_ERR_OK || core_map_private(opened) < 0 ||
		(config->kind != CORTEX_M0 && core_map_stub(opened) < 0)) {
		core_close(opened);
		return -ENOMEM;
	}
	*core = opened;
	return 0;
}

void core_close(struct core *core)
{
	if (core == NULL)
		return;
	if (core->uc != NULL)
		uc_close(core->uc);
	free(core->stub);
	free(core);
}
