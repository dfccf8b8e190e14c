/* SPDX-License-Identifier: MIT */
/*
 * A server with kept state is killed at every point of its work, and the next one takes over: no
 * client hears anything wrong, twice, too early or not at all.
 *
 * Theory of operation
 *
 * The victim is a child process that takes over a server with one peer that has hung up and one
 * that is stuck in the middle of hearing of another. It throws that other out, lets a newcomer in,
 * throws the stuck one out, and tells everybody. What it keeps is in memory that it shares with
 * us; its descriptors it sends to us, as it would to a keeper. It is traced, and killed
 *
 * - before and after each system call;
 * - between any two instructions, in so far as that makes a difference: a kill leaves behind
 * nothing but the kept memory and what the kernel has, so it is enough to kill once after each
 * instruction that has changed a byte of that memory. Which these are is found by going through all
 * of it in single steps. As this is an argument, and not a trial, some kills more come at regular
 * steps, at every single one with KEPT_EVERY=1 in the environment (which takes hours);
 * - at random times without being traced, so that some kills fall into the middle of system calls,
 *   up to three in a row.
 *
 * Then we take over ourselves, and let the clients read.
 */
#include "../common/serverbox.h"

#include "../common/fdcheck.h"

#include "server/kept_state.h"

#include <elf.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Clients 0 and 1 read everything. */
#define EVICTED  2 /* is thrown out in the course of it */
#define GONE     3 /* has hung up, and the server does not know yet */
#define STUCK    4 /* has read nothing, is in the middle of EVICTED, and thrown out at the end */
#define NEWCOMER 5 /* sits where GONE was, and is in the middle of STUCK then */
#define CLIENTS  6

/* Single steps through instrumented code take too long, and nobody runs such a server. */
#ifndef __has_feature
#define __has_feature(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#define SINGLE_STEPS false
#else
#define SINGLE_STEPS true
#endif

struct lab {
	struct box *box;
	bool keeper_accepts; /* or the server does: then a connection may be lost before it is held
			      */
	int newcomer;        /* the server's end */
	int keeper[2];
	pid_t victim;
};

/*
 * Before
 */

