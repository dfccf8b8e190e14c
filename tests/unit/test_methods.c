/* SPDX-License-Identifier: MIT */
#include "../../tools/server/control/methods.h"

#include "../common/fdcheck.h"
#include "../common/hubbox.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- a server without sockets ---- */

static struct hub hub;
static char reload_reason[64];
static int reload_result;
static struct caller root = {.uid = 0, .pid = 42, .may_change = true};
static struct caller reader = {.uid = 1000, .pid = 43};

static int reload(void *data, char *reason)
{
	(void)data;
	strcpy(reason, reload_reason);
	return reload_result;
}

static const struct control_config config = {.reload = reload};
static struct methods methods;

static int set_up(void **state)
{
	hubbox_init(&hub);
	methods = (struct methods){.hub = &hub, .config = &config, .log = &hubbox_log};
	log_limits_init(&methods.denials);
	return fdcheck_setup(state);
}

static int tear_down(void **state)
{
	hubbox_fini(&hub);
	return fdcheck_teardown(state);
}

/* `parameters` is JSON with ' for ". The message is the caller's. */
static json_t *call_as(struct caller *caller, const char *method, const char *parameters, bool more,
	struct listing **listing)
{
	char text[1024];
	snprintf(text, sizeof(text), "{\"parameters\":%s}", parameters);
	for (char *c = text; *c; c++)
		if (*c == '\'')
			*c = '"';
	json_t *message = json_loads(text, 0, NULL);
	assert_non_null(message);
	const struct varlink_call call = {
		.method = method,
		.parameters = json_object_get(message, "parameters"),
		.more = more,
	};
	struct answer answer;
	methods_call(&methods, caller, &call, &answer);
	json_decref(message);
	assert_non_null(answer.message);
	*listing = answer.listing;
	return answer.message;
}

/* One answer, and no more. */
static json_t *call(struct caller *caller, const char *method, const char *parameters)
{
	struct listing *listing;
	json_t *message = call_as(caller, method, parameters, false, &listing);
	assert_null(listing);
	assert_null(json_object_get(message, "continues"));
	return message;
}

static void expect_error(json_t *message, const char *error, const char *name, const char *value)
{
	const char *given = json_string_value(json_object_get(message, "error"));
	assert_non_null(given);
	assert_string_equal(given, error);
	if (name) {
		json_t *parameters = json_object_get(message, "parameters");
		assert_string_equal(json_string_value(json_object_get(parameters, name)), value);
	}
	json_decref(message);
}

static json_t *expect_reply(json_t *message)
{
	assert_null(json_object_get(message, "error"));
	json_t *parameters = json_incref(json_object_get(message, "parameters"));
	json_decref(message);
	return parameters;
}

static void expect_done(json_t *message)
{
	json_decref(expect_reply(message));
}

#define CONTROL "ivshmem.Control."
#define SERVICE "org.varlink.service."

/* ---- tests ---- */

static void test_the_service_tells_what_it_is(void **state)
{
	(void)state;
	json_t *reply = expect_reply(call(&reader, SERVICE "GetInfo", "{}"));
	assert_string_equal(json_string_value(json_object_get(reply, "version")), IVSHMEM_VERSION);
	assert_int_equal(json_array_size(json_object_get(reply, "interfaces")), 2);
	json_decref(reply);

	reply = expect_reply(call(
		&reader, SERVICE "GetInterfaceDescription", "{'interface':'ivshmem.Control'}"));
	const char *text = json_string_value(json_object_get(reply, "description"));
	assert_non_null(strstr(text, "\ninterface ivshmem.Control\n"));
	assert_non_null(strstr(text, "\"more\"")); /* quotes have survived */
	json_decref(reply);
	expect_error(call(&reader, SERVICE "GetInterfaceDescription", "{'interface':'a.b'}"),
		SERVICE "InterfaceNotFound", "interface", "a.b");
}

