/* SPDX-License-Identifier: MIT */
#include "../../tools/server/metrics/metrics.h"

#include "../common/fakehub.h"
#include "../common/fdcheck.h"
#include "daemon/watch.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- addresses ---- */

static void expect_address(const struct sockaddr_storage *address, const char *host, unsigned port)
{
	const struct sockaddr_in *ipv4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *ipv6 = (const struct sockaddr_in6 *)address;
	char text[INET6_ADDRSTRLEN];
	bool is_ipv6 = address->ss_family == AF_INET6;

	inet_ntop(address->ss_family,
		is_ipv6 ? (const void *)&ipv6->sin6_addr : (const void *)&ipv4->sin_addr, text,
		sizeof(text));
	assert_string_equal(text, host);
	assert_int_equal(ntohs(is_ipv6 ? ipv6->sin6_port : ipv4->sin_port), port);
}

static void test_a_port_alone_is_loopback(void **state)
{
	struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES];
	(void)state;
	assert_int_equal(metrics_parse_address("9464", addresses), 2);
	expect_address(&addresses[0], "127.0.0.1", 9464);
	expect_address(&addresses[1], "::1", 9464);
}

static void test_addresses(void **state)
{
	const struct {
		const char *text, *host;
		unsigned port;
	} good[] = {
		{"0.0.0.0:1", "0.0.0.0", 1},
		{"192.0.2.7:65535", "192.0.2.7", 65535},
		{"[::]:0", "::", 0},
		{"[2001:db8::7]:80", "2001:db8::7", 80},
	};
	struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(metrics_parse_address(good[i].text, addresses), 1);
		expect_address(&addresses[0], good[i].host, good[i].port);
	}
}

static void test_what_is_no_address(void **state)
{
	const char *const bad[] = {"", ":", ":9464", "65536", "-1", "9464 ", "port", "localhost:1",
		"127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.256:1", "::1:9464", "[::1]",
		"[::1]9464", "[::1:9464", "[]:1", "[127.0.0.1]:1", "[fe80::1%lo]:1",
		"1111111111111111111111111111111111111111111111111111111:1"};
	struct sockaddr_storage addresses[METRICS_MAX_ADDRESSES];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (metrics_parse_address(bad[i], addresses) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
}

/* ---- the file ---- */

struct fixture {
	uv_loop_t loop;
	struct hub *hub;
	struct log log;
	unsigned log_lines;
	char last_line[600];
	char folder[32], path[64];
	struct metrics_config config;
	struct metrics *metrics;
};

static void note_line(struct log *log, enum log_level level, const char *line)
{
	struct fixture *fixture = (struct fixture *)((char *)log - offsetof(struct fixture, log));
	(void)level;
	fixture->log_lines++;
	snprintf(fixture->last_line, sizeof(fixture->last_line), "%s", line);
}

static int setup(void **state)
{
	struct fixture *fixture = calloc(1, sizeof(*fixture));
	fdcheck_setup(NULL);
	*state = fixture;
	fixture->log = (struct log){.level = LOG_LEVEL_DEBUG, .sink = note_line};
	strcpy(fixture->folder, "/tmp/metricsXXXXXX");
	assert_non_null(mkdtemp(fixture->folder));
	snprintf(fixture->path, sizeof(fixture->path), "%s/iv.prom", fixture->folder);
	fixture->config = (struct metrics_config){.file = fixture->path, .interval_ms = 10};
	fixture->hub = fakehub_create();
	fakehub_add(fixture->hub, "a");
	assert_int_equal(uv_loop_init(&fixture->loop), 0);
	return 0;
}

static int teardown(void **state)
{
	struct fixture *fixture = *state;
	fakehub_destroy(fixture->hub);
	(void)unlink(fixture->path);
	int left = rmdir(fixture->folder); /* nothing else may be in it */
	free(fixture);
	return fdcheck_teardown(NULL) == 0 ? left : -1;
}

/* What libuv opens for all loops and keeps is no leak. */
static int warm_up(void **state)
{
	uv_loop_t loop;
	(void)state;
	assert_int_equal(uv_loop_init(&loop), 0);
	return uv_loop_close(&loop);
}

#define FILE_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

static void start(struct fixture *fixture)
{
	assert_int_equal(metrics_start(&fixture->metrics, &fixture->config, fixture->hub,
				 &fixture->loop, &fixture->log),
		0);
}

static void stop(struct fixture *fixture)
{
	metrics_stop(fixture->metrics);
	watch_end(&fixture->loop);
}

/* Let the loop run until the path is there or not. */
static void run_until(struct fixture *fixture, bool exists)
{
	while ((access(fixture->path, F_OK) == 0) != exists)
		uv_run(&fixture->loop, UV_RUN_ONCE);
}

static char *contents(const char *path)
{
	char *text = calloc(1, 4u << 20);
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	assert_true(fread(text, 1, (4u << 20) - 1, file) > 0);
	fclose(file);
	return text;
}

static void test_nothing_to_do(void **state)
{
	struct fixture *fixture = *state;
	fixture->config.file = NULL;
	start(fixture);
	assert_null(fixture->metrics);
	stop(fixture);
	assert_int_equal(fixture->log_lines, 0);
}

/* More than one piece; always there once it was there, and whole. */
static void test_file_is_replaced_whole(void **state)
{
	struct fixture *fixture = *state;
	struct hosted *first = hub_find(fixture->hub, "a");
	struct stat status;
	ino_t last = 0;

	for (unsigned i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof(name), "b%03u", i);
		fakehub_add(fixture->hub, name);
	}
	start(fixture);
	run_until(fixture, true);
	for (unsigned turn = 0; turn < 5; turn++) {
		char *text = contents(fixture->path);
		const char *tail = strstr(text, "\nivshmem_process_cpu_seconds_total ");
		assert_non_null(strstr(text, "ivshmem_region_draining{region=\"b499\"} 0\n"));
		assert_non_null(tail);
		assert_ptr_equal(strchr(tail + 1, '\n'), text + strlen(text) - 1);
		free(text);
		assert_int_equal(stat(fixture->path, &status), 0);
		assert_int_equal(status.st_mode & 07777, 0644);
		last = status.st_ino;
		first->stats.joins++;
		while (status.st_ino == last) {
			uv_run(&fixture->loop, UV_RUN_ONCE);
			assert_int_equal(stat(fixture->path, &status), 0);
		}
	}
	stop(fixture);
	assert_int_equal(access(fixture->path, F_OK), -1);
	assert_int_equal(fixture->log_lines, 0);
}

