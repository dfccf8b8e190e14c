/* SPDX-License-Identifier: MIT */
/*
 * Who is at the other end: real sockets, a process file system of the test's own, and, where it has
 * to be another kernel or another security module, what getsockopt() says.
 */
#include "server/identity.h"

#include "../common/fdcheck.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

/*
 * getsockopt() as the test wants it
 */

static struct {
	bool no_pidfd;     /* Linux before 6.5 */
	pid_t pidfd_of;    /* the connection was made by this process; 0: as it is */
	const char *label; /* what a security module says of the socket */
	size_t groups;     /* so many, in place of the real ones */
	bool no_groups;    /* it does not say which groups */
} kernel;

int __real_getsockopt(int sock, int level, int option, void *value, socklen_t *size);
int __wrap_getsockopt(int sock, int level, int option, void *value, socklen_t *size);

static int give(const void *from, size_t length, void *to, socklen_t *size)
{
	socklen_t room = *size;
	*size = (socklen_t)length;
	if (length > room) {
		errno = ERANGE;
		return -1;
	}
	memcpy(to, from, length);
	return 0;
}

static int give_groups(void *value, socklen_t *size)
{
	gid_t *groups = calloc(kernel.groups, sizeof(*groups));
	for (size_t i = 0; i < kernel.groups; i++)
		groups[i] = (gid_t)(1000 + i);
	int result = give(groups, kernel.groups * sizeof(*groups), value, size);
	free(groups);
	return result;
}

int __wrap_getsockopt(int sock, int level, int option, void *value, socklen_t *size)
{
	if (option == SO_PEERPIDFD && kernel.no_pidfd) {
		errno = ENOPROTOOPT;
		return -1;
	}
	if (option == SO_PEERPIDFD && kernel.pidfd_of != 0) {
		*(int *)value = (int)syscall(SYS_pidfd_open, kernel.pidfd_of, 0);
		return *(int *)value < 0 ? -1 : 0;
	}
	if (option == SO_PEERSEC && kernel.label)
		return give(kernel.label, strlen(kernel.label) + 1, value, size);
	if (option == SO_PEERGROUPS && kernel.no_groups) {
		errno = ENOPROTOOPT;
		return -1;
	}
	if (option == SO_PEERGROUPS && kernel.groups != 0)
		return give_groups(value, size);
	return __real_getsockopt(sock, level, option, value, size);
}

/*
 * A process file system with one process in it
 */

static char proc[64];

static const char *place(pid_t pid, const char *name)
{
	static char path[128];
	snprintf(path, sizeof(path), "%s/%d/%s", proc, (int)pid, name);
	return path;
}

