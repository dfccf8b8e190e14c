/* SPDX-License-Identifier: MIT */
/* The command-line options that say what a region's memory is, alike where a server is started with
 * one and where one is asked to make another. */
#ifndef TOOLS_COMMON_REGION_OPTIONS_H
#define TOOLS_COMMON_REGION_OPTIONS_H

#include "common/options.h"

enum {
	REGION_OPT_FILE = OPTION_SHARED + 8,
	REGION_OPT_REUSE,
	REGION_OPT_NO_PREALLOC,
	REGION_OPT_MEMORY_RESERVE,
	REGION_OPT_HUGE_PAGES,
	REGION_OPT_NUMA_NODE,
	REGION_OPT_MODE,
};

/* Rows of an option table. */
#define REGION_OPTIONS                                                                             \
	{REGION_OPT_FILE, "file", "PATH",                                                          \
		"use an existing file, in its size unless --size is given", NULL},                 \
		{REGION_OPT_REUSE, "reuse", NULL, "with --shm: adopt an object that exists",       \
			NULL},                                                                     \
		{REGION_OPT_NO_PREALLOC, "no-prealloc", NULL,                                      \
			"do not allocate the memory at start; peers die by SIGBUS if it runs out " \
			"later",                                                                   \
			NULL},                                                                     \
		{REGION_OPT_MEMORY_RESERVE, "memory-reserve", "SIZE",                              \
			"refuse a region that would leave less memory than this (default: 256M)",  \
			NULL},                                                                     \
		{REGION_OPT_HUGE_PAGES, "huge-pages", "2M|1G",                                     \
			"memfd of huge pages (default: ordinary pages)", NULL},                    \
		{REGION_OPT_NUMA_NODE, "numa-node", "NODE",                                        \
			"allocate on this NUMA node (default: any)", NULL},                        \
	{                                                                                          \
		REGION_OPT_MODE, "region-mode", "OCTAL",                                           \
			"permission of the memory object (default: 0600)", NULL                    \
	}

#endif
