/* SPDX-License-Identifier: MIT */
/*
 * A VMM's session with a device whose process may be killed: fault_device_kept.c.
 *
 * The session has PARTS parts. lab_go_to() plays those before one of them, and says what the VMM
 * has to say in that; then processes may be started and killed; lab_go_on() starts as many more as
 * are needed, plays the rest, and compares.
 */
#ifndef TESTS_DEVICE_LAB_H
#define TESTS_DEVICE_LAB_H

#include "../common/vfukept.h"

#include <sys/types.h>

#define PARTS   6
#define BELLS   3 /* eventfds of the VMM: two vectors or INTx; and a second one for a vector */
#define REPLIES (256 << 10)

/* What came to the VMM and to peers. */
struct outcome {
	uint8_t replies[REPLIES];
	size_t size;
	unsigned memories;         /* descriptors of BAR2's memory */
	bool heard[PARTS][BELLS];  /* interrupts behind each part */
	uint64_t doorbells[PARTS]; /* rung by the guest, at least */
};

struct lab {
	bool intx;
	struct keptbox keptbox;
	int vmm, device; /* the VMM's end, and the device's, which we hold */
	int keeper[2];   /* what the process has held arrives at the first */
	int memory;      /* of BAR2 */
	int rung;        /* what peers have rung, until the device has taken it */
	int doorbell;    /* of a peer */
	int bells[BELLS], resample, err;
	pid_t victim;
	struct outcome *outcome;
};

/* Up to the part in which somebody will be killed. */
void lab_go_to(struct lab *lab, bool intx, unsigned part);

/* A process that takes the device over, works and ends: lab->victim. Traced: it stops first. */
void lab_start(struct lab *lab, bool traced);

/* It has ended: what it has had held is held. */
void lab_hold(struct lab *lab);

/* Kill it, if it is there, and play the rest; `when` says what has happened. */
void lab_go_on(struct lab *lab, unsigned part, const char *when);

#endif