static void test_what_there_is_not(void **state)
{
	(void)state;
	expect_error(call(&root, CONTROL "Explode", "{}"), SERVICE "MethodNotFound", "method",
		CONTROL "Explode");
	expect_error(call(&root, "a.b.C", "{}"), SERVICE "InterfaceNotFound", "interface", "a.b");
	expect_error(call(&root, "nonsense", "{}"), SERVICE "InterfaceNotFound", "interface",
		"nonsense");
	expect_error(call(&root, CONTROL "GetRegion", "{'name':'x'}"), CONTROL "NoSuchRegion",
		"name", "x");
	expect_error(call(&root, CONTROL "GetRegion", "{}"), SERVICE "InvalidParameter",
		"parameter", "name");
	expect_error(call(&root, CONTROL "GetRegion", "{'name':1}"), SERVICE "InvalidParameter",
		"parameter", "name");
	expect_error(call(&root, CONTROL "GetRegion", "{'name':'x\\n'}"),
		SERVICE "InvalidParameter", "parameter", "name");
	expect_error(call(&root, CONTROL "ListRegions", "{'extra':1}"), SERVICE "InvalidParameter",
		"parameter", "extra");
}

static void test_a_reader_sees_and_changes_nothing(void **state)
{
	(void)state;
	static const char *const changes[][2] = {
		{CONTROL "CreateRegion", "{'spec':{'name':'b'}}"},
		{CONTROL "RemoveRegion", "{'name':'a'}"},
		{CONTROL "DrainRegion", "{'name':'a','on':true}"},
		{CONTROL "EvictPeer", "{'region':'a','id':0}"},
		{CONTROL "Reload", "{}"},
		{CONTROL "OpenMemory", "{'name':'a'}"},
	};
	struct hubbox_region *region = hubbox_add(&hub, "a");
	region->peers = hubbox_peers(1);
	region->n_peers = 1;

	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		for (int times = 0; times < LOG_LIMITS_BURST; times++)
			expect_error(call(&reader, changes[i][0], changes[i][1]),
				CONTROL "NotPermitted", NULL, NULL);
	assert_int_equal(hub.n, 1);
	assert_false(region->draining);
	assert_int_equal(region->n_peers, 1);
	/* Each is worth a line, but not many of them. */
	assert_non_null(
		strstr(hubbox_logged, "uid 1000 (pid 43) may not call " CONTROL "CreateRegion"));
	assert_null(strstr(hubbox_logged, "Reload"));

	expect_done(call(&reader, CONTROL "ListRegions", "{}"));
	expect_done(call(&reader, CONTROL "GetRegion", "{'name':'a'}"));
	expect_done(call(&reader, CONTROL "ListPeers", "{'region':'a'}"));
	free(region->peers);
}

static void test_a_region_as_it_is_shown(void **state)
{
	(void)state;
	hubbox_add(&hub, "frames")->draining = true;
	json_t *reply = expect_reply(call(&reader, CONTROL "GetRegion", "{'name':'frames'}"));
	json_t *region = json_object_get(reply, "region");
	const char *name, *socket, *kind;
	int vectors, joins, draining, sealed;
	assert_int_equal(
		json_unpack(region, "{s:s, s:s, s:i, s:b, s:{s:s, s:b}, s:{s:i}}", "name", &name,
			"socket", &socket, "vectors", &vectors, "draining", &draining, "memory",
			"kind", &kind, "sealed", &sealed, "counters", "joins", &joins),
		0);
	assert_string_equal(name, "frames");
	assert_string_equal(socket, "/x/frames.sock");
	assert_string_equal(kind, "memfd");
	assert_int_equal(vectors, 2);
	assert_int_equal(joins, 7);
	assert_true(draining && sealed);
	json_decref(reply);
}

/* The parts of a listing together; `reply` is the first of them. */
static unsigned count(json_t *reply, struct listing *listing, const char *name, json_int_t *serials)
{
	unsigned n = 0, parts = 0;
	bool more = listing;
	json_t *part = expect_reply(reply);
	for (;;) {
		json_t *list = json_object_get(part, name), *entry;
		size_t i;
		assert_true(json_array_size(list) <= LISTING_PART);
		json_array_foreach (list, i, entry) {
			if (serials)
				serials[n] = json_integer_value(json_object_get(entry, "serial"));
			n++;
		}
		json_decref(part);
		if (!more)
			break;
		part = listing_next(listing, &more);
		assert_true(++parts < 1000);
	}
	listing_destroy(listing);
	return n;
}

