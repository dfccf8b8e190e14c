/* SPDX-License-Identifier: MIT */
#include "kept_lab.h"

#include "traced.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * Before
 */

/* The newcomer connects to a socket on which nobody accepts yet. */
static int wait_at_listener(struct box *box)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(address);
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(connect(sock, (struct sockaddr *)&address, size), 0);
	close(box_new_client(box, NEWCOMER));
	assert_true(dup3(sock, box->clients[NEWCOMER].sock, O_CLOEXEC) >= 0);
	close(sock);
	return listener;
}

void lab_set_up(struct lab *lab, bool keeper_accepts)
{
	struct box *box = box_create(
		&(struct server_config){.vectors = 2, .max_peers = 16, .in_flight_limit = 16});

	assert_non_null(box);
	assert_int_equal(box_keep(box), 0);
	*lab = (struct lab){
		.box = box, .keeper_accepts = keeper_accepts, .newcomer = -1, .listener = -1};
	for (unsigned c = 0; c < NEWCOMER; c++) {
		assert_int_equal(box_connect(box, c), 0);
		box_run(box);
		for (unsigned reader = 0; reader < STUCK; reader++) {
			while (box_read(box, reader, 100) > 0)
				box_run(box);
		}
	}
	box_halt(box);
	box_disconnect(box, GONE);
	if (keeper_accepts) {
		lab->newcomer = box_new_client(box, NEWCOMER);
		box_hold_socket(box, NEWCOMER + 1, lab->newcomer);
	} else {
		lab->listener = wait_at_listener(box);
	}
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, lab->keeper), 0);
}

/*
 * The victim
 */

static void take_over(struct lab *lab)
{
	struct box *box = lab->box;
	char reason[160];

	/* The newcomer's connection comes later, from the keeper's queue. */
	for (unsigned i = 0; i < box->n_held; i++) {
		if (box->held[i].serial == NEWCOMER + 1 && lab->newcomer >= 0)
			box->held[i] = box->held[--box->n_held];
	}
	if (box_resume(box, reason) < 0) {
		(void)!write(STDERR_FILENO, reason, strlen(reason));
		_exit(2);
	}
}

/* To be traced from the first time on that the server is called. */
static void stop_once(bool entering)
{
	static bool stopped;

	(void)entering;
	if (!stopped)
		raise(SIGSTOP);
	stopped = true;
}

static void accept_newcomer(struct lab *lab)
{
	if (lab->newcomer >= 0)
		(void)server_admit(lab->box->server, lab->newcomer, NEWCOMER + 1);
	if (lab->listener < 0)
		return;
	int sock = accept4(lab->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (sock >= 0)
		(void)server_admit(lab->box->server, sock, 0);
}

static void work(struct lab *lab)
{
	struct box *box = lab->box;

	take_over(lab);
	box_run(box);
	(void)server_evict(box->server, EVICTED + 1, "test");
	box_run(box);
	accept_newcomer(lab);
	box_run(box);
	(void)server_evict(box->server, STUCK + 1, "test");
	box_run(box);
}

/* Only the first one gets the newcomer from the queue; later ones find it held, or not. */
void lab_start(struct lab *lab, bool traced)
{
	lab->victim = fork();
	assert_true(lab->victim >= 0);
	if (lab->victim == 0) {
		lab->box->keeper = lab->keeper[1];
		if (traced) {
			ptrace(PTRACE_TRACEME, 0, NULL, NULL);
			lab->box->around = stop_once;
		}
		work(lab);
		_exit(0);
	}
	if (lab->newcomer >= 0)
		close(lab->newcomer);
	lab->newcomer = -1;
}

void lab_kill(struct lab *lab)
{
	traced_kill(&lab->victim);
	box_hold_for(lab->box, lab->keeper[0]);
}

/*
 * After
 */

static void check_clients(const struct lab *lab, const char *when)
{
	const struct box *box = lab->box;

	for (unsigned c = 0; c < CLIENTS; c++) {
		const struct box_client *client = &box->clients[c];
		bool may_be_out = c == EVICTED || c == STUCK ||
			(c == NEWCOMER && lab->accepted && !lab->held);
		if (client->violation)
			fail_msg("%s: client %u: %s", when, c, client->violation);
		if (c == GONE || (client->ended && may_be_out))
			continue;
		if (client->ended || client->id != (int)c || !client->region_seen)
			fail_msg("%s: client %u is not in", when, c);
		if (!box_sees_everyone(box, c))
			fail_msg("%s: client %u does not see who is there", when, c);
		for (unsigned to = 0; to < CLIENTS; to++) {
			if (to != c && to != GONE && !box->clients[to].ended &&
				!box_rings((struct box *)box, c, to))
				fail_msg("%s: client %u cannot ring %u", when, c, to);
		}
	}
	if (!box_same_order(box))
		fail_msg("%s: not all have heard it in the same order", when);
}

static void check_server(const struct lab *lab, const char *when)
{
	const struct box *box = lab->box;
	struct server_stats stats;
	unsigned in = 0;
	uint64_t messages = 0;

	server_get_stats(box->server, &stats);
	for (unsigned c = 0; c < CLIENTS; c++) {
		in += box->clients[c].sock >= 0 && !box->clients[c].ended;
		messages += box->clients[c].messages;
	}
	if (stats.peers != in || stats.joins - stats.leaves != in || stats.quarantined != 0 ||
		stats.messages != messages)
		fail_msg("%s: %u peers of %llu joins and %llu leaves, %u in quarantine, %llu "
			 "messages; there are %u, and %llu came",
			when, stats.peers, (unsigned long long)stats.joins,
			(unsigned long long)stats.leaves, stats.quarantined,
			(unsigned long long)stats.messages, in, (unsigned long long)messages);
	if (box->n_held != 2 * in)
		fail_msg("%s: %u sets are held for %u peers", when, box->n_held, in);
}

void lab_finish(struct lab *lab, const char *when)
{
	struct box *box = lab->box;
	char reason[160];

	if (box_resume(box, reason) < 0)
		fail_msg("%s: %s", when, reason);
	accept_newcomer(lab);
	box_settle(box);
	check_clients(lab, when);
	check_server(lab, when);
	box_destroy(box);
	if (lab->newcomer >= 0)
		close(lab->newcomer);
	if (lab->listener >= 0)
		close(lab->listener);
	close(lab->keeper[0]);
	close(lab->keeper[1]);
}
