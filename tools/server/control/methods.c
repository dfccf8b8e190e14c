/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A method takes its parameters out of the call (members.h), and only if all
 * of them are right does anything; then it answers once, or leaves a listing for the further
 * answers. Each change is one log line that says who made it. Methods do not wait, and take a
 * bounded time, but for those of privileged callers that create memory or read the configuration.
 */
#include "methods.h"

#include "describe.h"
#include "spec.h"

#include "common/jsontext.h"
#include "service/standard.h"
#include "varlink/members.h"

#include "base/clock.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CONTROL "ivshmem.Control"

extern const char control_interface[]; /* ivshmem.Control.varlink, as meson makes a string */

/* A call in the works. */
struct request {
	struct methods *methods;
	struct caller *caller;
	bool more;
	struct members parameters;
	struct answer *answer;
};

/* ---- answers ---- */

static void reply(struct request *request, json_t *parameters)
{
	request->answer->message = varlink_make_reply(parameters, false);
}

static void fail(struct request *request, const char *error, json_t *parameters)
{
	request->answer->message = varlink_make_error(error, parameters);
}

static void refuse(struct request *request, const char *error, const char *reason)
{
	request->answer->message = standard_refuse(error, reason);
}

static void fail_parameter(struct request *request, const char *parameter)
{
	request->answer->message = standard_invalid(parameter);
}

static void expect_more(struct request *request)
{
	request->answer->message = standard_expected_more();
}

/* Are the parameters right, all of them having been taken? Else this is the answer. */
static bool is_right(struct request *request)
{
	if (members_are_right(&request->parameters))
		return true;
	fail_parameter(request, request->parameters.wrong);
	return false;
}

