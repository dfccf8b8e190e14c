/* SPDX-License-Identifier: MIT */
/* A client and what its server says: handshake, order of messages, errors, loss.
 * docs/protocol.md, sections 2.2 to 2.7. What the application does: test_peer.c. */
#include "../common/fdcheck.h"
#include "../common/scripted.h"

#include <ivshmem/peer.h>

#include <poll.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define REGION_SIZE 65536
#define N_BELLS     16

static int region, bells[N_BELLS];
static char error[400];

/* What the listener saw, as text. */
static char history[8192];

#define note(...)                                                                                  \
	snprintf(history + strlen(history), sizeof(history) - strlen(history), __VA_ARGS__)

static void on_joined(struct ivshmem_peer *peer, void *data, unsigned id)
{
	assert_ptr_equal(data, history);
	assert_true(ivshmem_vectors(peer, id) >= 0);
	note("+%u ", id);
}

static void on_vector(struct ivshmem_peer *peer, void *data, unsigned id, unsigned vectors)
{
	(void)data;
	assert_true(ivshmem_vectors(peer, id) >= (int)vectors);
	note("%u:%u ", id, vectors);
}

static void on_left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)data;
	assert_int_equal(ivshmem_notify(peer, id, 0), -1);
	assert_int_equal(errno, ENOENT);
	note("-%u ", id);
}

static void on_lost(struct ivshmem_peer *peer, void *data, int why)
{
	(void)data;
	assert_false(ivshmem_connected(peer));
	note("lost(%d) ", why);
}

static const struct ivshmem_listener listener = {
	.peer_joined = on_joined,
	.vector_added = on_vector,
	.peer_left = on_left,
	.server_lost = on_lost,
};

static struct ivshmem_params params_default(void)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.listener = &listener;
	params.data = history;
	params.error_text = error;
	params.error_size = sizeof(error);
	return params;
}

