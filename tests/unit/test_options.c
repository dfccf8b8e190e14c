/* SPDX-License-Identifier: MIT */
#include "../../tools/common/options.h"

#include "../../tools/common/logsink.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct option_def options[] = {
	{'S', "socket", "PATH", "where (default: /tmp/x)", "Group"},
	{'v', "verbose", NULL, "talk", NULL},
	{OPTION_FIRST, "a-very-long-name-of-an-option", "ARGUMENT",
		"a help text that is much too long for one line of a hundred columns and so has to "
		"be broken at a blank (default: 1234567890)",
		NULL},
	{OPTION_FIRST + 1, "json", NULL, "objects", NULL},
	{0},
};

static const struct option_table table = {
	.program = "program",
	.synopsis = "[OPTION]...",
	.description = "A program.",
	.epilogue = "The end.\n",
	.options = options,
};

struct seen {
	int n, keys[8];
	const char *arguments[8];
};

static int note(void *data, int key, const char *argument)
{
	struct seen *seen = data;
	if (argument && strcmp(argument, "bad") == 0)
		return -1;
	seen->keys[seen->n] = key;
	seen->arguments[seen->n++] = argument;
	return 0;
}

/* Runs options_parse() in a child, since --help exits, with stdout and stderr going to `out`. */
static int run(char out[4096], char **argv)
{
	int argc = 0;
	int pipe_fds[2];
	while (argv[argc])
		argc++;
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		struct seen seen = {0};
		dup2(pipe_fds[1], STDOUT_FILENO);
		dup2(pipe_fds[1], STDERR_FILENO);
		_exit(options_parse(&table, argc, argv, note, &seen) < 0 ? 77 : 78);
	}
	close(pipe_fds[1]);
	size_t used = 0;
	ssize_t n;
	while ((n = read(pipe_fds[0], out + used, 4095 - used)) > 0)
		used += (size_t)n;
	out[used] = '\0';
	close(pipe_fds[0]);
	int status;
	waitpid(child, &status, 0);
	return WEXITSTATUS(status);
}

static void test_options_and_arguments_in_order(void **state)
{
	(void)state;
	char *argv[] = {"program", "-vS", "one", "--socket=two", "--socket", "three", "--json",
		"word", "-v", NULL};
	struct seen seen = {0};
	assert_int_equal(options_parse(&table, 9, argv, note, &seen), 7);
	assert_int_equal(seen.n, 5);
	assert_int_equal(seen.keys[0], 'v');
	assert_null(seen.arguments[0]);
	assert_int_equal(seen.keys[1], 'S');
	assert_string_equal(seen.arguments[1], "one");
	assert_string_equal(seen.arguments[2], "two");
	assert_string_equal(seen.arguments[3], "three");
	assert_int_equal(seen.keys[4], OPTION_FIRST + 1);
}

static void test_double_dash_ends_the_options(void **state)
{
	(void)state;
	char *argv[] = {"program", "--", "-v", NULL};
	struct seen seen = {0};
	assert_int_equal(options_parse(&table, 3, argv, note, &seen), 2);
	assert_int_equal(seen.n, 0);
}

static void test_options_behind_arguments(void **state)
{
	(void)state;
	char *argv[] = {"program", "word", "-v", "other", "--socket", "one", "--", "-x", NULL};
	struct option_table mixed = table;
	struct seen seen = {0};
	mixed.anywhere = true;
	assert_int_equal(options_parse(&mixed, 8, argv, note, &seen), 5);
	assert_int_equal(seen.n, 2);
	assert_string_equal(seen.arguments[1], "one");
	assert_string_equal(argv[5], "word");
	assert_string_equal(argv[6], "other");
	assert_string_equal(argv[7], "-x");

	char *plain[] = {"program", "word", "-v", NULL};
	seen = (struct seen){0};
	assert_int_equal(options_parse(&table, 3, plain, note, &seen), 1);
	assert_int_equal(seen.n, 0);
}

