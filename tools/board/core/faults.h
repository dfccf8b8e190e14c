/* SPDX-License-Identifier: MIT */
/* faults - what goes wrong: which exception it is, what the fault registers say of it, and when it
 * is the end. */
#ifndef CORE_FAULTS_H
#define CORE_FAULTS_H

#include <stdint.h>

struct core;

enum fault_kind {
	FAULT_NONE,
	FAULT_READ, /* nothing there */
	FAULT_WRITE,
	FAULT_FETCH,
	FAULT_EXECUTE_NEVER, /* a jump to where no instructions may be */
	FAULT_UNALIGNED,
	FAULT_DIVISION, /* by 0 */
	FAULT_UNDEFINED,
	FAULT_STATE, /* a jump to an even address */
	FAULT_COPROCESSOR,
	FAULT_RETURN, /* an exception return that cannot be */
	FAULT_STACKING,
	FAULT_LAZY_STACKING, /* of the FPU's registers */
	FAULT_UNSTACKING,
	FAULT_VECTOR, /* nothing there to read it from */
	FAULT_BREAKPOINT,
	FAULT_NO_SUPERVISOR, /* an SVC; it is no fault where its exception may be taken */
};

struct fault {
	enum fault_kind kind;
	uint32_t address; /* of the data, for a read and a write */
	uint32_t at;      /* of the instruction */
};

/* Make its exception pending, or lock up. */
void fault_raise(struct core *core, const struct fault *fault);

#endif
