/* SPDX-License-Identifier: MIT */
/*
 * standard - the answers that every Varlink service gives: those of org.varlink.service, and its
 * errors. All are messages, NULL without memory.
 */
#ifndef TOOLS_SERVICE_STANDARD_H
#define TOOLS_SERVICE_STANDARD_H

#include "varlink/varlink.h"

struct standard {
	const char *product;     /* the program's name */
	const char *interface;   /* its own, besides org.varlink.service */
	const char *description; /* that interface's text */
};

/* The answer to a call that is for none of the own interface's methods. */
json_t *standard_call(const struct standard *standard, const struct varlink_call *call);

/* This parameter is missing, not known, or wrong. */
json_t *standard_invalid(const char *parameter);

/* There is more than one answer, and the call did not say that it takes more. */
json_t *standard_expected_more(void);

/* An error of the own interface, and why. */
json_t *standard_refuse(const char *error, const char *reason);

#endif
