/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Unlike a device's process, which opens all that it needs and then enters its
 * sandbox, the server makes regions and sockets as long as it runs, and is started again over what
 * it has left. So it enters before it opens anything: what works at the start works after a reload
 * and a restart, too, and what parses the configuration and the kept state is confined as well. It
 * can open files then; which ones is up to its user, so --user is the better half of this.
 *
 * As root it keeps the capabilities that an option or a rule rests on. They are of use only
 * together with a system call of the list: CAP_SYS_PTRACE says of which executable a peer is, and
 * there is no ptrace(). But there is open(), and files of root are most of a machine.
 */
#include "sandbox.h"

#include "daemon/sandbox.h"

#include <grp.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <pwd.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define ANY      SANDBOX_ALWAYS
#define BIT(bit) (UINT64_C(1) << (bit))

/* Either of two lifts the limit of descriptors in flight. In a container there may be the one. */
static uint64_t capabilities(void)
{
	bool has_resource = prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE, 0, 0, 0) > 0;

	return BIT(CAP_CHOWN) | BIT(CAP_FOWNER) |
		BIT(CAP_DAC_OVERRIDE) | /* sockets and files of others */
		BIT(CAP_SYS_PTRACE) |   /* who a peer is */
		BIT(has_resource ? CAP_SYS_RESOURCE : CAP_SYS_ADMIN) |
		BIT(CAP_IPC_LOCK) |        /* the kept state; huge pages */
		BIT(CAP_NET_BIND_SERVICE); /* --metrics 80 */
}

static const struct sandbox_call serving[] = {
	/* peers, sockets, syslog, systemd */
	ANY("sendmmsg"),
	ANY("recvfrom"),
	ANY("recv"),
	ANY("send"),
	SANDBOX_IF("socket", 0, SANDBOX_EXACTLY, AF_UNIX),
	SANDBOX_IF("socketpair", 0, SANDBOX_EXACTLY, AF_UNIX),
	ANY("bind"),
	ANY("listen"),
	ANY("connect"),
	ANY("getsockname"),
	ANY("getpeername"),
	ANY("setsockopt"),
	SANDBOX_IF("ioctl", 1, SANDBOX_EXACTLY, SIOCOUTQ),
	/* who they are */
	ANY("pidfd_open"),
	ANY("getuid"),
	ANY("getuid32"),
	ANY("geteuid"),
	ANY("geteuid32"),
	ANY("getgid"),
	ANY("getgid32"),
	ANY("getegid"),
	ANY("getegid32"),
	/* files: the configuration, /proc, memory, sockets, metrics */
	ANY("open"),
	ANY("openat"),
	ANY("stat"),
	ANY("stat64"),
	ANY("access"),
	ANY("faccessat"),
	ANY("faccessat2"),
	ANY("readlink"),
	ANY("readlinkat"),
	ANY("pread64"),
	ANY("pwrite64"),
	ANY("ftruncate"),
	ANY("ftruncate64"),
	ANY("fallocate"),
	ANY("fstatfs"),
	ANY("fstatfs64"),
	ANY("statfs"),
	ANY("statfs64"),
	ANY("linkat"),
	ANY("getdents64"),
	ANY("flock"),
	ANY("umask"),
	ANY("mkdir"),
	ANY("mkdirat"),
	ANY("rename"),
	ANY("renameat"),
	ANY("renameat2"),
	ANY("chmod"),
	ANY("fchmod"),
	ANY("fchmodat"),
	ANY("lchown"),
	ANY("lchown32"),
	ANY("fchownat"),
	ANY("dup2"),
	ANY("dup3"),
	/* memory */
	ANY("memfd_create"),
	ANY("mbind"),
	ANY("mlock"),
	/* the process */
	ANY("capget"),
	ANY("getrlimit"),
	ANY("ugetrlimit"),
	SANDBOX_IF("prlimit64", 0, SANDBOX_EXACTLY, 0), /* its own */
	ANY("getrusage"),
	ANY("sysinfo"),
	ANY("uname"),
	ANY("sched_getaffinity"),
	ANY("clock_getres"),
	ANY("clock_getres_time64"),
	SANDBOX_END,
};

static const struct sandbox_call http[] = {
	SANDBOX_IF("socket", 0, SANDBOX_EXACTLY, AF_INET),
	SANDBOX_IF("socket", 0, SANDBOX_EXACTLY, AF_INET6),
	SANDBOX_END,
};

/* The C library loads a module for each place where names may be kept. Inside it could not. */
static void load_name_services(void)
{
	(void)getpwnam(":"); /* nobody is called so: all of them are asked */
	(void)getgrnam(":");
}

int server_sandbox_enter(const struct server_sandbox_config *config, struct log *log)
{
	const struct sandbox_call *const calls[] = {
		serving, config->serves_http ? http : NULL, NULL};
	const struct sandbox_config sandbox = {
		.user = config->user,
		.confine = config->confine,
		.capabilities = capabilities(),
		.calls = calls,
	};

	if (config->resolves_names)
		load_name_services();
	return sandbox_enter(&sandbox, log);
}
