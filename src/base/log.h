/* SPDX-License-Identifier: MIT */
/*
 * Logging as a value: whoever logs gets a `struct log *`; where the lines go (stderr, JSON, syslog)
 * is decided by whoever made it. Layers below the tools never name a destination.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log {
	enum log_level level; /* lines above it are dropped */
	void (*sink)(struct log *log, enum log_level level, const char *line);
};

/* `log` may be NULL: the line is dropped. Keeps errno. Lines are cut at 512 bytes. */
void log_line(struct log *log, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#define log_error(log, ...)   log_line(log, LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(log, ...) log_line(log, LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(log, ...)    log_line(log, LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(log, ...)   log_line(log, LOG_LEVEL_DEBUG, __VA_ARGS__)

/*
 * What a peer can make us log is limited: `burst` lines, of which one comes back every so many
 * milliseconds. log_allow() says whether to log now; *suppressed receives how many lines were held
 * back since the last one that was allowed. loglimits.h has the same for each of many users.
 */
struct log_limit {
	unsigned burst, tokens, every_ms;
	uint64_t last_ms;
	unsigned suppressed;
};

#define LOG_LIMIT_EVERY(lines, ms)                                                                 \
	{                                                                                          \
		.burst = (lines), .tokens = (lines), .every_ms = (ms)                              \
	}
#define LOG_LIMIT_INIT(lines) LOG_LIMIT_EVERY(lines, 1000)

int log_allow(struct log_limit *limit, uint64_t now_ms, unsigned *suppressed);

#endif
