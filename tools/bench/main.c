/* SPDX-License-Identifier: MIT */
/*
 * ivshmem-bench: latency and throughput of channels, by shape and size of messages.
 *
 * Theory of operation. Two sides: `serve` does what `run` asks for, `run` measures and prints. On
 * two machines, or in two guests, each is a command of its own. Without a URI `run` starts a server
 * and the other side by itself, and measures first with both sides looking all the time, then with
 * both sleeping until they are rung.
 */
#include "bench.h"

#include "common/jsontext.h"
#include "common/options.h"
#include "common/stdfds.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { OPT_JSON = OPTION_FIRST, OPT_MS, OPT_OFFSET, OPT_SERVER, OPT_SHAPE, OPT_SIZES, OPT_WAIT };

#define SIZES_MAX 32
#define SPIN_US   1000000 /* longer than anybody is away */
#define REGION    "64M"

static const struct option_def options[] = {
	{OPT_JSON, "json", NULL, "print an object for each line of the table", NULL},
	{OPT_MS, "ms", "N", "milliseconds for each value (default: 100)", NULL},
	{OPT_OFFSET, "offset", "BYTES", "of the directory of channels (default: 4096)", NULL},
	{OPT_SERVER, "server", "PROGRAM",
		"what to start when there is no URI (default: ivshmem-server)", NULL},
	{OPT_SHAPE, "shape", "NAME", "only this one: stream, gather, call or latest", NULL},
	{OPT_SIZES, "sizes", "LIST", "bytes of the messages, with commas (default: 8 to 1M)", NULL},
	{OPT_WAIT, "wait", "spin|sleep|adaptive",
		"how this side waits: looking all the time, asleep until it is rung, or looking "
		"first (default: adaptive)",
		NULL},
	{0, NULL, NULL, NULL, NULL},
};

static const struct option_table table = {
	.program = PROGRAM,
	.synopsis = "[OPTION]... run [URI] | serve URI",
	.description = "Measure channels over an ivshmem region: round trip and rate by size.",
	.options = options,
	.epilogue = "Exit status: 0 success, 1 failure, 2 wrong usage.\n"
		    "\n"
		    "Examples:\n"
		    "  ivshmem-bench run\n"
		    "  ivshmem-bench serve region:frames      in one guest, and in another\n"
		    "  ivshmem-bench run auto:\n",
	.anywhere = true,
};

static const struct waiting {
	const char *name;
	int spin_us;
} waitings[] = {{"spin", SPIN_US}, {"sleep", -1}, {"adaptive", 0}};

#define N_WAITINGS (sizeof(waitings) / sizeof(waitings[0]))

struct bench {
	bool json;
	uint64_t ms, offset;
	const char *server, *shape;
	const struct waiting *waiting;
	uint32_t sizes[SIZES_MAX];
	unsigned n_sizes;
};

static int parse_sizes(struct bench *bench, const char *argument)
{
	char *list = strdup(argument), *rest = NULL;
	int err = list ? 0 : -1;

	bench->n_sizes = 0;
	for (char *word = list ? strtok_r(list, ",", &rest) : NULL; word && err == 0;
		word = strtok_r(NULL, ",", &rest)) {
		uint64_t size;
		err = bench->n_sizes == SIZES_MAX
			? options_complain(&table, "--sizes: at most %d", SIZES_MAX)
			: option_size(&table, "--sizes", word, &size);
		if (err == 0 && (size == 0 || size > UINT32_MAX / 2))
			err = options_complain(&table, "--sizes: %s is no size", word);
		if (err == 0)
			bench->sizes[bench->n_sizes++] = (uint32_t)size;
	}
	free(list);
	return err;
}

static int parse_waiting(struct bench *bench, const char *argument)
{
	for (size_t i = 0; i < N_WAITINGS; i++)
		if (strcmp(waitings[i].name, argument) == 0) {
			bench->waiting = &waitings[i];
			return 0;
		}
	return options_complain(&table, "--wait: %s is none of them", argument);
}

