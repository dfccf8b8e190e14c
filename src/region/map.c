/* SPDX-License-Identifier: MIT */
/* The client's side: open what is not handed out by a server, check a descriptor, map it. */
#include "region/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/*
 * fstat() speaks for everything but block devices. Their size is the offset of their end; moving
 * the offset disturbs nobody, since nobody reads or writes there.
 */
static int object_size(int fd, uint64_t *size)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return -errno;
	off_t bytes = st.st_size;
	if (S_ISBLK(st.st_mode))
		bytes = lseek(fd, 0, SEEK_END);
	else if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (bytes <= 0)
		return -EINVAL;
	*size = (uint64_t)bytes;
	return 0;
}

int region_map(int fd, uint64_t limit, bool read_only, void **address, uint64_t *size, bool *sealed)
{
	/* Seals first, then size: a sealed object cannot become smaller than seen afterwards. */
	int seals = fcntl(fd, F_GET_SEALS);
	uint64_t bytes = 0;
	int err = object_size(fd, &bytes);
	if (err)
		return err;
	if ((limit != 0 && bytes > limit) || bytes > SIZE_MAX)
		return -EFBIG;
	int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	void *mapped = mmap(NULL, (size_t)bytes, protection, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED)
		return -errno;
	*address = mapped;
	*size = bytes;
	*sealed = seals >= 0 && (seals & F_SEAL_SHRINK) != 0;
	return 0;
}

int region_map_at(int fd, uint64_t offset, uint64_t size, bool read_only, void **address)
{
	if (size == 0 || size > SIZE_MAX)
		return -EFBIG;
	int protection = read_only ? PROT_READ : PROT_READ | PROT_WRITE;
	void *mapped = mmap(NULL, (size_t)size, protection, MAP_SHARED, fd, (off_t)offset);
	if (mapped == MAP_FAILED)
		return -errno;
	*address = mapped;
	return 0;
}

void region_unmap(void *address, uint64_t size)
{
	if (address)
		munmap(address, (size_t)size);
}

bool shm_name(const char *name, char out[SHM_NAME_SIZE])
{
	name += name[0] == '/';
	size_t length = strlen(name);
	if (length == 0 || length > SHM_NAME_SIZE - 3 || strchr(name, '/') ||
		strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	out[0] = '/';
	memcpy(out + 1, name, length + 1);
	return true;
}

int region_open_shm(const char *name, bool read_only)
{
	char path[SHM_NAME_SIZE];
	if (!shm_name(name, path))
		return -EINVAL;
	int fd = shm_open(path, read_only ? O_RDONLY : O_RDWR, 0);
	return fd < 0 ? -errno : fd;
}

int region_open_file(const char *path, bool read_only)
{
	/* Non-blocking, or a FIFO of that name would hang us here instead of failing in region_map.
	 */
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (read_only ? O_RDONLY : O_RDWR);
	int fd = open(path, flags);
	return fd < 0 ? -errno : fd;
}
