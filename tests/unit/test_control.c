/* SPDX-License-Identifier: MIT */
/*
 * The control socket with its loop. The tests are clients of it and turn the loop themselves, so
 * that what happens in one turn can be looked at.
 */
#include "../../tools/server/control/capture.h"
#include "../../tools/server/control/control.h"

#include "../../tools/daemon/watch.h"
#include "../../tools/varlink/varlink.h"

#include "../common/fdcheck.h"
#include "../common/hubbox.h"

#include "base/loglimits.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CLIENTS 4
#define READ_GROUP  54321
#define MANY_GROUPS 500
#define OTHER_UID   4711

static struct hub hub;
static uv_loop_t loop;
static struct control *control;
static int listener;
static struct sockaddr_un address;
static socklen_t address_size;

static int reload(void *data, char *reason)
{
	(void)data;
	(void)reason;
	return 0;
}

/* On an abstract address that the kernel chooses. */
static void listen_somewhere(void)
{
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	address_size = sizeof(address);
	listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(listener, (const struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(listen(listener, 64), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &address_size), 0);
}

static int set_up(void **state)
{
	const struct control_config config = {
		.read_group = READ_GROUP, .max_clients = MAX_CLIENTS, .reload = reload};
	fdcheck_setup(state);
	hubbox_init(&hub);
	listen_somewhere();
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(control_start(&control, &config, listener, &hub, &loop, &hubbox_log), 0);
	return 0;
}

static int tear_down(void **state)
{
	control_stop(control);
	assert_null(hub.watcher);
	watch_end(&loop);
	close(listener);
	hubbox_fini(&hub);
	return fdcheck_teardown(state);
}

/* ---- clients ---- */

/* Who the kernel says has connected; it takes root to be somebody else. */
static struct pretended {
	bool on;
	uid_t uid;
	gid_t group;
} pretended;

int __real_getsockopt(int sock, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int sock, int level, int name, void *value, socklen_t *size);
int __wrap_getsockopt(int sock, int level, int name, void *value, socklen_t *size)
{
	if (!pretended.on || level != SOL_SOCKET)
		return __real_getsockopt(sock, level, name, value, size);
	if (name == SO_PEERCRED) {
		struct ucred cred = {.pid = 9, .uid = pretended.uid, .gid = 65534};
		memcpy(value, &cred, sizeof(cred));
	} else if (name == SO_PEERGROUPS && *size < MANY_GROUPS * sizeof(gid_t)) {
		*size = MANY_GROUPS * sizeof(gid_t);
		errno = ERANGE;
		return -1;
	} else if (name == SO_PEERGROUPS) {
		memset(value, 0, MANY_GROUPS * sizeof(gid_t));
		((gid_t *)value)[MANY_GROUPS - 1] = pretended.group;
	}
	return 0;
}

static int client(void)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(connect(sock, (const struct sockaddr *)&address, address_size), 0);
	return sock;
}

/* So that all that can be done is done. */
static void turn_loop(void)
{
	for (int i = 0; i < 20; i++)
		while (uv_run(&loop, UV_RUN_NOWAIT) && uv_backend_timeout(&loop) == 0)
			;
}

static void say(int sock, const char *text)
{
	assert_int_equal(send(sock, text, strlen(text) + 1, MSG_NOSIGNAL), strlen(text) + 1);
}

/* What comes next, as text; "" at the end, "-" if nothing does. */
static const char *hear(int sock)
{
	static char text[65536];
	size_t n = 0;
	turn_loop();
	for (;;) {
		ssize_t result = recv(sock, text + n, 1, 0);
		if (result < 0 && errno == EAGAIN && n == 0)
			return "-";
		if (result <= 0 || text[n] == '\0')
			break;
		n++;
	}
	text[n] = '\0';
	return text;
}

static void expect(int sock, const char *part)
{
	const char *text = hear(sock);
	if (!strstr(text, part) || text[0] == '\0')
		fail_msg("'%s' is not in '%s'", part, text);
}

#define GET_INFO     "{\"method\":\"org.varlink.service.GetInfo\"}"
#define LIST_REGIONS "{\"method\":\"ivshmem.Control.ListRegions\"}"
#define LIST_PEERS   "{\"method\":\"ivshmem.Control.ListPeers\",\"more\":true}"
#define WATCH        "{\"method\":\"ivshmem.Control.Watch\",\"more\":true}"
#define WATCH_A                                                                                    \
	"{\"method\":\"ivshmem.Control.Watch\",\"more\":true,\"parameters\":{\"region\":\"a\"}}"

