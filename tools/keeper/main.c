/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A program that serves, the worker, ends sooner or later: killed, faulty, to
 * be replaced by a newer one. Its clients notice nothing if the next one gets its descriptors. So
 * we hold copies under names, whatever they are, in one poll() loop that never waits for it.
 *
 * The worker knows of all that stands in the list before `next`. What it puts goes there; what we
 * accept goes to the end. So a new worker and a new connection are one case: as long as there is a
 * `next`, tell the worker. We accept only when there is none. A connection is held before the
 * worker hears of it, and what a worker has sent is done even if it is dead by then: at no moment a
 * descriptor could get lost. Only a worker can end the clean way: for one that is killed first,
 * another is started. What it sends is checked; nonsense costs it its life, and the next one gets
 * what is held. A filter of system calls is left to the worker: it inherits ours.
 */
#include "config.h"

#include "common/descriptors.h"
#include "common/logsink.h"
#include "common/stdfds.h"
#include "daemon/keeper_protocol.h"

#include "base/clock.h"
#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_LISTENERS 4096
#define QUEUE         512   /* more messages to a worker than wait in ... */
#define QUEUE_BYTES   65536 /* ... which the kernel doubles */
#define OWN           64    /* descriptors for ourselves */
#define PAUSE_MS      100   /* when the system is short of something */
#define EARLY_MS      1000  /* who fails within this after its start is not started at once */

struct keeper {
	struct log *log;
	char **command;
	uint64_t max;
	int signals, sock; /* signalfd; to the worker, -1: none */
	pid_t pid;         /* of the worker, 0: none */
	struct held_names names;
	struct list listeners, *next;
	bool told, was_ready, guilty, ending;   /* told: END was sent; guilty: of nonsense */
	unsigned failures;                      /* in a row */
	uint64_t started, start_at, quiet_till; /* ms */
	int status;                             /* to exit with; -1: not yet */
};

/* False if this is nonsense; then the descriptor is still the caller's. */
static bool obey(struct keeper *keeper, const struct keeper_message *m, int fd)
{
	struct held *held = held_find(&keeper->names, m->name);

	/* Only what is put brings a descriptor; that, or nothing, is not there yet. */
	if ((fd >= 0) != (m->op == KEEPER_PUT) || !held != (fd >= 0 || m->op == KEEPER_READY))
		return false;
	switch (m->op) {
	case KEEPER_PUT: /* it could not know of what is in its queue: that is on top */
		return *m->name && keeper->names.count < keeper->max + QUEUE &&
			held_add(&keeper->names, m->name, fd, keeper->next);
	case KEEPER_DROP:
		if (keeper->next == &held->link)
			keeper->next = held->link.next;
		held_drop(&keeper->names, held);
		return true;
	case KEEPER_ACCEPT:
		memcpy(held->prefix, m->prefix, sizeof(held->prefix));
		held->number = m->number;
		list_remove(&held->accepting);
		if (*held->prefix)
			list_append(&keeper->listeners, &held->accepting);
		return true;
	case KEEPER_READY:
		return keeper->was_ready = true;
	}
	return false;
}

static void hang_up(struct keeper *keeper)
{
	if (keeper->sock >= 0)
		close(keeper->sock);
	keeper->sock = -1;
	while (!list_empty(&keeper->listeners))
		list_remove(keeper->listeners.next);
}

static void take_orders(struct keeper *keeper)
{
	struct keeper_message m;

	for (unsigned i = 0; i < QUEUE && keeper->sock >= 0; i++) {
		int fd = -1, result = keeper_receive(keeper->sock, false, &m, &fd);
		if (result == -EAGAIN)
			return;
		if (result > 0 && obey(keeper, &m, fd))
			continue;
		if (fd >= 0)
			close(fd);
		keeper->guilty = result != 0;
		if (keeper->guilty && keeper->pid)
			kill(keeper->pid, SIGKILL);
		hang_up(keeper);
	}
}

/* Tell the worker what it does not know, as far as it reads. */
static void tell(struct keeper *keeper)
{
	while (!keeper->told || keeper->next != &keeper->names.list) {
		struct keeper_message m = {.version = KEEPER_VERSION, .number = keeper->max};
		struct held *held = NULL;
		if (keeper->next != &keeper->names.list)
			held = container_of(keeper->next, struct held, link);
		m.op = held ? KEEPER_HELD : KEEPER_END;
		memcpy(m.name, held ? held->name : "", held ? sizeof(m.name) : 1);
		ssize_t sent = fdpass_send(keeper->sock, &m, sizeof(m), held ? held->fd : -1);
		if (sent < 0 && sent != -EAGAIN) /* too many are in messages, or it is dying */
			keeper->quiet_till = clock_ms() + PAUSE_MS;
		if (sent < 0)
			return;
		keeper->told = keeper->told || !held;
		keeper->next = held ? held->link.next : keeper->next;
	}
}

static void accept_one(struct keeper *keeper, struct held *listener)
{
	char name[HELD_NAME_SIZE];

	do {
		snprintf(name, sizeof(name), "%s.%" PRIu64, listener->prefix, listener->number++);
	} while (held_find(&keeper->names, name));
	fcntl(listener->fd, F_SETFL, O_NONBLOCK); /* the worker may have changed it */
	int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0 && held_add(&keeper->names, name, fd, keeper->next)) {
		keeper->next = keeper->names.list.prev;
		tell(keeper);
	} else if (fd >= 0 || errno != EAGAIN) { /* no memory, no descriptor, no listener */
		keeper->quiet_till = clock_ms() + PAUSE_MS;
		if (fd >= 0)
			close(fd);
	}
}

