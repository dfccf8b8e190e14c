/* SPDX-License-Identifier: MIT */
#include "text.h"

#include "base/clock.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GAP 2 /* blanks between columns */

const char *text_size(uint64_t bytes, char out[TEXT_SIZE])
{
	static const char units[] = "BKMGTPE";
	unsigned unit = 0;
	while (unit < 6 && bytes >> (10 * (unit + 1)) != 0)
		unit++;
	uint64_t one = UINT64_C(1) << (10 * unit);
	if (bytes % one == 0)
		snprintf(out, TEXT_SIZE, "%" PRIu64 "%c", bytes / one, units[unit]);
	else
		snprintf(out, TEXT_SIZE, "%.1f%c", (double)bytes / (double)one, units[unit]);
	return out;
}

int64_t text_now(void)
{
	return (int64_t)clock_wall_ms();
}

const char *text_age(int64_t then, int64_t now, char out[TEXT_SIZE])
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	int64_t seconds = (now - then) / 1000;

	snprintf(out, TEXT_SIZE, "now");
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (seconds >= units[i].seconds) {
			snprintf(out, TEXT_SIZE, "%" PRId64 " %s ago", seconds / units[i].seconds,
				units[i].name);
			break;
		}
	}
	return out;
}

const char *text_clock(int64_t ms, char out[TEXT_SIZE])
{
	struct tm local;
	time_t seconds = (time_t)(ms / 1000);
	if (!localtime_r(&seconds, &local) || strftime(out, TEXT_SIZE, "%H:%M:%S", &local) == 0)
		snprintf(out, TEXT_SIZE, "?");
	return out;
}

/* The last one is remembered: a list has the same one again and again, and a look-up reads files.
 */
const char *text_user(uid_t uid, char out[TEXT_SIZE])
{
	static char last[TEXT_SIZE];
	static uid_t last_uid;

	if (last[0] == '\0' || uid != last_uid) {
		const struct passwd *entry = getpwuid(uid);
		last_uid = uid;
		if (entry)
			snprintf(last, sizeof(last), "%s", entry->pw_name);
		else
			snprintf(last, sizeof(last), "%u", uid);
	}
	memcpy(out, last, TEXT_SIZE);
	return out;
}

/* ---- tables ---- */

void table_cell(struct table *table, const char *text)
{
	if (table->n == table->size) {
		size_t size = table->size ? 2 * table->size : 64;
		char **cells = realloc(table->cells, size * sizeof(*cells));
		if (!cells)
			return;
		table->cells = cells;
		table->size = size;
	}
	char *cell = strdup(text[0] ? text : "-");
	for (char *c = cell; c && *c; c++)
		if ((unsigned char)*c < ' ' || *c == '\x7f')
			*c = '?';
	table->cells[table->n++] = cell;
}

void table_row(struct table *table, ...)
{
	va_list args;
	va_start(args, table);
	for (unsigned i = 0; i < table->columns; i++)
		table_cell(table, va_arg(args, const char *));
	va_end(args);
}

/* Characters, not bytes. */
static int width_of(const char *text)
{
	int width = 0;
	for (; text && *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static int width_of_column(const struct table *table, unsigned column)
{
	int width = 0;
	for (size_t i = column; i < table->n; i += table->columns) {
		int cell = width_of(table->cells[i]);
		width = cell > width ? cell : width;
	}
	return width;
}

void table_print(const struct table *table, FILE *out)
{
	int *widths = calloc(table->columns, sizeof(*widths));
	for (unsigned i = 0; widths && i < table->columns; i++)
		widths[i] = width_of_column(table, i);
	for (size_t i = 0; widths && i < table->n; i++) {
		const char *cell = table->cells[i] ? table->cells[i] : "?";
		unsigned column = (unsigned)(i % table->columns);
		bool last = column + 1 == table->columns;
		fprintf(out, "%s%*s", cell, last ? 0 : widths[column] + GAP - width_of(cell),
			last ? "\n" : "");
	}
	free(widths);
}

void table_fini(struct table *table)
{
	for (size_t i = 0; i < table->n; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){.columns = table->columns};
}
