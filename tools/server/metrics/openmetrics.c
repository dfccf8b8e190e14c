/* SPDX-License-Identifier: MIT */
#include "openmetrics.h"

#include <string.h>

static bool put(struct openmetrics_text *text, const char *bytes, size_t n)
{
	if (text->size - text->used < n)
		return false;
	memcpy(text->bytes + text->used, bytes, n);
	text->used += n;
	return true;
}

static bool put_text(struct openmetrics_text *text, const char *string)
{
	return put(text, string, strlen(string));
}

static bool put_number(struct openmetrics_text *text, uint64_t value, unsigned digits)
{
	char reversed[24];
	size_t n = 0;
	char number[24];

	for (; value > 0 || n < digits; value /= 10)
		reversed[n++] = (char)('0' + value % 10);
	for (size_t i = 0; i < n; i++)
		number[i] = reversed[n - 1 - i];
	return put(text, number, n);
}

/* The format escapes three characters; others that do not print are none of a name's. */
static bool put_label_value(struct openmetrics_text *text, const char *value)
{
	bool fits = true;

	for (const char *c = value; *c && fits; c++) {
		if (*c == '\n')
			fits = put_text(text, "\\n");
		else if (*c == '\\' || *c == '"')
			fits = put_text(text, "\\") && put(text, c, 1);
		else if (*c < ' ' || *c > '~')
			fits = put_text(text, "?");
		else
			fits = put(text, c, 1);
	}
	return fits;
}

static const char *suffix_of(enum openmetrics_kind kind)
{
	switch (kind) {
	case OPENMETRICS_GAUGE:
		return "";
	case OPENMETRICS_COUNTER:
		return "_total";
	case OPENMETRICS_INFO:
		break;
	}
	return "_info";
}

static const char *type_of(enum openmetrics_kind kind, enum openmetrics_dialect dialect)
{
	switch (kind) {
	case OPENMETRICS_GAUGE:
		return "gauge";
	case OPENMETRICS_COUNTER:
		return "counter";
	case OPENMETRICS_INFO:
		break;
	}
	return dialect == OPENMETRICS_TEXTFILE ? "gauge" : "info";
}

/* `fits`, or take back what was put since `used`. */
static bool whole(struct openmetrics_text *text, size_t used, bool fits)
{
	if (!fits)
		text->used = used;
	return fits;
}

static bool put_line(struct openmetrics_text *text, const char *keyword, const char *name,
	const char *suffix, const char *value)
{
	return put_text(text, "# ") && put_text(text, keyword) && put_text(text, " ") &&
		put_text(text, name) && put_text(text, suffix) && put_text(text, " ") &&
		put_text(text, value) && put_text(text, "\n");
}

bool openmetrics_describe(struct openmetrics_text *text, enum openmetrics_dialect dialect,
	const struct openmetrics_family *family)
{
	size_t used = text->used;
	bool textfile = dialect == OPENMETRICS_TEXTFILE;
	const char *suffix = textfile ? suffix_of(family->kind) : "";

	return whole(text, used,
		put_line(text, "TYPE", family->name, suffix, type_of(family->kind, dialect)) &&
			(textfile || !family->unit ||
				put_line(text, "UNIT", family->name, suffix, family->unit)) &&
			put_line(text, "HELP", family->name, suffix, family->help));
}

static bool put_labels(
	struct openmetrics_text *text, const struct openmetrics_label *labels, size_t n)
{
	bool fits = true;

	for (size_t i = 0; i < n && fits; i++)
		fits = put_text(text, i == 0 ? "{" : ",") && put_text(text, labels[i].name) &&
			put_text(text, "=\"") && put_label_value(text, labels[i].value) &&
			put_text(text, "\"");
	return fits && (n == 0 || put_text(text, "}"));
}

static bool put_value(struct openmetrics_text *text, bool thousandths, uint64_t value)
{
	if (!thousandths)
		return put_number(text, value, 1);
	return put_number(text, value / 1000, 1) && put_text(text, ".") &&
		put_number(text, value % 1000, 3);
}

bool openmetrics_sample(struct openmetrics_text *text, const struct openmetrics_family *family,
	const struct openmetrics_label *labels, size_t n_labels, uint64_t value)
{
	size_t used = text->used;

	return whole(text, used,
		put_text(text, family->name) && put_text(text, suffix_of(family->kind)) &&
			put_labels(text, labels, n_labels) && put_text(text, " ") &&
			put_value(text, family->thousandths, value) && put_text(text, "\n"));
}

bool openmetrics_end(struct openmetrics_text *text, enum openmetrics_dialect dialect)
{
	return dialect == OPENMETRICS_TEXTFILE || put_text(text, "# EOF\n");
}
