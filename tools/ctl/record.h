/* SPDX-License-Identifier: MIT */
/* What was captured as bytes: the records of docs/capture.md. No I/O. */
#ifndef TOOLS_CTL_RECORD_H
#define TOOLS_CTL_RECORD_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_LINKTYPE 154 /* LINKTYPE_USER7 */
#define RECORD_FIXED    40
#define RECORD_MAX      (RECORD_FIXED + 255 + 1024)

/* The record of an event (ivshmem.Control's type Captured), whatever is in it; what is missing or
 * impossible is recorded as not known. How long it is; 0: no event that there is a record for. */
size_t record_encode(json_t *event, uint8_t out[RECORD_MAX]);

#endif
