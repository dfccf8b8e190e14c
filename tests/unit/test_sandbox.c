/* SPDX-License-Identifier: MIT */
/*
 * What the two programs that serve cannot do any more once they are in their sandboxes: each call
 * is tried by a child inside, and by one outside to see that it is the sandbox that refuses it.
 */
#include "../../tools/device/sandbox.h"
#include "../../tools/server/sandbox.h"

#include "../common/fdcheck.h"

#include "base/sanitized.h" /* such programs have no filter, and say so */

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANNOT_ENTER 200

static int error_of(long result)
{
	return result < 0 ? errno : 0;
}

/*
 * What may be tried. Each returns 0 or errno, and does no harm where it works.
 */

static int run_a_program(void)
{
	char *const nothing[] = {NULL};
	return error_of(execve("/nowhere/at/all", nothing, nothing));
}

static int run_a_descriptor(void)
{
	char *const nothing[] = {NULL};
	return error_of(syscall(SYS_execveat, -1, "", nothing, nothing, 0));
}

static int fork_a_child(void)
{
	pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (child == 0)
		_exit(0);
	int error = error_of(child);
	if (child > 0)
		waitpid(child, NULL, 0);
	return error;
}

static int ask_for_clone3(void)
{
	return error_of(syscall(SYS_clone3, NULL, 0));
}

