/* SPDX-License-Identifier: MIT */
/* Where the log lines of a program go: standard error or syslog, as plain text or as JSON. */
#ifndef TOOLS_COMMON_LOGSINK_H
#define TOOLS_COMMON_LOGSINK_H

#include "base/log.h"

#include <stdbool.h>

/*
 * `format` is "plain" or "json", `target` is "stderr" or "syslog". `program` must outlive the log.
 * The level starts as LOG_LEVEL_INFO; set log->level to change it. Each line is one write, so lines
 * of several processes do not mix.
 *
 *   plain  PROGRAM: [error: |warning: |debug: ]TEXT
 *   json   {"time":"2026-01-31T12:00:00.123Z","level":"info","program":...,"pid":...,"message":...}
 *
 * NULL with errno EINVAL (unknown format or target) or ENOMEM.
 */
struct log *logsink_open(const char *format, const char *target, const char *program);

/* Standard error itself stays open. NULL is allowed. */
void logsink_close(struct log *log);

/* Is the text one that logsink_open() takes? For the option parser. */
bool logsink_format_is_valid(const char *format);
bool logsink_target_is_valid(const char *target);

#endif
