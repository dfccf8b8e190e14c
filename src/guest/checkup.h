/* SPDX-License-Identifier: MIT */
/*
 * guest/checkup - what the guest's kernel tells of its ivshmem device, and what to do about what is
 * wrong with it.
 *
 * Each check looks at one thing and changes nothing. It relies on those before it in this file:
 * after a failure of one that has to pass, the rest say nothing of use.
 */
#ifndef GUEST_CHECKUP_H
#define GUEST_CHECKUP_H

#include "guest/guest.h"

enum checkup_status {
	CHECKUP_OK,
	CHECKUP_NOTE, /* works, but perhaps not as meant */
	CHECKUP_FAILED,
	CHECKUP_SKIPPED, /* cannot be checked; `found` says why */
};

struct checkup_result {
	enum checkup_status status;
	char found[512];
	char remedy[512]; /* a command or an option of QEMU; "": there is nothing to do */
};

/* The device that is checked. What a URI says goes in, the rest is found out by the checks. */
struct checkup {
	const struct guest_system *system;
	const char *rest;   /* the URI without its scheme */
	bool by_region;     /* region: the device is to be found by its region's name */
	bool automatic;     /* region: and auto: checkup_driver() finds the way */
	enum guest_way way; /* the URI's scheme otherwise */

	int vector; /* the only one that the URI asks for, -1: all */
	struct pci_function function;
	int opened_vectors; /* how many a handle has that is open; -1: none is */
};

/* For making results: what was found, and what to do about it. */
struct checkup_result checkup_found(enum checkup_status status, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
struct checkup_result checkup_advise(struct checkup_result result, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

typedef struct checkup_result checkup_function(struct checkup *checkup);

checkup_function checkup_device;      /* is there one, and has it memory? Has to pass */
checkup_function checkup_driver;      /* the one that the URI asks for? Has to pass */
checkup_function checkup_permissions; /* may this user open it? */
checkup_function checkup_id;          /* GUEST_UIO: does the device have an ID? */
checkup_function checkup_cache;       /* how its memory is cached */

/* These say how the driver has set the device up: vfio-pci does only for who opens it. */
checkup_function checkup_bus_master;
checkup_function checkup_msix;
checkup_function checkup_vectors; /* does the driver use all that the device has? */

/* Is the memory about as fast as ordinary memory? `checkup` is NULL on a host. */
struct checkup_result checkup_bandwidth(
	const struct checkup *checkup, const struct ivshmem_memory *memory);

#endif
