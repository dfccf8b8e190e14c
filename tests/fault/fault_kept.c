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
 * - inside those in which something could be half done. eventfd() and accept4() make what ends with
 *   the victim, and a sendmsg() of one message is done or not; but sendmmsg() has sent some of its
 *   messages and not the others. The kernel looks at signals between two of them, if at all; so the
 *   victim is made to send fewer than it wants to, and killed before it hears of it;
 * - between any two instructions, in so far as that makes a difference: a kill leaves behind
 *   nothing but the kept memory and what the kernel has, so it is enough to kill once after each
 *   instruction that has changed a byte of that memory. Which these are is found by going through
 *   all of it in single steps. As this is an argument, and not a trial, some kills more come at
 *   regular steps, at every single one with KEPT_EVERY=1 in the environment (scripts/soak kills);
 * - at random times without being traced, so that some kills fall into the middle of system calls,
 *   up to three in a row.
 *
 * Then we take over ourselves, and let the clients read.
 */
#include "kept_trace.h"

#include "server/kept_state.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

/*
 * Points
 */

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

#define MAX_CALLS      512
#define MAX_STEPS      (1u << 18)
#define LANDMARK_STEPS 64
struct course {
	struct point points[4096];
	unsigned n, calls;
	unsigned steps_after[MAX_CALLS]; /* so many system calls, until the next one */
	unsigned first[MAX_CALLS];       /* of these among all: */
	unsigned steps;
	uint64_t pcs[MAX_STEPS];      /* where each step is taken, ... */
	unsigned passages[MAX_STEPS]; /* ... and how often that was before, since the call */
};

static void add_point(struct course *course, unsigned calls, unsigned changes)
{
	assert_true(course->n < sizeof(course->points) / sizeof(course->points[0]));
	course->points[course->n++] = (struct point){calls, changes};
	course->calls = calls;
}

static void add_step(struct course *course, unsigned calls, uint64_t pc)
{
	assert_true(course->steps < MAX_STEPS);
	course->pcs[course->steps++] = pc;
	course->steps_after[calls]++;
}

/* How often each step's place was passed before, since the last system call. */
static void count_passages(struct course *course)
{
	static struct {
		uint64_t pc;
		unsigned calls, times;
	} seen[2 * MAX_STEPS];
	const unsigned mask = 2 * MAX_STEPS - 1;

	memset(seen, 0, sizeof(seen));
	for (unsigned calls = 0; calls <= course->calls; calls++) {
		for (unsigned step = 0; step < course->steps_after[calls]; step++) {
			unsigned i = course->first[calls] + step;
			uint64_t pc = course->pcs[i];
			unsigned at = (unsigned)(pc * UINT64_C(0x9e3779b97f4a7c15) >> 40) & mask;
			while (seen[at].pc != 0 && (seen[at].pc != pc || seen[at].calls != calls))
				at = (at + 1) & mask;
			seen[at].pc = pc;
			seen[at].calls = calls;
			course->passages[i] = seen[at].times++;
		}
	}
}

/* Go through all of it. At each point the state must be one that could be taken over. */
static void record(struct lab *lab, struct course *course)
{
	struct box *box = lab->box;
	struct kept_state state;
	static struct image image;
	struct point at = {0, 0};
	char reason[160];

	memset(course, 0, sizeof(*course));
	kept_lay_out(&state, box->kept, kept_slots(&box->config));
	trace_start(lab);
	has_changed(&state, &image);
	add_point(course, 0, 0);
	for (;;) {
		uint64_t pc;
		bool call = traced_is_at_call_at(lab->victim, &pc);
		if (!trace_go(lab, PTRACE_SINGLESTEP))
			break;
		bool changed = has_changed(&state, &image);
		assert_true(at.calls + 1 < MAX_CALLS);
		if (call)
			course->first[at.calls + 1] = course->steps;
		else
			add_step(course, at.calls, pc);
		if (!call && !changed)
			continue;
		at = call ? (struct point){at.calls + 1, 0}
			  : (struct point){at.calls, at.changes + 1};
		add_point(course, at.calls, at.changes);
		if (changed &&
			kept_check(&state, box->kept, box->kept_size, &box->config, reason) < 0)
			fail_msg("after call %u, change %u: %s", at.calls, at.changes, reason);
	}
	lab_kill(lab);
	count_passages(course);
}

static void kill_at_point(bool keeper_accepts, const struct point *point)
{
	static struct image image;
	struct kept_state state;
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed after call %u, change %u", point->calls,
		point->changes);
	lab_set_up(&lab, keeper_accepts);
	kept_lay_out(&state, lab.box->kept, kept_slots(&lab.box->config));
	trace_start(&lab);
	(void)trace_go_to_stop(&lab, 2 * point->calls);
	has_changed(&state, &image);
	for (unsigned changes = 0; changes < point->changes;) {
		if (!trace_go(&lab, PTRACE_SINGLESTEP))
			break;
		changes += has_changed(&state, &image);
	}
	lab_kill(&lab);
	lab_finish(&lab, when);
}

/* Of which system calls it was killed at the entry, or the exit. */
struct tally {
	unsigned entries[MAX_CALLS], exits[MAX_CALLS], inside;
};

/* At its n-th stop, before and after each system call. Was it still there? */
static bool kill_at_stop(struct lab *lab, bool keeper_accepts, unsigned stop)
{
	char when[80];

	lab_set_up(lab, keeper_accepts);
	trace_start(lab);
	bool was_there = trace_go_to_stop(lab, stop);
	lab_kill(lab);
	snprintf(when, sizeof(when), "killed %s call %u (%ld)", stop % 2 ? "before" : "after",
		stop / 2, lab->call);
	lab_finish(lab, when);
	return was_there;
}

