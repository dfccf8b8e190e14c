/* SPDX-License-Identifier: MIT */
/* How single things are shown to people, in tables and on the screen. */
#ifndef TOOLS_CTL_SHOW_H
#define TOOLS_CTL_SHOW_H

#include "text.h"

#include <jansson.h>

/* "serving" or "draining". */
const char *show_state(json_t *region);

/* The virtual machine of an identity, or else its program's name without the path. */
const char *show_program(json_t *identity);
const char *show_user(json_t *identity, char out[TEXT_SIZE]);

/* What a peer may do; "read-only*": the kernel does not keep it to that. */
const char *show_access(json_t *peer);

#endif
