/* SPDX-License-Identifier: MIT */
/* The options of ivshmctl, of all commands. Those of `create` become members of a Spec. */
#ifndef TOOLS_CTL_ARGUMENTS_H
#define TOOLS_CTL_ARGUMENTS_H

#include "ctl.h"

#include "common/options.h"

/* In groups: the first is for all commands, each other is named after its command. */
extern const struct option_def ctl_options[];

struct arguments {
	struct ctl *ctl;
	const struct option_table *table;
	const struct option_def *special; /* one given that is for one command; NULL: none */
};

/* An option_handler; `data` is a struct arguments. */
int ctl_set_option(void *data, int key, const char *argument);

/* The command that an option is for; "": all. */
const char *ctl_command_of(const struct option_def *option);

#endif
