/* SPDX-License-Identifier: MIT */
#include "process.h"

#include "base/clock.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 2048 /* descriptors that are asked about at a time: some 100 us */

void process_init(struct process *process)
{
	process->start_ms = clock_wall_ms();
	process->one_by_one = false;
	process->status = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
}

void process_fini(struct process *process)
{
	if (process->status >= 0)
		close(process->status);
}

/* The number that stands behind "\nNAME:"; 0 if there is none. */
static uint64_t status_field(const struct process *process, const char *name)
{
	char text[4096];
	ssize_t size = pread(process->status, text, sizeof(text) - 1, 0);
	if (size <= 0)
		return 0;
	text[size] = '\0';
	const char *field = strstr(text, name);
	return field ? strtoull(field + strlen(name), NULL, 10) : 0;
}

uint64_t process_resident_bytes(const struct process *process)
{
	return status_field(process, "\nVmRSS:") * 1024;
}

uint64_t process_cpu_ms(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
		(uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

uint64_t process_max_descriptors(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	return limit.rlim_cur;
}

static unsigned count_block(unsigned first, unsigned n)
{
	struct pollfd block[BLOCK];
	unsigned found = 0;

	for (unsigned i = 0; i < n; i++)
		block[i] = (struct pollfd){.fd = (int)(first + i)};
	if (poll(block, n, 0) < 0)
		return 0;
	for (unsigned i = 0; i < n; i++)
		found += !(block[i].revents & POLLNVAL);
	return found;
}

bool descriptor_count_on(struct descriptor_count *count, const struct process *process)
{
	struct stat directory;

	if (count->end == 0) {
		if (!process->one_by_one && stat("/proc/self/fd", &directory) == 0 &&
			directory.st_size > 0) {
			count->found = (unsigned)directory.st_size;
			return true;
		}
		count->end = (unsigned)status_field(process, "\nFDSize:");
	}
	unsigned left = count->end - count->next;
	unsigned n = left < BLOCK ? left : BLOCK;
	count->found += count_block(count->next, n);
	count->next += n;
	return count->next == count->end;
}
