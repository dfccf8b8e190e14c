/* SPDX-License-Identifier: MIT */
/* How a client comes to a server: what it says where there is none, and connections that somebody
 * else has made. What is spoken then: test_client.c. */
#include "../common/fdcheck.h"
#include "../common/scripted.h"

#include <ivshmem/peer.h>

#define REGION_SIZE 65536
#define LONG_MS     20000

static int region, bell;
static char error[400];

static struct ivshmem_params params_that_tell(void)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	params.error_text = error;
	params.error_size = sizeof(error);
	return params;
}

static int set_up(void **state)
{
	fdcheck_setup(state);
	region = scripted_region(REGION_SIZE);
	bell = scripted_bell();
	error[0] = '\0';
	return 0;
}

static int tear_down(void **state)
{
	close(region);
	close(bell);
	return fdcheck_teardown(state);
}

static void assert_no_server(const char *uri, int expected, const char *hint)
{
	struct ivshmem_params params = params_that_tell();
	params.timeout_ms = 200;
	assert_null(ivshmem_open(uri, &params));
	assert_int_equal(errno, expected);
	if (!strstr(error, hint))
		fail_msg("\"%s\" does not say \"%s\"", error, hint);
}

static void test_no_server(void **state)
{
	struct scripted server = {0};
	char long_uri[220] = "unix:/";
	(void)state;

	assert_no_server("unix:/nonexistent/s", ENOENT, "ivshmem-server -F -S /nonexistent/s");
	memset(long_uri + 6, 'x', 200);
	assert_no_server(long_uri, ENAMETOOLONG, "at most 107");

	scripted_listen(&server, 0);
	assert_no_server(server.uri, ETIMEDOUT, "in time"); /* in the backlog, nobody accepts */
	/* The backlog is full: connect() itself has to wait. */
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	memcpy(address.sun_path, server.path, sizeof(server.path));
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	(void)connect(sock, (struct sockaddr *)&address, sizeof(address));
	assert_no_server(server.uri, ETIMEDOUT, "does not accept");
	close(sock);
	close(server.listener);
	assert_no_server(server.uri, ECONNREFUSED, "start a server");
	unlink(server.path);
}

/* ---- a connection that somebody else has made ---- */

/* Both ends; the server's has the opening in it. */
static int connected_pair(struct scripted *server)
{
	const struct line lines[] = {{0, -1}, {7, -1}, {-1, region}, {5, bell}};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	server->conn = pair[0];
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		scripted_say(server, lines[i].number, lines[i].fd);
	return pair[1];
}

static void test_passed_connection(void **state)
{
	(void)state;
	struct scripted server = {0};
	char uri[24];
	int fd = connected_pair(&server);

	snprintf(uri, sizeof(uri), "fd:%d", fd);
	struct ivshmem_peer *peer = ivshmem_open(uri, NULL);
	assert_non_null(peer);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(ivshmem_id(peer), 7);
	assert_int_equal(ivshmem_dispatch(peer, LONG_MS), 1);
	assert_int_equal(ivshmem_vectors(peer, 5), 1);
	uint64_t size;
	assert_non_null(ivshmem_region(peer, &size));
	assert_int_equal(size, REGION_SIZE);
	scripted_hang_up(&server);
	while (ivshmem_connected(peer))
		ivshmem_dispatch(peer, LONG_MS);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	ivshmem_close(peer);
}

static void test_passed_connection_that_fails(void **state)
{
	(void)state;
	struct ivshmem_params params = params_that_tell();
	char uri[24];
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[0]);
	snprintf(uri, sizeof(uri), "fd:%d", pair[1]);
	assert_null(ivshmem_open(uri, &params));
	assert_int_equal(errno, ECONNRESET);
	assert_non_null(strstr(error, uri));
	assert_int_equal(fcntl(pair[1], F_GETFD), -1);
}

/* What is no connection to a server stays the caller's, as it was. */
static void test_no_passed_connection(void **state)
{
	(void)state;
	struct ivshmem_params params = params_that_tell();
	struct scripted server;
	int pair[2];

	scripted_listen(&server, 1);
	assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), 0);
	const int wrong[] = {region, bell, server.listener, pair[0], 4000};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		char uri[24];
		int flags = fcntl(wrong[i], F_GETFD);
		snprintf(uri, sizeof(uri), "fd:%d", wrong[i]);
		assert_null(ivshmem_open(uri, &params));
		assert_int_equal(errno, EINVAL);
		assert_non_null(strstr(error, uri));
		assert_int_equal(fcntl(wrong[i], F_GETFD), flags);
	}
	const char *const malformed[] = {"fd:", "fd:-1", "fd:x", "fd:1 ", "fd:99999999999"};
	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
		assert_null(ivshmem_open(malformed[i], &params));
		assert_int_equal(errno, EINVAL);
	}
	close(pair[0]);
	close(pair[1]);
	scripted_stop(&server);
}

#define CONNECT_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CONNECT_TEST(test_no_server),
		CONNECT_TEST(test_passed_connection),
		CONNECT_TEST(test_passed_connection_that_fails),
		CONNECT_TEST(test_no_passed_connection),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
