/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. `run` tells `serve` through the stream what comes, and how often; `serve`
 * gives that back, so that nothing of it meets a `serve` that is still with a `run` that was
 * killed; then come the messages that are measured. Times are of `run` alone, so the two need no
 * common clock: a round trip, and for rates from the first message until the answer to the last
 * one.
 */
#include "bench.h"

#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TRIPS_MAX  100000u
#define TRIPS_MIN  20u
#define WARM_UP    16u
#define RATE_FIRST 64u

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static int give_order(
	struct side *side, enum task task, unsigned shape, uint32_t size, uint64_t count)
{
	side->turn = (uint32_t)clock_ns();
	const struct order order = {
		.task = task, .shape = shape, .size = size, .turn = side->turn, .count = count};
	struct order echo = {0};
	int result = side_send(side, &order, sizeof(order));

	/* Other messages are for a `run` that was killed. */
	while (result >= 0 && memcmp(&echo, &order, sizeof(echo)) != 0) {
		result = side_receive(side, side->bytes, side->largest);
		if (result == (int)sizeof(echo))
			memcpy(&echo, side->bytes, sizeof(echo));
	}
	return result < 0 ? -1 : 0;
}

/* ---- serve ---- */

static int carry_out(struct side *side, const struct order *order)
{
	const struct shape *shape = &shapes[order->shape];

	side->turn = order->turn;
	if (side_send(side, order, sizeof(*order)) < 0)
		return -1;
	for (uint64_t i = 0; i < order->count; i++) {
		int result = order->task == TASK_ANSWER ? shape->answer(side, order->size)
							: shape->absorb(side);
		if (result < 0)
			return -1;
	}
	return order->task == TASK_ABSORB ? side_send(side, side->bytes, 1) : 0;
}

/* Who gave the order may be killed meanwhile: then the next one has its turn. */
static int obey(struct side *side, const struct order *order)
{
	side->obeys = true;
	int err = carry_out(side, order);
	side->obeys = false;
	return err < 0 && (side_is_news(errno) || errno == ETIMEDOUT) ? 0 : err;
}

static bool makes_sense(const struct side *side, const struct order *order, int size)
{
	return size == (int)sizeof(*order) && order->shape < n_shapes &&
		order->size <= shapes[order->shape].largest(side) &&
		(order->task == TASK_ANSWER ||
			(order->task == TASK_ABSORB && shapes[order->shape].absorb));
}

int serve(struct side *side)
{
	struct order order;

	for (;;) {
		const int size = side_receive(side, &order, sizeof(order));
		if (size >= 0 && makes_sense(side, &order, size) && obey(side, &order) < 0)
			return -1;
		if (size >= 0)
			continue;
		/* The rest of what somebody sent who was killed is skipped. */
		if (errno != EMSGSIZE || side_receive(side, side->bytes, side->largest) < 0)
			return -1;
	}
}

/* ---- run ---- */

static int measure_trips(
	struct side *side, unsigned shape, uint32_t size, unsigned trips, uint64_t *times)
{
	if (give_order(side, TASK_ANSWER, shape, size, trips) < 0)
		return -1;
	for (unsigned i = 0; i < trips; i++) {
		const uint64_t start = clock_ns();
		if (shapes[shape].trip(side, size) < 0)
			return -1;
		times[i] = clock_ns() - start;
	}
	qsort(times, trips, sizeof(*times), compare);
	return 0;
}

static int measure_rate(
	struct side *side, unsigned shape, uint32_t size, uint64_t count, uint64_t *ns)
{
	if (give_order(side, TASK_ABSORB, shape, size, count) < 0)
		return -1;
	const uint64_t start = clock_ns();
	for (uint64_t i = 0; i < count; i++)
		if (shapes[shape].pour(side, size) < 0)
			return -1;
	if (side_receive(side, side->bytes, side->largest) < 0)
		return -1;
	*ns = clock_ns() - start;
	return 0;
}

/* So many as take about so long, judged by a few. */
static uint64_t as_many(uint64_t ms, uint64_t few, uint64_t ns)
{
	const uint64_t many = ms * 1000000 * few / (ns == 0 ? 1 : ns);
	return many < few ? few : many;
}

int measure(struct side *side, unsigned shape, uint32_t size, unsigned ms, struct result *result)
{
	uint64_t *times = calloc(TRIPS_MAX, sizeof(*times));
	uint64_t ns = 0;
	int err = times ? 0 : -1;

	*result = (struct result){.rate = 0};
	if (err == 0)
		err = measure_trips(side, shape, size, WARM_UP, times);
	if (err == 0) {
		uint64_t trips = as_many(ms, TRIPS_MIN, TRIPS_MIN * times[WARM_UP / 2]);
		if (trips > TRIPS_MAX)
			trips = TRIPS_MAX;
		err = measure_trips(side, shape, size, (unsigned)trips, times);
		const uint64_t middle = trips / 2, late = trips * 99 / 100;
		result->median_us = (double)times[middle] / 1e3;
		result->p99_us = (double)times[late] / 1e3;
	}
	free(times);
	if (err < 0 || !shapes[shape].pour)
		return err;
	err = measure_rate(side, shape, size, RATE_FIRST, &ns);
	if (err == 0) {
		const uint64_t count = as_many(ms, RATE_FIRST, ns);
		err = measure_rate(side, shape, size, count, &ns);
		result->rate = (double)count / (double)ns * 1e9;
	}
	return err;
}
