/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. docs/decisions/0005-libseccomp.md has the reasons; in short:
 *
 * What is not in the list fails with EPERM and does not kill: a C library that one day takes
 * another system call for the same job would otherwise kill the devices of running virtual
 * machines, and whoever has taken over the process gains nothing by an error code. Only one answer
 * is different: clone3() does not exist, so that threads are made by clone(), whose flags can be
 * looked at.
 *
 * The loop is made afterwards, so a libuv that would use io_uring, past every filter, is refused
 * that and uses epoll.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
	__has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Called with any arguments. Names that an architecture or a libseccomp does not have are fine. */
static const char *const allowed[] = {
	/* the loop */
	"epoll_create1",
	"epoll_ctl",
	"epoll_wait",
	"epoll_pwait",
	"epoll_pwait2",
	"eventfd2",
	"pipe2",
	"poll",
	"ppoll",
	"fcntl",
	"fcntl64",
	"close",
	"clock_gettime",
	"clock_gettime64",
	"timer_settime",
	"timer_settime64",
	"timer_delete",
	/* sockets and doorbells */
	"accept4",
	"recvmsg",
	"sendmsg",
	"sendto",
	"shutdown",
	"getsockopt",
	"read",
	"readv",
	"preadv2",
	"write",
	"writev",
	"fstat",
	"fstat64",
	"newfstatat",
	"statx",
	"lseek",
	"_llseek",
	/* memory */
	"brk",
	"munmap",
	"mremap",
	"madvise",
	"getrandom",
	/* signals, threads, the end */
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"sigreturn",
	"restart_syscall",
	"futex",
	"futex_time64",
	"sched_yield",
	"getpid",
	"gettid",
	"set_robust_list",
	"rseq",
	"nanosleep",
	"clock_nanosleep",
	"clock_nanosleep_time64",
	"exit",
	"exit_group",
	"lstat",
	"lstat64",
	"fstatat64",
	"unlink",
	"unlinkat",
};

/* For a late server, and for a syslog that comes back. */
static const char *const allowed_to_connect[] = {
	"connect",
	"setsockopt",
	"sched_getaffinity",
};

static int allow(scmp_filter_ctx filter, const char *const *names, size_t n)
{
	int error = 0;
	for (size_t i = 0; i < n && error == 0; i++) {
		int number = seccomp_syscall_resolve_name(names[i]);
		if (number != __NR_SCMP_ERROR)
			error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
	}
	return error;
}

#define allow_names(filter, names) allow(filter, names, sizeof(names) / sizeof((names)[0]))
#define allow_if(filter, name, ...)                                                                \
	seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(name), 1, __VA_ARGS__)

/* Calls of which only some are harmless. */
static int allow_with_conditions(scmp_filter_ctx filter, bool connects)
{
	const struct scmp_arg_cmp no_exec = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	int error = allow_if(filter, mmap, no_exec);
	if (error == 0)
		error = allow_if(filter, mmap2, no_exec);
	if (error == 0)
		error = allow_if(filter, mprotect, no_exec);
	if (error == 0) /* libuv's way to make a descriptor non-blocking */
		error = allow_if(filter, ioctl, SCMP_A1(SCMP_CMP_EQ, FIONBIO));
	if (error == 0)
		error = allow_if(filter, kcmp, SCMP_A2(SCMP_CMP_EQ, KCMP_FILE));
	if (error == 0)
		error = allow_if(
			filter, clone, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	if (error == 0) /* the watchdog's */
		error = allow_if(filter, tgkill, SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
	if (error == 0)
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (error != 0 || !connects)
		return error;
	error = allow_names(filter, allowed_to_connect);
	if (error == 0)
		error = allow_if(filter, socket, SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
	return error;
}

static int filter_system_calls(bool connects)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return -ENOMEM;
	int error = allow_names(filter, allowed);
	if (error == 0)
		error = allow_with_conditions(filter, connects);
	if (error == 0) /* the most frequent ones are not to be looked for long */
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error == 0)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error;
}

/* Only who has CAP_SETPCAP can do this; others gain nothing from what is in there. */
static void drop_bounding_set(void)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int become(const char *user, struct log *log)
{
	errno = 0;
	const struct passwd *entry = getpwnam(user);
	if (!entry) {
		log_error(log, "--user %s: %s", user, errno ? strerror(errno) : "no such user");
		return -1;
	}
	if (initgroups(entry->pw_name, entry->pw_gid) < 0 ||
		setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
		setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0) {
		log_error(log, "--user %s: %m: only root can become somebody else", user);
		return -1;
	}
	return 0;
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}};

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int sandbox_enter(const struct sandbox_config *config, struct log *log)
{
	if (config->confine)
		drop_bounding_set();
	if (config->user && become(config->user, log) < 0)
		return -1;
	if (!config->confine)
		return 0;
	if (SANITIZED) {
		log_warning(log, "no sandbox: a sanitizer is built in and needs its own calls");
		return 0;
	}
	tzset(); /* syslog() would read the time zone from a file */
	int error = drop_capabilities();
	if (error == 0)
		error = filter_system_calls(config->connects);
	if (error == 0)
		return 0;
	log_error(log, "cannot enter the sandbox: %s: --no-sandbox goes without", strerror(-error));
	return -1;
}
