/* SPDX-License-Identifier: MIT */
/* What people read: columns, sizes, times, names. */
#ifndef TOOLS_CTL_TEXT_H
#define TOOLS_CTL_TEXT_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define TEXT_SIZE 64 /* what the functions below write at most, with the final zero */

/* "16M": exact if it divides, else with one decimal. */
const char *text_size(uint64_t bytes, char out[TEXT_SIZE]);

/* "2 min ago"; both are milliseconds since 1970. */
const char *text_age(int64_t then, int64_t now, char out[TEXT_SIZE]);
int64_t text_now(void);

/* Of the clock, local: "12:00:01". */
const char *text_clock(int64_t ms, char out[TEXT_SIZE]);

/* The user's name, or the number. */
const char *text_user(uid_t uid, char out[TEXT_SIZE]);

/* Rows of cells that are printed in columns as wide as they need to be. */
struct table {
	unsigned columns;
	size_t n, size;
	char **cells; /* owned; NULL: there was no memory for it */
};

#define TABLE_INIT(n)                                                                              \
	{                                                                                          \
		.columns = (n)                                                                     \
	}

/* The next cell, or all cells of a row: as many texts as there are columns. Control characters
 * become '?'. */
void table_cell(struct table *table, const char *text);
void table_row(struct table *table, ...);
void table_print(const struct table *table, FILE *out);
void table_fini(struct table *table);

#endif