static void log_change(const struct request *request, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
static void log_change(const struct request *request, const char *format, ...)
{
	char what[400];
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	log_info(request->methods->log, "control: uid %u (pid %d) %s", request->caller->uid,
		request->caller->pid, what);
}

/* ---- parameters ---- */

static void take_name(struct request *request, const char *parameter, char name[HUB_NAME_SIZE])
{
	if (!take_text(&request->parameters, parameter, name, HUB_NAME_SIZE))
		set_wrong(&request->parameters, parameter);
}

static struct hosted *find_region(struct request *request, const char *name)
{
	char reason[HUB_NAME_SIZE + 32];
	struct hosted *hosted = hub_find(request->methods->hub, name);
	if (hosted)
		return hosted;
	snprintf(reason, sizeof(reason), "there is no region %s", name);
	fail(request, CONTROL ".NoSuchRegion",
		json_pack("{s:o, s:o}", "name", json_text(name), "reason", json_text(reason)));
	return NULL;
}

/* ---- to see ---- */

/* The first part of a listing, and, if the caller takes several, the rest for later. */
static void begin_listing(struct request *request, struct listing *listing)
{
	struct answer *answer = request->answer;
	bool more;

	if (!listing)
		return;
	json_t *part = listing_next(listing, &more);
	if (more && !request->more) {
		json_decref(part);
		expect_more(request);
	} else if (part) {
		answer->message = varlink_make_reply(part, more);
	}
	if (more && request->more && answer->message)
		answer->listing = listing;
	else
		listing_destroy(listing);
}

static void list_regions(struct request *request)
{
	if (is_right(request))
		begin_listing(
			request, listing_create(request->methods->hub, LISTING_REGIONS, NULL));
}

static void get_region(struct request *request)
{
	char name[HUB_NAME_SIZE];
	take_name(request, "name", name);
	struct hosted *hosted = is_right(request) ? find_region(request, name) : NULL;
	if (hosted)
		reply(request, json_pack("{s:o}", "region", describe_region(hosted)));
}

static void list_peers(struct request *request)
{
	char name[HUB_NAME_SIZE];
	bool one = take_text(&request->parameters, "region", name, sizeof(name));
	if (is_right(request) && (!one || find_region(request, name)))
		begin_listing(request,
			listing_create(request->methods->hub, LISTING_PEERS, one ? name : NULL));
}

static void fail_look(struct request *request, int error)
{
	if (error == -EUSERS)
		refuse(request, CONTROL ".TooManyClients",
			"as many as may look at doorbells at a time do so already");
	else
		refuse(request, CONTROL ".NotEnough",
			"no memory, no descriptor or no watch left for this");
}

static void list_doorbells(struct request *request)
{
	char name[HUB_NAME_SIZE] = "";
	struct bells **bells = &request->caller->bells;
	struct hub *hub = request->methods->hub;
	bool one = take_text(&request->parameters, "region", name, sizeof(name));
	int error = 0;

	if (!is_right(request) || (one && !find_region(request, name)))
		return;
	if (*bells && strcmp(bells_region(*bells), name) != 0) {
		bells_stop(*bells);
		*bells = NULL;
	}
	if (!*bells)
		error = bells_start(bells, hub, one ? name : NULL, NULL, NULL);
	if (error < 0)
		fail_look(request, error);
	else
		begin_listing(request, listing_create_doorbells(hub, *bells));
}

/* For what has no end: of a region that there is, or of all ("")? */
static bool begin_stream(struct request *request, char name[HUB_NAME_SIZE])
{
	name[0] = '\0';
	bool one = take_text(&request->parameters, "region", name, HUB_NAME_SIZE);
	if (!is_right(request) || (one && !find_region(request, name)))
		return false;
	if (!request->more)
		expect_more(request);
	return request->more;
}

static void capture(struct request *request)
{
	char name[HUB_NAME_SIZE];
	bool doorbells = false;

	take_flag(&request->parameters, "doorbells", &doorbells);
	if (!begin_stream(request, name))
		return;
	if (request->methods->n_captures >= CAPTURES) {
		refuse(request, CONTROL ".TooManyClients",
			"as many as may capture at a time do so already");
		return;
	}
	struct answer *answer = request->answer;
	int error = capture_create(&answer->capture, request->methods->hub, name, doorbells);
	if (error < 0)
		fail_look(request, error);
	else
		answer->message = varlink_make_reply(json_pack("{s:[]}", "events"), true);
}

static void watch(struct request *request)
{
	char name[HUB_NAME_SIZE];

	if (!begin_stream(request, name))
		return;
	request->answer->watch = true;
	memcpy(request->answer->region, name, sizeof(name));
	request->answer->message = varlink_make_reply(describe_notice("watching", 0), true);
}

/* ---- to look into the memory ---- */

static void open_memory(struct request *request)
{
	char name[HUB_NAME_SIZE];
	take_name(request, "name", name);
	struct hosted *hosted = is_right(request) ? find_region(request, name) : NULL;
	if (!hosted)
		return;
	const int fd = hosted_read_only_fd(hosted);
	if (fd < 0) {
		refuse(request, CONTROL ".Impossible",
			"this memory cannot be opened for reading alone");
		return;
	}
	log_change(request, "looks into the memory of region %s", name);
	request->answer->descriptor = fd;
	reply(request, json_pack("{s:i}", "descriptor", 0));
}

/* ---- to change ---- */

static void fail_create(struct request *request, const char *name, int error, const char *reason)
{
	switch (error) {
	case -EEXIST:
		fail(request, CONTROL ".RegionExists",
			json_pack("{s:s, s:o}", "name", name, "reason", json_text(reason)));
		break;
	case -EINVAL:
		refuse(request, CONTROL ".Impossible", reason);
		break;
	case -ENOMEM:
	case -ENOSPC:
	case -EMFILE:
		refuse(request, CONTROL ".NotEnough", reason);
		break;
	default:
		refuse(request, CONTROL ".Failed", reason);
	}
}

static void create(struct request *request, const struct region_spec *spec)
{
	char reason[REASON_SIZE] = "";
	struct hub *hub = request->methods->hub;
	int error = hub_add(hub, spec, reason);
	if (error < 0) {
		fail_create(request, spec->name, error, reason);
		return;
	}
	log_change(request, "has created region %s on %s", spec->name, spec->socket_path);
	reply(request, json_pack("{s:o}", "region", describe_region(hub_find(hub, spec->name))));
}

static void create_region(struct request *request)
{
	struct region_spec spec;
	const char *wrong = "spec";
	json_t *object = take(&request->parameters, "spec");

	if (!json_is_object(object))
		set_wrong(&request->parameters, "spec");
	if (is_right(request)) {
		region_spec_init(&spec);
		int error = spec_from_json(object, &spec, &wrong);
		if (error == -EINVAL)
			fail_parameter(request, wrong);
		else if (error == 0)
			create(request, &spec);
		region_spec_fini(&spec);
	}
	json_decref(object);
}

static void remove_region(struct request *request)
{
	char name[HUB_NAME_SIZE];
	bool force = false;
	take_name(request, "name", name);
	take_flag(&request->parameters, "force", &force);
	struct hosted *hosted = is_right(request) ? find_region(request, name) : NULL;
	if (!hosted)
		return;

	struct server_stats stats;
	server_get_stats(hosted_server(hosted), &stats);
	if (hub_remove(request->methods->hub, hosted, force) < 0) {
		char reason[128];
		snprintf(reason, sizeof(reason), "%u peers are in region %s", stats.peers, name);
		fail(request, CONTROL ".RegionBusy",
			json_pack("{s:s, s:i, s:s}", "name", name, "peers", (int)stats.peers,
				"reason", reason));
		return;
	}
	log_change(request, "has removed region %s with %u peers", name, stats.peers);
	reply(request, NULL);
}

static void drain_region(struct request *request)
{
	char name[HUB_NAME_SIZE];
	bool on = false;
	take_name(request, "name", name);
	if (!take_flag(&request->parameters, "on", &on))
		set_wrong(&request->parameters, "on");
	struct hosted *hosted = is_right(request) ? find_region(request, name) : NULL;
	if (!hosted)
		return;

	struct server_stats stats;
	server_get_stats(hosted_server(hosted), &stats);
	hub_drain(hosted, on);
	log_change(request, "%s region %s", on ? "drains" : "lets peers again into", name);
	reply(request, json_pack("{s:i}", "peers", (int)stats.peers));
}

/* Who has this ID? */
struct holder {
	int id;
	uint64_t serial; /* 0: nobody */
};

static bool look_for_holder(void *data, uint64_t serial, int id, const int *fds, unsigned vectors)
{
	struct holder *holder = data;
	(void)fds;
	(void)vectors;
	if (id == holder->id)
		holder->serial = serial;
	return holder->serial == 0;
}

static void evict(struct request *request, struct hosted *hosted, uint64_t serial, const char *why)
{
	const char *name = hosted_spec(hosted)->name;
	if (serial == 0 || server_evict(hosted_server(hosted), serial, why) < 0) {
		char reason[128];
		snprintf(reason, sizeof(reason), "there is no such peer in region %s", name);
		fail(request, CONTROL ".NoSuchPeer",
			json_pack("{s:s, s:s}", "region", name, "reason", reason));
		return;
	}
	log_change(request, "has evicted peer @%llu from region %s: %s", (unsigned long long)serial,
		name, why);
	reply(request, json_pack("{s:I}", "serial", (json_int_t)serial));
}

static void evict_peer(struct request *request)
{
	struct members *parameters = &request->parameters;
	char name[HUB_NAME_SIZE], reason[128] = "asked for";
	uint64_t serial = 0, id = 0;

	take_name(request, "region", name);
	bool by_serial = take_number(parameters, "serial", 1, INT64_MAX, &serial);
	bool by_id = take_number(parameters, "id", 0, UINT16_MAX, &id);
	if (by_serial == by_id)
		set_wrong(parameters, by_id ? "id" : "serial");
	take_text(parameters, "reason", reason, sizeof(reason));
	struct hosted *hosted = is_right(request) ? find_region(request, name) : NULL;
	if (!hosted)
		return;

	struct holder holder = {.id = (int)id, .serial = serial};
	if (by_id) /* not server_visit(), which finds out all about all of them */
		server_visit_vectors(hosted_server(hosted), 0, look_for_holder, &holder);
	evict(request, hosted, holder.serial, reason);
}

static void reload(struct request *request)
{
	char reason[REASON_SIZE] = "";
	const struct control_config *config = request->methods->config;

	if (!is_right(request))
		return;
	if (config->reload(config->data, reason) < 0) {
		refuse(request, CONTROL ".ReloadFailed", reason);
		return;
	}
	log_change(request, "has had the configuration read again");
	reply(request, NULL);
}

/* ---- */

static const struct method {
	const char *name;
	bool privileged;
	void (*run)(struct request *request);
} methods_list[] = {
	{CONTROL ".ListRegions", false, list_regions},
	{CONTROL ".GetRegion", false, get_region},
	{CONTROL ".ListPeers", false, list_peers},
	{CONTROL ".CreateRegion", true, create_region},
	{CONTROL ".RemoveRegion", true, remove_region},
	{CONTROL ".DrainRegion", true, drain_region},
	{CONTROL ".EvictPeer", true, evict_peer},
	{CONTROL ".Reload", true, reload},
	{CONTROL ".OpenMemory", true, open_memory},
	{CONTROL ".Watch", false, watch},
	{CONTROL ".ListDoorbells", false, list_doorbells},
	{CONTROL ".Capture", false, capture},
};

static const struct method *find_method(const char *name)
{
	for (size_t i = 0; i < sizeof(methods_list) / sizeof(methods_list[0]); i++)
		if (strcmp(methods_list[i].name, name) == 0)
			return &methods_list[i];
	return NULL;
}

static void deny(struct request *request, const struct method *method)
{
	unsigned suppressed;
	struct methods *methods = request->methods;

	refuse(request, CONTROL ".NotPermitted",
		"only root and the user that the server runs as may do this");
	if (!log_allow_user(&methods->denials, request->caller->uid, clock_ms(), &suppressed))
		return;
	if (suppressed > 0)
		log_warning(methods->log, "control: (%u such lines held back)", suppressed);
	log_warning(methods->log, "control: uid %u (pid %d) may not call %s", request->caller->uid,
		request->caller->pid, method->name);
}

static const struct standard standard = {
	.product = "ivshmem-server",
	.interface = CONTROL,
	.description = control_interface,
};

void methods_call(struct methods *methods, struct caller *caller, const struct varlink_call *call,
	struct answer *answer)
{
	struct request request = {
		.methods = methods,
		.caller = caller,
		.more = call->more,
		.parameters = {.object = call->parameters},
		.answer = answer,
	};
	const struct method *method = find_method(call->method);

	*answer = (struct answer){.descriptor = -1};
	if (!method)
		answer->message = standard_call(&standard, call);
	else if (call->upgrade)
		fail_parameter(&request, "upgrade");
	else if (method->privileged && !caller->may_change)
		deny(&request, method);
	else
		method->run(&request);
}
