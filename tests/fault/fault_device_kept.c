/* SPDX-License-Identifier: MIT */
/*
 * A device is killed at every point of its work for a VMM, and the next process takes over: every
 * reply comes once and is what it would have been, no interrupt and no doorbell is lost, and
 * nothing is held that nobody needs.
 *
 * Theory of operation
 *
 * A VMM's session is a script of several parts. Each is sent as a whole, and then a process takes
 * the device over, hears what peers have rung, handles what it can, and ends. So each process
 * begins with a take-over, and the state goes through as many of them as there are parts. One of
 * these processes is killed, before it is another is started in its place. What the VMM has read
 * and what has been rung is compared with a session in which nobody was killed.
 *
 * The kept memory is shared with us; descriptors are held by us, to whom the process sends them as
 * it would to a keeper. It is traced, and killed
 *
 * - before and after each system call;
 * - after each instruction that has changed a byte of the kept memory, which is as good as between
 *   any two: a kill leaves behind nothing but that memory and what the kernel has. As this is an
 *   argument, and not a trial, some kills more come at regular steps;
 * - at random times without being traced, so that some kills fall into the middle of system calls,
 *   up to three in a row.
 *
 * Of the second only a sample is tried, always the same; with KEPT_EVERY=1 in the environment all
 * of them, and every single step, which takes hours.
 */
#include "device_lab.h"
#include "traced.h"

#include "vfio-user/kept_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Kills
 */

/* At the process' n-th stop, before and after each system call. Was it still there? */
static bool kill_at_stop(bool intx, unsigned part, unsigned stop)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "part %u, killed %s call %u", part,
		stop % 2 ? "before" : "after", stop / 2);
	lab_go_to(&lab, intx, part);
	lab_start(&lab, true);
	assert_true(traced_begin(&lab.victim));
	for (unsigned i = 0; i < stop; i++)
		(void)traced_go(&lab.victim, PTRACE_SYSCALL);
	bool was_there = lab.victim != 0;
	lab_go_on(&lab, part, when);
	return was_there;
}

/* The parts of the memory that say what is true, and the first bytes of messages. */
struct image {
	uint8_t head[4096], parts[2048];
};

static bool has_changed(const struct keptbox *box, struct image *image)
{
	const uint8_t *memory = box->memory;
	bool changed = memcmp(memory, image->head, sizeof(image->head)) != 0 ||
		memcmp(memory + sizeof(image->head), image->parts, sizeof(image->parts)) != 0;

	if (changed)
		memcpy(image, memory, sizeof(*image));
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

/* Go through all of it. At each point the state must be one that could be taken over. */
static void record(bool intx, unsigned part, struct course *course)
{
	static struct image image;
	struct vfu_kept_state state;
	struct point at = {0, 0};
	struct lab lab;

	*course = (struct course){.n = 0};
	lab_go_to(&lab, intx, part);
	lab_start(&lab, true);
	assert_true(traced_begin(&lab.victim));
	has_changed(&lab.keptbox, &image);
	for (;; course->steps++) {
		bool call = traced_is_at_call(lab.victim);
		if (!traced_go(&lab.victim, PTRACE_SINGLESTEP))
			break;
		bool changed = has_changed(&lab.keptbox, &image);
		if (call)
			at = (struct point){at.calls + 1, 0};
		if (!changed)
			continue;
		at.changes += !call;
		assert_true(course->n < sizeof(course->points) / sizeof(course->points[0]));
		course->points[course->n++] = at;
		if (vfu_kept_check(&state, lab.keptbox.memory, lab.keptbox.size,
			    &lab.keptbox.identity, &lab.keptbox.why) < 0)
			fail_msg("part %u, after call %u, change %u: %s", part, at.calls,
				at.changes, lab.keptbox.why.text);
	}
	course->calls = at.calls;
	lab_go_on(&lab, part, "not killed");
}

static void kill_at_point(bool intx, unsigned part, const struct point *point)
{
	static struct image image;
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "part %u, killed after call %u, change %u", part, point->calls,
		point->changes);
	lab_go_to(&lab, intx, part);
	lab_start(&lab, true);
	assert_true(traced_begin(&lab.victim));
	for (unsigned i = 0; i < 2 * point->calls; i++)
		(void)traced_go(&lab.victim, PTRACE_SYSCALL);
	has_changed(&lab.keptbox, &image);
	for (unsigned changes = 0; changes < point->changes;) {
		if (!traced_go(&lab.victim, PTRACE_SINGLESTEP))
			break;
		changes += has_changed(&lab.keptbox, &image);
	}
	lab_go_on(&lab, part, when);
}

static void kill_at_step(bool intx, unsigned part, uint64_t step)
{
	struct lab lab;
	char when[80];

	snprintf(when, sizeof(when), "part %u, killed after step %llu", part,
		(unsigned long long)step);
	lab_go_to(&lab, intx, part);
	lab_start(&lab, true);
	assert_true(traced_begin(&lab.victim));
	for (uint64_t i = 0; i < step && traced_go(&lab.victim, PTRACE_SINGLESTEP); i++)
		;
	lab_go_on(&lab, part, when);
}

/*
 * Tests
 */

static void kill_between_instructions(bool intx, unsigned part)
{
	static struct course course;
	const char *wanted = getenv("KEPT_EVERY");

	record(intx, part, &course);
	print_message("part %u: %llu instructions, %u system calls, %u changes\n", part,
		(unsigned long long)course.steps, course.calls, course.n);
	assert_true(course.n > 10); /* else this is a test that cannot fail */
	unsigned each = wanted ? 1 : 1 + course.n / 40;
	for (unsigned i = 0; i < course.n; i += each)
		kill_at_point(intx, part, &course.points[i]);
	uint64_t every = wanted ? strtoull(wanted, NULL, 10) : course.steps / 4 + 1;
	assert_true(every > 0);
	for (uint64_t step = 0; step < course.steps; step += every)
		kill_at_step(intx, part, step);
}

static void kill_everywhere(bool intx)
{
	for (unsigned part = 0; part < PARTS; part++) {
		unsigned stop = 0;
		while (kill_at_stop(intx, part, stop))
			stop++;
		assert_true(stop > 10); /* as above */
		if (SINGLE_STEPS)
			kill_between_instructions(intx, part);
	}
}

static void test_killed_with_msix(void **state)
{
	(void)state;
	kill_everywhere(false);
}

static void test_killed_with_intx(void **state)
{
	(void)state;
	kill_everywhere(true);
}

static void test_killed_at_any_time(void **state)
{
	(void)state;
	unsigned seed = (unsigned)time(NULL);

	print_message("seed %u\n", seed);
	for (unsigned round = 0; round < 300; round++) {
		unsigned part = round % PARTS;
		struct lab lab;
		char when[40];

		snprintf(when, sizeof(when), "seed %u, round %u", seed, round);
		lab_go_to(&lab, round / PARTS % 2, part);
		for (unsigned i = 0; i < 1 + round % 3; i++) {
			const struct timespec pause = {.tv_nsec = rand_r(&seed) % 600000};
			lab_start(&lab, false);
			nanosleep(&pause, NULL);
			traced_kill(&lab.victim);
			lab_hold(&lab);
		}
		lab_go_on(&lab, part, when);
	}
}

/* With an argument only the tests of that name, so that several processors share the work. */
int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		TEST(test_killed_with_msix),
		TEST(test_killed_with_intx),
		TEST(test_killed_at_any_time),
	};
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
