/* SPDX-License-Identifier: MIT */
/* What can be set in the sections of the configuration file: names, and what their values mean. */
#ifndef TOOLS_SERVER_SETTINGS_H
#define TOOLS_SERVER_SETTINGS_H

#include "file.h"

#define WANTED_SIZE 160

/*
 * Sets it in `target`: 0, or -EINVAL with what would be right in `wanted` ("give ..."). Targets are
 * struct file_config, struct region_spec and struct policy_rule.
 */
typedef int setter(void *target, const char *text, char wanted[WANTED_SIZE]);

struct setting {
	const char *name; /* NULL: the end */
	setter *set;
};

extern const struct setting control_settings[], limits_settings[], region_settings[],
	allow_settings[], deny_settings[];

#endif