static void test_a_second_parse_starts_over(void **state)
{
	(void)state;
	char *argv[] = {"program", "-v", "word", NULL};
	for (int i = 0; i < 2; i++) {
		struct seen seen = {0};
		assert_int_equal(options_parse(&table, 3, argv, note, &seen), 2);
		assert_int_equal(seen.n, 1);
	}
}

static void test_handler_can_refuse(void **state)
{
	(void)state;
	char *argv[] = {"program", "-S", "bad", NULL};
	struct seen seen = {0};
	assert_int_equal(options_parse(&table, 3, argv, note, &seen), -1);
}

static void test_mistakes_are_one_line_that_names_them(void **state)
{
	(void)state;
	static struct {
		char *argv[3];
		const char *text;
	} cases[] = {
		{{"program", "-x"}, "program: there is no option '-x'"},
		{{"program", "-vx"}, "program: there is no option '-x'"},
		{{"program", "--nothing"}, "program: there is no option '--nothing'"},
		{{"program", "-S"}, "program: option '-S' needs an argument"},
		{{"program", "--socket"}, "program: option '--socket' needs an argument"},
		{{"program", "--json=yes"}, "program: option '--json' takes no argument"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char out[4096];
		assert_int_equal(run(out, cases[i].argv), 77);
		assert_memory_equal(out, cases[i].text, strlen(cases[i].text));
		assert_non_null(strstr(out, "program --help"));
		assert_ptr_equal(strchr(out, '\n'), out + strlen(out) - 1);
	}
}

static void test_help_and_version_exit_0(void **state)
{
	(void)state;
	char out[4096];
	assert_int_equal(run(out, (char *[]){"program", "--version", NULL}), 0);
	assert_memory_equal(out, "program ", 8);
	assert_int_equal(run(out, (char *[]){"program", "-h", NULL}), 0);
	char with_long[4096];
	assert_int_equal(run(with_long, (char *[]){"program", "--help", NULL}), 0);
	assert_string_equal(out, with_long);
}

static void test_help_is_aligned_and_narrow(void **state)
{
	(void)state;
	char out[4096];
	run(out, (char *[]){"program", "--help", NULL});
	assert_non_null(strstr(out, "Usage: program [OPTION]...\nA program.\n\nGroup:\n"));
	assert_non_null(strstr(out, "\n  -S, --socket PATH           where (default: /tmp/x)\n"));
	assert_non_null(strstr(out, "\n      --json                  objects\n"));
	assert_non_null(strstr(out,
		"\n      --a-very-long-name-of-an-option ARGUMENT\n"
		"                              a help text"));
	assert_non_null(strstr(out, "\n  -h, --help "));
	assert_non_null(strstr(out, "\n      --version "));
	assert_non_null(strstr(out, "\nThe end.\n"));
	for (char *line = strtok(out, "\n"); line; line = strtok(NULL, "\n"))
		assert_true(strlen(line) < 100);
}

static void test_seconds(void **state)
{
	(void)state;
	int ms = -7;
	assert_int_equal(parse_seconds("2", &ms), 0);
	assert_int_equal(ms, 2000);
	assert_int_equal(parse_seconds("0.25", &ms), 0);
	assert_int_equal(ms, 250);
	assert_int_equal(parse_seconds("0", &ms), 0);
	assert_int_equal(ms, 0);
	/* Never shorter than asked for: a tiny time is not "at once". */
	assert_int_equal(parse_seconds("0.0001", &ms), 0);
	assert_int_equal(ms, 1);
	assert_int_equal(parse_seconds("1000000", &ms), 0);
	assert_int_equal(ms, 1000000000);

	ms = 5;
	assert_int_equal(parse_seconds("1000001", &ms), -ERANGE);
	static const char *const wrong[] = {"", "x", "-1", "1s", " 1", "0x10", "1e3", "nan", "inf"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(parse_seconds(wrong[i], &ms), -EINVAL);
	assert_int_equal(ms, 5);
}

/* Runs `expression` with standard error going to `out`, and returns its value. */
#define COMPLAINT(out, expression)                                                                 \
	({                                                                                         \
		int saved_ = redirect_stderr();                                                    \
		int value_ = (expression);                                                         \
		restore_stderr(saved_, out);                                                       \
		value_;                                                                            \
	})

static int capture;

static int redirect_stderr(void)
{
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	capture = memfd_create("stderr", MFD_CLOEXEC);
	fflush(stderr);
	dup2(capture, STDERR_FILENO);
	return saved;
}

static void restore_stderr(int saved, char out[4096])
{
	dup2(saved, STDERR_FILENO);
	close(saved);
	ssize_t n = pread(capture, out, 4095, 0);
	out[n < 0 ? 0 : n] = '\0';
	close(capture);
}

static void test_numbers_sizes_and_modes(void **state)
{
	(void)state;
	char out[4096];
	uint64_t value = 7;
	mode_t mode = 0;

	assert_int_equal(option_uint(&table, "--n", "10", 1, 10, &value), 0);
	assert_int_equal(value, 10);
	assert_int_equal(COMPLAINT(out, option_uint(&table, "--n", "11", 1, 10, &value)), -1);
	assert_string_equal(
		out, "program: --n 11: give a number from 1 to 10; try 'program --help'\n");
	assert_int_equal(option_size(&table, "--size", "1M", &value), 0);
	assert_int_equal(value, 1 << 20);
	assert_int_equal(COMPLAINT(out, option_size(&table, "--size", "99E", &value)), -1);
	assert_non_null(strstr(out, "--size 99E: too large"));
	assert_int_equal(COMPLAINT(out, option_size(&table, "--size", "1X", &value)), -1);
	assert_int_equal(option_mode(&table, "--mode", "0660", 0, 0777, &mode), 0);
	assert_int_equal(mode, 0660);
	static const char *const wrong[] = {"", "8", "-1", " 7", "0x7", "1000", "7z"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(
			COMPLAINT(out, option_mode(&table, "--mode", wrong[i], 0, 0777, &mode)),
			-1);
	assert_int_equal(mode, 0660);
}

static void test_owners(void **state)
{
	(void)state;
	char out[4096];
	uid_t uid = 77;
	gid_t gid = 78;

	assert_int_equal(option_owner(&table, "--owner", "root", &uid, &gid), 0);
	assert_true(uid == 0 && gid == 78);
	assert_int_equal(option_owner(&table, "--owner", ":123", &uid, &gid), 0);
	assert_true(uid == 0 && gid == 123);
	assert_int_equal(option_owner(&table, "--owner", "5:root", &uid, &gid), 0);
	assert_true(uid == 5 && gid == 0);
	/* The last number means "leave it" to chown(2), so it is nobody's. */
	static const char *const wrong[] = {
		"", "no-such-user-here", "4294967295", "0:no-such-group"};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(
			COMPLAINT(out, option_owner(&table, "--owner", wrong[i], &uid, &gid)), -1);
}

static void test_sockets(void **state)
{
	(void)state;
	char out[4096], path[SOCKET_PATH_SIZE];
	char long_path[SOCKET_PATH_SIZE + 1];

	assert_int_equal(option_socket(&table, "--to", "some/path", "", path), 0);
	assert_string_equal(path, "some/path");
	assert_int_equal(option_socket(&table, "--to", "unix:/tmp/x", "", path), 0);
	assert_string_equal(path, "/tmp/x");
	assert_int_equal(option_socket(&table, "--to", "region:name", "", path), 0);
	assert_string_equal(path, "/run/ivshmem/name.sock");

	memset(long_path, 'x', sizeof(long_path));
	long_path[SOCKET_PATH_SIZE - 1] = '\0';
	assert_int_equal(option_socket(&table, "--to", long_path, "", path), 0);
	long_path[SOCKET_PATH_SIZE - 1] = 'x';
	long_path[SOCKET_PATH_SIZE] = '\0';
	assert_int_equal(COMPLAINT(out, option_socket(&table, "--to", long_path, "", path)), -1);
	assert_non_null(strstr(out, "--to: a socket path has at most 107 bytes, this one has 108"));

	assert_int_equal(
		COMPLAINT(out, option_socket(&table, "--to", "shm:x", " (or -M)", path)), -1);
	assert_non_null(strstr(out, "--to shm:x: give a path, unix:PATH or region:NAME (or -M);"));
	assert_int_equal(COMPLAINT(out, option_socket(&table, "--to", "", "", path)), -1);
	assert_int_equal(COMPLAINT(out, option_socket(&table, "--to", "unix:", "", path)), -1);
	assert_int_equal(COMPLAINT(out, option_socket(&table, "--to", "region:A/b", "", path)), -1);
	assert_non_null(strstr(out, "[a-z0-9._-]{1,63}"));
}

/* Logs one line of each level with stderr going to `out`. */
static void capture_log(const char *format, char out[4096])
{
	int pipe_fds[2];
	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
	int saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	struct log *log = logsink_open(format, "stderr", "program");
	assert_non_null(log);

	dup2(pipe_fds[1], STDERR_FILENO);
	log_error(log, "it \"broke\" at %s", "/tmp/\xff");
	log_warning(log, "careful");
	log_info(log, "peer %d joined", 3);
	log_debug(log, "not seen at this level");
	dup2(saved, STDERR_FILENO);

	logsink_close(log);
	close(saved);
	close(pipe_fds[1]);
	ssize_t n = read(pipe_fds[0], out, 4095);
	assert_true(n >= 0);
	out[n] = '\0';
	close(pipe_fds[0]);
}

static void test_plain_log(void **state)
{
	(void)state;
	char out[4096];
	capture_log("plain", out);
	assert_string_equal(out,
		"program: error: it \"broke\" at /tmp/\xff\n"
		"program: warning: careful\n"
		"program: peer 3 joined\n");
}

static void test_json_log_is_valid_even_if_the_text_is_not(void **state)
{
	(void)state;
	char out[4096];
	capture_log("json", out);
	assert_memory_equal(out, "{\"time\":\"2", 10);
	assert_non_null(strstr(out, "\"level\":\"error\",\"program\":\"program\",\"pid\":"));
	assert_non_null(strstr(out, "\"message\":\"it \\\"broke\\\" at /tmp/?\"}\n{\"time\""));
	assert_non_null(strstr(out, "\"message\":\"peer 3 joined\"}\n"));
}

static void test_unknown_log_formats(void **state)
{
	(void)state;
	errno = 0;
	assert_null(logsink_open("xml", "stderr", "program"));
	assert_int_equal(errno, EINVAL);
	assert_null(logsink_open("plain", "printer", "program"));
	assert_true(logsink_format_is_valid("json") && logsink_target_is_valid("syslog"));
	assert_false(logsink_format_is_valid("") || logsink_target_is_valid("stdout"));
	logsink_close(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_options_and_arguments_in_order),
		TEST(test_double_dash_ends_the_options),
		TEST(test_options_behind_arguments),
		TEST(test_a_second_parse_starts_over),
		TEST(test_handler_can_refuse),
		TEST(test_mistakes_are_one_line_that_names_them),
		TEST(test_help_and_version_exit_0),
		TEST(test_help_is_aligned_and_narrow),
		TEST(test_seconds),
		TEST(test_numbers_sizes_and_modes),
		TEST(test_owners),
		TEST(test_sockets),
		TEST(test_plain_log),
		TEST(test_json_log_is_valid_even_if_the_text_is_not),
		TEST(test_unknown_log_formats),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
