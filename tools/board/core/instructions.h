/* SPDX-License-Identifier: MIT */
/* instructions - what unicorn's processor leaves out of some instructions. */
#ifndef CORE_INSTRUCTIONS_H
#define CORE_INSTRUCTIONS_H

#include <stdint.h>

struct core;

/* Kinds of instructions before which there may be something to be done. */
enum {
	CARE_EVENT = 1,     /* SEV */
	CARE_MULTIPLE = 2,  /* those that access several words, or exclusively */
	CARE_UNALIGNED = 4, /* the other loads and stores */
	CARE_DIVISION = 8,
	CARE_FPU = 16,
};

/* Kinds that an instruction may be of, by the upper ten bits of its first halfword. */
extern const uint8_t instruction_kinds[1024];

/* Of which kinds something has to be done as things are now. */
uint8_t instruction_care(const struct core *core);

/* Do it; what makes the instruction impossible becomes core->fault. */
void instruction_prepare(struct core *core, uint32_t address, uint16_t code);

/* Begin what an FPU instruction finds in a new context; not within a run of unicorn. */
void instruction_begin_fpu(struct core *core);

/*
 * The IT bits of the program status before the instruction at `address`, 0 if it is not in an IT
 * block. Worked out from the code: data in front of it could be mistaken for an IT.
 */
uint32_t instruction_it_bits(const struct core *core, uint32_t address);

#endif