static _Noreturn void become_worker(const struct keeper *keeper, int sock)
{
	sigset_t held;
	char number[12];

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* if we have died before, the socket tells it */
	sigemptyset(&held);
	sigaddset(&held, SIGTERM);
	sigprocmask(SIG_SETMASK, &held, NULL); /* until it can end the clean way */
	fcntl(sock, F_SETFD, 0);
	snprintf(number, sizeof(number), "%d", sock);
	setenv(KEEPER_VARIABLE, number, 1);
	execvp(keeper->command[0], keeper->command);
	log_error(keeper->log, "cannot run %s: %m", keeper->command[0]);
	_exit(127);
}

static void start(struct keeper *keeper)
{
	int pair[2], size = QUEUE_BYTES;

	keeper->started = clock_ms();
	keeper->start_at = keeper->started + PAUSE_MS; /* if there is no worker then */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return;
	for (int end = 0; end < 2; end++)
		setsockopt(pair[end], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	pid_t pid = fork();
	if (pid == 0)
		become_worker(keeper, pair[1]);
	close(pair[1]);
	stdfds_replace_inherited(); /* that was for the first start */
	keeper->sock = pair[0];
	keeper->pid = pid > 0 ? pid : 0;
	keeper->next = keeper->names.list.next;
	keeper->told = keeper->guilty = false;
	keeper->quiet_till = 0;
	if (pid < 0)
		hang_up(keeper);
	else if (keeper->ending)
		kill(pid, SIGTERM);
}

/* The worker has ended: does that end us, or when does the next one start? */
static void reap(struct keeper *keeper)
{
	int status;
	if (keeper->pid == 0 || waitpid(keeper->pid, &status, WNOHANG) != keeper->pid)
		return;
	bool exited = WIFEXITED(status);
	int code = exited ? WEXITSTATUS(status) : WTERMSIG(status);
	log_info(keeper->log, "PID %d %s %d%s", (int)keeper->pid,
		exited ? "exited with status" : "was killed by signal", code,
		keeper->guilty ? ", for nonsense that it sent" : "");
	keeper->pid = 0;
	take_orders(keeper); /* it relied on what it has sent */
	hang_up(keeper);
	bool fault = keeper->guilty || exited || code != SIGKILL; /* not somebody else's kill */
	if ((keeper->ending && fault) || (exited && !keeper->was_ready)) /* else one more, to end */
		keeper->status = exited ? code : 128 + code;
	bool early = clock_ms() - keeper->started < EARLY_MS;
	keeper->failures = fault && early ? keeper->failures + (keeper->failures < 8) : 0;
	keeper->start_at = clock_ms() + (fault && early ? 5u << keeper->failures : 0);
}

static void take_signal(struct keeper *keeper)
{
	struct signalfd_siginfo info;
	if (read(keeper->signals, &info, sizeof(info)) != sizeof(info))
		return;
	bool end = info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT;
	if (info.ssi_signo == SIGCHLD)
		reap(keeper);
	else if (end)
		keeper->ending = !keeper->pid || kill(keeper->pid, SIGTERM) == 0;
	else if (info.ssi_signo == SIGHUP && keeper->pid && !keeper->ending)
		kill(keeper->pid, SIGKILL); /* an upgrade; it does no harm, by design */
}

static void turn(struct keeper *keeper)
{
	static struct pollfd polls[2 + MAX_LISTENERS];
	static struct held *listeners[2 + MAX_LISTENERS];
	bool behind = !keeper->told || keeper->next != &keeper->names.list;
	uint64_t wake = keeper->pid ? UINT64_MAX : keeper->start_at;
	nfds_t n = 2;

	polls[0] = (struct pollfd){keeper->signals, POLLIN, 0};
	polls[1] = (struct pollfd){keeper->sock, POLLIN, 0};
	if (clock_ms() < keeper->quiet_till)
		wake = keeper->quiet_till < wake ? keeper->quiet_till : wake;
	else if (behind)
		polls[1].events = POLLIN | POLLOUT;
	else if (keeper->names.count < keeper->max)
		list_for_each (link, &keeper->listeners)
			if (n < 2 + MAX_LISTENERS) {
				listeners[n] = container_of(link, struct held, accepting);
				polls[n] = (struct pollfd){listeners[n]->fd, POLLIN, 0};
				n++;
			}
	if (poll(polls, n, deadline_left(wake)) <= 0)
		return;
	if (polls[1].revents & POLLOUT)
		tell(keeper);
	/* In this order: what the worker wants, or its death, can drop a listener. */
	for (nfds_t i = 2; i < n && keeper->next == &keeper->names.list; i++)
		if (polls[i].revents && keeper->names.count < keeper->max)
			accept_one(keeper, listeners[i]);
	if (polls[1].revents)
		take_orders(keeper);
	if (polls[0].revents)
		take_signal(keeper);
}

int main(int argc, char **argv)
{
	struct keeper keeper = {.sock = -1, .status = -1};
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL); /* for signalfd */
	signal(SIGCHLD, SIG_DFL);
	if (stdfds_open() < 0)
		return EXIT_FAILURE;
	keeper.max = descriptors_raise();
	keeper.max -= keeper.max < QUEUE + OWN ? keeper.max : QUEUE + OWN;
	keeper.command = config_parse(argc, argv, &keeper.max);
	if (!keeper.command)
		return EXIT_USAGE;
	keeper.log = logsink_open("plain", "stderr", "ivshmem-keeper");
	keeper.signals = signalfd(-1, &all, SFD_CLOEXEC);
	if (!keeper.log || keeper.signals < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return EXIT_FAILURE;
	held_init(&keeper.names);
	list_init(&keeper.listeners);
	while (keeper.status < 0) {
		if (keeper.pid == 0 && (keeper.ending || clock_ms() >= keeper.start_at))
			start(&keeper);
		turn(&keeper);
	}
	exit(keeper.status); /* and let go of everything */
}
