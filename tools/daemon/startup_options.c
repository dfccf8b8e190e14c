/* SPDX-License-Identifier: MIT */
#include "daemon/startup_options.h"

#include "common/logsink.h"

int startup_option(const struct option_table *table, struct startup_config *config, int key,
	const char *argument)
{
	uint64_t value = 0;
	int error;

	switch (key) {
	case 'v':
		config->log_level = LOG_LEVEL_DEBUG;
		return 0;
	case STARTUP_LOG_FORMAT:
		config->log_format = argument;
		if (!logsink_format_is_valid(argument))
			return options_complain(
				table, "--log-format %s: give plain or json", argument);
		return 0;
	case STARTUP_LOG_TARGET:
		config->log_target = argument;
		if (!logsink_target_is_valid(argument))
			return options_complain(
				table, "--log-target %s: give stderr or syslog", argument);
		return 0;
	case STARTUP_READY_FD:
		error = option_uint(table, "--ready-fd", argument, 0, INT32_MAX, &value);
		config->ready_fd = (int)value;
		return error;
	}
	return 1;
}
