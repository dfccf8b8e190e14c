/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. docs/decisions/0005-libseccomp.md has the reasons; in short:
 *
 * What is not in the list fails with EPERM and does not kill: a C library that one day takes
 * another system call for the same job would otherwise end what running virtual machines depend on,
 * and whoever has taken over the process gains nothing by an error code. Only one answer is
 * different: clone3() does not exist, so that threads are made by clone(), whose flags can be
 * looked at.
 *
 * The loop is made afterwards, so a libuv that would use io_uring, past every filter, is refused
 * that and uses epoll.
 */
#include "daemon/sandbox.h"

#include "base/sanitized.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define ANY SANDBOX_ALWAYS

/* What everybody needs. Names that an architecture or a libseccomp does not have are fine. */
static const struct sandbox_call common[] = {
	/* the loop */
	ANY("epoll_create1"),
	ANY("epoll_ctl"),
	ANY("epoll_wait"),
	ANY("epoll_pwait"),
	ANY("epoll_pwait2"),
	ANY("eventfd2"),
	ANY("pipe2"),
	ANY("poll"),
	ANY("ppoll"),
	ANY("ppoll_time64"),
	ANY("fcntl"),
	ANY("fcntl64"),
	ANY("close"),
	ANY("clock_gettime"),
	ANY("clock_gettime64"),
	SANDBOX_IF("ioctl", 1, SANDBOX_EXACTLY, FIONBIO), /* libuv's, besides fcntl() */
	/* what is open, and sockets that listen */
	ANY("accept4"),
	ANY("recvmsg"),
	ANY("sendmsg"),
	ANY("sendto"),
	ANY("shutdown"),
	ANY("getsockopt"),
	ANY("read"),
	ANY("readv"),
	ANY("write"),
	ANY("writev"),
	ANY("fstat"),
	ANY("fstat64"),
	ANY("lstat"),
	ANY("lstat64"),
	ANY("fstatat64"),
	ANY("newfstatat"),
	ANY("statx"),
	ANY("lseek"),
	ANY("_llseek"),
	ANY("unlink"),
	ANY("unlinkat"),
	/* memory */
	ANY("brk"),
	SANDBOX_IF("mmap", 2, PROT_EXEC, 0),
	SANDBOX_IF("mmap2", 2, PROT_EXEC, 0),
	SANDBOX_IF("mprotect", 2, PROT_EXEC, 0),
	ANY("munmap"),
	ANY("mremap"),
	ANY("madvise"),
	ANY("getrandom"),
	/* signals, threads, the end */
	ANY("rt_sigaction"),
	ANY("rt_sigprocmask"),
	ANY("rt_sigreturn"),
	ANY("sigreturn"),
	ANY("restart_syscall"),
	ANY("futex"),
	ANY("futex_time64"),
	ANY("sched_yield"),
	ANY("getpid"),
	ANY("gettid"),
	SANDBOX_IF("clone", 0, CLONE_THREAD, CLONE_THREAD),
	ANY("set_robust_list"),
	ANY("rseq"),
	ANY("nanosleep"),
	ANY("clock_nanosleep"),
	ANY("clock_nanosleep_time64"),
	ANY("exit"),
	ANY("exit_group"),
	SANDBOX_END,
};

static int allow(scmp_filter_ctx filter, const struct sandbox_call *call)
{
	const struct scmp_arg_cmp condition =
		SCMP_CMP(call->argument, SCMP_CMP_MASKED_EQ, call->mask, call->value);
	int number = seccomp_syscall_resolve_name(call->name);

	if (number == __NR_SCMP_ERROR)
		return 0;
	int error =
		seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, call->mask != 0, &condition);
	return error == -EEXIST ? 0 : error; /* two lists may have the same */
}

static int allow_list(scmp_filter_ctx filter, const struct sandbox_call *list)
{
	int error = 0;
	for (; list->name && error == 0; list++)
		error = allow(filter, list);
	return error;
}

static int filter_system_calls(const struct sandbox_call *const *lists)
{
	/* For raise(), which is the second in musl: without a process, so to this thread only. */
	const struct sandbox_call to_itself[] = {
		SANDBOX_IF("tgkill", 0, SANDBOX_EXACTLY, (uint64_t)getpid()),
		SANDBOX_IF("tkill", 0, SANDBOX_EXACTLY, (uint64_t)getpid()),
		SANDBOX_END,
	};

	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	if (!filter)
		return -ENOMEM;
	int error = allow_list(filter, common);
	for (; *lists && error == 0; lists++)
		error = allow_list(filter, *lists);
	if (error == 0)
		error = allow_list(filter, to_itself);
	if (error == 0)
		error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (error == 0) /* the most frequent ones are not to be looked for long */
		error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (error == 0)
		error = seccomp_load(filter);
	seccomp_release(filter);
	return error;
}

/* Only who has CAP_SETPCAP can do this; others gain nothing from what is in there. */
static void drop_bounding_set(uint64_t kept)
{
	for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
		if (!(kept >> capability & 1))
			prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
}

static int become(const char *user, struct log *log)
{
	int of_parent = 0; /* the signal that comes when it ends: does not survive the change */

	errno = 0;
	const struct passwd *entry = getpwnam(user);
	if (!entry) {
		log_error(log, "--user %s: %s", user, errno ? strerror(errno) : "no such user");
		return -1;
	}
	(void)prctl(PR_GET_PDEATHSIG, &of_parent, 0, 0, 0);
	if (initgroups(entry->pw_name, entry->pw_gid) < 0 ||
		setresgid(entry->pw_gid, entry->pw_gid, entry->pw_gid) < 0 ||
		setresuid(entry->pw_uid, entry->pw_uid, entry->pw_uid) < 0) {
		log_error(log, "--user %s: %m: only root can become somebody else", user);
		return -1;
	}
	(void)prctl(PR_SET_PDEATHSIG, of_parent, 0, 0, 0);
	return 0;
}

/* Who has none needs no right to change them, which a unit's own filter may have taken. */
static int drop_capabilities(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2] = {{0}};
	uint32_t any = 0;

	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++) {
		any |= sets[i].permitted | sets[i].inheritable;
		sets[i].permitted &= (uint32_t)(kept >> 32 * i);
		sets[i].effective &= sets[i].permitted;
		sets[i].inheritable = 0;
	}
	if (any != 0 && syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
}

int sandbox_enter(const struct sandbox_config *config, struct log *log)
{
	if (config->confine)
		drop_bounding_set(config->capabilities);
	if (config->user && become(config->user, log) < 0)
		return -1;
	if (!config->confine)
		return 0;
	if (SANITIZED) {
		log_warning(log, "no sandbox: a sanitizer is built in and needs its own calls");
		return 0;
	}
	tzset(); /* syslog() would read the time zone from a file */
	int error = drop_capabilities(config->capabilities);
	if (error == 0)
		error = filter_system_calls(config->calls);
	if (error == 0)
		return 0;
	log_error(log, "cannot enter the sandbox: %s: --no-sandbox goes without", strerror(-error));
	return -1;
}
