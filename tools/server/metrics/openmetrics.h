/* SPDX-License-Identifier: MIT */
/*
 * openmetrics - the OpenMetrics text format, line by line, into memory of the caller's. Pure.
 *
 * Metric families, label names and help texts are the program's own and taken as they are; the
 * values of labels may come from anywhere.
 */
#ifndef TOOLS_SERVER_METRICS_OPENMETRICS_H
#define TOOLS_SERVER_METRICS_OPENMETRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPENMETRICS_CONTENT_TYPE "application/openmetrics-text; version=1.0.0; charset=utf-8"

enum openmetrics_dialect {
	OPENMETRICS_1_0,
	/* The older text format of Prometheus, which is all that node_exporter reads from files: a
	 * counter's family has the name of its samples, there is no "info", no unit and no end. */
	OPENMETRICS_TEXTFILE,
};

enum openmetrics_kind {
	OPENMETRICS_GAUGE,
	OPENMETRICS_COUNTER, /* samples are named NAME_total */
	OPENMETRICS_INFO,    /* samples are named NAME_info; their value is 1 */
};

struct openmetrics_family {
	const char *name; /* ends in the unit, if there is one */
	enum openmetrics_kind kind;
	bool thousandths; /* values are given in thousandths, as milliseconds for seconds */
	const char *unit; /* NULL: none */
	const char *help; /* without quotes, backslashes and line ends */
};

struct openmetrics_label {
	const char *name, *value;
};

struct openmetrics_text {
	char *bytes; /* of the caller's; no final zero */
	size_t size, used;
};

/*
 * Append what introduces a family, one sample, or the end of all. What does not fit whole is left
 * out: false.
 */
bool openmetrics_describe(struct openmetrics_text *text, enum openmetrics_dialect dialect,
	const struct openmetrics_family *family);
bool openmetrics_sample(struct openmetrics_text *text, const struct openmetrics_family *family,
	const struct openmetrics_label *labels, size_t n_labels, uint64_t value);
bool openmetrics_end(struct openmetrics_text *text, enum openmetrics_dialect dialect);

#endif
