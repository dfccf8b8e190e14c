/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. systemd's manager keeps what it is sent with FDSTORE=1 and passes it to the
 * unit's next process as if it were sockets of a socket unit, in no order, with the names in
 * LISTEN_FDNAMES. It does not answer. So that a descriptor is safe when systemd_put() returns, a
 * barrier follows: the manager closes a pipe when it has got that far, which costs a wake-up of
 * process 1 for each set. FDPOLL=0, as by default it lets go of a descriptor as soon as it polls as
 * hung up, and we would like to see that ourselves.
 *
 * A signal ends what sd-daemon waits for, and the device process has a timer that is one: the
 * longer the manager takes, the surer it would be that nothing can be held. So none is let in
 * meanwhile.
 *
 * What the manager would refuse silently is refused here: more than FDSTORE says, which versions
 * before 254 do not set (the unit does: Environment=FDSTORE=N beside FileDescriptorStoreMax=N), and
 * more names than fit into LISTEN_FDNAMES, as the kernel starts no program with an environment
 * variable of 128 KiB: then nothing would come back.
 */
#include "daemon/keep_internal.h"

#include "base/clock.h"
#include "base/parse.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define NAMES_MAX  122880u /* the rest is for names of sockets that the unit may get yet */
#define BARRIER_US 5000000u

int systemd_open(struct keep *keep)
{
	const char *store = getenv("FDSTORE");
	char **names = NULL;
	int result = 0;

	if (keep->holder == KEEP_NOBODY && store && getenv("NOTIFY_SOCKET") &&
		parse_uint(store, 1, UINT32_MAX, &keep->max) == 0)
		keep->holder = KEEP_SYSTEMD;
	unsetenv("FDSTORE");
	int n = sd_listen_fds_with_names(1, &names);
	if (n < 0) {
		log_error(keep->log, "LISTEN_FDS: %s", strerror(-n));
		return n;
	}
	for (int i = 0; i < n; i++) {
		int error = keep_received(keep, names[i], SD_LISTEN_FDS_START + i);
		if (error < 0)
			result = error;
		keep->names_size += strlen(names[i]) + 1;
		free(names[i]);
	}
	free(names);
	return result;
}

static void keep_signals_out(sigset_t *before)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, before);
}

static void let_signals_in(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

void systemd_drop(struct keep *keep, const char *held_as)
{
	unsigned held_back;
	sigset_t before;

	keep_signals_out(&before);
	int result = sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", held_as);
	let_signals_in(&before);
	if (result < 0 && log_allow(&keep->drops, clock_ms(), &held_back))
		log_warning(keep->log, "systemd keeps descriptor %s: %s (%u such lines held back)",
			held_as, strerror(-result), held_back);
	keep->names_size -= strlen(held_as) + 1;
}

int systemd_put(struct keep *keep, const char *held_as, int fd)
{
	char text[HELD_NAME_SIZE + 64];
	size_t size = strlen(held_as) + 1;
	sigset_t before;

	if (keep->names_size + size > NAMES_MAX)
		return -ENOSPC;
	snprintf(text, sizeof(text), "FDSTORE=1\nFDPOLL=0\nFDNAME=%s", held_as);
	keep_signals_out(&before);
	int sent = sd_pid_notify_with_fds(0, 0, text, &fd, 1);
	int result = sent < 0 ? sent : sd_notify_barrier(0, BARRIER_US);
	let_signals_in(&before);
	if (sent >= 0)
		keep->names_size += size;
	if (sent >= 0 && result < 0)
		systemd_drop(keep, held_as);
	return result < 0 ? result : 0;
}

void systemd_ready(struct keep *keep)
{
	int result = sd_notify(0, "READY=1"); /* does nothing if nobody asked for it */
	if (result < 0)
		log_warning(keep->log, "cannot tell systemd that we serve: %s", strerror(-result));
}