static int parse_shape(struct bench *bench, const char *argument)
{
	bench->shape = argument;
	for (size_t i = 0; i < n_shapes; i++)
		if (strcmp(shapes[i].name, argument) == 0)
			return 0;
	return options_complain(&table, "--shape: there is no %s", argument);
}

static int handle(void *data, int key, const char *argument)
{
	struct bench *bench = data;

	switch (key) {
	case OPT_JSON:
		bench->json = true;
		return 0;
	case OPT_MS:
		return option_uint(&table, "--ms", argument, 1, 60000, &bench->ms);
	case OPT_OFFSET:
		return option_uint(&table, "--offset", argument, 0, UINT32_MAX, &bench->offset);
	case OPT_SERVER:
		bench->server = argument;
		return 0;
	case OPT_SHAPE:
		return parse_shape(bench, argument);
	case OPT_SIZES:
		return parse_sizes(bench, argument);
	case OPT_WAIT:
		return parse_waiting(bench, argument);
	}
	return -1;
}

/* ---- run ---- */

static void print_head(const struct bench *bench)
{
	if (!bench->json)
		printf("%-9s %-7s %9s %12s %12s %12s %9s\n", "wait", "shape", "bytes", "median, us",
			"p99, us", "messages/s", "MiB/s");
}

static void print_result(const struct bench *bench, const struct waiting *waiting,
	const struct shape *shape, uint32_t size, const struct result *result)
{
	const double rate = result->rate, mib = rate * size / (1 << 20);

	if (bench->json) {
		json_t *object = json_pack("{s:s, s:s, s:i, s:f, s:f}", "wait", waiting->name,
			"shape", shape->name, "bytes", (int)size, "median_us", result->median_us,
			"p99_us", result->p99_us);
		if (object && rate > 0)
			json_object_set_new(object, "rate", json_real(rate));
		json_print_line(object, stdout);
		return;
	}
	printf("%-9s %-7s %9u %12.3f %12.3f", waiting->name, shape->name, size, result->median_us,
		result->p99_us);
	if (rate > 0)
		printf(" %12.0f %9.1f", rate, mib);
	printf("\n");
	fflush(stdout);
}

static int run_shape(
	const struct bench *bench, const struct waiting *waiting, struct side *side, unsigned shape)
{
	struct result result;

	for (unsigned i = 0; i < bench->n_sizes; i++) {
		const uint32_t size = bench->sizes[i];
		if (size > shapes[shape].largest(side))
			continue;
		if (measure(side, shape, size, (unsigned)bench->ms, &result) < 0)
			return -1;
		print_result(bench, waiting, &shapes[shape], size, &result);
	}
	return 0;
}

static int run(const struct bench *bench, const struct waiting *waiting, const char *uri)
{
	struct side side;
	int err = 0;

	if (side_open(&side, uri, (uint32_t)bench->offset, waiting->spin_us, false) < 0)
		return -1;
	for (unsigned i = 0; i < n_shapes && err == 0; i++)
		if (!bench->shape || strcmp(bench->shape, shapes[i].name) == 0)
			err = run_shape(bench, waiting, &side, i);
	if (err < 0)
		fprintf(stderr, PROGRAM ": %s\n", strerror(errno));
	side_close(&side);
	return err;
}

static int run_server_side(
	const struct bench *bench, const struct waiting *waiting, const char *uri)
{
	struct side side;

	if (side_open(&side, uri, (uint32_t)bench->offset, waiting->spin_us, true) < 0)
		return -1;
	serve(&side);
	fprintf(stderr, PROGRAM ": %s\n", strerror(errno));
	side_close(&side);
	return -1;
}

/* ---- both sides and a server ---- */

static void end(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
	}
}

