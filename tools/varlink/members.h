/* SPDX-License-Identifier: MIT */
/*
 * members - taking a JSON object apart: each member that is understood is taken out of it; the
 * first that is wrong is remembered, and the rest is read nevertheless, so that the code that does
 * so is a list of what there is. What is left over in the end nobody knows.
 */
#ifndef TOOLS_VARLINK_MEMBERS_H
#define TOOLS_VARLINK_MEMBERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct members {
	json_t *object; /* borrowed, and emptied */
	const char
		*wrong; /* name of the first that is: static, or the object's; NULL: none so far */
};

void set_wrong(struct members *members, const char *name);

/* To be called last: is there nothing wrong, and nothing left? */
bool members_are_right(struct members *members);

/* The caller's; NULL: not given, or null. */
json_t *take(struct members *members, const char *name);

/* True if it is given and right; else what it goes to stays as it was. Texts are not empty
 * and without control characters, since they end up in log lines and on terminals. */
bool take_number(
	struct members *members, const char *name, uint64_t min, uint64_t max, uint64_t *number);
bool take_unsigned(
	struct members *members, const char *name, unsigned min, unsigned max, unsigned *number);
bool take_flag(struct members *members, const char *name, bool *flag);
bool take_text(struct members *members, const char *name, char *text, size_t size);

/* The index of one of several texts; the list ends with NULL. */
bool take_choice(
	struct members *members, const char *name, const char *const *choices, unsigned *choice);

/* A permission, which is a text in octal. */
bool take_mode(struct members *members, const char *name, mode_t max, mode_t *mode);

#endif