static void test_long_lists_come_in_parts(void **state)
{
	(void)state;
	enum { PEERS = 3 * LISTING_PART };
	struct listing *listing;
	json_int_t serials[PEERS + 5];
	struct server_peer_info *many = hubbox_peers(PEERS), *few = hubbox_peers(5);
	hubbox_add(&hub, "a")->peers = few;
	hub.regions[0].n_peers = 5;
	for (int i = 0; i < LISTING_PART; i++) {
		char name[16];
		snprintf(name, sizeof(name), "empty%d", i);
		hubbox_add(&hub, name);
	}
	struct hubbox_region *last = hubbox_add(&hub, "z");
	last->peers = many;
	last->n_peers = PEERS;

	json_t *reply = call_as(&reader, CONTROL "ListRegions", "{}", true, &listing);
	assert_int_equal(count(reply, listing, "regions", NULL), LISTING_PART + 2);
	reply = call_as(&reader, CONTROL "ListPeers", "{}", true, &listing);
	assert_int_equal(count(reply, listing, "peers", serials), PEERS + 5);
	for (int i = 0; i < PEERS; i++)
		assert_int_equal(serials[5 + i], i + 1);
	reply = call_as(&reader, CONTROL "ListPeers", "{'region':'a'}", true, &listing);
	assert_int_equal(count(reply, listing, "peers", serials), 5);

	/* Who takes one answer only is not given half of it. */
	expect_error(
		call(&reader, CONTROL "ListRegions", "{}"), SERVICE "ExpectedMore", NULL, NULL);
	expect_error(call(&reader, CONTROL "ListPeers", "{'region':'z'}"), SERVICE "ExpectedMore",
		NULL, NULL);
	expect_done(call(&reader, CONTROL "ListPeers", "{'region':'a'}"));
	free(many);
	free(few);
}

static void test_a_list_outlives_what_is_in_it(void **state)
{
	(void)state;
	enum { PEERS = 2 * LISTING_PART };
	struct listing *listing;
	struct server_peer_info *peers = hubbox_peers(PEERS);
	struct hubbox_region *region = hubbox_add(&hub, "a");
	region->peers = peers;
	region->n_peers = PEERS;
	hubbox_add(&hub, "b");

	/* The first half leaves while it is listed: the others are all there. */
	json_t *first = call_as(&reader, CONTROL "ListPeers", "{}", true, &listing);
	region->peers += LISTING_PART;
	region->n_peers -= LISTING_PART;
	assert_int_equal(count(first, listing, "peers", NULL), PEERS);

	/* Or the region ends. */
	first = call_as(&reader, CONTROL "ListPeers", "{}", true, &listing);
	json_decref(first);
	assert_int_equal(hub_remove(&hub, hub_find(&hub, "a"), true), 0);
	bool more;
	json_t *rest = listing_next(listing, &more);
	assert_false(more);
	assert_int_equal(json_array_size(json_object_get(rest, "peers")), 0);
	json_decref(rest);
	listing_destroy(listing);
	free(peers);
}

/* Somebody who is not root. */
static uid_t owner(void)
{
	return geteuid() == 0 ? 500 : geteuid();
}

/* What is shown of a peer with this descriptor and this user in a memory of this mode. */
static void expect_protection(
	bool read_only, uid_t uid, mode_t mode, bool protected_, const char *why)
{
	struct identity identity = {.uid = uid, .gid = 1000};
	struct server_peer_info *peer = hubbox_peers(1);
	struct hubbox_region *region = hubbox_add(&hub, "a");
	peer->identity = &identity;
	peer->read_only = read_only;
	region->peers = peer;
	region->n_peers = 1;
	fchmod(region->memory.fd, mode);
	assert_int_equal(fchown(region->memory.fd, owner(), (gid_t)-1), 0);

	json_t *reply = expect_reply(call(&reader, CONTROL "ListPeers", "{}"));
	json_t *shown = json_array_get(json_object_get(reply, "peers"), 0);
	assert_int_equal(json_is_true(json_object_get(shown, "protected")), protected_);
	const char *text = json_string_value(json_object_get(shown, "protection"));
	if (!strstr(text, why))
		fail_msg("'%s' is not in '%s'", why, text);
	json_decref(reply);
	hub_remove(&hub, hub_find(&hub, "a"), true);
	free(peer);
}