static void set_up(struct lab *lab, bool keeper_accepts)
{
	struct box *box = box_create(
		&(struct server_config){.vectors = 2, .max_peers = 16, .in_flight_limit = 16});

	assert_non_null(box);
	assert_int_equal(box_keep(box), 0);
	*lab = (struct lab){.box = box, .keeper_accepts = keeper_accepts};
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
	lab->newcomer = box_new_client(box, NEWCOMER);
	if (keeper_accepts)
		box_hold_socket(box, NEWCOMER + 1, lab->newcomer);
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

static void work(struct lab *lab)
{
	struct box *box = lab->box;

	take_over(lab);
	box_run(box);
	(void)server_evict(box->server, EVICTED + 1, "test");
	box_run(box);
	if (lab->newcomer >= 0)
		(void)server_admit(
			box->server, lab->newcomer, lab->keeper_accepts ? NEWCOMER + 1 : 0);
	box_run(box);
	(void)server_evict(box->server, STUCK + 1, "test");
	box_run(box);
}

/* Only the first victim gets the newcomer from the queue; later ones find it held, or not. */
static void start_victim(struct lab *lab, bool traced)
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

/* Wait until it stops or ends; has it ended? By itself only with success. */
static bool has_ended(struct lab *lab)
{
	int status;

	assert_int_equal(waitpid(lab->victim, &status, __WALL), lab->victim);
	if (WIFSTOPPED(status))
		return false;
	assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
	lab->victim = 0;
	return true;
}

static void kill_victim(struct lab *lab)
{
	if (lab->victim != 0) {
		kill(lab->victim, SIGKILL);
		while (!has_ended(lab))
			;
	}
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
			(c == NEWCOMER && !lab->keeper_accepts && client->messages == 0);
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

static void finish(struct lab *lab, const char *when)
{
	struct box *box = lab->box;
	char reason[160];

	if (box_resume(box, reason) < 0)
		fail_msg("%s: %s", when, reason);
	box_settle(box);
	check_clients(lab, when);
	check_server(lab, when);
	box_destroy(box);
	if (lab->newcomer >= 0)
		close(lab->newcomer);
	close(lab->keeper[0]);
	close(lab->keeper[1]);
}

/*
 * Tracing
 */

/* Until it stops: false if it has ended instead. */
static bool go(struct lab *lab, enum __ptrace_request how)
{
	return lab->victim != 0 && ptrace(how, lab->victim, NULL, NULL) == 0 && !has_ended(lab);
}

static void start_traced(struct lab *lab)
{
	start_victim(lab, true);
	assert_false(has_ended(lab));
	ptrace(PTRACE_SETOPTIONS, lab->victim, NULL, (void *)PTRACE_O_EXITKILL);
}

/* Is its next instruction a system call? It is a child: its code is where ours is. */
__attribute__((no_sanitize_address)) static bool is_at_system_call(pid_t pid)
{
	struct user_regs_struct registers;
	struct iovec iov = {.iov_base = &registers, .iov_len = sizeof(registers)};

	if (ptrace(PTRACE_GETREGSET, pid, (void *)NT_PRSTATUS, &iov) < 0)
		return false;
#if defined(__x86_64__)
	const volatile uint8_t *code = (const uint8_t *)registers.rip; /* NOLINT: an address */
	return code[0] == 0x0f && code[1] == 0x05;
#elif defined(__aarch64__)
	return *(const volatile uint32_t *)registers.pc == 0xd4000001; /* NOLINT: an address */
#else
	return true;
#endif
}

/* The parts of the memory that are in use, as they were. */
struct image {
	uint8_t head[3 * 4096], records[2 * 4096], rows[4096];
};

static bool has_changed(const struct kept_state *state, struct image *image)
{
	const struct {
		const void *now;
		void *then;
		size_t size;
	} parts[] = {{state->header, image->head, sizeof(image->head)},
		{state->records, image->records, sizeof(image->records)},
		{state->rows, image->rows, sizeof(image->rows)}};
	bool changed = false;

	for (unsigned i = 0; i < 3; i++) {
		if (memcmp(parts[i].now, parts[i].then, parts[i].size) == 0)
			continue;
		memcpy(parts[i].then, parts[i].now, parts[i].size);
		changed = true;
	}
	return changed;
}

/* A point at which it may be killed: after so many system calls, and so many changes since. */
struct point {
	unsigned calls, changes;
};

struct course {
	struct point points[4096];
	unsigned n, calls;
	uint64_t steps;
};

static void add_point(struct course *course, unsigned calls, unsigned changes)
{
	assert_true(course->n < sizeof(course->points) / sizeof(course->points[0]));
	course->points[course->n++] = (struct point){calls, changes};
	course->calls = calls;
}

/* Go through all of it. At each point the state must be one that could be taken over. */
static void record(struct lab *lab, struct course *course)
{
	struct box *box = lab->box;
	struct kept_state state;
	static struct image image;
	struct point at = {0, 0};
	char reason[160];

	*course = (struct course){.n = 0};
	kept_lay_out(&state, box->kept, kept_slots(&box->config));
	start_traced(lab);
	has_changed(&state, &image);
	add_point(course, 0, 0);
	for (;; course->steps++) {
		bool call = is_at_system_call(lab->victim);
		if (!go(lab, PTRACE_SINGLESTEP))
			break;
		bool changed = has_changed(&state, &image);
		if (!call && !changed)
			continue;
		at = call ? (struct point){at.calls + 1, 0}
			  : (struct point){at.calls, at.changes + 1};
		add_point(course, at.calls, at.changes);
		if (changed &&
			kept_check(&state, box->kept, box->kept_size, &box->config, reason) < 0)
			fail_msg("after call %u, change %u: %s", at.calls, at.changes, reason);
	}
	kill_victim(lab);
}

static void kill_at_point(bool keeper_accepts, const struct point *point)
{
	static struct image image;
	struct kept_state state;
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed after call %u, change %u", point->calls,
		point->changes);
	set_up(&lab, keeper_accepts);
	kept_lay_out(&state, lab.box->kept, kept_slots(&lab.box->config));
	start_traced(&lab);
	for (unsigned i = 0; i < 2 * point->calls; i++)
		(void)go(&lab, PTRACE_SYSCALL);
	has_changed(&state, &image);
	for (unsigned changes = 0; changes < point->changes;) {
		if (!go(&lab, PTRACE_SINGLESTEP))
			break;
		changes += has_changed(&state, &image);
	}
	kill_victim(&lab);
	finish(&lab, when);
}

/* At its n-th stop, before and after each system call. Was it still there? */
static bool kill_at_stop(bool keeper_accepts, unsigned stop)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed %s call %u", stop % 2 ? "before" : "after", stop / 2);
	set_up(&lab, keeper_accepts);
	start_traced(&lab);
	for (unsigned i = 0; i < stop; i++)
		(void)go(&lab, PTRACE_SYSCALL);
	bool was_there = lab.victim != 0;
	kill_victim(&lab);
	finish(&lab, when);
	return was_there;
}

