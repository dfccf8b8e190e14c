/* SPDX-License-Identifier: MIT */
/* process - what this process takes of its machine. */
#ifndef TOOLS_SERVER_METRICS_PROCESS_H
#define TOOLS_SERVER_METRICS_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

struct process {
	int status; /* /proc/self/status; open all the time: there may be no descriptor left later
		     */
	uint64_t start_ms; /* wall clock, when this was made */
	bool one_by_one;   /* count descriptors as before Linux 6.2, for tests */
};

/* Works without procfs too; what comes from there is 0 then. */
void process_init(struct process *process);
void process_fini(struct process *process);

uint64_t process_resident_bytes(const struct process *process);
uint64_t process_cpu_ms(void);
uint64_t process_max_descriptors(void);

/*
 * Counting descriptors. Linux says how many there are since 6.2; before that each number has to be
 * asked about, some thousand at a time, so that nobody waits for it. All zeros at first.
 */
struct descriptor_count {
	unsigned next, end;
	unsigned found;
};

/* Count on; true once `found` is what was looked for. */
bool descriptor_count_on(struct descriptor_count *count, const struct process *process);

#endif