static void test_protection_is_stated_as_it_is(void **state)
{
	(void)state;
	expect_protection(
		false, owner() + 1, 0600, false, "none: its descriptor can be written to");
	expect_protection(true, owner() + 1, 0600, true, "does not let its user open it again");
	expect_protection(true, owner() + 1, 0644, true, "does not let its user open it again");
	expect_protection(true, owner() + 1, 0660, false, "mode");
	expect_protection(true, owner() + 1, 0606, false, "mode");
	expect_protection(true, owner(), 0600, false, "owner");
	expect_protection(true, 0, 0600, false, "root");
	expect_protection(true, (uid_t)-1, 0600, false, "unknown");
}

static void test_doorbells_are_listed_once_they_were_seen(void **state)
{
	(void)state;
	hubbox_add(&hub, "a");
	struct caller caller = reader;
	struct listing *listing;
	bool more;

	json_t *reply = expect_reply(call(&caller, CONTROL "ListDoorbells", "{}"));
	assert_int_equal(json_array_size(json_object_get(reply, "doorbells")), 0);
	assert_int_equal(json_integer_value(json_object_get(reply, "unwatched")), 5);
	json_decref(reply);
	for (unsigned i = 0; i < 40; i++)
		hubbox_ring(&hub, "a", 2 * i);
	hubbox_ring(&hub, "a", 0);
	expect_error(
		call(&caller, CONTROL "ListDoorbells", "{}"), SERVICE "ExpectedMore", NULL, NULL);
	reply = expect_reply(call_as(&caller, CONTROL "ListDoorbells", "{}", true, &listing));
	json_t *list = json_object_get(reply, "doorbells");
	assert_int_equal(json_array_size(list), LISTING_PART);
	assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "seen")), 2);
	assert_int_equal(
		json_integer_value(json_object_get(json_array_get(list, 31), "vector")), 62);
	json_decref(reply);
	reply = listing_next(listing, &more);
	assert_false(more);
	assert_int_equal(json_array_size(json_object_get(reply, "doorbells")), 40 - LISTING_PART);
	json_decref(reply);
	listing_destroy(listing);
	bells_stop(caller.bells);
}

static void test_who_asks_for_other_doorbells_begins_anew(void **state)
{
	(void)state;
	hubbox_add(&hub, "a");
	struct caller caller = reader, other = reader;

	expect_done(call(&caller, CONTROL "ListDoorbells", "{}"));
	hubbox_ring(&hub, "a", 0);
	expect_done(call(&caller, CONTROL "ListDoorbells", "{'region':'a'}"));
	assert_string_equal(bells_region(caller.bells), "a");
	assert_int_equal(hub.n_bells, 1);
	json_t *reply = expect_reply(call(&caller, CONTROL "ListDoorbells", "{'region':'a'}"));
	assert_int_equal(json_array_size(json_object_get(reply, "doorbells")), 0);
	json_decref(reply);
	expect_error(call(&other, CONTROL "ListDoorbells", "{'region':'b'}"),
		CONTROL "NoSuchRegion", "name", "b");
	hub.n_bells = BELLS_SESSIONS;
	expect_error(
		call(&other, CONTROL "ListDoorbells", "{}"), CONTROL "TooManyClients", NULL, NULL);
	assert_null(other.bells);
	bells_stop(caller.bells);
}

