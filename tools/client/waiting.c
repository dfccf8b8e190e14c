/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A doorbell carries no sender, so the far side of a ping cannot know whom to
 * ring back. Writing the sender into the region was rejected: the region belongs to the user's
 * programs. Instead the far side is told: `answer PEER`, or it answers the peer that joined last,
 * which is the pinger if that is started second. Rings of the same vector merge, so a ping sends
 * the next one only after the answer has come.
 */
#include "tool.h"

#include "base/clock.h"
#include "common/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define PING_COUNT      1000
#define PING_MAX_COUNT  1000000
#define PING_TIMEOUT_MS 5000
#define PING_SLICE_MS   200 /* longest time in which ping does not look for Ctrl-C */

#define ANY_VECTOR (-1)

/* ---- arguments ---- */

static enum command_status get_seconds(struct client *c, const char *word, int *ms)
{
	if (parse_seconds(word, ms) == 0)
		return COMMAND_OK;
	return command_fail(c, COMMAND_MISUSED,
		"'%s' is no time; give seconds from 0 to 1000000, such as 2 or 0.5", word);
}

static enum command_status get_number(
	struct client *c, const char *word, const char *what, long min, long max, long *value)
{
	if (input_long(word, value) == 0 && *value >= min && *value <= max)
		return COMMAND_OK;
	return command_fail(c, COMMAND_MISUSED, "'%s' is no %s; give a number from %ld to %ld",
		word, what, min, max);
}

/* Can own vector `vector` be waited for? As need_vector(). */
static enum command_status need_own_vector(struct client *c, long vector)
{
	if (ivshmem_capabilities(c->peer) & IVSHMEM_CAP_TIMED_WAIT)
		return command_fail(c, COMMAND_FAILED,
			"%s has no interrupts; 'ivshmem-client --uri %s doctor' says why", c->where,
			c->where);
	return need_vector(c, ivshmem_id(c->peer), vector);
}

/* Handle events until the time is up, Ctrl-C, or the server is lost. */
static void handle_events(struct client *c, int limit)
{
	uint64_t start = clock_ms();
	enum session_wake wake = WAKE_EVENTS;
	session_catch_signal();
	while (wake == WAKE_EVENTS && !c->lost)
		wake = session_step(c, -1, time_left(start, limit));
	session_release_signal();
}

/* ---- wait ---- */

/* A vector that has been rung, `wanted` or any; -1: none. */
static int find_rung(const struct client *c, long wanted)
{
	if (wanted != ANY_VECTOR)
		return c->rung[wanted] > 0 ? (int)wanted : -1;
	for (int vector = 0; vector < (int)IVSHMEM_MAX_VECTORS; vector++)
		if (c->rung[vector] > 0)
			return vector;
	return -1;
}

static enum command_status wait_for(struct client *c, long wanted, int limit, int *vector)
{
	uint64_t start = clock_ms();
	enum session_wake wake = WAKE_EVENTS;
	session_catch_signal();
	while ((*vector = find_rung(c, wanted)) < 0 && wake == WAKE_EVENTS)
		wake = session_step(c, -1, time_left(start, limit));
	session_release_signal();
	if (*vector >= 0)
		return COMMAND_OK;
	if (wake == WAKE_SIGNAL)
		return command_fail(c, COMMAND_FAILED, "interrupted");
	if (wake == WAKE_GONE)
		return command_fail(c, COMMAND_FAILED, "the device is gone");
	return command_fail(c, COMMAND_FAILED, "nobody rang within %g s", limit / 1000.0);
}

enum command_status command_wait(struct client *c, int n, char **words)
{
	enum command_status status = COMMAND_OK;
	long wanted = ANY_VECTOR;
	int limit = c->timeout_ms;
	int vector;
	if (n > 1 && strcmp(words[1], "any") != 0)
		status = get_number(c, words[1], "vector", 0, IVSHMEM_MAX_VECTORS - 1, &wanted);
	if (status == COMMAND_OK && n > 2)
		status = get_seconds(c, words[2], &limit);
	if (status == COMMAND_OK)
		status = need_own_vector(c, wanted == ANY_VECTOR ? 0 : wanted);
	if (status == COMMAND_OK)
		status = wait_for(c, wanted, limit, &vector);
	if (status != COMMAND_OK)
		return status;

	command_result(
		c, json_pack("{s:i, s:I}", "vector", vector, "count", (json_int_t)c->rung[vector]));
	c->rung[vector] = 0;
	if (!c->json && !c->dialogue) /* in a dialogue it was printed when it came */
		printf("receive notification from peer_id=%d vector=%d\n", ivshmem_id(c->peer),
			vector);
	return COMMAND_OK;
}

enum command_status command_watch(struct client *c, int n, char **words)
{
	int limit = FOREVER;
	if (n > 1 && get_seconds(c, words[1], &limit) != COMMAND_OK)
		return COMMAND_MISUSED;
	c->watching = true;
	handle_events(c, limit);
	c->watching = false;
	return COMMAND_OK;
}

/* ---- answer and ping ---- */

