/* SPDX-License-Identifier: MIT */
#ifndef TOOLS_COMMON_JSONTEXT_H
#define TOOLS_COMMON_JSONTEXT_H

#include <jansson.h>
#include <stdio.h>

/*
 * A JSON string of text that may be anything, such as a path: jansson takes only valid UTF-8, so
 * bytes outside ASCII become '?' in text that is not. NULL only without memory.
 */
json_t *json_text(const char *text);

/* Print `object` as one line, flush, and release it. NULL prints nothing. */
void json_print_line(json_t *object, FILE *out);

#endif
