/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>

void log_line(struct log *log, enum log_level level, const char *format, ...)
{
	if (!log || level > log->level)
		return;

	int saved = errno;
	char line[512];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log->sink(log, level, line);
	errno = saved;
}

int log_allow(struct log_limit *limit, uint64_t now_ms, unsigned *suppressed)
{
	uint64_t refill = (now_ms - limit->last_ms) / limit->every_ms;
	if (refill > 0) {
		uint64_t tokens = limit->tokens + refill;
		limit->tokens = tokens > limit->burst ? limit->burst : (unsigned)tokens;
		limit->last_ms = now_ms;
	}
	if (limit->tokens == 0) {
		limit->suppressed++;
		return 0;
	}
	limit->tokens--;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return 1;
}