static int set_up(void **state)
{
	fdcheck_setup(state);
	region = scripted_region(REGION_SIZE);
	for (unsigned i = 0; i < N_BELLS; i++)
		bells[i] = scripted_bell();
	history[0] = error[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	close(region);
	for (unsigned i = 0; i < N_BELLS; i++)
		close(bells[i]);
	return fdcheck_teardown(state);
}

/* Open a client on a server that says `lines`. */
static struct ivshmem_peer *open_on(struct scripted *server, const struct line *lines,
	size_t n_lines, const struct ivshmem_params *params)
{
	struct ivshmem_params ours = params_default();
	server->lines = lines;
	server->n_lines = n_lines;
	scripted_start(server);
	struct ivshmem_peer *peer = ivshmem_open(server->uri, params ? params : &ours);
	int saved = errno;
	scripted_join(server);
	errno = saved;
	return peer;
}

/* The usual opening: own ID 7, region. */
static struct ivshmem_peer *open_as_7(struct scripted *server, const struct ivshmem_params *params)
{
	const struct line lines[] = {{0, -1}, {7, -1}, {-1, region}};
	struct ivshmem_peer *peer = open_on(server, lines, 3, params);
	assert_non_null(peer);
	return peer;
}

/* Handle everything that is there; the same in whatever pieces it comes. */
static void settle(struct ivshmem_peer *peer)
{
	while (ivshmem_dispatch(peer, 0) > 0)
		;
}

#define assert_history(peer, expected)                                                             \
	do {                                                                                       \
		settle(peer);                                                                      \
		assert_string_equal(history, expected);                                            \
		history[0] = '\0';                                                                 \
	} while (0)

static void assert_memory_works(struct ivshmem_peer *peer)
{
	uint64_t size;
	unsigned char *memory = ivshmem_region(peer, &size), seen;
	assert_int_equal(size, REGION_SIZE);
	memory[REGION_SIZE - 1]++;
	assert_int_equal(pread(region, &seen, 1, REGION_SIZE - 1), 1);
	assert_int_equal(seen, memory[REGION_SIZE - 1]);
}

/* The bytes that QEMU's contrib server sends to its third client with -n 2, a fourth client that
 * comes and the first one that goes. */
static void test_contrib_transcript(void **state)
{
	static const uint8_t bytes[][8] = {
		{0, 0, 0, 0, 0, 0, 0, 0}, /* version */
		{2, 0, 0, 0, 0, 0, 0, 0}, /* own ID */
		{255, 255, 255, 255, 255, 255, 255, 255}, {0, 0, 0, 0, 0, 0, 0, 0},
		{0, 0, 0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0, 0, 0},
		{2, 0, 0, 0, 0, 0, 0, 0}, {2, 0, 0, 0, 0, 0, 0, 0},
		{3, 0, 0, 0, 0, 0, 0, 0},                           /* joins */
		{3, 0, 0, 0, 0, 0, 0, 0}, {0, 0, 0, 0, 0, 0, 0, 0}, /* leaves */
	};
	const int fds[] = {-1, -1, region, bells[0], bells[1], bells[2], bells[3], bells[4],
		bells[5], bells[6], bells[7], -1};
	struct scripted server = {0};
	(void)state;

	/* Nothing but those bytes: the thread only accepts, a child does the talking. */
	scripted_listen(&server, 8);
	pid_t child = fork();
	if (child == 0) {
		int conn = accept(server.listener, NULL, NULL);
		for (unsigned i = 0; i < 12; i++)
			scripted_raw(conn, bytes[i], 8, &fds[i], fds[i] >= 0);
		char end;
		_exit(read(conn, &end, 1) == 0 ? 0 : 1); /* a client never says anything */
	}
	struct ivshmem_params params = params_default();
	struct ivshmem_peer *peer = ivshmem_open(server.uri, &params);
	assert_non_null(peer);
	assert_int_equal(ivshmem_id(peer), 2);
	assert_memory_works(peer);
	while (!strstr(history, "-0"))
		assert_true(ivshmem_dispatch(peer, 5000) > 0);
	assert_history(peer, "+0 0:1 0:2 +1 1:1 1:2 2:1 2:2 +3 3:1 3:2 -0 ");

	unsigned ids[4] = {99, 99, 99, 99};
	assert_int_equal(ivshmem_peers(peer, ids, 4), 2);
	assert_int_equal(ids[0], 1);
	assert_int_equal(ids[1], 3);
	assert_int_equal(ids[2], 99);
	/* A vector's number is its place in the order: ring each and look where it comes out. */
	for (unsigned id = 1; id <= 3; id++) {
		for (unsigned vector = 0; vector < 2; vector++) {
			assert_int_equal(ivshmem_notify(peer, id, vector), 0);
			for (unsigned i = 0; i < 8; i++)
				assert_int_equal(scripted_rung(bells[i]), i == id * 2 + vector);
		}
		assert_int_equal(ivshmem_notify(peer, id, 2), -1);
		assert_int_equal(errno, EINVAL);
	}
	ivshmem_close(peer);
	int status;
	waitpid(child, &status, 0);
	assert_int_equal(status, 0);
	scripted_stop(&server);
}

static void test_pre_2_5(void **state)
{
	struct scripted server = {.pre_2_5 = true};
	struct ivshmem_params params = params_default();
	const struct line lines[] = {
		{3, -1}, {-1, region}, {0, bells[0]}, {3, bells[1]}, {0, -1}, {0, bells[2]}};
	(void)state;

	params.protocol = IVSHMEM_PROTOCOL_PRE_2_5;
	struct ivshmem_peer *peer = open_on(&server, lines, 6, &params);
	assert_non_null(peer);
	assert_int_equal(ivshmem_id(peer), 3);
	assert_memory_works(peer);
	assert_history(peer, "+0 0:1 3:1 -0 +0 0:1 ");
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* An opening that must fail with `expected` and a text that contains `hint`. */
static void refuse(struct scripted *server, const struct line *lines, size_t n_lines, int protocol,
	int expected, const char *hint)
{
	struct ivshmem_params params = params_default();
	params.protocol = protocol;
	/* Who says nothing is waited for; others have their time, even on a busy machine. */
	params.timeout_ms = expected == ETIMEDOUT ? 300 : 20000;
	struct ivshmem_peer *peer = open_on(server, lines, n_lines, &params);
	assert_null(peer);
	assert_int_equal(errno, expected);
	if (!strstr(error, hint))
		fail_msg("\"%s\" does not say \"%s\"", error, hint);
	assert_string_equal(history, "");
	scripted_stop(server);
}

#define assert_refused(expected, hint, ...)                                                        \
	do {                                                                                       \
		const struct line lines_[] = {__VA_ARGS__};                                        \
		refuse(&(struct scripted){0}, lines_, sizeof(lines_) / sizeof(lines_[0]),          \
			IVSHMEM_PROTOCOL_CURRENT, expected, hint);                                 \
	} while (0)

static void test_errors_in_handshake(void **state)
{
	(void)state;
	/* VERSION */
	assert_refused(EPROTO, "version 99999999", {99999999, -1});
	assert_refused(EPROTO, "version -9", {-9, -1});
	assert_refused(EPROTO, "version -1", {-1, region});
	assert_refused(EPROTO, "descriptor", {0, region});
	/* ID */
	assert_refused(EPROTO, "no ID", {0, -1}, {65536, -1});
	assert_refused(EPROTO, "no ID", {0, -1}, {-2, -1});
	assert_refused(EPROTO, "no ID", {0, -1}, {INT64_MIN, -1});
	assert_refused(EPROTO, "descriptor", {0, -1}, {1, region});
	/* SETUP */
	assert_refused(EPROTO, "without a descriptor", {0, -1}, {1, -1}, {-1, -1});
	assert_refused(EPROTO, "no ID", {0, -1}, {1, -1}, {-2, bells[0]});
	assert_refused(EPROTO, "no ID", {0, -1}, {1, -1}, {65536, bells[0]});
	assert_refused(EPROTO, "we have left", {0, -1}, {1, -1}, {1, -1});
	assert_refused(EPROTO, "no shared memory", {0, -1}, {1, -1}, {-1, bells[0]});
	/* Too little: the rest never comes. */
	assert_refused(ETIMEDOUT, "in time", {0, -1}, {1, -1}, {2, bells[0]}, {1, bells[1]});
}

static void test_refusals(void **state)
{
	(void)state;
	assert_refused(EUSERS, "--max-peers)", {WIRE_REFUSAL_FULL, -1});
	assert_refused(EUSERS, "--max-peers-per-uid", {WIRE_REFUSAL_UID_FULL, -1});
	assert_refused(EUSERS, "out of memory or descriptors", {WIRE_REFUSAL_RESOURCES, -1});
	assert_refused(EUSERS, "rules do not let", {WIRE_REFUSAL_RULES, -1});
}

/* Each generation of client on the other's server: say which option to use. */
static void test_other_generation(void **state)
{
	(void)state;
	for (int id = 0; id <= 5; id += 5) {
		const struct line old[] = {{id, -1}, {-1, region}};
		const struct line new[] = {{0, -1}, {id, -1}, {-1, region}};
		refuse(&(struct scripted){.pre_2_5 = true}, old, 2, IVSHMEM_PROTOCOL_CURRENT,
			EPROTO, "--protocol pre-2.5");
		refuse(&(struct scripted){0}, new, 3, IVSHMEM_PROTOCOL_PRE_2_5, EPROTO,
			"--protocol current");
	}
}

static void test_errors_in_run(void **state)
{
	const struct line wrong[] = {{-1, region}, {-1, -1}, {7, -1}, {65536, bells[2]},
		{65536, -1}, {-2, -1}, {-2, bells[2]}, {INT64_MAX, -1}, {INT64_MIN, bells[2]}};
	char expected[64];
	(void)state;

	snprintf(expected, sizeof(expected), "+1 1:1 7:1 lost(%d) ", EPROTO);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct scripted server = {0};
		struct ivshmem_peer *peer = open_as_7(&server, NULL);
		scripted_say(&server, 1, bells[0]);
		scripted_say(&server, 7, bells[1]);
		scripted_say(&server, wrong[i].number, wrong[i].fd);
		scripted_say(&server, 2, bells[3]); /* must not be looked at any more */
		assert_history(peer, expected);
		/* All that there was stays. */
		assert_memory_works(peer);
		assert_int_equal(ivshmem_peers(peer, NULL, 0), 1);
		assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
		assert_true(scripted_rung(bells[0]));
		assert_int_equal(ivshmem_notify(peer, 7, 0), 0);
		assert_int_equal(ivshmem_wait(peer, 0, 0, NULL), 1);
		assert_int_equal(ivshmem_wait(peer, 1, 1000, NULL), -1);
		assert_int_equal(errno, ENOENT);
		ivshmem_close(peer);
		scripted_stop(&server);
	}
}

static void test_too_many_descriptors(void **state)
{
	static const uint8_t one[8] = {1};
	char expected[32];
	(void)state;

	snprintf(expected, sizeof(expected), "lost(%d) ", EPROTO);
	/* An emulator loses those that do not fit, and leaks them. */
	for (size_t n = 2; n <= (scripted_emulated() ? N_BELLS : N_BELLS + 2); n++) {
		struct scripted server = {0};
		struct ivshmem_peer *peer = open_as_7(&server, NULL);
		int fds[N_BELLS + 2];
		for (size_t i = 0; i < n; i++)
			fds[i] = bells[i % N_BELLS];
		scripted_raw(server.conn, one, 8, fds, n);
		assert_history(peer, expected);
		ivshmem_close(peer);
		scripted_stop(&server);
	}
	/* A second one with a later byte of the same message. */
	struct scripted server = {0};
	struct ivshmem_peer *peer = open_as_7(&server, NULL);
	scripted_raw(server.conn, one, 3, &bells[0], 1);
	scripted_raw(server.conn, one + 3, 5, &bells[1], 1);
	assert_history(peer, expected);
	ivshmem_close(peer);
	scripted_stop(&server);
}

static void test_end_at_each_byte(void **state)
{
	const struct line lines[] = {{0, -1}, {7, -1}, {-1, region}, {1, bells[0]}};
	(void)state;

	for (size_t cut = 0; cut <= 32; cut++) {
		struct scripted server = {.hang_up = true, .cut = cut};
		struct ivshmem_peer *peer = open_on(&server, lines, 4, NULL);
		if (cut < 24) {
			assert_null(peer);
			assert_int_equal(errno, ECONNRESET);
			assert_non_null(strstr(error, "hung up"));
			assert_string_equal(history, "");
		} else {
			char expected[64];
			snprintf(expected, sizeof(expected), "%slost(%d) ",
				cut == 32 ? "+1 1:1 " : "", cut % 8 == 0 ? 0 : ECONNRESET);
			assert_non_null(peer);
			assert_history(peer, expected);
			assert_memory_works(peer);
		}
		ivshmem_close(peer);
		scripted_stop(&server);
		history[0] = '\0';
	}
}

static void test_fragments(void **state)
{
	const struct line lines[] = {{0, -1}, {7, -1}, {-1, region}, {1, bells[0]}, {1, bells[1]},
		{7, bells[2]}, {300, bells[3]}, {1, -1}};
	struct scripted server = {.bytewise = true};
	(void)state;

	struct ivshmem_peer *peer = open_on(&server, lines, 8, NULL);
	assert_non_null(peer);
	assert_history(peer, "+1 1:1 1:2 7:1 +300 300:1 -1 ");

	/* And with the client looking after each byte. */
	uint8_t bytes[8];
	wire_encode(&wire_current, 300, bytes);
	for (size_t i = 0; i < 8; i++) {
		assert_int_equal(scripted_raw(server.conn, bytes + i, 1, &bells[4], i == 0), 1);
		assert_int_equal(ivshmem_dispatch(peer, 0), i == 7);
	}
	assert_history(peer, "300:2 ");
	assert_int_equal(ivshmem_notify(peer, 300, 1), 0);
	assert_true(scripted_rung(bells[4]));
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* Peers and own vectors may come before the region; they are announced by the first dispatch, and
 * the descriptor to poll says so. */
static void test_peers_before_region(void **state)
{
	const struct line lines[] = {{0, -1}, {7, -1}, {7, bells[0]}, {9, bells[1]}, {9, bells[2]},
		{2, bells[3]}, {4, bells[4]}, {4, -1}, {11, -1}, {-1, region}};
	struct scripted server = {0};
	(void)state;

	struct ivshmem_peer *peer = open_on(&server, lines, 10, NULL);
	assert_non_null(peer);
	assert_string_equal(history, "");
	struct pollfd entry = {.fd = ivshmem_get_fd(peer), .events = POLLIN};
	assert_int_equal(poll(&entry, 1, 0), 1);
	assert_int_equal(ivshmem_dispatch(peer, 5000), 3);
	assert_history(peer, "7:1 +2 2:1 +9 9:1 9:2 ");
	assert_int_equal(ivshmem_dispatch(peer, 0), 0);
	scripted_say(&server, 9, bells[5]);
	assert_history(peer, "9:3 ");
	ivshmem_close(peer);
	scripted_stop(&server);
}

static void test_ids_come_back(void **state)
{
	struct scripted server = {0};
	struct ivshmem_peer *peer = open_as_7(&server, NULL);
	(void)state;

	scripted_say(&server, 65535, bells[0]);
	scripted_say(&server, 65535, bells[1]);
	scripted_say(&server, 0, bells[2]);
	scripted_say(&server, 65535, -1);
	scripted_say(&server, 65535, -1); /* twice, and of one that never was: both harmless */
	scripted_say(&server, 1234, -1);
	scripted_say(&server, 65535, bells[3]);
	assert_history(peer, "+65535 65535:1 65535:2 +0 0:1 -65535 +65535 65535:1 ");
	assert_int_equal(ivshmem_notify(peer, 65535, 0), 0);
	assert_true(scripted_rung(bells[3]));
	assert_false(scripted_rung(bells[0]));
	assert_int_equal(ivshmem_vectors(peer, 65535), 1);
	assert_int_equal(ivshmem_vectors(peer, 65536), -1);
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* What goes over a limit is closed, and the vectors after it keep their numbers or go too. */
static void test_limits(void **state)
{
	struct scripted server = {0};
	struct ivshmem_params params = params_default();
	(void)state;

	params.max_peers = 2;
	params.max_vectors = 2;
	params.max_fds = 3;
	struct ivshmem_peer *peer = open_as_7(&server, &params);
	int before = fdcheck_count();

	for (int id = 1; id <= 3; id++)
		for (int vector = 0; vector < 3; vector++)
			scripted_say(&server, id, bells[vector]);
	for (int vector = 0; vector < 3; vector++)
		scripted_say(&server, 7, bells[3 + vector]);
	assert_history(peer, "+1 1:1 1:2 +2 2:1 7:1 7:2 ");
	assert_int_equal(fdcheck_count(), before + 5);
	/* There is room again, but peer 2 has missed its second and peer 3 its first vectors. */
	scripted_say(&server, 1, -1);
	scripted_say(&server, 2, bells[3]);
	scripted_say(&server, 3, bells[3]);
	scripted_say(&server, 3, -1);
	scripted_say(&server, 3, bells[4]);
	assert_history(peer, "-1 +3 3:1 ");
	assert_int_equal(ivshmem_wait(peer, 2, 0, NULL), -1);
	assert_int_equal(errno, EINVAL);
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* Who came when there was no room does not turn up in the middle. */
static void test_peer_limit(void **state)
{
	struct scripted server = {0};
	struct ivshmem_params params = params_default();
	(void)state;

	params.max_peers = 1;
	struct ivshmem_peer *peer = open_as_7(&server, &params);
	scripted_say(&server, 1, bells[0]);
	scripted_say(&server, 2, bells[1]);
	scripted_say(&server, 1, -1);
	scripted_say(&server, 2, bells[2]);
	assert_history(peer, "+1 1:1 -1 ");
	assert_int_equal(ivshmem_notify(peer, 2, 0), -1);
	scripted_say(&server, 2, -1);
	scripted_say(&server, 2, bells[3]);
	assert_history(peer, "+2 2:1 ");
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* Thousands of messages, never more than 1024 in one dispatch. */
static void test_many_descriptors(void **state)
{
	enum { N_PEERS = 750, N_VECTORS = 4 };
	struct scripted server = {0};
	struct rlimit limit;
	(void)state;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	struct ivshmem_params params = params_default();
	params.listener = NULL;
	struct ivshmem_peer *peer = open_as_7(&server, &params);

	fcntl(server.conn, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < N_PEERS * N_VECTORS; i++) {
		uint8_t bytes[8];
		wire_encode(&wire_current, 1000 + i / N_VECTORS, bytes);
		while (scripted_raw(server.conn, bytes, 8, &bells[i % N_VECTORS], 1) < 0) {
			int handled = ivshmem_dispatch(peer, 0);
			assert_in_range(handled, 1, 1024);
		}
	}
	settle(peer);
	assert_int_equal(ivshmem_peers(peer, NULL, 0), N_PEERS);
	unsigned *ids = calloc(N_PEERS, sizeof(*ids));
	assert_int_equal(ivshmem_peers(peer, ids, N_PEERS), N_PEERS);
	for (unsigned i = 0; i < N_PEERS; i++) {
		assert_int_equal(ids[i], 1000 + i);
		assert_int_equal(ivshmem_vectors(peer, ids[i]), N_VECTORS);
		assert_int_equal(ivshmem_notify(peer, ids[i], i % N_VECTORS), 0);
		assert_true(scripted_rung(bells[i % N_VECTORS]));
	}
	free(ids);
	ivshmem_close(peer);
	scripted_stop(&server);
}

/* No free descriptor: the bytes come alone. That is not "peer left". */
static void test_no_descriptor_free(void **state)
{
	struct scripted server = {0};
	struct rlimit limit, low;
	char expected[64];
	(void)state;

	struct ivshmem_peer *peer = open_as_7(&server, NULL);
	scripted_say(&server, 1, bells[0]);
	assert_history(peer, "+1 1:1 ");
	scripted_say(&server, 1, bells[1]);
	getrlimit(RLIMIT_NOFILE, &limit);
	low = limit;
	low.rlim_cur = 3;
	setrlimit(RLIMIT_NOFILE, &low);
	int got = ivshmem_dispatch(peer, 1000), why = errno;
	setrlimit(RLIMIT_NOFILE, &limit);

	assert_int_equal(got, -1);
	assert_int_equal(why, EMFILE);
	snprintf(expected, sizeof(expected), "lost(%d) ", EMFILE);
	assert_history(peer, expected);
	assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
	ivshmem_close(peer);
	scripted_stop(&server);
}

#define CLIENT_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CLIENT_TEST(test_contrib_transcript),
		CLIENT_TEST(test_pre_2_5),
		CLIENT_TEST(test_errors_in_handshake),
		CLIENT_TEST(test_refusals),
		CLIENT_TEST(test_other_generation),
		CLIENT_TEST(test_errors_in_run),
		CLIENT_TEST(test_too_many_descriptors),
		CLIENT_TEST(test_end_at_each_byte),
		CLIENT_TEST(test_fragments),
		CLIENT_TEST(test_peers_before_region),
		CLIENT_TEST(test_ids_come_back),
		CLIENT_TEST(test_limits),
		CLIENT_TEST(test_peer_limit),
		CLIENT_TEST(test_many_descriptors),
		CLIENT_TEST(test_no_descriptor_free),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