static void put(pid_t pid, const char *name, const char *text)
{
	FILE *file = fopen(place(pid, name), "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

static void put_uid(pid_t pid, uid_t real, uid_t effective, uid_t saved)
{
	char text[128];
	snprintf(text, sizeof(text), "Name:\tx\nUid:\t%u\t%u\t%u\t%u\nGid:\t0\t0\t0\t0\n", real,
		effective, saved, effective);
	put(pid, "status", text);
}

static void put_executable(pid_t pid, const char *path)
{
	(void)unlink(place(pid, "exe"));
	assert_int_equal(symlink(path, place(pid, "exe")), 0);
}

static void make_process(pid_t pid)
{
	assert_int_equal(mkdir(place(pid, ""), 0700), 0);
	assert_int_equal(mkdir(place(pid, "attr"), 0700), 0);
	put_uid(pid, geteuid(), geteuid(), geteuid());
	put_executable(pid, "/usr/bin/fake");
	put(pid, "cgroup", "0::/machine.slice/machine-web.scope\n");
}

static void remove_process(pid_t pid)
{
	static const char *const names[] = {
		"attr/current", "attr", "status", "exe", "cgroup", "", NULL};
	for (size_t i = 0; names[i]; i++)
		(void)remove(place(pid, names[i]));
}

static int setup(void **state)
{
	memset(&kernel, 0, sizeof(kernel));
	strcpy(proc, "/tmp/identity-XXXXXX");
	assert_non_null(mkdtemp(proc));
	make_process(getpid());
	return fdcheck_setup(state);
}

static int teardown(void **state)
{
	remove_process(getpid());
	assert_int_equal(rmdir(proc), 0);
	return fdcheck_teardown(state);
}

/* What is learnt of this process, which has a socket with itself. */
static struct identity learn_self(const char *where)
{
	struct identity identity;
	int ends[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	assert_int_equal(identity_of_socket(ends[0], where, &identity), 0);
	close(ends[0]);
	close(ends[1]);
	return identity;
}

static void expect_no_process_facts(const struct identity *identity)
{
	assert_string_equal(identity->executable, "");
	assert_string_equal(identity->cgroup, "");
	assert_string_equal(identity->machine, "");
	assert_string_equal(identity->label, "");
}

/*
 * Tests
 */

static void test_of_this_process_the_truth_is_learnt(void **state)
{
	(void)state;
	struct identity identity = learn_self("/proc");
	char path[IDENTITY_TEXT] = "", line[IDENTITY_TEXT + 4];
	gid_t groups[IDENTITY_MAX_GROUPS];

	assert_int_equal(identity.uid, geteuid());
	assert_int_equal(identity.gid, getegid());
	assert_int_equal(identity.pid, getpid());
	assert_int_equal(identity.n_groups, getgroups(IDENTITY_MAX_GROUPS, groups));
	assert_memory_equal(identity.groups, groups, identity.n_groups * sizeof(groups[0]));
	assert_false(identity.groups_cut);
	assert_true(readlink("/proc/self/exe", path, sizeof(path) - 1) > 0);
	assert_string_equal(identity.executable, path);

	FILE *file = fopen("/proc/self/cgroup", "r");
	assert_non_null(file);
	bool found = false;
	snprintf(path, sizeof(path), "%s", identity.cgroup);
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = found || (strncmp(line, "0::", 3) == 0 && strcmp(line + 3, path) == 0);
	}
	fclose(file);
	assert_true(found || path[0] == '\0');
}

static void test_facts_of_the_process_are_read(void **state)
{
	(void)state;
	put(getpid(), "cgroup",
		"12:cpu:/v1\n1:name=systemd:/v1\n"
		"0::/machine.slice/machine-qemu\\x2d3\\x2ddb\\x2d1.scope/libvirt/emulator\n");
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.executable, "/usr/bin/fake");
	assert_string_equal(identity.cgroup,
		"/machine.slice/machine-qemu\\x2d3\\x2ddb\\x2d1.scope/libvirt/emulator");
	assert_string_equal(identity.machine, "db-1");
}

static void test_without_proc_the_user_is_known(void **state)
{
	(void)state;
	struct identity identity = learn_self("/nonexistent");
	assert_int_equal(identity.uid, geteuid());
	expect_no_process_facts(&identity);

	char longest[400];
	memset(longest, '/', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	identity = learn_self(longest);
	assert_int_equal(identity.uid, geteuid());
	expect_no_process_facts(&identity);
}

static void test_text_that_does_not_fit_is_not_known(void **state)
{
	(void)state;
	char path[IDENTITY_TEXT + 1], line[IDENTITY_TEXT + 8];

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[IDENTITY_TEXT - 1] = '\0';
	put_executable(getpid(), path);
	snprintf(line, sizeof(line), "0::%s\n", path);
	put(getpid(), "cgroup", line);
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.executable, path);
	assert_string_equal(identity.cgroup, path);

	path[IDENTITY_TEXT - 1] = 'a';
	path[IDENTITY_TEXT] = '\0';
	put_executable(getpid(), path);
	snprintf(line, sizeof(line), "0::%s\n", path);
	put(getpid(), "cgroup", line);
	identity = learn_self(proc);
	expect_no_process_facts(&identity);
}

static void test_hostile_names_are_made_printable(void **state)
{
	(void)state;
	put_executable(getpid(), "/tmp/a\nb\033[2J\xff");
	put(getpid(), "cgroup", "0::/a\tb\x7f\xc3\xa4\n");
	put(getpid(), "attr/current", "evil\rprofile\n");
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.executable, "/tmp/a?b?[2J?");
	assert_string_equal(identity.cgroup, "/a?b???");
	assert_string_equal(identity.label, "evil?profile");
}