enum command_status command_answer(struct client *c, int n, char **words)
{
	enum command_status status = COMMAND_OK;
	int limit = FOREVER;
	long peer = ANSWER_LAST;
	if (n > 1 && strcmp(words[1], "last") != 0)
		status = get_number(c, words[1], "peer", 0, IVSHMEM_MAX_ID, &peer);
	if (status == COMMAND_OK && n > 2)
		status = get_seconds(c, words[2], &limit);
	if (status == COMMAND_OK)
		status = need_own_vector(c, 0);
	if (status == COMMAND_OK && peer == ANSWER_LAST &&
		!(ivshmem_capabilities(c->peer) & IVSHMEM_CAP_PEER_LIST))
		status = command_fail(c, COMMAND_FAILED,
			"name the peer to answer: a guest is not told who joined last");
	if (status != COMMAND_OK)
		return status;

	c->answered = 0;
	c->answer_to = (int)peer;
	answer_rings(c);
	handle_events(c, limit);
	c->answer_to = ANSWER_NOBODY;
	memset(c->rung, 0, sizeof(c->rung));

	command_result(c, json_pack("{s:I}", "answered", (json_int_t)c->answered));
	if (!c->json)
		printf("answered %llu doorbells\n", (unsigned long long)c->answered);
	return COMMAND_OK;
}

/* One round trip. 0, -ETIMEDOUT, -EINTR (Ctrl-C) or -errno of ringing. */
static int ping_once(struct client *c, unsigned peer, unsigned vector, int limit, uint64_t *ns)
{
	uint64_t start = clock_ms();
	uint64_t begin = clock_ns();
	if (ivshmem_notify(c->peer, peer, vector) < 0)
		return -errno;
	for (;;) {
		int left = time_left(start, limit);
		int slice = left > PING_SLICE_MS ? PING_SLICE_MS : left;
		int rung = ivshmem_wait(c->peer, vector, slice, NULL);
		*ns = clock_ns() - begin;
		if (rung > 0)
			return 0;
		if (rung < 0 && errno != EINTR)
			return -errno;
		if (left == 0)
			return -ETIMEDOUT;
		if (session_step(c, -1, 0) == WAKE_SIGNAL)
			return -EINTR;
		if (c->rung[vector] > 0) /* it came while we looked at the server's news */
			return 0;
	}
}

static int compare_ns(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left;
	uint64_t b = *(const uint64_t *)right;
	return (a > b) - (a < b);
}

static void report_trips(struct client *c, uint64_t *ns, long n)
{
	qsort(ns, (size_t)n, sizeof(*ns), compare_ns);
	double sum = 0;
	for (long i = 0; i < n; i++)
		sum += (double)ns[i];
	long middle = (n - 1) / 2; /* nearest rank */
	long late = (n * 99 - 1) / 100;
	double min = (double)ns[0] / 1000, max = (double)ns[n - 1] / 1000;
	double avg = sum / (double)n / 1000;
	double p50 = (double)ns[middle] / 1000, p99 = (double)ns[late] / 1000;
	command_result(c,
		json_pack("{s:I, s:f, s:f, s:f, s:f, s:f}", "trips", (json_int_t)n, "min_us", min,
			"avg_us", avg, "p50_us", p50, "p99_us", p99, "max_us", max));
	if (!c->json)
		printf("%ld round trips: min %.1f avg %.1f p50 %.1f p99 %.1f max %.1f us\n", n, min,
			avg, p50, p99, max);
}

static enum command_status ping(struct client *c, long peer, long count, long vector)
{
	int limit = c->timeout_ms < 0 ? PING_TIMEOUT_MS : c->timeout_ms;
	uint64_t *ns = calloc((size_t)count, sizeof(*ns));
	if (!ns)
		return command_fail(c, COMMAND_FAILED, "no memory");

	int result = 0;
	long done = 0;
	session_catch_signal();
	for (; done < count && result == 0; done += result == 0) {
		/* Also throws away rings that are nobody's answer. */
		if (session_step(c, -1, 0) == WAKE_SIGNAL)
			result = -EINTR;
		c->rung[vector] = 0;
		if (result == 0)
			result = ping_once(c, (unsigned)peer, (unsigned)vector, limit, &ns[done]);
	}
	session_release_signal();
	c->rung[vector] = 0;

	if (done > 0)
		report_trips(c, ns, done);
	free(ns);
	if (result == 0)
		return COMMAND_OK;
	if (result == -ETIMEDOUT)
		return command_fail(c, COMMAND_FAILED,
			"no answer from peer %ld within %g s after %ld round trips; it must run "
			"'answer %d'",
			peer, limit / 1000.0, done, ivshmem_id(c->peer));
	return command_fail(c, COMMAND_FAILED, "stopped after %ld round trips: %s", done,
		result == -EINTR ? "interrupted" : strerror(-result));
}

enum command_status command_ping(struct client *c, int n, char **words)
{
	long peer;
	long count = PING_COUNT;
	long vector = 0;
	enum command_status status = get_number(c, words[1], "peer", 0, IVSHMEM_MAX_ID, &peer);
	if (status == COMMAND_OK && n > 2)
		status = get_number(c, words[2], "count", 1, PING_MAX_COUNT, &count);
	if (status == COMMAND_OK && n > 3)
		status = get_number(c, words[3], "vector", 0, IVSHMEM_MAX_VECTORS - 1, &vector);
	if (status == COMMAND_OK && peer == ivshmem_id(c->peer))
		status = command_fail(
			c, COMMAND_FAILED, "%ld is our own ID; ping another peer", peer);
	if (status == COMMAND_OK)
		status = need_vector(c, peer, vector);
	if (status == COMMAND_OK)
		status = need_own_vector(c, vector);
	return status == COMMAND_OK ? ping(c, peer, count, vector) : status;
}