/* At that stop it enters sendmmsg(), and sends only some messages. */
static void kill_inside(bool keeper_accepts, unsigned stop, unsigned messages)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed inside call %u after %u messages", stop / 2, messages);
	lab_set_up(&lab, keeper_accepts);
	trace_start(&lab);
	if (trace_go_to_stop(&lab, stop) && trace_shorten(&lab, messages))
		(void)trace_go(&lab, PTRACE_SYSCALL);
	lab_kill(&lab);
	lab_finish(&lab, when);
}

/* A step at or shortly before this one whose place has not often been passed before. */
static unsigned find_landmark(const struct course *course, unsigned calls, unsigned step)
{
	const unsigned *passages = &course->passages[course->first[calls]];
	unsigned best = TRACE_RUNS ? step : 0;

	for (unsigned i = best; i > 0 && step - i < LANDMARK_STEPS; i--) {
		if (passages[i] + (step - i) < passages[best] + (step - best))
			best = i;
	}
	return best;
}

/* So many instructions behind a system call: to a landmark at full speed, and the rest in single
 * steps. False: it has not come by there. */
static bool go_to_step(struct lab *lab, const struct course *course, unsigned calls, unsigned step)
{
	unsigned at = find_landmark(course, calls, step);
	unsigned i = course->first[calls] + at;

	if (!trace_go_to_stop(lab, 2 * calls))
		return false;
	if (at > 0 && !trace_run_to(lab, course->pcs[i], course->passages[i] + 1))
		return false;
	while (at < step && trace_go(lab, PTRACE_SINGLESTEP))
		at++;
	return at == step;
}

static bool kill_at_step(
	bool keeper_accepts, const struct course *course, unsigned calls, unsigned step)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "killed after call %u, step %u", calls, step);
	lab_set_up(&lab, keeper_accepts);
	trace_start(&lab);
	bool was_there = go_to_step(&lab, course, calls, step);
	lab_kill(&lab);
	lab_finish(&lab, when);
	return was_there;
}

/*
 * Tests
 */

/* Before, inside and after each; else this is a test that cannot fail. */
static void expect_all_kinds(const struct tally *tally, bool keeper_accepts)
{
	static const struct {
		long call;
		const char *what;
	} wanted[] = {{SYS_eventfd2, "eventfd"}, {SYS_sendmsg, "having something held"},
		{SYS_sendmmsg, "sendmmsg"}, {SYS_shutdown, "shutdown"}, {SYS_accept4, "accept"}};

	/* With a sanitizer the allocator makes system calls in some runs and not in others, and one
	 * that is made once a run can be missed by that. */
	for (unsigned i = 0; i < (keeper_accepts || !SINGLE_STEPS ? 4 : 5); i++) {
		if (tally->entries[wanted[i].call] == 0 || tally->exits[wanted[i].call] == 0)
			fail_msg("never killed before, or after, %s", wanted[i].what);
	}
	assert_true(tally->inside > 5);
}

static void kill_at_system_calls(bool keeper_accepts)
{
	struct tally tally = {.inside = 0};
	unsigned stop = 0;
	struct lab lab;

	for (; kill_at_stop(&lab, keeper_accepts, stop); stop++) {
		bool entry = stop % 2 == 1;
		assert_in_range(lab.call, 0, MAX_CALLS - 1);
		(entry ? tally.entries : tally.exits)[lab.call] += stop > 0;
		if (!entry || lab.call != SYS_sendmmsg)
			continue;
		for (unsigned messages = 1; messages < lab.length; messages++) {
			kill_inside(keeper_accepts, stop, messages);
			tally.inside++;
		}
	}
	print_message("killed at %u stops, and %u times inside\n", stop, tally.inside);
	expect_all_kinds(&tally, keeper_accepts);
}

static void kill_at_steps(bool keeper_accepts, const struct course *course, unsigned every)
{
	unsigned at = 0, kills = 0, missed = 0;

	for (unsigned calls = 0; calls <= course->calls; calls++) {
		for (unsigned step = 0; step < course->steps_after[calls]; step++, at++) {
			if (at % every != 0)
				continue;
			missed += !kill_at_step(keeper_accepts, course, calls, step);
			kills++;
		}
	}
	print_message("killed after %u of them, %u of these elsewhere\n", kills, missed);
	assert_true(missed <= kills / 2);
}

static void kill_between_instructions(bool keeper_accepts)
{
	static struct course course;
	const char *wanted = getenv("KEPT_EVERY");
	struct lab lab;

	lab_set_up(&lab, keeper_accepts);
	record(&lab, &course);
	lab_finish(&lab, "not killed");
	print_message("%u instructions, %u system calls, %u points\n", course.steps, course.calls,
		course.n);
	assert_true(course.n > 2 * course.calls); /* as above */
	for (unsigned i = 0; i < course.n; i++) {
		if (course.points[i].changes > 0)
			kill_at_point(keeper_accepts, &course.points[i]);
	}
	unsigned every = wanted ? (unsigned)strtoul(wanted, NULL, 10) : course.steps / 8;
	assert_true(every > 0);
	kill_at_steps(keeper_accepts, &course, every);
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

	lab_set_up(&lab, true);
	clock_gettime(CLOCK_MONOTONIC, &start);
	lab_start(&lab, false);
	traced_wait(&lab.victim);
	clock_gettime(CLOCK_MONOTONIC, &end);
	lab_kill(&lab);
	lab_finish(&lab, "not killed");
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
		lab_set_up(&lab, true);
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			long pause_ns = rand_r(&seed) % (work_ns + 1);
			struct timespec pause = {pause_ns / 1000000000, pause_ns % 1000000000};
			lab_start(&lab, false);
			nanosleep(&pause, NULL);
			lab_kill(&lab);
		}
		lab_finish(&lab, when);
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