static void test_odd_cgroup_files_are_survived(void **state)
{
	(void)state;
	static const char *const odd[] = {
		"", "\n", "0::", "0:", "0::/cut/off", "1:cpu:/only\n", "\n\n\n", "x0::/no\n", NULL};
	for (size_t i = 0; odd[i]; i++) {
		put(getpid(), "cgroup", odd[i]);
		struct identity identity = learn_self(proc);
		assert_string_equal(identity.cgroup, "");
		assert_string_equal(identity.executable, "/usr/bin/fake");
	}
	/* The line that counts stands behind what is looked at. */
	FILE *file = fopen(place(getpid(), "cgroup"), "w");
	assert_non_null(file);
	for (int i = 0; i < 100000; i++)
		fprintf(file, "%d:x:/\n", i + 1);
	fputs("0::/late\n", file);
	fclose(file);
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.cgroup, "");
}

/* A socket whose other end a process has connected that is gone. */
static int connected_by_the_dead(pid_t *dead, bool reap)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX}; /* abstract, the kernel names it */
	socklen_t size = sizeof(sa_family_t);

	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listener, 1), 0);
	size = sizeof(address);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	*dead = fork();
	if (*dead == 0) {
		int sock = socket(AF_UNIX, SOCK_STREAM, 0);
		_exit(connect(sock, (struct sockaddr *)&address, size) == 0 ? 0 : 1);
	}
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)*dead, &info, WEXITED | (reap ? 0 : WNOWAIT)), 0);
	assert_int_equal(info.si_status, 0);
	int sock = accept(listener, NULL, NULL);
	assert_true(sock >= 0);
	close(listener);
	return sock;
}

/* The process file system still has (or has again) a process of that number. */
static void expect_dead_has_no_facts(bool reap)
{
	struct identity identity;
	pid_t dead;

	int sock = connected_by_the_dead(&dead, reap);
	make_process(dead);
	assert_int_equal(identity_of_socket(sock, proc, &identity), 0);
	assert_int_equal(identity.uid, geteuid());
	assert_int_equal(identity.pid, dead);
	expect_no_process_facts(&identity);
	remove_process(dead);
	if (!reap)
		waitpid(dead, NULL, 0);
	close(sock);
}

static void test_of_the_dead_only_the_user_is_known(void **state)
{
	(void)state;
	expect_dead_has_no_facts(true);
	expect_dead_has_no_facts(false);
	kernel.no_pidfd = true;
	expect_dead_has_no_facts(true);
	expect_dead_has_no_facts(false);
}

static void test_pid_that_is_somebody_elses_now_tells_nothing(void **state)
{
	(void)state;
	/* Who connected is a zombie; its number, as the socket has it, is ours. */
	kernel.pidfd_of = fork();
	if (kernel.pidfd_of == 0)
		_exit(0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)kernel.pidfd_of, &info, WEXITED | WNOWAIT), 0);
	struct identity identity = learn_self(proc);
	assert_int_equal(identity.pid, getpid());
	expect_no_process_facts(&identity);
	/* And when there is nothing left of it. */
	waitpid(kernel.pidfd_of, NULL, 0);
	identity = learn_self(proc);
	expect_no_process_facts(&identity);
}

