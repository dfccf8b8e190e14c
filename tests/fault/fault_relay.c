/* SPDX-License-Identifier: MIT */
/*
 * The server's connection of a device is killed at every point of its work, and the next one takes
 * over: the device's peer is told of those who are there, with their own doorbells in their order,
 * and of nobody else; and what is held is that and no more.
 *
 * Theory of operation. The victim takes over a connection in which words wait: peers that come,
 * leave, and come again, whole and in pieces. We are the server and the keeper. It is killed before
 * and after each system call, and after each instruction that has changed a byte of what is kept,
 * as in fault_kept.c; then we take over ourselves and read what a peer would.
 */
#include "../../tools/device/holding.h"
#include "../../tools/device/relay.h"
#include "../../tools/device/told.h"

#include "../../tools/daemon/keeper_protocol.h"

#include "../common/fdcheck.h"
#include "../common/scripted.h"
#include "traced.h"

#include "base/fdpass.h"
#include "base/le.h"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define MAX_HELD    64
#define N_BELLS     12
#define REGION_SIZE 4096
#define SLOTS       32
#define MAX_POINTS  1000

/* ---- what the server says, and what is to come of it ---- */

/* Number and bell (-1: none); `bytewise`: in pieces. */
static const struct {
	int64_t number;
	int bell;
	bool bytewise;
} script[] = {
	{7, 0, false},
	{5, 1, false},
	{5, 2, true},
	{6, 3, false},
	{5, -1, false},
	{6, 4, false},
	{9, -1, false},
	{5, 5, false},
	{8, 6, true},
	{8, -1, true},
	{6, 7, false},
	{7, 8, false},
	{4, 9, false},
};

