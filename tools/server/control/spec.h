/* SPDX-License-Identifier: MIT */
/* The type Spec of ivshmem.Control.varlink: what a client wants a region to be. */
#ifndef TOOLS_SERVER_CONTROL_SPEC_H
#define TOOLS_SERVER_CONTROL_SPEC_H

#include "hub/hub.h"

#include <jansson.h>

/*
 * Fill `spec`, which region_spec_init() has made, and take the members that are understood out of
 * `object`. 0, -ENOMEM, or -EINVAL with *parameter the first member (borrowed from `object` or
 * static) that has the wrong type, is out of its range, missing, or not known. Whatever happens,
 * the spec is still to be ended by region_spec_fini().
 */
int spec_from_json(json_t *object, struct region_spec *spec, const char **parameter);

#endif
