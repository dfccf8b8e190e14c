/* SPDX-License-Identifier: MIT */
#include "standard.h"

#include "common/jsontext.h"
#include "varlink/members.h"

#include <stdbool.h>
#include <string.h>

#define SERVICE "org.varlink.service"

extern const char service_interface[]; /* org.varlink.service.varlink, as meson makes a string */

json_t *standard_invalid(const char *parameter)
{
	return varlink_make_error(
		SERVICE ".InvalidParameter", json_pack("{s:o}", "parameter", json_text(parameter)));
}

json_t *standard_expected_more(void)
{
	return varlink_make_error(SERVICE ".ExpectedMore", NULL);
}

json_t *standard_refuse(const char *error, const char *reason)
{
	return varlink_make_error(error, json_pack("{s:o}", "reason", json_text(reason)));
}

static json_t *get_info(const struct standard *standard, struct members *parameters)
{
	if (!members_are_right(parameters))
		return standard_invalid(parameters->wrong);
	return varlink_make_reply(json_pack("{s:s, s:s, s:s, s:s, s:[s, s]}", "vendor", "ivshmem",
					  "product", standard->product, "version", IVSHMEM_VERSION,
					  "url", "", "interfaces", SERVICE, standard->interface),
		false);
}

static json_t *get_description(const struct standard *standard, struct members *parameters)
{
	char name[64] = "";

	if (!take_text(parameters, "interface", name, sizeof(name)))
		set_wrong(parameters, "interface");
	if (!members_are_right(parameters))
		return standard_invalid(parameters->wrong);
	const char *text = strcmp(name, SERVICE) == 0    ? service_interface
		: strcmp(name, standard->interface) == 0 ? standard->description
							 : NULL;
	if (text)
		return varlink_make_reply(json_pack("{s:s}", "description", text), false);
	return varlink_make_error(
		SERVICE ".InterfaceNotFound", json_pack("{s:o}", "interface", json_text(name)));
}

static bool is_of(const char *method, size_t length, const char *interface)
{
	return strlen(interface) == length && memcmp(method, interface, length) == 0;
}

static json_t *fail_unknown(const struct standard *standard, const char *method)
{
	const char *dot = strrchr(method, '.');
	size_t length = dot ? (size_t)(dot - method) : strlen(method);

	if (dot && (is_of(method, length, SERVICE) || is_of(method, length, standard->interface)))
		return varlink_make_error(
			SERVICE ".MethodNotFound", json_pack("{s:s}", "method", method));
	return varlink_make_error(SERVICE ".InterfaceNotFound",
		json_pack("{s:s#}", "interface", method, (int)length));
}

json_t *standard_call(const struct standard *standard, const struct varlink_call *call)
{
	struct members parameters = {.object = call->parameters};
	bool info = strcmp(call->method, SERVICE ".GetInfo") == 0;

	if (!info && strcmp(call->method, SERVICE ".GetInterfaceDescription") != 0)
		return fail_unknown(standard, call->method);
	if (call->upgrade)
		return standard_invalid("upgrade");
	return info ? get_info(standard, &parameters) : get_description(standard, &parameters);
}