/* ---- tests ---- */

static void test_calls_are_answered_in_order(void **state)
{
	(void)state;
	int sock = client();
	say(sock, GET_INFO);
	say(sock, LIST_REGIONS);
	say(sock, "{\"method\":\"a.B\"}");
	expect(sock, "ivshmem-server");
	expect(sock, "\"regions\":[]");
	expect(sock, "InterfaceNotFound");
	assert_string_equal(hear(sock), "-");
	close(sock);
}

static void test_what_needs_no_answer_gets_none(void **state)
{
	(void)state;
	int sock = client();
	say(sock, "{\"method\":\"ivshmem.Control.Reload\",\"oneway\":true}");
	say(sock, "{\"method\":\"ivshmem.Control.Nonsense\",\"oneway\":true}");
	say(sock, GET_INFO);
	expect(sock, "ivshmem-server");
	assert_non_null(strstr(hubbox_logged, "read again"));
	close(sock);
}

static void test_who_ends_his_side_is_still_answered(void **state)
{
	(void)state;
	int sock = client();
	say(sock, GET_INFO);
	say(sock, GET_INFO);
	send(sock, "{\"meth", 7, 0);
	shutdown(sock, SHUT_WR);
	expect(sock, "ivshmem-server");
	expect(sock, "ivshmem-server");
	assert_string_equal(hear(sock), "");
	close(sock);
}

static void test_what_is_no_call_ends_the_connection(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "hello", "[]", "{\"method\":1}", "{} {}"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int sock = client();
		say(sock, GET_INFO);
		say(sock, bad[i]);
		expect(sock, "ivshmem-server");
		assert_string_equal(hear(sock), "");
		close(sock);
	}
}

static void test_what_does_not_end_is_ended(void **state)
{
	(void)state;
	static char flood[4096];
	int sock = client();
	memset(flood, ' ', sizeof(flood));
	size_t sent = 0;
	ssize_t n;
	while (turn_loop(), (n = send(sock, flood, sizeof(flood), MSG_NOSIGNAL)) > 0)
		sent += (size_t)n;
	assert_int_equal(errno, EPIPE);
	/* It was not taken, let alone kept: what was sent is what one turn had not refused yet. */
	assert_true(sent <= 4 * VARLINK_MAX_CALL);
	close(sock);
}

/* Who sends calls and reads nothing has one answer made for him and is read no further. */
static void test_calls_sent_ahead_wait(void **state)
{
	(void)state;
	int sock = client(), other = client();
	const char *call = GET_INFO;
	unsigned sent = 0;

	for (unsigned quiet = 0; quiet < 100; quiet++) {
		while (send(sock, call, strlen(call) + 1, MSG_NOSIGNAL) ==
			(ssize_t)strlen(call) + 1) {
			sent++;
			quiet = 0;
		}
		assert_int_equal(errno, EAGAIN);
		turn_loop();
	}
	/* A socket has room for some hundred kilobytes each way, and that is all. */
	assert_true(sent > 100 && sent < 100000);
	/* The server sleeps, and others are served. */
	assert_int_equal(uv_backend_timeout(&loop), -1);
	say(other, GET_INFO);
	expect(other, "ivshmem-server");

	/* Nothing is lost: as many answers as calls. */
	for (unsigned i = 0; i < sent; i++)
		expect(sock, "ivshmem-server");
	assert_string_equal(hear(sock), "-");
	close(sock);
	close(other);
}

static void test_a_long_list_waits_for_its_reader(void **state)
{
	(void)state;
	struct server_peer_info *peers = hubbox_peers(2000);
	struct hubbox_region *region = hubbox_add(&hub, "a");
	region->peers = peers;
	region->n_peers = 2000;

	int sock = client(), small = 1, parts = 1;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	say(sock, LIST_PEERS);
	say(sock, GET_INFO);
	turn_loop();
	assert_int_equal(uv_backend_timeout(&loop), -1);
	while (strstr(hear(sock), "\"continues\":true"))
		parts++;
	assert_int_equal(parts, 63);
	expect(sock, "ivshmem-server");
	close(sock);
	free(peers);
}

