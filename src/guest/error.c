/* SPDX-License-Identifier: MIT */
#include "guest/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

int guest_fail(struct guest_error *error, int err, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	errno = -err;
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return err;
}

const char *guest_driver_name(const struct pci_function *function)
{
	return function->driver[0] ? function->driver : "no driver";
}

int guest_fail_driver(struct guest_error *error, const struct guest_system *system,
	const struct pci_function *function, const char *driver)
{
	return guest_fail(error, -ENXIO, "%s: %s is bound, not %s: as root, %s", function->address,
		guest_driver_name(function), driver,
		pci_bind_commands(system, function, driver).text);
}