/* In the order in which they came, behind the opening. */
static const struct {
	int64_t number;
	int bell;
} wanted[] = {{7, 0}, {6, 3}, {6, 4}, {5, 5}, {6, 7}, {7, 8}, {4, 9}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- the keeper ---- */

struct held_set {
	char name[HELD_NAME_SIZE];
	int fd;
};

struct lab {
	struct scripted server;
	int region, bells[N_BELLS];
	int keeper; /* our end */
	struct held_set held[MAX_HELD];
	unsigned n_held;
	pid_t victim;
	unsigned char *kept; /* our look at what is kept */
	size_t kept_size;
};

static void quiet(struct log *log, enum log_level level, const char *line)
{
	(void)log;
	(void)level;
	(void)line;
}

static struct log test_log = {.level = LOG_LEVEL_ERROR, .sink = quiet};

static void say(const struct lab *lab, enum keeper_op op, const char *name, int fd)
{
	struct keeper_message m = {.op = op, .version = KEEPER_VERSION, .number = 1000};
	snprintf(m.name, sizeof(m.name), "%s", name);
	assert_int_equal(fdpass_send(lab->keeper, &m, sizeof(m), fd), sizeof(m));
}

/* A worker starts: it is told what is held. Its end of the socket. */
static int begin_worker(struct lab *lab)
{
	int pair[2], size = 1 << 20;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	for (int end = 0; end < 2; end++)
		setsockopt(pair[end], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	lab->keeper = pair[0];
	for (unsigned i = 0; i < lab->n_held; i++)
		say(lab, KEEPER_HELD, lab->held[i].name, lab->held[i].fd);
	say(lab, KEEPER_END, "", -1);
	return pair[1];
}

static struct held_set *find(struct lab *lab, const char *name)
{
	for (unsigned i = 0; i < lab->n_held; i++) {
		if (strcmp(lab->held[i].name, name) == 0)
			return &lab->held[i];
	}
	return NULL;
}

/* It has ended, the caller's copy of its end of the socket is closed: what it has sent counts. */
static void end_worker(struct lab *lab)
{
	struct keeper_message m;
	int fd;

	while (keeper_receive(lab->keeper, false, &m, &fd) > 0) {
		struct held_set *set = find(lab, m.name);
		if (m.op == KEEPER_PUT) {
			assert_null(set);
			assert_in_range(lab->n_held, 0, MAX_HELD - 1);
			set = &lab->held[lab->n_held++];
			memcpy(set->name, m.name, sizeof(set->name));
			set->fd = fd;
		} else {
			assert_int_equal(m.op, KEEPER_DROP);
			assert_non_null(set);
			close(set->fd);
			*set = lab->held[--lab->n_held];
		}
	}
	close(lab->keeper);
}

/* ---- the worker ---- */

static struct holding *open_holding(int sock)
{
	struct holding *holding;
	char number[12];

	snprintf(number, sizeof(number), "%d", sock);
	setenv(KEEPER_VARIABLE, number, 1);
	return holding_open(&holding, &test_log) == 0 ? holding : NULL;
}

static struct relay_config config_of(const struct lab *lab, struct holding *holding)
{
	return (struct relay_config){
		.holding = holding,
		.name = "dev",
		.path = lab->server.path,
		.slots = SLOTS,
		.timeout_ms = 60000,
		.log = &test_log,
	};
}

/* What the peer has read. */
struct heard {
	int sock;
	unsigned n;
	struct line lines[COUNT(script) + 8];
};

static void read_words(void *data)
{
	struct heard *heard = data;
	int fds[FDPASS_RECV_MAX];
	uint8_t bytes[8];
	size_t n_fds;

	while (fdpass_recv(heard->sock, bytes, sizeof(bytes), fds, &n_fds) == sizeof(bytes)) {
		assert_in_range(heard->n, 0, COUNT(heard->lines) - 1);
		assert_in_range(n_fds, 0, 1);
		heard->lines[heard->n++] =
			(struct line){(int64_t)load_le(bytes, 8), n_fds ? fds[0] : -1};
	}
}

static void close_heard(struct heard *heard)
{
	while (heard->n > 0) {
		if (heard->lines[--heard->n].fd >= 0)
			close(heard->lines[heard->n].fd);
	}
	close(heard->sock);
}

/* Take over, and all that waits. */
static bool work(
	const struct lab *lab, struct holding *holding, struct heard *heard, void (*before)(void))
{
	const struct relay_config config = config_of(lab, holding);
	struct relay_error why;
	struct relay *relay;

	if (before)
		before();
	if (relay_resume(&relay, &config, &why) != 1)
		return false;
	*heard = (struct heard){.sock = relay_peer_fd(relay)};
	relay_catch_up(relay, read_words, heard);
	relay_close(relay);
	holding_settle(holding);
	return true;
}

static void start_victim(struct lab *lab, bool traced)
{
	int sock = begin_worker(lab);

	lab->victim = fork();
	assert_true(lab->victim >= 0);
	if (lab->victim == 0) {
		struct heard heard = {0};
		close(lab->keeper);
		struct holding *holding = open_holding(sock);
		if (!holding || !work(lab, holding, &heard, traced ? traced_stop_here : NULL))
			_exit(2);
		_exit(0);
	}
	close(sock);
	if (traced)
		assert_true(traced_begin(&lab->victim));
}

static void kill_victim(struct lab *lab)
{
	traced_kill(&lab->victim);
	end_worker(lab);
}

/* ---- before and after ---- */

static void *greet(void *data)
{
	struct lab *lab = data;

	lab->server.conn = accept4(lab->server.listener, NULL, NULL, SOCK_CLOEXEC);
	scripted_say(&lab->server, 0, -1);
	scripted_say(&lab->server, 7, -1);
	scripted_say(&lab->server, -1, lab->region);
	return NULL;
}

/* One worker has joined; then the server says the rest. */
static void set_up(struct lab *lab)
{
	struct relay_error why;
	struct relay *relay;
	pthread_t thread;

	*lab = (struct lab){.region = scripted_region(REGION_SIZE)};
	for (unsigned i = 0; i < N_BELLS; i++)
		lab->bells[i] = scripted_bell();
	scripted_listen(&lab->server, 1);
	assert_int_equal(pthread_create(&thread, NULL, greet, lab), 0);
	struct holding *holding = open_holding(begin_worker(lab));
	const struct relay_config config = config_of(lab, holding);
	assert_int_equal(relay_join(&relay, &config, &why), 0);
	pthread_join(thread, NULL);
	assert_int_equal(relay_region_size(relay), REGION_SIZE);
	relay_close(relay);
	holding_close(holding);
	end_worker(lab);
	for (unsigned i = 0; i < COUNT(script); i++) {
		lab->server.bytewise = script[i].bytewise;
		scripted_say(&lab->server, script[i].number,
			script[i].bell < 0 ? -1 : lab->bells[script[i].bell]);
	}
}

static ino_t inode_of(int fd)
{
	struct stat st;
	assert_int_equal(fstat(fd, &st), 0);
	return st.st_ino;
}

/* The kernel's eventfds share one inode; so it is rung. */
static bool is_bell(const struct lab *lab, int fd, int bell)
{
	const uint64_t one = 1;
	assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
	return scripted_rung(lab->bells[bell]);
}

static void check_heard(const struct lab *lab, const struct heard *heard, const char *when)
{
	if (heard->n != 3 + COUNT(wanted))
		fail_msg("%s: %u words", when, heard->n);
	assert_int_equal(heard->lines[0].number, 0);
	assert_int_equal(heard->lines[1].number, 7);
	assert_int_equal(heard->lines[2].number, -1);
	assert_int_equal(inode_of(heard->lines[2].fd), inode_of(lab->region));
	for (unsigned i = 0; i < COUNT(wanted); i++) {
		const struct line *line = &heard->lines[3 + i];
		if (line->number != wanted[i].number || line->fd < 0 ||
			!is_bell(lab, line->fd, wanted[i].bell))
			fail_msg("%s: word %u is of peer %d", when, i, (int)line->number);
	}
}

/* Twice: all that is there to be taken is taken by then, and the second is told what is kept. */
static void finish(struct lab *lab, const char *when)
{
	struct heard heard = {0};

	for (unsigned life = 0; life < 2; life++) {
		struct holding *holding = open_holding(begin_worker(lab));
		assert_non_null(holding);
		if (!work(lab, holding, &heard, NULL))
			fail_msg("%s: it cannot be taken over", when);
		holding_close(holding);
		end_worker(lab);
		if (life == 1)
			check_heard(lab, &heard, when);
		close_heard(&heard);
	}
	/* What is told, the connection, the region, and a bell each. */
	if (lab->n_held != 3 + COUNT(wanted))
		fail_msg("%s: %u are held", when, lab->n_held);
	while (lab->n_held > 0)
		close(lab->held[--lab->n_held].fd);
	for (unsigned i = 0; i < N_BELLS; i++)
		close(lab->bells[i]);
	close(lab->region);
	scripted_stop(&lab->server);
}

/* ---- tests ---- */

static void test_not_killed(void **state)
{
	(void)state;
	struct lab lab;

	set_up(&lab);
	start_victim(&lab, false);
	traced_wait(&lab.victim);
	end_worker(&lab);
	finish(&lab, "not killed");
}

static void test_killed_at_each_system_call(void **state)
{
	(void)state;
	bool there = true;
	unsigned stop = 0;

	for (; there; stop++) {
		struct lab lab;
		char when[60];
		set_up(&lab);
		start_victim(&lab, true);
		for (unsigned i = 0; i < stop && there; i++)
			there = traced_go(&lab.victim, PTRACE_SYSCALL);
		kill_victim(&lab);
		snprintf(when, sizeof(when), "killed at stop %u", stop);
		finish(&lab, when);
	}
	print_message("killed at %u stops\n", stop);
	assert_true(stop > 6u * COUNT(script));
}

/* Several in a row, somewhere. */
static void test_killed_again_and_again(void **state)
{
	(void)state;

	for (unsigned seed = 1; seed <= 100; seed++) {
		struct lab lab;
		unsigned random = seed;
		char when[60];
		set_up(&lab);
		for (unsigned kills = 0; kills < 5; kills++) {
			unsigned stops = (unsigned)rand_r(&random) % 160;
			bool there = true;
			start_victim(&lab, true);
			for (unsigned i = 0; i < stops && there; i++)
				there = traced_go(&lab.victim, PTRACE_SYSCALL);
			kill_victim(&lab);
		}
		snprintf(when, sizeof(when), "seed %u", seed);
		finish(&lab, when);
	}
}

/* ---- between instructions ---- */

static void look_at_kept(struct lab *lab)
{
	struct stat st;
	const struct held_set *told = find(lab, "told.dev");

	assert_int_equal(fstat(told->fd, &st), 0);
	lab->kept_size = (size_t)st.st_size;
	lab->kept = mmap(NULL, lab->kept_size, PROT_READ, MAP_SHARED, told->fd, 0);
	assert_true(lab->kept != MAP_FAILED);
}

static bool has_changed(const struct lab *lab, unsigned char *image)
{
	if (memcmp(image, lab->kept, lab->kept_size) == 0)
		return false;
	memcpy(image, lab->kept, lab->kept_size);
	return true;
}

/* Between two system calls: so many of them are over, and so many changes since. */
struct point {
	unsigned calls, changes;
};

/* All changes of a life that nobody kills; the kernel's own are killed at as system calls. */
static unsigned record(struct lab *lab, struct point *points)
{
	unsigned char *image = calloc(1, lab->kept_size);
	struct point at = {0, 0};
	unsigned n = 0;

	has_changed(lab, image);
	for (bool there = true; there;) {
		bool call = traced_is_at_call(lab->victim);
		there = traced_go(&lab->victim, PTRACE_SINGLESTEP);
		bool changed = has_changed(lab, image);
		if (call) {
			at = (struct point){at.calls + 1, 0};
		} else if (changed) {
			at.changes++;
			assert_in_range(n, 0, MAX_POINTS - 1);
			points[n++] = at;
		}
	}
	free(image);
	return n;
}

static void go_to_point(struct lab *lab, const struct point *point)
{
	unsigned char *image = calloc(1, lab->kept_size);
	bool there = true;
	unsigned seen = 0;

	for (unsigned i = 0; i < 2 * point->calls && there; i++)
		there = traced_go(&lab->victim, PTRACE_SYSCALL);
	has_changed(lab, image);
	while (there && seen < point->changes) {
		there = traced_go(&lab->victim, PTRACE_SINGLESTEP);
		seen += has_changed(lab, image);
	}
	free(image);
}

/* Returns how many points there are, if `point` is NULL. */
static unsigned live(const struct point *point, struct point *points, const char *when)
{
	struct lab lab;
	unsigned n = 0;

	set_up(&lab);
	look_at_kept(&lab);
	start_victim(&lab, true);
	if (point)
		go_to_point(&lab, point);
	else
		n = record(&lab, points);
	kill_victim(&lab);
	munmap(lab.kept, lab.kept_size);
	finish(&lab, when);
	return n;
}

static void test_killed_after_each_change(void **state)
{
	(void)state;
	static struct point points[MAX_POINTS];
	unsigned n = SINGLE_STEPS ? live(NULL, points, "not killed") : 0;

	for (unsigned i = 0; i < n; i++) {
		char when[60];
		snprintf(when, sizeof(when), "killed after call %u, change %u", points[i].calls,
			points[i].changes);
		live(&points[i], NULL, when);
	}
	print_message("killed after %u changes\n", n);
	assert_true(!SINGLE_STEPS || n > 5 * COUNT(script));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_not_killed),
		TEST(test_killed_at_each_system_call),
		TEST(test_killed_again_and_again),
		TEST(test_killed_after_each_change),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