static void test_create(void **state)
{
	(void)state;
	json_t *reply = expect_reply(call(&root, CONTROL "CreateRegion",
		"{'spec':{'name':'f','size':65536,'vectors':3,'socket_mode':'0660',"
		"'max_peers':9,'uuid':'00112233-4455-6677-8899-aabbccddeeff','prealloc':false,"
		"'allow':[{'access':'read_only','uid':7,'id':4,'ring':'0-1'}]}}"));
	assert_string_equal(
		json_string_value(json_object_get(json_object_get(reply, "region"), "socket")),
		"/run/ivshmem/f.sock");
	json_decref(reply);
	const struct region_spec *spec = &hub.regions[0].spec;
	assert_int_equal(spec->memory.size, 65536);
	assert_true(spec->memory.no_prealloc);
	assert_int_equal(spec->server.vectors, 3);
	assert_int_equal(spec->server.max_peers, 9);
	assert_true(spec->max_peers_given);
	assert_int_equal(spec->socket_mode, 0660);
	assert_int_equal(spec->uuid[1], 0x11);
	assert_int_equal(spec->policy.n, 1);
	assert_false(spec->from_file);
	assert_string_equal(hubbox_logged,
		"control: uid 0 (pid 42) has created region f on /run/ivshmem/f.sock\n");

	/* No rules are not the same as none given. */
	expect_done(call(&root, CONTROL "CreateRegion", "{'spec':{'name':'g','allow':[]}}"));
	assert_int_equal(hub.regions[1].spec.policy.n, 0);
	expect_done(call(&root, CONTROL "CreateRegion", "{'spec':{'name':'h'}}"));
	assert_int_equal(hub.regions[2].spec.policy.n, 2);
}

static void test_create_takes_nothing_that_is_wrong(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
		{"{'name':'f','size':0}", "size"},
		{"{'name':'f','size':-1}", "size"},
		{"{'name':'f','size':'1M'}", "size"},
		{"{'name':'f','vectors':2049}", "vectors"},
		{"{'name':'f','max_peers':0}", "max_peers"},
		{"{'name':'f','socket_mode':'0888'}", "socket_mode"},
		{"{'name':'f','socket_mode':'07777'}", "socket_mode"},
		{"{'name':'f','socket':'/tmp/a\\nb'}", "socket"},
		{"{'name':'f','uuid':'x'}", "uuid"},
		{"{'name':'f','header':1}", "header"},
		{"{'name':'f','backing':'disk'}", "backing"},
		{"{'name':'f','backing':'shm'}", "backing_name"},
		{"{'name':'f','backing_name':'x'}", "backing_name"},
		{"{'name':'F'}", "name"},
		{"{'name':'../x'}", "name"},
		{"{'size':4096}", "name"},
		{"{'name':'f','speed':1}", "speed"},
		{"{'name':'f','allow':{}}", "allow"},
		{"{'name':'f','allow':[1]}", "allow"},
		{"{'name':'f','allow':[{}]}", "allow"},
		{"{'name':'f','allow':[{'access':'all'}]}", "allow"},
		{"{'name':'f','allow':[{'access':'deny','uid':4294967295}]}", "allow"},
		{"{'name':'f','allow':[{'access':'deny','id':65536}]}", "allow"},
		{"{'name':'f','allow':[{'access':'deny','ring':'x'}]}", "allow"},
		{"{'name':'f','allow':[{'access':'deny','user':'alice'}]}", "allow"},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char parameters[256];
		snprintf(parameters, sizeof(parameters), "{'spec':%s}", wrong[i][0]);
		expect_error(call(&root, CONTROL "CreateRegion", parameters),
			SERVICE "InvalidParameter", "parameter", wrong[i][1]);
	}
	expect_error(call(&root, CONTROL "CreateRegion", "{'spec':[]}"), SERVICE "InvalidParameter",
		"parameter", "spec");
	assert_int_equal(hub.n, 0);
}