static void test_watchers_see_what_happens(void **state)
{
	(void)state;
	static const struct identity identity = {.uid = 7, .gid = 8, .pid = 9};
	const struct server_news joined = {
		.event = SERVER_JOINED, .serial = 5, .id = 3, .identity = &identity, .reason = ""};
	const struct server_news refused = {
		.event = SERVER_REFUSED, .id = -1, .identity = &identity, .reason = "no rule"};
	hubbox_add(&hub, "a");

	int all = client(), one = client();
	say(all, WATCH);
	say(one, WATCH_A);
	expect(all, "\"watching\"");
	expect(one, "\"watching\"");
	hubbox_tell(&hub, "b", "joined", &joined);
	expect(all,
		"{\"parameters\":{\"event\":\"joined\",\"time\":1234567890123,\"region\":\"b\","
		"\"id\":3,\"serial\":5,\"identity\":{\"uid\":7,\"gid\":8,\"pid\":9}},"
		"\"continues\":true}");
	assert_string_equal(hear(one), "-");
	hubbox_tell(&hub, "a", "refused", &refused);
	hubbox_tell(&hub, "a", "draining", NULL);
	expect(all, "\"no rule\"");
	expect(one, "\"reason\":\"no rule\"");
	expect(one, "\"draining\"");
	close(all);
	close(one);
	turn_loop();
	hubbox_tell(&hub, "a", "draining", NULL); /* nobody is left to hear it */
	turn_loop();
}

static void test_a_watch_needs_more_and_a_region(void **state)
{
	(void)state;
	int sock = client();
	say(sock, "{\"method\":\"ivshmem.Control.Watch\"}");
	say(sock, WATCH_A);
	say(sock, GET_INFO);
	expect(sock, "ExpectedMore");
	expect(sock, "NoSuchRegion");
	expect(sock, "ivshmem-server");
	close(sock);
}

static json_int_t lost_in(const char *text)
{
	json_t *message = json_loads(text, 0, NULL);
	json_int_t lost =
		json_integer_value(json_object_get(json_object_get(message, "parameters"), "lost"));
	json_decref(message);
	return lost;
}

static void test_a_watcher_that_does_not_read_is_told_what_it_missed(void **state)
{
	(void)state;
	enum { EVENTS = 20000 };
	hubbox_add(&hub, "a");
	int sock = client();
	say(sock, WATCH);
	expect(sock, "watching");
	for (int i = 0; i < EVENTS; i++) {
		hubbox_tell(&hub, "a", "draining", NULL);
		uv_run(&loop, UV_RUN_NOWAIT);
	}
	turn_loop();
	assert_int_equal(uv_backend_timeout(&loop), -1);

	int seen = 0;
	const char *text;
	while (strstr(text = hear(sock), "draining"))
		seen++;
	assert_true(seen > 100 && seen < EVENTS);
	assert_int_equal(lost_in(text), EVENTS - seen);
	/* And is up to date again. */
	hubbox_tell(&hub, "a", "draining", NULL);
	expect(sock, "draining");
	assert_string_equal(hear(sock), "-");
	close(sock);
}

#define CAPTURE                                                                                    \
	"{\"method\":\"ivshmem.Control.Capture\",\"more\":true,"                                   \
	"\"parameters\":{\"region\":\"a\",\"doorbells\":true}}"

static const struct server_message a_message = {.kind = SERVER_SENT_CONNECT,
	.fd = SERVER_FD_DOORBELL,
	.serial = 5,
	.id = 3,
	.number = 7,
	.vector = 1};

static void test_a_capture_has_all_of_one_region(void **state)
{
	(void)state;
	static const struct identity identity = {.uid = 7, .gid = 8, .pid = 9};
	const struct server_news refused = {
		.event = SERVER_REFUSED, .id = -1, .identity = &identity, .reason = "no rule"};
	hubbox_add(&hub, "a");
	assert_null(hub.tap);

	int sock = client();
	say(sock, CAPTURE);
	expect(sock, "{\"parameters\":{\"events\":[]},\"continues\":true}");
	hub.tap(hub.tap_data, "a", &a_message);
	hub.tap(hub.tap_data, "b", &a_message);
	hubbox_tell(&hub, "b", "draining", NULL);
	hubbox_tell(&hub, "a", "refused", &refused);
	hubbox_ring(&hub, "a", 2);
	const char *text = hear(sock);
	json_t *message = json_loads(text, 0, NULL);
	json_t *events = json_object_get(json_object_get(message, "parameters"), "events");
	assert_int_equal(json_array_size(events), 3);
	assert_non_null(strstr(text,
		"\"region\":\"a\",\"id\":3,\"serial\":5,\"message\":\"connect\",\"number\":7,"
		"\"vector\":1,\"descriptor\":\"doorbell\"}"));
	assert_non_null(
		strstr(text, "\"region\":\"a\",\"uid\":7,\"pid\":9,\"reason\":\"no rule\"}"));
	assert_non_null(strstr(text, "\"event\":\"rung\""));
	json_decref(message);
	close(sock);
	turn_loop();
	assert_null(hub.tap); /* and costs nothing any more */
	assert_int_equal(hub.n_bells, 0);
}

