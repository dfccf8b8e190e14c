/* SPDX-License-Identifier: MIT */
#include "region/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int region_fail(struct region_error *error, int err, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	errno = -err;
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return err;
}
