/* SPDX-License-Identifier: MIT */
#include "common/stdfds.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int stdfds_open(void)
{
	int fd;

	/* open() takes the lowest number that is free. */
	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

void stdfds_replace_inherited(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = STDERR_FILENO + 1; fd < 1024 && null >= 0; fd++)
		if (fcntl(fd, F_GETFD) == 0)
			dup2(null, fd);
	if (null >= 0)
		close(null);
}