/* It is ready when this returns. -1 if it is not. */
static pid_t start_server(const struct bench *bench, const char *socket)
{
	int ready[2];
	char byte;

	if (pipe(ready) < 0)
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		char number[16];
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		close(ready[0]);
		if (!freopen("/dev/null", "w", stderr))
			_exit(EXIT_FAILURE);
		snprintf(number, sizeof(number), "%d", ready[1]);
		execlp(bench->server, bench->server, "-F", "-S", socket, "-l", REGION, "--ready-fd",
			number, (char *)NULL);
		_exit(EXIT_FAILURE);
	}
	close(ready[1]);
	if (pid > 0 && read(ready[0], &byte, 1) <= 0) {
		fprintf(stderr, PROGRAM ": %s does not start\n", bench->server);
		end(pid);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

/* So that it is the same each time: the two sides on the first and the last CPU that we may use. */
static void place(pid_t other)
{
	cpu_set_t all, one;
	int first = -1, last = -1;

	if (sched_getaffinity(0, sizeof(all), &all) < 0)
		return;
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all)) {
			first = first < 0 ? cpu : first;
			last = cpu;
		}
	CPU_ZERO(&one);
	CPU_SET(last, &one);
	sched_setaffinity(other, sizeof(one), &one);
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static int run_pair(const struct bench *bench, const struct waiting *waiting, const char *socket)
{
	pid_t other = fork();

	if (other < 0)
		return -1;
	if (other == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(run_server_side(bench, waiting, socket) < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
	}
	cpu_set_t before;
	const bool known = sched_getaffinity(0, sizeof(before), &before) == 0;
	place(other);
	int err = run(bench, waiting, socket);
	if (known)
		sched_setaffinity(0, sizeof(before), &before);
	kill(other, SIGKILL);
	waitpid(other, NULL, 0);
	return err;
}

static int run_alone(const struct bench *bench)
{
	char directory[] = "/tmp/" PROGRAM "-XXXXXX", socket[sizeof(directory) + 8];
	int err = -1;

	if (!mkdtemp(directory))
		return -1;
	snprintf(socket, sizeof(socket), "%s/socket", directory);
	pid_t server = start_server(bench, socket);
	if (server > 0)
		err = 0;
	for (size_t i = 0; i < N_WAITINGS && err == 0; i++)
		if (bench->waiting ? bench->waiting == &waitings[i] : waitings[i].spin_us != 0)
			err = run_pair(bench, &waitings[i], socket);
	end(server);
	unlink(socket);
	rmdir(directory);
	return err;
}

static void default_sizes(struct bench *bench)
{
	for (uint32_t size = 8; size <= 1 << 20; size *= 4)
		bench->sizes[bench->n_sizes++] = size;
	bench->sizes[bench->n_sizes++] = 1 << 20;
}

int main(int argc, char **argv)
{
	struct bench bench = {.ms = 100, .server = "ivshmem-server"};

	if (stdfds_open() < 0)
		return EXIT_FAILURE;
	default_sizes(&bench);
	int first = options_parse(&table, argc, argv, handle, &bench);
	if (first < 0)
		return EXIT_USAGE;
	const char *what = argc > first ? argv[first] : "";
	const char *uri = argc > first + 1 ? argv[first + 1] : NULL;
	const bool serves = strcmp(what, "serve") == 0;
	if (argc > first + 2 || (!serves && strcmp(what, "run") != 0) || (serves && !uri)) {
		options_complain(&table, "what to do is run [URI] or serve URI");
		return EXIT_USAGE;
	}
	const struct waiting *waiting = bench.waiting ? bench.waiting : &waitings[N_WAITINGS - 1];
	if (serves)
		return run_server_side(&bench, waiting, uri) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
	print_head(&bench);
	int err = uri ? run(&bench, waiting, uri) : run_alone(&bench);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, PROGRAM ": cannot write to standard output\n");
		err = -1;
	}
	return err < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
