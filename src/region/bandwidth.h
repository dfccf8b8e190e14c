/* SPDX-License-Identifier: MIT */
/*
 * bandwidth - how fast memory is, measured so that nobody who uses it is disturbed: every word is
 * read; for writing, 0 is added to a word of each cache line, atomically.
 */
#ifndef REGION_BANDWIDTH_H
#define REGION_BANDWIDTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes a second that are read from `address`, or written to it; the best of a few passes over
 * `size` bytes, after one that is not measured. Stops after `limit_ms` however few it was. */
uint64_t bandwidth_of_reading(const void *address, size_t size, unsigned limit_ms);
uint64_t bandwidth_of_writing(void *address, size_t size, unsigned limit_ms);

/* Is the memory at least a quarter as fast to read as ordinary memory? Takes some microseconds if
 * so, and a few hundred if not. True also when there is no memory to compare it with. */
bool bandwidth_is_fast(const void *address, size_t size);

#endif
