/* SPDX-License-Identifier: MIT */
#include "sandbox.h"

#include "daemon/sandbox.h"

#include <linux/kcmp.h>
#include <stddef.h>
#include <sys/socket.h>

static const struct sandbox_call nothing[] = {SANDBOX_END};

static const struct sandbox_call serving[] = {
	SANDBOX_ALWAYS("preadv2"), /* doorbells, without hanging on one */
	SANDBOX_IF("kcmp", 2, SANDBOX_EXACTLY, KCMP_FILE),
	/* the watchdog */
	SANDBOX_ALWAYS("timer_settime"),
	SANDBOX_ALWAYS("timer_settime64"),
	SANDBOX_ALWAYS("timer_delete"),
	SANDBOX_END,
};

/* For a late server, and for a syslog that comes back. */
static const struct sandbox_call connecting[] = {
	SANDBOX_IF("socket", 0, SANDBOX_EXACTLY, AF_UNIX),
	SANDBOX_ALWAYS("connect"),
	SANDBOX_ALWAYS("setsockopt"),
	SANDBOX_ALWAYS("sched_getaffinity"),
	SANDBOX_END,
};

/* For descriptors and memory that outlive the process. */
static const struct sandbox_call holding[] = {
	SANDBOX_ALWAYS("recvmmsg"),
	SANDBOX_ALWAYS("sendmmsg"),
	SANDBOX_IF("socketpair", 0, SANDBOX_EXACTLY, AF_UNIX),
	SANDBOX_ALWAYS("setsockopt"),
	SANDBOX_ALWAYS("getpeername"),
	SANDBOX_ALWAYS("memfd_create"),
	SANDBOX_ALWAYS("ftruncate"),
	SANDBOX_ALWAYS("ftruncate64"),
	SANDBOX_ALWAYS("fchmod"),
	SANDBOX_ALWAYS("mlock"),
	SANDBOX_END,
};

/* For clients of the control socket, and who they are. */
static const struct sandbox_call control[] = {
	SANDBOX_ALWAYS("recv"),
	SANDBOX_ALWAYS("recvfrom"),
	SANDBOX_ALWAYS("send"),
	SANDBOX_ALWAYS("geteuid"),
	SANDBOX_ALWAYS("geteuid32"),
	SANDBOX_END,
};

int device_sandbox_enter(const struct device_sandbox_config *config, struct log *log)
{
	const struct sandbox_call *const calls[] = {serving, config->holds ? holding : nothing,
		config->controlled ? control : nothing, config->connects ? connecting : NULL, NULL};
	const struct sandbox_config sandbox = {
		.user = config->user, .confine = config->confine, .calls = calls};

	return sandbox_enter(&sandbox, log);
}