static void count_down(uv_timer_t *timer)
{
	if (--*(int *)timer->data == 0)
		uv_timer_stop(timer);
}

/* Trouble is said once, and over when it is. */
static void test_a_folder_that_is_missing(void **state)
{
	struct fixture *fixture = *state;
	int turns = 20;
	uv_timer_t timer;

	rmdir(fixture->folder);
	start(fixture);
	uv_timer_init(&fixture->loop, &timer);
	timer.data = &turns;
	uv_timer_start(&timer, count_down, 10, 10);
	while (turns > 0)
		uv_run(&fixture->loop, UV_RUN_ONCE);
	assert_int_equal(fixture->log_lines, 1);
	assert_non_null(strstr(fixture->last_line, fixture->path));
	assert_non_null(strstr(fixture->last_line, "No such file"));

	assert_int_equal(mkdir(fixture->folder, 0700), 0);
	run_until(fixture, true);
	stop(fixture);
	assert_int_equal(fixture->log_lines, 1);
}

/* Whatever stage a turn is in. */
static void test_stop_at_any_time(void **state)
{
	struct fixture *fixture = *state;

	for (unsigned steps = 0; steps < 12; steps++) {
		start(fixture);
		for (unsigned i = 0; i < steps; i++)
			uv_run(&fixture->loop, UV_RUN_ONCE);
		stop(fixture);
		assert_int_equal(access(fixture->path, F_OK), -1);
		assert_int_equal(uv_loop_init(&fixture->loop), 0);
	}
	watch_end(&fixture->loop);
	assert_int_equal(fixture->log_lines, 0);
}

/* It could point anywhere. */
static void test_no_link_is_followed(void **state)
{
	struct fixture *fixture = *state;
	char new_path[80], target[80];

	snprintf(new_path, sizeof(new_path), "%s.new", fixture->path);
	snprintf(target, sizeof(target), "%s/target", fixture->folder);
	assert_int_equal(symlink(target, new_path), 0);
	start(fixture);
	while (fixture->log_lines == 0)
		uv_run(&fixture->loop, UV_RUN_ONCE);
	stop(fixture);
	assert_int_equal(access(target, F_OK), -1);
	(void)unlink(new_path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_port_alone_is_loopback),
		TEST(test_addresses),
		TEST(test_what_is_no_address),
		FILE_TEST(test_nothing_to_do),
		FILE_TEST(test_file_is_replaced_whole),
		FILE_TEST(test_a_folder_that_is_missing),
		FILE_TEST(test_stop_at_any_time),
		FILE_TEST(test_no_link_is_followed),
	};
	return cmocka_run_group_tests(tests, warm_up, NULL);
}