static void test_create_says_why_not(void **state)
{
	(void)state;
	static const struct {
		int result;
		const char *error;
	} cases[] = {
		{-EEXIST, CONTROL "RegionExists"},
		{-EINVAL, CONTROL "Impossible"},
		{-ENOMEM, CONTROL "NotEnough"},
		{-ENOSPC, CONTROL "NotEnough"},
		{-EMFILE, CONTROL "NotEnough"},
		{-EACCES, CONTROL "Failed"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		hub.add_result = cases[i].result;
		expect_error(call(&root, CONTROL "CreateRegion", "{'spec':{'name':'f'}}"),
			cases[i].error, "reason", "because");
	}
	assert_string_equal(hubbox_logged, "");
}

static void test_remove_drain_and_reload(void **state)
{
	(void)state;
	struct hubbox_region *region = hubbox_add(&hub, "a");
	region->peers = hubbox_peers(1);
	region->n_peers = 1;
	struct server_peer_info *peers = region->peers;

	expect_done(call(&root, CONTROL "DrainRegion", "{'name':'a','on':true}"));
	assert_true(region->draining);
	expect_done(call(&root, CONTROL "DrainRegion", "{'name':'a','on':false}"));
	assert_false(region->draining);
	expect_error(call(&root, CONTROL "DrainRegion", "{'name':'a'}"), SERVICE "InvalidParameter",
		"parameter", "on");

	expect_error(call(&root, CONTROL "RemoveRegion", "{'name':'a'}"), CONTROL "RegionBusy",
		"name", "a");
	expect_done(call(&root, CONTROL "RemoveRegion", "{'name':'a','force':true}"));
	assert_int_equal(hub.n, 0);

	reload_result = -EINVAL;
	strcpy(reload_reason, "line 3");
	expect_error(
		call(&root, CONTROL "Reload", "{}"), CONTROL "ReloadFailed", "reason", "line 3");
	reload_result = 0;
	expect_done(call(&root, CONTROL "Reload", "{}"));
	assert_string_equal(hubbox_logged,
		"control: uid 0 (pid 42) drains region a\n"
		"control: uid 0 (pid 42) lets peers again into region a\n"
		"control: uid 0 (pid 42) has removed region a with 1 peers\n"
		"control: uid 0 (pid 42) has had the configuration read again\n");
	free(peers);
}

static void test_evict(void **state)
{
	(void)state;
	struct hubbox_region *region = hubbox_add(&hub, "a");
	region->peers = hubbox_peers(3); /* IDs 0, 1, 2; serial numbers 1, 2, 3 */
	region->n_peers = 3;

	expect_done(call(&root, CONTROL "EvictPeer", "{'region':'a','id':1,'reason':'noise'}"));
	assert_int_equal(region->n_peers, 2);
	assert_int_equal(region->peers[1].serial, 3);
	expect_error(call(&root, CONTROL "EvictPeer", "{'region':'a','id':1}"),
		CONTROL "NoSuchPeer", "region", "a");
	expect_error(call(&root, CONTROL "EvictPeer", "{'region':'a','serial':2}"),
		CONTROL "NoSuchPeer", "region", "a");
	expect_done(call(&root, CONTROL "EvictPeer", "{'region':'a','serial':3}"));
	assert_int_equal(region->n_peers, 1);
	assert_non_null(strstr(hubbox_logged, "has evicted peer @2 from region a: noise\n"));

	expect_error(call(&root, CONTROL "EvictPeer", "{'region':'a'}"), SERVICE "InvalidParameter",
		"parameter", "serial");
	expect_error(call(&root, CONTROL "EvictPeer", "{'region':'a','id':0,'serial':1}"),
		SERVICE "InvalidParameter", "parameter", "id");
	expect_error(call(&root, CONTROL "EvictPeer", "{'region':'a','id':0,'reason':'a\\nb'}"),
		SERVICE "InvalidParameter", "parameter", "reason");
	assert_int_equal(region->n_peers, 1);
	free(region->peers);
}

#define METHOD_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		METHOD_TEST(test_the_service_tells_what_it_is),
		METHOD_TEST(test_what_there_is_not),
		METHOD_TEST(test_a_reader_sees_and_changes_nothing),
		METHOD_TEST(test_a_region_as_it_is_shown),
		METHOD_TEST(test_doorbells_are_listed_once_they_were_seen),
		METHOD_TEST(test_who_asks_for_other_doorbells_begins_anew),
		METHOD_TEST(test_long_lists_come_in_parts),
		METHOD_TEST(test_a_list_outlives_what_is_in_it),
		METHOD_TEST(test_protection_is_stated_as_it_is),
		METHOD_TEST(test_create),
		METHOD_TEST(test_create_takes_nothing_that_is_wrong),
		METHOD_TEST(test_create_says_why_not),
		METHOD_TEST(test_remove_drain_and_reload),
		METHOD_TEST(test_evict),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
