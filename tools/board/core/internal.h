/* SPDX-License-Identifier: MIT */
/* What the parts of the processor share; core.c says how they work together. */
#ifndef CORE_INTERNAL_H
#define CORE_INTERNAL_H

#include "core.h"
#include "faults.h"
#include "scs.h"

#include <unicorn/unicorn.h>

/* A page that nobody else can have: see memory.c. */
#define CORE_STUB 0x9ffff000u

enum { CORE_REGIONS = 64 };

/* Memory, or a device. */
struct core_region {
	struct core *core;
	uint32_t address, size;
	uint8_t *memory; /* NULL: a device */
	struct core_device device;
};

enum core_sleep { AWAKE, WAIT_FOR_INTERRUPT, WAIT_FOR_EVENT };

struct core {
	/* What is looked at before each instruction. */
	uint32_t at;    /* where it is */
	int budget;     /* how many instructions are left of this run */
	bool attention; /* an exception may have become possible, or something has gone wrong */
	uint8_t care;   /* kinds of instructions: instructions.h */
	uint32_t code_start, code_size; /* where it has been executing lately... */
	const uint8_t *code;            /* ...and that in the host's memory */

	uc_engine *uc;
	struct scs scs;
	uint32_t next; /* where to go on; bit 0 is the T bit, as for BX */

	/* Why unicorn has stopped. */
	bool stopped;     /* we have asked it to */
	uint32_t trapped; /* by the exception that it calls so, 0: none */
	struct fault fault;
	bool begins_fpu; /* the FPU's state of a new context is needed */
	unsigned delays; /* instructions that it could not be stopped at */

	uint8_t *stub;         /* NULL: a Cortex-M0, which has no exclusive accesses */
	bool clears_exclusive; /* before it goes on */

	enum core_sleep sleep;
	bool event;       /* what WFE waits for */
	bool semihosting; /* the firmware waits for an answer */
	bool locked_up;
	char reason[256];
	struct core_region regions[CORE_REGIONS];
	unsigned n_regions;
};

/* ---- registers: those of unicorn, UC_ARM_REG_ ---- */

static inline uint32_t core_get(const struct core *core, int reg)
{
	uint32_t value = 0;

	uc_reg_read(core->uc, reg, &value);
	return value;
}

static inline void core_set(struct core *core, int reg, uint32_t value)
{
	uc_reg_write(core->uc, reg, &value);
}

#define CONTROL_NPRIV 0x1u
#define CONTROL_SPSEL 0x2u
#define CONTROL_FPCA  0x4u
#define XPSR_ALIGNED  0x200u /* in a stacked one: the stack pointer has been aligned */
#define XPSR_NUMBER   0x1ffu
#define XPSR_THUMB    0x01000000u
#define XPSR_IT       0x0600fc00u

/* PRIMASK, FAULTMASK, BASEPRI, whatever the privilege of what is running. */
struct nvic_masks core_masks(const struct core *core);

static inline bool core_is_privileged(const struct core *core)
{
	return core->scs.nvic.current != 0 ||
		(core_get(core, UC_ARM_REG_CONTROL) & CONTROL_NPRIV) == 0;
}

/* CONTROL but for SPSEL, whatever the privilege. */
void core_set_control(struct core *core, uint32_t control);

/* The FPU's registers as they are in a frame. */
enum { FPU_WORDS = 17 };
void fpu_save(const struct core *core, uint32_t words[FPU_WORDS]);
void fpu_restore(struct core *core, const uint32_t words[FPU_WORDS]);

/* The instruction's access to data at `address` fails, once it has ended. */
void core_access_fault(struct core *core, enum fault_kind kind, uint32_t address);

/* To be called after whatever may have made an exception possible. */
void core_attend(struct core *core);

/* It will not do anything again. `why` is added to what core_reason() says already. */
void core_lock_up(struct core *core, const char *why);

/* ---- step.c ---- */

uc_err core_hook(struct core *core);

/* Let unicorn run until something happens that it does not know; that has an effect, or has become
 * core->sleep, ->semihosting, ->locked_up, ->fault, or an exception that is pending. */
void core_step(struct core *core);

/* ---- memory.c ---- */

/* The private peripherals, and the page of CORE_STUB. 0 or -ENOMEM. */
int core_map_private(struct core *core);
int core_map_stub(struct core *core);

/* Where to go on so that the way to `next` clears the exclusive monitor. */
uint32_t core_by_stub(struct core *core, uint32_t next);

/* A halfword of code; `code` stays as it is if none is there. */
void core_fetch(const struct core *core, uint32_t address, uint16_t *code);

/* From now on the code is in the memory that has `address`. False: none has. */
bool core_find_code(struct core *core, uint32_t address);

/* Words of the firmware's memory. False: not all of them are in memory. */
bool core_load(const struct core *core, uint32_t address, uint32_t *words, unsigned n);
bool core_store(struct core *core, uint32_t address, const uint32_t *words, unsigned n);

#endif