static int be_traced(void)
{
	return error_of(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int read_another_process(void)
{
	char byte, here = 0;
	struct iovec to = {&byte, 1}, from = {&here, 1};
	return error_of(process_vm_readv(getpid(), &to, 1, &from, 1, 0));
}

static int send_a_signal(void)
{
	return error_of(kill(getppid(), 0));
}

static int send_a_signal_to_a_thread(void)
{
	return error_of(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int send_a_signal_to_any_thread(void)
{
	return error_of(syscall(SYS_tkill, getppid(), 0));
}

static int signal_itself(void)
{
	return error_of(syscall(SYS_tgkill, getpid(), getpid(), 0));
}

static int raise_a_signal(void)
{
	return error_of(raise(SIGCONT));
}

static int change_limits_of_another(void)
{
	struct rlimit limit;
	return error_of(prlimit(getppid(), RLIMIT_NOFILE, NULL, &limit));
}

static int make_code(void)
{
	/* By number: musl's mmap() takes EPERM for a lack of memory. */
	return error_of(syscall(
		SYS_mmap, NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static int turn_data_into_code(void)
{
	void *data = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return data == MAP_FAILED ? 0 : error_of(mprotect(data, 4096, PROT_READ | PROT_EXEC));
}

static int make_a_socket(int family)
{
	int sock = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error = error_of(sock);
	if (sock >= 0)
		close(sock);
	return error;
}

static int make_a_tcp_socket(void)
{
	return make_a_socket(AF_INET);
}

static int make_a_unix_socket(void)
{
	return make_a_socket(AF_UNIX);
}

static int make_a_netlink_socket(void)
{
	int sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
	int error = error_of(sock);
	if (sock >= 0)
		close(sock);
	return error;
}

static int leave_namespaces(void)
{
	return error_of(unshare(0));
}

static int become_somebody(void)
{
	return error_of(setuid(getuid()));
}

static int change_the_process(void)
{
	return error_of(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int change_the_directory(void)
{
	return error_of(chdir("/"));
}

static int link_a_file(void)
{
	return error_of(link("/nowhere/at/all", "/nowhere/either"));
}

static int open_a_file(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int error = error_of(fd);
	if (fd >= 0)
		close(fd);
	return error;
}

static int make_memory(void)
{
	int fd = (int)syscall(SYS_memfd_create, "test", MFD_CLOEXEC);
	int error = error_of(fd);
	if (fd >= 0)
		close(fd);
	return error;
}

static void *do_nothing(void *data)
{
	return data;
}

static int start_a_thread(void)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, do_nothing, NULL);
	return error ? error : pthread_join(thread, NULL);
}

/*
 * Trying
 */

enum program {
	NOBODY,
	SERVER,
	SERVER_WITH_METRICS,
	DEVICE,
	DEVICE_THAT_CONNECTS,
	DEVICE_THAT_IS_KEPT,
};

static char said[600];

static void note_line(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	snprintf(said, sizeof(said), "%s", line);
}

static struct log log_to_say = {.level = LOG_LEVEL_INFO, .sink = note_line};

static int enter(enum program program)
{
	const struct server_sandbox_config server = {.confine = true,
		.serves_http = program == SERVER_WITH_METRICS,
		.resolves_names = true};
	const struct device_sandbox_config device = {
		.confine = true,
		.connects = program == DEVICE_THAT_CONNECTS || program == DEVICE_THAT_IS_KEPT,
		.holds = program == DEVICE_THAT_IS_KEPT,
	};

	switch (program) {
	case NOBODY:
		return 0;
	case SERVER:
	case SERVER_WITH_METRICS:
		return server_sandbox_enter(&server, &log_to_say);
	case DEVICE:
	case DEVICE_THAT_CONNECTS:
	case DEVICE_THAT_IS_KEPT:
		break;
	}
	return device_sandbox_enter(&device, &log_to_say);
}

/* What a child of this program gets when it tries. */
static int outcome(enum program program, int (*attempt)(void))
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0)
		_exit(enter(program) < 0 ? CANNOT_ENTER : attempt());
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const struct {
	const char *what;
	int (*attempt)(void);
} forbidden[] = {
	{"run a program", run_a_program},
	{"run a descriptor", run_a_descriptor},
	{"fork", fork_a_child},
	{"ptrace", be_traced},
	{"read another process", read_another_process},
	{"kill", send_a_signal},
	{"tgkill", send_a_signal_to_a_thread},
	{"tkill", send_a_signal_to_any_thread},
	{"another's limits", change_limits_of_another},
	{"mmap code", make_code},
	{"mprotect code", turn_data_into_code},
	{"netlink", make_a_netlink_socket},
	{"unshare", leave_namespaces},
	{"setuid", become_somebody},
	{"prctl", change_the_process},
	{"chdir", change_the_directory},
	{"link", link_a_file},
};

static void expect_forbidden(enum program program)
{
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		if (outcome(NOBODY, forbidden[i].attempt) == EPERM)
			fail_msg("%s: not even outside", forbidden[i].what);
		int inside = outcome(program, forbidden[i].attempt);
		if (inside != (SANITIZED ? outcome(NOBODY, forbidden[i].attempt) : EPERM))
			fail_msg("%s: %s", forbidden[i].what, strerror(inside));
	}
	/* A C library that is told so takes clone(). */
	assert_int_equal(outcome(program, ask_for_clone3), SANITIZED ? EINVAL : ENOSYS);
	assert_int_equal(outcome(program, start_a_thread), 0);
	assert_int_equal(outcome(program, signal_itself), 0);
	assert_int_equal(outcome(program, raise_a_signal), 0);
}

static void expect(enum program program, int (*attempt)(void), int error)
{
	assert_int_equal(outcome(program, attempt), SANITIZED ? 0 : error);
}

static void test_server(void **state)
{
	(void)state;
	expect_forbidden(SERVER);
	expect(SERVER, make_a_tcp_socket, EPERM);
	expect(SERVER, make_a_unix_socket, 0);
	expect(SERVER, open_a_file, 0);
	expect(SERVER, make_memory, 0);
}

static void test_server_with_metrics(void **state)
{
	(void)state;
	expect_forbidden(SERVER_WITH_METRICS);
	expect(SERVER_WITH_METRICS, make_a_tcp_socket, 0);
}

static void test_device(void **state)
{
	(void)state;
	expect_forbidden(DEVICE);
	expect(DEVICE, make_a_tcp_socket, EPERM);
	expect(DEVICE, make_a_unix_socket, EPERM);
	expect(DEVICE, open_a_file, EPERM);
}

static void test_device_that_connects(void **state)
{
	(void)state;
	expect_forbidden(DEVICE_THAT_CONNECTS);
	expect(DEVICE_THAT_CONNECTS, make_a_tcp_socket, EPERM);
	expect(DEVICE_THAT_CONNECTS, make_a_unix_socket, 0);
	expect(DEVICE_THAT_CONNECTS, open_a_file, EPERM);
}

static void test_device_that_is_kept(void **state)
{
	(void)state;
	expect_forbidden(DEVICE_THAT_IS_KEPT);
	expect(DEVICE_THAT_IS_KEPT, make_a_tcp_socket, EPERM);
	expect(DEVICE_THAT_IS_KEPT, make_memory, 0);
	expect(DEVICE_THAT_IS_KEPT, open_a_file, EPERM);
}

static int enter_as_nobody_that_is(void)
{
	const struct server_sandbox_config server = {.user = "no user has:this name"};

	if (server_sandbox_enter(&server, &log_to_say) == 0)
		return 0;
	return strcmp(said, "--user no user has:this name: no such user") == 0 ? 1 : 2;
}

static void test_user_that_is_not_there(void **state)
{
	(void)state;
	assert_int_equal(outcome(NOBODY, enter_as_nobody_that_is), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_server),
		TEST(test_server_with_metrics),
		TEST(test_device),
		TEST(test_device_that_connects),
		TEST(test_device_that_is_kept),
		TEST(test_user_that_is_not_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
