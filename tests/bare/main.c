/* SPDX-License-Identifier: MIT */
/*
 * A guest without an operating system, the work-horse of the tests: it boots in a tenth of a second
 * and drives an ivshmem device by itself.
 *
 *     boot --image bare.elf --param role=pair --param seat=0 -- -device ivshmem-doorbell,...
 *
 * Theory of operation. QEMU loads it as it loads a kernel with a PVH entry (-kernel), after the
 * firmware has placed the BARs and routed the interrupt lines. It runs in 32-bit mode without
 * paging, so that what it reads and writes is what the device gets, in the sizes written here. What
 * it does, "role=NAME" decides; the parameters are words on its command line. Results go to the
 * serial port, pass or fail into QEMU's exit status through isa-debug-exit: 1 passed, 3 failed.
 */
#include "cases.h"
#include "device.h"
#include "interrupts.h"
#include "machine.h"

void bare_main(const void *information); /* called by start.S */

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"probe", case_probe},
	{"self", case_self},
	{"late", case_late},
	{"intx", case_intx},
	{"pair", case_pair},
	{"memory", case_memory},
	{"reboot", case_reboot},
	{"storm", case_storm},
	{"latency", case_latency},
	{"record", case_record},
	{"mmio", case_mmio},
};

void bare_main(const void *information)
{
	parameters_init(information);
	interrupts_init();
	device_find();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (parameter_is("role", cases[i].name)) {
			cases[i].run();
			leave(0);
		}
	}
	print("failed=no such role\n");
	leave(1);
}
