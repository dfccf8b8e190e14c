/* SPDX-License-Identifier: MIT */
/*
 * region - the shared memory object: create, size, seal, prefault, map. The only place that calls
 * memfd_create, shm_open and mmap for it.
 */
#ifndef REGION_REGION_H
#define REGION_REGION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define REGION_MIN_SIZE        4096u
#define REGION_NUMA_ANY        (-1)
#define REGION_DEFAULT_RESERVE (UINT64_C(256) << 20) /* --memory-reserve */

enum region_kind {
	REGION_MEMFD, /* anonymous, sealed: nobody can shrink it */
	REGION_SHM,   /* POSIX shared memory object called `name` */
	REGION_DIR,   /* unnamed file in directory `name`, e.g. on hugetlbfs */
	REGION_FILE,  /* existing file `name`, used as it is */
};

struct region_config {
	enum region_kind kind;
	const char *name;   /* REGION_SHM, REGION_DIR, REGION_FILE */
	uint64_t size;      /* bytes; rounded up to a power of two, at least REGION_MIN_SIZE.
			       REGION_FILE: 0 takes the file's size, which must be a power of two */
	mode_t mode;        /* permission of the object, within 0666; 0: 0600.
			       REGION_FILE keeps its own: must be 0 */
	bool reuse;         /* REGION_SHM: adopt an existing object, of at least this size */
	bool no_prealloc;   /* do not allocate at start (SIGBUS later if memory runs out) */
	uint64_t reserve;   /* leave at least this much memory free, bytes */
	uint64_t huge_page; /* 0, or 2 MiB, 1 GiB...: REGION_MEMFD of huge pages of this size */
	int numa_node;      /* REGION_NUMA_ANY, or bind to this node (not REGION_FILE) */
};

struct region {
	enum region_kind kind;
	int fd;           /* -1: none; owned */
	uint64_t size;    /* bytes */
	uint64_t granule; /* page size of the backing, bytes */
	bool sealed;      /* shrink, grow and seal seals are set */
	bool created;     /* we made the object of a name: region_fini() removes it */
	char *name;       /* that region_publish() gives it and that is to be removed, or NULL */
};

#define REGION_INIT                                                                                \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/* One line for people: names the option and the remedy. */
struct region_error {
	char text[256];
};

/* Round as the server does; 0 if the result does not fit a file size (off_t). */
uint64_t region_round_size(uint64_t size);

/*
 * Create (or adopt) as `config` says; what is new of REGION_SHM has no name yet, and only
 * region_publish() gives it one. 0, or -errno with error->text filled and nothing left behind:
 *   -EINVAL  impossible combination or size      -ENOMEM  does not fit (both numbers in the text)
 *   -EEXIST  REGION_SHM exists and no reuse      others   from the system call that failed
 */
int region_create(
	struct region *region, const struct region_config *config, struct region_error *error);

/*
 * Now others may find it: give a new shared memory object its name, in one step. Does nothing for
 * any other. 0, or -errno with error->text; -EEXIST: somebody was faster.
 */
int region_publish(const struct region *region, struct region_error *error);

/* The contrary, unless the name is another object's by now. The memory stays. */
void region_unpublish(struct region *region);

/* The same for an object that region_create() made in an earlier process, by which name nobody
 * knows; closes it. */
void region_discard(int fd);

/*
 * Take over the descriptor of a region that region_create() has made by this config, maybe in
 * another process; `created`: that one's region->created. 0, or -EINVAL with error->text and `fd`
 * still the caller's.
 */
int region_adopt(struct region *region, int fd, const struct region_config *config, bool created,
	struct region_error *error);

/* A second descriptor of the region that cannot be written through: the caller's, or -errno. */
int region_open_read_only(const struct region *region);

/* Zeros into `size` bytes from `offset`, both in multiples of the granule; ends at the region's
 * end. `allocated`: memory that is there stays there. 0 or -errno. */
int region_clear(const struct region *region, bool allocated, uint64_t offset, uint64_t size);

/* Remove what region_create() made, close. Safe on REGION_INIT and twice. */
void region_fini(struct region *region);

/* Warning that the operator should see at start, or NULL: e.g. that this backing cannot be sealed.
 */
const char *region_warning(const struct region *region);

/*
 * What a client does with a descriptor that a server sent or that it opened itself: check that it
 * is a memory object of a size > 0 and map all of it. `limit`: largest size to accept, bytes, 0:
 * any. *sealed says whether it cannot shrink. 0 or -errno: -EINVAL (not a file, empty), -EFBIG,
 * others from mmap. The descriptor stays the caller's.
 */
int region_map(
	int fd, uint64_t limit, bool read_only, void **address, uint64_t *size, bool *sealed);

/* What a guest does with its device's memory, which is a part of a driver's file: map `size` bytes
 * from `offset`, both in whole pages. 0 or -errno. */
int region_map_at(int fd, uint64_t offset, uint64_t size, bool read_only, void **address);

/* End either kind of mapping. NULL is allowed. */
void region_unmap(void *address, uint64_t size);

/* Open a POSIX shared memory object or a file for region_map(). Descriptor or -errno. */
int region_open_shm(const char *name, bool read_only);
int region_open_file(const char *path, bool read_only);

#endif
