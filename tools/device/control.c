/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. service/service.h has the clients, on the loop; guests are served by threads
 * of their own (vmm.c), which a client can hold up only by what it has read in a turn: one device's
 * numbers, copied out, never the making of an answer. A long list is made part by part. Devices
 * stay in their places as long as the process serves, so a place in the list is all that is kept of
 * it.
 *
 * The socket is held while the process is replaced, so that its clients wait in the backlog.
 */
#include "control.h"

#include "config.h"
#include "turn.h"
#include "vmm.h"

#include "common/jsontext.h"
#include "service/service.h"
#include "service/standard.h"
#include "varlink/members.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICE      "ivshmem.Device"
#define MAX_CLIENTS 32
#define LIST_PART   32 /* devices of one reply at most */

#define HELD_AS "control", "socket" /* part, and no device */

#define COMMAND        4 /* in configuration space: PCI's command register, */
#define COMMAND_MEMORY 2 /* and its bit that lets the device answer */

extern const char device_interface[]; /* ivshmem.Device.varlink, as meson makes a string */

struct client {
	struct service_client base;
	bool listing; /* the rest of a list is to come, */
	size_t next;  /* from this device on */
};

/* ---- a device ---- */

/* What changes while it is looked at. */
struct numbers {
	struct vfu_device_stats stats;
	uint64_t accesses, size, restarts;
	unsigned vectors;
	int id;
	bool enabled;
};

static void read_numbers(const struct slot *slot, struct numbers *numbers)
{
	uint8_t command[2];

	turn_begin();
	const struct vfu_function *function = vfu_device_function(slot->device);
	ivshmem_pci_config_read(function->pci, COMMAND, command, sizeof(command));
	vfu_device_get_stats(slot->device, &numbers->stats);
	numbers->accesses = function->accesses;
	numbers->size = vfu_function_region_size(function, IVSHMEM_BAR_MEMORY);
	numbers->vectors = function->irqs.vectors;
	numbers->id = vfu_device_id(slot->device);
	numbers->enabled = command[0] & COMMAND_MEMORY;
	numbers->restarts = slot->kept ? vfu_kept_restarts(slot->kept) : 0;
	turn_end();
}

static const char *type_name(enum vfu_device_type type)
{
	switch (type) {
	case VFU_DOORBELL:
		return "doorbell";
	case VFU_PLAIN:
		return "plain";
	case VFU_LEGACY:
		break;
	}
	return "legacy";
}

/* NULL: there is none, or no memory. */
static json_t *describe_vmm(const struct slot *slot)
{
	struct vmm_info info;

	if (!vmm_get_info(slot, &info))
		return NULL;
	json_t *object =
		json_pack("{s:I, s:I}", "uid", (json_int_t)info.uid, "pid", (json_int_t)info.pid);
	if (info.since_ms != 0)
		json_object_set_new(object, "since", json_integer((json_int_t)info.since_ms));
	return object;
}

static json_t *describe_counters(const struct numbers *numbers)
{
	const struct vfu_device_stats *stats = &numbers->stats;

	return json_pack("{s:I, s:I, s:I, s:I, s:I}", "accesses", (json_int_t)numbers->accesses,
		"direct", (json_int_t)stats->direct, "relayed", (json_int_t)stats->relayed,
		"received", (json_int_t)stats->received, "interrupts",
		(json_int_t)stats->interrupts);
}

/* NULL without memory. */
static json_t *describe_device(const struct slot *slot)
{
	const struct device_spec *spec = slot->spec;
	struct numbers numbers;

	read_numbers(slot, &numbers);
	/* The last member of a format with an asterisk is left out where it is NULL. */
	return json_pack("{s:o, s:s, s:i, s:o, s:o, s:o*, s:I, s:o*, s:b, s:o, s:o*}", "name",
		json_text(slot->name), "type", type_name(spec->device.type), "vectors",
		(int)numbers.vectors, "socket", json_text(spec->socket_path), "uri",
		json_text(spec->device.uri), "id",
		numbers.id >= 0 ? json_integer(numbers.id) : NULL, "size", (json_int_t)numbers.size,
		"vmm", describe_vmm(slot), "enabled", numbers.enabled, "counters",
		describe_counters(&numbers), "restarts",
		slot->kept ? json_integer((json_int_t)numbers.restarts) : NULL);
}

/* ---- methods ---- */

/* The part of the list that begins with client->next. */
static json_t *next_part(struct client *client)
{
	const struct control *control = client->base.data;
	json_t *devices = json_array();

	for (size_t i = 0; i < LIST_PART && client->next < control->n; i++)
		json_array_append_new(devices, describe_device(&control->slots[client->next++]));
	client->listing = client->next < control->n;
	return varlink_make_reply(json_pack("{s:o}", "devices", devices), client->listing);
}