static void test_a_capture_that_is_not_read_loses_and_says_so(void **state)
{
	(void)state;
	enum { EVENTS = 3 * CAPTURE_ROOM };
	hubbox_add(&hub, "a");
	int sock = client();
	say(sock, CAPTURE);
	expect(sock, "events");
	for (unsigned i = 0; i < EVENTS; i++) {
		hub.tap(hub.tap_data, "a", &a_message);
		if (i % 1000 == 0)
			turn_loop();
	}
	turn_loop();
	assert_int_equal(uv_backend_timeout(&loop), -1);

	size_t seen = 0;
	json_int_t lost = 0;
	while (lost == 0) {
		json_t *message = json_loads(hear(sock), 0, NULL), *event;
		json_t *events = json_object_get(json_object_get(message, "parameters"), "events");
		size_t i;
		assert_non_null(message);
		json_array_foreach (events, i, event) {
			lost += json_integer_value(json_object_get(event, "count"));
			seen += json_object_get(event, "message") != NULL;
		}
		json_decref(message);
	}
	assert_true(seen >= CAPTURE_ROOM);
	assert_int_equal(seen + (size_t)lost, EVENTS);
	/* And is up to date again. */
	hub.tap(hub.tap_data, "a", &a_message);
	expect(sock, "connect");
	assert_string_equal(hear(sock), "-");
	close(sock);
}

static void test_captures_have_a_limit_and_need_more(void **state)
{
	(void)state;
	hubbox_add(&hub, "a");
	int sock = client(), other = client();
	say(sock, "{\"method\":\"ivshmem.Control.Capture\"}");
	expect(sock, "ExpectedMore");
	say(sock,
		"{\"method\":\"ivshmem.Control.Capture\",\"more\":true,"
		"\"parameters\":{\"region\":\"b\"}}");
	expect(sock, "NoSuchRegion");
	assert_null(hub.tap);
	hub.n_bells = BELLS_SESSIONS;
	say(other, CAPTURE);
	expect(other, "TooManyClients");
	hub.n_bells = 0;
	/* Nobody would hear of it. */
	say(other, "{\"method\":\"ivshmem.Control.Capture\",\"more\":true,\"oneway\":true}");
	say(other, GET_INFO);
	expect(other, "ivshmem-server");
	assert_null(hub.tap);
	close(sock);
	close(other);
}

static void test_a_watch_ends_with_its_client(void **state)
{
	(void)state;
	/* Also if calls are behind it that nobody will read. */
	for (int i = 0; i < 2; i++) {
		int sock = client();
		int before = fdcheck_count();
		say(sock, WATCH);
		say(sock, GET_INFO);
		expect(sock, "watching");
		assert_int_equal(fdcheck_count(), before + 1);
		if (i == 0)
			shutdown(sock, SHUT_WR);
		else
			close(sock);
		turn_loop();
		assert_int_equal(uv_backend_timeout(&loop), -1);
		assert_int_equal(fdcheck_count(), before - i);
		if (i == 0)
			close(sock);
	}
}

static void test_one_client_too_many_is_told_so(void **state)
{
	(void)state;
	int socks[MAX_CLIENTS];
	for (int i = 0; i < MAX_CLIENTS; i++) {
		socks[i] = client();
		say(socks[i], GET_INFO);
		expect(socks[i], "ivshmem-server");
	}
	int sock = client();
	expect(sock, "ivshmem.Control.TooManyClients");
	assert_string_equal(hear(sock), "");
	close(sock);

	close(socks[0]);
	turn_loop();
	socks[0] = client();
	say(socks[0], GET_INFO);
	expect(socks[0], "ivshmem-server");
	for (int i = 0; i < MAX_CLIENTS; i++)
		close(socks[i]);
}

/* A client of another user, who is in that group. */
static int client_of(uid_t uid, gid_t group)
{
	pretended = (struct pretended){.on = true, .uid = uid, .group = group};
	int sock = client();
	turn_loop();
	pretended.on = false;
	return sock;
}