static void test_old_kernel_compares_the_user(void **state)
{
	(void)state;
	uid_t other = geteuid() + 1;

	kernel.no_pidfd = true;
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.executable, "/usr/bin/fake");
	assert_string_equal(identity.machine, "web");

	put_uid(getpid(), other, other, other);
	identity = learn_self(proc);
	expect_no_process_facts(&identity);
	put_uid(getpid(), other, other, geteuid());
	identity = learn_self(proc);
	assert_string_equal(identity.executable, "/usr/bin/fake");

	static const char *const odd[] = {
		"", "Uid:\n", "Uid:\tx\n", "Uid:\t\n-\n", "Gid:\t0\t0\t0\t0\n", NULL};
	for (size_t i = 0; odd[i]; i++) {
		put(getpid(), "status", odd[i]);
		identity = learn_self(proc);
		expect_no_process_facts(&identity);
	}
	/* A kernel that knows the process does not need to compare. */
	kernel.no_pidfd = false;
	identity = learn_self(proc);
	assert_string_equal(identity.executable, "/usr/bin/fake");
}

static void test_label_of_the_socket_goes_before_the_process(void **state)
{
	(void)state;
	put(getpid(), "attr/current", "of-process (enforce)\n");
	struct identity identity = learn_self(proc);
	assert_string_equal(identity.label, "of-process (enforce)");
	kernel.label = "system_u:system_r:svirt_t:s0:c1,c2";
	identity = learn_self(proc);
	assert_string_equal(identity.label, kernel.label);
	identity = learn_self("/nonexistent");
	assert_string_equal(identity.label, kernel.label);

	char too_long[IDENTITY_TEXT + 1];
	memset(too_long, 'l', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	kernel.label = too_long;
	identity = learn_self("/nonexistent");
	assert_string_equal(identity.label, "");
}

static void test_groups_up_to_a_limit(void **state)
{
	(void)state;
	static const size_t numbers[] = {1, IDENTITY_MAX_GROUPS, IDENTITY_MAX_GROUPS + 1, 65536};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		kernel.groups = numbers[i];
		struct identity identity = learn_self(proc);
		bool cut = numbers[i] > IDENTITY_MAX_GROUPS;
		assert_int_equal(identity.groups_cut, cut);
		assert_int_equal(identity.n_groups, cut ? IDENTITY_MAX_GROUPS : numbers[i]);
		assert_true(identity_in_group(&identity, 1000));
		assert_true(identity_in_group(&identity, 1000 + identity.n_groups - 1));
		assert_false(identity_in_group(&identity, 1000 + identity.n_groups));
	}
}

/* Not known is not the same as none: a rule that denies a group must hold then. */
static void test_groups_that_are_not_known(void **state)
{
	(void)state;
	kernel.no_groups = true;
	struct identity identity = learn_self(proc);
	assert_true(identity.groups_cut);
	assert_int_equal(identity.n_groups, 0);
}

static void test_own_group_counts(void **state)
{
	(void)state;
	struct identity identity = {.gid = 5, .groups = {6, 7}, .n_groups = 1};
	assert_true(identity_in_group(&identity, 5));
	assert_true(identity_in_group(&identity, 6));
	assert_false(identity_in_group(&identity, 7));
}

static void test_not_a_connection(void **state)
{
	(void)state;
	struct identity identity;
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_int_equal(identity_of_socket(sock, "/proc", &identity), -ENOTCONN);
	assert_true(identity.uid == (uid_t)-1);
	assert_int_equal(identity_of_socket(-1, "/proc", &identity), -EBADF);
	close(sock);
	sock = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_int_equal(identity_of_socket(sock, "/proc", &identity), -ENOTSOCK);
	close(sock);
}

