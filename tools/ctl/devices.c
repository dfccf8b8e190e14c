/* SPDX-License-Identifier: MIT */
/* The command that looks into ivshmem-device, whose control socket is another one. */
#include "ctl.h"
#include "text.h"

#include "common/jsontext.h"

#include <inttypes.h>
#include <stdio.h>

/* "-" for what is absent. */
static const char *number(json_t *object, const char *name, char out[TEXT_SIZE])
{
	json_t *value = json_object_get(object, name);

	if (json_is_integer(value))
		snprintf(out, TEXT_SIZE, "%" PRId64, (int64_t)json_integer_value(value));
	else
		snprintf(out, TEXT_SIZE, "-");
	return out;
}

static void print_device(struct table *table, json_t *device, int64_t now)
{
	json_t *vmm = json_object_get(device, "vmm"), *since = json_object_get(vmm, "since");
	json_t *counters = json_object_get(device, "counters");
	char id[TEXT_SIZE], size[TEXT_SIZE], vectors[TEXT_SIZE], user[TEXT_SIZE], pid[TEXT_SIZE],
		age[TEXT_SIZE], accesses[TEXT_SIZE], rung[TEXT_SIZE], received[TEXT_SIZE],
		restarts[TEXT_SIZE];

	snprintf(rung, sizeof(rung), "%" PRId64,
		get_number(counters, "direct") + get_number(counters, "relayed"));
	table_row(table, get_text(device, "name"), get_text(device, "type"),
		number(device, "id", id), text_size((uint64_t)get_number(device, "size"), size),
		number(device, "vectors", vectors),
		vmm ? text_user((uid_t)get_number(vmm, "uid"), user) : "-", number(vmm, "pid", pid),
		since ? text_age(json_integer_value(since), now, age) : "-",
		get_flag(device, "enabled") ? "yes" : "no", number(counters, "accesses", accesses),
		rung, number(counters, "received", received), number(device, "restarts", restarts),
		get_text(device, "socket"));
}

static void print_devices(json_t *list)
{
	struct table table = TABLE_INIT(14);
	int64_t now = text_now();
	size_t i;
	json_t *device;

	table_row(&table, "NAME", "TYPE", "ID", "SIZE", "VECTORS", "USER", "PID", "ATTACHED",
		"ENABLED", "ACCESSES", "RUNG", "RECEIVED", "RESTARTS", "SOCKET");
	json_array_foreach (list, i, device) {
		print_device(&table, device, now);
	}
	table_print(&table, stdout);
	table_fini(&table);
}

int command_devices(struct ctl *ctl, int n, char **arguments)
{
	json_t *list;
	int result = ctl_list(ctl, "ivshmem.Device.ListDevices", NULL, "devices", &list);
	(void)n;
	(void)arguments;

	if (result == 0 && ctl->json)
		json_print_line(json_pack("{s:O}", "devices", list), stdout);
	else if (result == 0)
		print_devices(list);
	json_decref(list);
	return result;
}
