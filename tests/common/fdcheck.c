/* SPDX-License-Identifier: MIT */
#include "fdcheck.h"

#include <fcntl.h>
#include <stdio.h>

/* Counting by fcntl, not by listing a directory: works under qemu-user and without procfs. */
int fdcheck_count(void)
{
	int open_fds = 0;
	for (int fd = 0; fd < 4096; fd++)
		open_fds += fcntl(fd, F_GETFD) >= 0;
	return open_fds;
}

static int before;

int fdcheck_setup(void **state)
{
	(void)state;
	before = fdcheck_count();
	return 0;
}

int fdcheck_teardown(void **state)
{
	(void)state;
	int after = fdcheck_count();
	if (after != before)
		fprintf(stderr, "descriptors: %d before the test, %d after it\n", before, after);
	return after == before ? 0 : -1;
}