static void test_machine_of_a_cgroup(void **state)
{
	(void)state;
	static const struct {
		const char *cgroup, *machine;
	} table[] = {
		{"/machine.slice/machine-qemu\\x2d3\\x2dweb.scope", "web"},
		{"/machine.slice/machine-qemu\\x2d3\\x2dweb.scope/libvirt/vcpu0", "web"},
		{"/machine.slice/machine-qemu\\x2d12\\x2da\\x2d7.b.scope", "a-7.b"},
		{"/machine.slice/machine-production.slice/machine-qemu\\x2d1\\x2dx.scope", "x"},
		{"/production.slice/machine-qemu\\x2d1\\x2dx.scope", "x"},
		{"/machine-x.scope", "x"},
		{"/machine.slice/machine-debian.scope/payload/init.scope", "debian"},
		{"/machine.slice/machine-a\\x2db.scope", "a-b"},
		/* Not libvirt's prefix, so part of the name. */
		{"/machine.slice/machine-qemu\\x2dx\\x2dy.scope", "qemu-x-y"},
		{"/machine.slice/machine-qemu\\x2d3\\x2d.scope", "qemu-3-"},
		{"/machine.slice/machine-qemu\\x2d3.scope", "qemu-3"},
		{"/machine.slice/machine-qemu\\x2d.scope", "qemu-"},
		{"/machine.slice/machine-qemu\\x2d\\x2dx.scope", "qemu--x"},
		{"/machine.slice/machine-lxc\\x2d3\\x2dx.scope", "lxc-3-x"},
		/* Made printable. */
		{"/machine.slice/machine-\\x0a\\x00\\xff.scope", "???"},
		/* In no scope of the system's manager: its owner has chosen the name. */
		{"/user.slice/user-1000.slice/user@1000.service/machine-qemu\\x2d1\\x2dvm.scope",
			""},
		{"/user.slice/user-1000.slice/user@1000.service/machine.slice/machine-vm.scope",
			""},
		{"/user.slice/user-1000.slice/session-1.scope/machine-vm.scope", ""},
		{"/system.slice/docker-0.scope/machine.slice/machine-vm.scope", ""},
		/* A machine in a machine is the outer one. */
		{"/machine.slice/machine-out.scope/payload/machine.slice/machine-in.scope", "out"},
		{"/../machine.slice/machine-vm.scope", ""},
		/* No names. */
		{"", ""},
		{"/", ""},
		{"//", ""},
		{"machine-vm.scope", ""},
		{"/machine.slice", ""},
		{"/machine.slice/", ""},
		{"/machine.slice/machine-.scope", ""},
		{"/machine.slice/machine-vm", ""},
		{"/machine.slice/machine-vm.service", ""},
		{"/machine.slice/.scope", ""},
		{"/.slice/machine-vm.scope", ""},
		{"/machine.slice/machine-a\\.scope", ""},
		{"/machine.slice/machine-a\\x2.scope", ""},
		{"/machine.slice/machine-a\\x2", ""},
		{"/machine.slice/machine-a\\x2D.scope", ""},
		{"/machine.slice/machine-a\\y2d.scope", ""},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char machine[IDENTITY_TEXT] = "?";
		identity_machine_of_cgroup(table[i].cgroup, machine);
		if (strcmp(machine, table[i].machine) != 0)
			fail_msg("%s: '%s'", table[i].cgroup, machine);
	}
}

static void test_longest_machine(void **state)
{
	(void)state;
	char cgroup[1024], machine[IDENTITY_TEXT];
	for (int length = 230; length < 270; length++) {
		snprintf(cgroup, sizeof(cgroup), "/machine.slice/machine-%0*d.scope", length, 0);
		identity_machine_of_cgroup(cgroup, machine);
		bool fits = length + (int)strlen("machine-.scope") < IDENTITY_TEXT;
		assert_int_equal(strlen(machine), fits ? length : 0);
	}
}

#define CASE(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_of_this_process_the_truth_is_learnt),
		CASE(test_facts_of_the_process_are_read),
		CASE(test_without_proc_the_user_is_known),
		CASE(test_text_that_does_not_fit_is_not_known),
		CASE(test_hostile_names_are_made_printable),
		CASE(test_odd_cgroup_files_are_survived),
		CASE(test_of_the_dead_only_the_user_is_known),
		CASE(test_pid_that_is_somebody_elses_now_tells_nothing),
		CASE(test_old_kernel_compares_the_user),
		CASE(test_label_of_the_socket_goes_before_the_process),
		CASE(test_groups_up_to_a_limit),
		CASE(test_groups_that_are_not_known),
		TEST(test_own_group_counts),
		TEST(test_not_a_connection),
		TEST(test_machine_of_a_cgroup),
		TEST(test_longest_machine),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
