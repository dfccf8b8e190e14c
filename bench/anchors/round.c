/* SPDX-License-Identifier: MIT */
#include "round.h"

#include "common.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WARM_UP     200
#define MEASURED_NS 200000000
#define SAMPLES_MAX (1 << 18)

bool round_place(int argc, char **argv, int i, const char *usage)
{
	if (argc != i + 1 || (strcmp(argv[i], "two") != 0 && strcmp(argv[i], "one") != 0)) {
		fprintf(stderr, "usage: %s two|one\n", usage);
		exit(2);
	}
	pin(cpu_a());
	return strcmp(argv[i], "one") == 0;
}

void round_begin(bool one)
{
	if (one)
		test_one_cpu();
	else
		test_begin();
}

void round_measure(
	bool one, const char *who, void (*ring)(void *), void (*await)(void *), void *data)
{
	static uint64_t samples[SAMPLES_MAX];
	char name[64];
	size_t n = 0;

	for (int i = 0; i < WARM_UP; i++) {
		ring(data);
		await(data);
	}
	uint64_t start = now_ns(), before = start;
	do {
		ring(data);
		await(data);
		uint64_t now = now_ns();
		samples[n++] = now - before;
		before = now;
	} while (n < SAMPLES_MAX && before - start < MEASURED_NS);
	if (!one)
		test_end();
	snprintf(name, sizeof(name), "doorbell.%s.median.%s", who, one ? "one" : "two");
	emit(name, (double)quantile(samples, n, 0.5) / 1e3, "us");
	snprintf(name, sizeof(name), "doorbell.%s.p99.%s", who, one ? "one" : "two");
	emit(name, (double)quantile(samples, n, 0.99) / 1e3, "us");
}