static void kill_at_step(bool keeper_accepts, uint64_t step)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed after step %llu", (unsigned long long)step);
	set_up(&lab, keeper_accepts);
	start_traced(&lab);
	for (uint64_t i = 0; i < step && go(&lab, PTRACE_SINGLESTEP); i++)
		;
	kill_victim(&lab);
	finish(&lab, when);
}

/*
 * Tests
 */

static void kill_at_system_calls(bool keeper_accepts)
{
	unsigned stop = 0;

	while (kill_at_stop(keeper_accepts, stop))
		stop++;
	assert_true(stop > 60); /* else this is a test that cannot fail */
}

static void kill_between_instructions(bool keeper_accepts)
{
	static struct course course;
	const char *wanted = getenv("KEPT_EVERY");
	struct lab lab;

	set_up(&lab, keeper_accepts);
	record(&lab, &course);
	finish(&lab, "not killed");
	print_message("%llu instructions, %u system calls, %u points\n",
		(unsigned long long)course.steps, course.calls, course.n);
	assert_true(course.n > 2 * course.calls); /* as above */
	for (unsigned i = 0; i < course.n; i++) {
		if (course.points[i].changes > 0)
			kill_at_point(keeper_accepts, &course.points[i]);
	}
	uint64_t every = wanted ? strtoull(wanted, NULL, 10) : course.steps / 8;
	assert_true(every > 0);
	for (uint64_t step = 0; step < course.steps; step += every)
		kill_at_step(keeper_accepts, step);
}

static void kill_everywhere(bool keeper_accepts)
{
	kill_at_system_calls(keeper_accepts);
	if (SINGLE_STEPS)
		kill_between_instructions(keeper_accepts);
}

static void test_killed_anywhere(void **state)
{
	(void)state;
	kill_everywhere(true);
}

static void test_killed_anywhere_without_a_keeper_that_accepts(void **state)
{
	(void)state;
	kill_everywhere(false);
}

/* How long a victim works that nobody kills, ns. */
static long measure_work(void)
{
	struct timespec start, end;
	struct lab lab;

	set_up(&lab, true);
	clock_gettime(CLOCK_MONOTONIC, &start);
	start_victim(&lab, false);
	assert_true(has_ended(&lab));
	clock_gettime(CLOCK_MONOTONIC, &end);
	kill_victim(&lab);
	finish(&lab, "not killed");
	return (end.tv_sec - start.tv_sec) * 1000000000 + end.tv_nsec - start.tv_nsec;
}

static void test_killed_at_any_time(void **state)
{
	(void)state;
	unsigned seed = (unsigned)time(NULL);
	long work_ns = measure_work();

	print_message("seed %u, %ld us\n", seed, work_ns / 1000);
	for (unsigned round = 0; round < 300; round++) {
		struct lab lab;
		char when[40];
		snprintf(when, sizeof(when), "seed %u, round %u", seed, round);
		set_up(&lab, true);
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			long pause_ns = rand_r(&seed) % (work_ns + 1);
			struct timespec pause = {pause_ns / 1000000000, pause_ns % 1000000000};
			start_victim(&lab, false);
			nanosleep(&pause, NULL);
			kill_victim(&lab);
		}
		finish(&lab, when);
	}
}

int main(void)
{
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD,
		1 << 16); /* else large arrays are cleared by hand, in many steps */
#endif
	const struct CMUnitTest tests[] = {
		TEST(test_killed_anywhere),
		TEST(test_killed_anywhere_without_a_keeper_that_accepts),
		TEST(test_killed_at_any_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