static json_t *list_devices(struct client *client, const struct varlink_call *call)
{
	const struct control *control = client->base.data;
	struct members parameters = {.object = call->parameters};

	if (!members_are_right(&parameters))
		return standard_invalid(parameters.wrong);
	if (control->n > LIST_PART && !call->more)
		return standard_expected_more();
	client->next = 0;
	json_t *part = next_part(client);
	client->listing = client->listing && !call->oneway;
	return part;
}

static const struct slot *find_device(const struct control *control, const char *name)
{
	for (size_t i = 0; i < control->n; i++)
		if (strcmp(control->slots[i].name, name) == 0)
			return &control->slots[i];
	return NULL;
}

static json_t *get_device(struct client *client, const struct varlink_call *call)
{
	struct members parameters = {.object = call->parameters};
	char name[HOLDING_DEVICE_SIZE], reason[HOLDING_DEVICE_SIZE + 32];

	if (!take_text(&parameters, "name", name, sizeof(name)))
		set_wrong(&parameters, "name");
	if (!members_are_right(&parameters))
		return standard_invalid(parameters.wrong);
	const struct slot *slot = find_device(client->base.data, name);
	if (slot)
		return varlink_make_reply(
			json_pack("{s:o}", "device", describe_device(slot)), false);
	snprintf(reason, sizeof(reason), "there is no device %s", name);
	return varlink_make_error(DEVICE ".NoSuchDevice",
		json_pack("{s:o, s:o}", "name", json_text(name), "reason", json_text(reason)));
}

static json_t *answer_call(struct service_client *base, const struct varlink_call *call)
{
	static const struct standard standard = {
		.product = "ivshmem-device", .interface = DEVICE, .description = device_interface};
	struct client *client = container_of(base, struct client, base);
	bool list = strcmp(call->method, DEVICE ".ListDevices") == 0;

	if (!list && strcmp(call->method, DEVICE ".GetDevice") != 0)
		return standard_call(&standard, call);
	if (call->upgrade)
		return standard_invalid("upgrade");
	return list ? list_devices(client, call) : get_device(client, call);
}

static enum service_rest continue_answer(struct service_client *base, json_t **message)
{
	struct client *client = container_of(base, struct client, base);

	if (!client->listing)
		return SERVICE_OVER;
	*message = next_part(client);
	return SERVICE_GOES_ON;
}

/* ---- */

/* The socket that an earlier process has listened on, if it is the right one. */
static bool adopt(struct control *control, const struct listen_config *listen, struct log *log)
{
	int fd;

	if (holding_take(control->holding, HELD_AS, 0, &fd, 1) != 1)
		return false;
	if (!listener_adopt(&control->listener, fd, listen->path)) {
		close(fd);
		holding_drop(control->holding, HELD_AS, 0);
		return false;
	}
	int error = listener_permit(&control->listener, listen->mode, listen->uid, listen->gid);
	if (error < 0)
		log_warning(log, "--control %s: cannot set its group and mode: %s", listen->path,
			strerror(-error));
	return true;
}

static int listen_anew(struct control *control, const struct listen_config *listen, struct log *log)
{
	if (listener_open(&control->listener, listen, log) < 0)
		return -1;
	int error = holding_put(control->holding, HELD_AS, 0, &control->listener.fd, 1);
	if (error < 0)
		log_warning(log, "--control %s: cannot have it held: %s", listen->path,
			strerror(-error));
	return 0;
}

int control_open(struct control *control, struct holding *holding,
	const struct control_config *config, struct log *log)
{
	const gid_t group = config->read_group;
	const struct listen_config listen = {
		.path = config->path,
		.mode = group == (gid_t)-1 ? 0600 : 0660,
		.uid = (uid_t)-1,
		.gid = group,
		.option = "--control",
		.owner_option = "--control-group",
		.what = "process",
	};

	*control = (struct control){
		.listener = LISTENER_INIT, .holding = holding, .read_group = group};
	if (!config->path || adopt(control, &listen, log))
		return 0;
	return listen_anew(control, &listen, log);
}

int control_start(struct control *control, const struct slot *slots, size_t n, uv_loop_t *loop,
	struct log *log)
{
	const struct service_config service = {
		.interface = DEVICE,
		.read_group = control->read_group,
		.max_clients = MAX_CLIENTS,
		.client_size = sizeof(struct client),
		.call = answer_call,
		.rest = continue_answer,
		.data = control,
	};

	control->slots = slots;
	control->n = n;
	if (control->listener.fd < 0)
		return 0;
	return service_start(&control->service, &service, control->listener.fd, loop, log);
}

void control_stop(struct control *control)
{
	if (control->service)
		service_stop(control->service);
	control->service = NULL;
}

void control_close(struct control *control)
{
	if (control->listener.fd >= 0)
		holding_drop(control->holding, HELD_AS, 0);
	listener_close(&control->listener);
}