static void test_others_are_turned_away(void **state)
{
	(void)state;
	for (int i = 0; i < 2 * LOG_LIMITS_BURST; i++) {
		int sock = client_of(OTHER_UID, 65534);
		expect(sock, "ivshmem.Control.NotPermitted");
		assert_string_equal(hear(sock), "");
		close(sock);
	}
	assert_non_null(strstr(hubbox_logged, "control: refused uid 4711 (pid "));
	unsigned lines = 0;
	for (const char *c = hubbox_logged; *c; c++)
		lines += *c == '\n';
	assert_in_range(lines, LOG_LIMITS_BURST, LOG_LIMITS_BURST + 3); /* not one for each */

	/* Another user's is among those that can be seen. */
	close(client_of(OTHER_UID + 1, 65534));
	assert_non_null(strstr(hubbox_logged, "control: refused uid 4712 (pid "));
	assert_non_null(strstr(hubbox_logged, " refusals held back)"));
}

static void test_the_group_may_read(void **state)
{
	(void)state;
	int sock = client_of(OTHER_UID, READ_GROUP);
	say(sock, LIST_REGIONS);
	expect(sock, "\"regions\":[]");
	say(sock, "{\"method\":\"ivshmem.Control.Reload\"}");
	expect(sock, "ivshmem.Control.NotPermitted");
	close(sock);
}

static void test_readers_leave_room_for_root(void **state)
{
	(void)state;
	int readers[MAX_CLIENTS / 2];
	for (int i = 0; i < MAX_CLIENTS / 2; i++)
		readers[i] = client_of(OTHER_UID, READ_GROUP);
	int sock = client_of(OTHER_UID, READ_GROUP);
	expect(sock, "ivshmem.Control.TooManyClients");
	close(sock);
	sock = client();
	say(sock, GET_INFO);
	expect(sock, "ivshmem-server");
	close(sock);
	for (int i = 0; i < MAX_CLIENTS / 2; i++)
		close(readers[i]);
}

/* Whatever they all send, between two looks at the sockets one client has one turn. */
static void test_turns_are_taken_one_at_a_time(void **state)
{
	(void)state;
	int socks[MAX_CLIENTS];
	for (int i = 0; i < MAX_CLIENTS; i++) {
		socks[i] = client();
		for (int call = 0; call < 20; call++)
			say(socks[i], GET_INFO);
	}
	uv_run(&loop, UV_RUN_NOWAIT); /* accepts */
	uv_run(&loop, UV_RUN_NOWAIT); /* sees that they can be read */
	unsigned turns = 0;
	while (uv_backend_timeout(&loop) == 0) {
		uv_run(&loop, UV_RUN_NOWAIT);
		turns++;
	}
	/* Each call took two: one to be handled, one to be answered. */
	assert_in_range(turns, 2 * 20 * MAX_CLIENTS, 3 * 20 * MAX_CLIENTS);
	for (int i = 0; i < MAX_CLIENTS; i++) {
		for (int call = 0; call < 20; call++)
			expect(socks[i], "ivshmem-server");
		close(socks[i]);
	}
}

/* libuv opens what its signals need with the first loop, once for the process. */
static int open_first_loop(void **state)
{
	(void)state;
	return uv_loop_init(&loop) < 0 || uv_loop_close(&loop) < 0 ? -1 : 0;
}

#define CONTROL_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONTROL_TEST(test_calls_are_answered_in_order),
		CONTROL_TEST(test_what_needs_no_answer_gets_none),
		CONTROL_TEST(test_who_ends_his_side_is_still_answered),
		CONTROL_TEST(test_what_is_no_call_ends_the_connection),
		CONTROL_TEST(test_what_does_not_end_is_ended),
		CONTROL_TEST(test_calls_sent_ahead_wait),
		CONTROL_TEST(test_a_long_list_waits_for_its_reader),
		CONTROL_TEST(test_watchers_see_what_happens),
		CONTROL_TEST(test_a_watch_needs_more_and_a_region),
		CONTROL_TEST(test_a_watcher_that_does_not_read_is_told_what_it_missed),
		CONTROL_TEST(test_a_capture_has_all_of_one_region),
		CONTROL_TEST(test_a_capture_that_is_not_read_loses_and_says_so),
		CONTROL_TEST(test_captures_have_a_limit_and_need_more),
		CONTROL_TEST(test_a_watch_ends_with_its_client),
		CONTROL_TEST(test_one_client_too_many_is_told_so),
		CONTROL_TEST(test_others_are_turned_away),
		CONTROL_TEST(test_the_group_may_read),
		CONTROL_TEST(test_readers_leave_room_for_root),
		CONTROL_TEST(test_turns_are_taken_one_at_a_time),
	};
	return cmocka_run_group_tests(tests, open_first_loop, NULL);
}
