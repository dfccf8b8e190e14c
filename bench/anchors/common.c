/* SPDX-License-Identifier: MIT */
#include "common.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PROBE_ROUNDS 64 /* round trips of one sample, and samples */
#define PROBE_NS     2000000
#define REST_NS      8000000

static double place_before, place_after;
static long switches_before;
static bool disturbed;

_Noreturn void die(const char *what)
{
	perror(what);
	exit(2);
}

uint64_t cpu_time_ns(pid_t pid)
{
	struct timespec t;
	clockid_t clock = CLOCK_PROCESS_CPUTIME_ID;
	if ((pid != 0 && clock_getcpuclockid(pid, &clock) != 0) || clock_gettime(clock, &t) < 0)
		die("processor time");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int cpu_of(const char *variable, int otherwise)
{
	const char *value = getenv(variable);
	return value ? atoi(value) : otherwise;
}

int cpu_a(void)
{
	return cpu_of("CPU_A", 0);
}

int cpu_b(void)
{
	return cpu_of("CPU_B", 1);
}

static void pin_process(pid_t pid, int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(pid, sizeof(set), &set) < 0)
		die("sched_setaffinity");
}

void pin(int cpu)
{
	pin_process(0, cpu);
}

void raise_descriptor_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("getrlimit");
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		die("setrlimit");
}

void *shared_alloc(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

pid_t spawn(int cpu, void (*work)(void *data), void *data)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pin(cpu);
		work(data);
		_exit(0);
	}
	/* With real-time priority, and this CPU our own, it could not even do that itself. */
	pin_process(pid, cpu);
	return pid;
}

void reap(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

uint64_t quantile(uint64_t *values, size_t n, double q)
{
	if (n == 0)
		return 0;
	qsort(values, n, sizeof(*values), compare);
	return values[(size_t)(q * (double)(n - 1))];
}

/*
 * The placement probe
 */

struct probe {
	_Atomic uint32_t BENCH_ALIGNED ping;
	_Atomic uint32_t BENCH_ALIGNED pong;
};

static void probe_answer(void *data)
{
	struct probe *probe = data;
	for (uint32_t i = 1;; i++) {
		while (atomic_load_explicit(&probe->ping, memory_order_acquire) != i)
			;
		atomic_store_explicit(&probe->pong, i, memory_order_release);
	}
}

static double place_probe(void)
{
	static struct probe *probe;
	uint64_t samples[PROBE_ROUNDS], end = 0;
	uint32_t round = 0;
	size_t n = 0;

	if (!probe)
		probe = shared_alloc(sizeof(*probe));
	atomic_store(&probe->ping, 0);
	atomic_store(&probe->pong, 0);
	pid_t other = spawn(sched_getcpu() == cpu_b() ? cpu_a() : cpu_b(), probe_answer, probe);
	while (n < PROBE_ROUNDS) {
		uint64_t start = now_ns();
		for (int i = 0; i < PROBE_ROUNDS; i++) {
			atomic_store_explicit(&probe->ping, ++round, memory_order_release);
			while (atomic_load_explicit(&probe->pong, memory_order_acquire) != round)
				;
		}
		uint64_t now = now_ns();
		if (end == 0)
			end = now +
				PROBE_NS; /* the first sample has the start of the other in it */
		else
			samples[n++] = (now - start) / PROBE_ROUNDS;
		if (n > 0 && now > end)
			break;
	}
	reap(other);
	return (double)quantile(samples, n, 0.5);
}

/* How often we, or children that have ended, had to leave a CPU to somebody else. */
static long involuntary_switches(void)
{
	struct rusage self, children;

	if (getrusage(RUSAGE_SELF, &self) < 0 || getrusage(RUSAGE_CHILDREN, &children) < 0)
		die("getrusage");
	return self.ru_nivcsw + children.ru_nivcsw;
}

/* The rest is for others: the kernel takes from real-time tasks what they do not leave, in the
 * middle of a test. */
void test_begin(void)
{
	nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
	place_before = place_probe();
	switches_before = involuntary_switches();
}

void test_end(void)
{
	disturbed = involuntary_switches() != switches_before;
	place_after = place_probe();
}

void test_one_cpu(void)
{
	place_before = place_after = 0;
	disturbed = false;
}

void emit(const char *name, double value, const char *unit)
{
	printf("%s %.6g %s %.0f%s\n", name, value, unit,
		place_before > place_after ? place_before : place_after,
		disturbed ? " disturbed" : "");
	fflush(stdout);
}
