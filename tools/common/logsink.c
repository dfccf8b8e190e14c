/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Four combinations of text and destination, one sink function: it builds the
 * line, then hands it over. syslog's own macros are called LOG_DEBUG and so on and do not clash
 * with enum log_level. A line that cannot be written at once is dropped: whoever reads the log may
 * have stopped, and the peers must not wait for that. Standard error is asked first and not made
 * non-blocking, because it is shared with whoever started us.
 */
#include "common/logsink.h"

#include "base/list.h"
#include "common/jsontext.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

struct log_sink {
	struct log log;
	const char *program;
	bool json, syslog;
};

static const struct {
	const char *name, *prefix;
	int priority;
} levels[] = {
	[LOG_LEVEL_ERROR] = {"error", "error: ", LOG_ERR},
	[LOG_LEVEL_WARNING] = {"warning", "warning: ", LOG_WARNING},
	[LOG_LEVEL_INFO] = {"info", "", LOG_INFO},
	[LOG_LEVEL_DEBUG] = {"debug", "debug: ", LOG_DEBUG},
};

static void format_time(char out[32])
{
	struct timespec now;
	struct tm utc;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	size_t used = strftime(out, 24, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(out + used, 32 - used, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static json_t *json_line(const struct log_sink *sink, enum log_level level, const char *line)
{
	char now[32];
	format_time(now);
	return json_pack("{s:s, s:s, s:s, s:i, s:o}", "time", now, "level", levels[level].name,
		"program", sink->program, "pid", (int)getpid(), "message", json_text(line));
}

/* A pipe that is writable has room for a whole line (PIPE_BUF). */
static bool stderr_has_room(void)
{
	struct pollfd entry = {.fd = STDERR_FILENO, .events = POLLOUT};
	return poll(&entry, 1, 0) == 1 && entry.revents & (POLLOUT | POLLERR);
}

static void write_line(struct log *log, enum log_level level, const char *line)
{
	struct log_sink *sink = container_of(log, struct log_sink, log);
	if (!sink->syslog && !stderr_has_room())
		return;
	json_t *object = sink->json ? json_line(sink, level, line) : NULL;

	char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
	if (sink->syslog)
		syslog(levels[level].priority, "%s", text ? text : line);
	else if (text)
		dprintf(STDERR_FILENO, "%s\n", text);
	else
		dprintf(STDERR_FILENO, "%s: %s%s\n", sink->program, levels[level].prefix, line);
	free(text);
	json_decref(object);
}

bool logsink_format_is_valid(const char *format)
{
	return strcmp(format, "plain") == 0 || strcmp(format, "json") == 0;
}

bool logsink_target_is_valid(const char *target)
{
	return strcmp(target, "stderr") == 0 || strcmp(target, "syslog") == 0;
}

struct log *logsink_open(const char *format, const char *target, const char *program)
{
	if (!logsink_format_is_valid(format) || !logsink_target_is_valid(target)) {
		errno = EINVAL;
		return NULL;
	}
	struct log_sink *sink = malloc(sizeof(*sink));
	if (!sink)
		return NULL;
	*sink = (struct log_sink){
		.log = {.level = LOG_LEVEL_INFO, .sink = write_line},
		.program = program,
		.json = strcmp(format, "json") == 0,
		.syslog = strcmp(target, "syslog") == 0,
	};
	if (sink->syslog)
		openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
	return &sink->log;
}

void logsink_close(struct log *log)
{
	if (!log)
		return;
	struct log_sink *sink = container_of(log, struct log_sink, log);
	if (sink->syslog)
		closelog();
	free(sink);
}
