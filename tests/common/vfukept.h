/* SPDX-License-Identifier: MIT */
/* Memory and a holder for what is kept of a device. What is held is a descriptor of this process,
 * too, but above those that fdcheck counts. */
#ifndef TESTS_VFUKEPT_H
#define TESTS_VFUKEPT_H

#include "fdcheck.h"
#include "vfubox.h"

#include "vfio-user/connection.h"
#include "vfio-user/device.h"
#include "vfio-user/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define KEPTBOX_HELD  256
#define KEPTBOX_FLOOR 4096 /* fdcheck looks below */

struct keptbox {
	void *memory;
	size_t size;
	struct vfu_kept_identity identity;
	struct vfu_kept *kept;
	struct {
		uint64_t number;
		int fd;
	} held[KEPTBOX_HELD];
	unsigned n_held;
	uint64_t last; /* number that was put */
	int put_error; /* what put() returns, or 0 */
	struct vfu_why why;
};

static inline int keptbox_find(const struct keptbox *box, uint64_t number)
{
	for (unsigned i = 0; i < box->n_held; i++) {
		if (box->held[i].number == number)
			return (int)i;
	}
	return -1;
}

static inline int keptbox_put(void *data, uint64_t number, const int *fds, size_t n)
{
	struct keptbox *box = data;

	if (box->put_error < 0)
		return box->put_error;
	assert_int_equal(n, 1);
	assert_true(number > box->last); /* never twice */
	assert_true(box->n_held < KEPTBOX_HELD);
	int fd = fcntl(fds[0], F_DUPFD_CLOEXEC, KEPTBOX_FLOOR);
	if (fd < 0)
		return -errno;
	box->held[box->n_held].number = box->last = number;
	box->held[box->n_held++].fd = fd;
	return 0;
}

static inline int keptbox_take(void *data, uint64_t number, int *fds, size_t max)
{
	struct keptbox *box = data;
	int i = keptbox_find(box, number);

	assert_int_equal(max, 1);
	if (i < 0)
		return 0;
	fds[0] = fcntl(box->held[i].fd, F_DUPFD_CLOEXEC, 0);
	return fds[0] < 0 ? -errno : 1;
}

static inline void keptbox_drop(void *data, uint64_t number)
{
	struct keptbox *box = data;
	int i = keptbox_find(box, number);

	if (i < 0)
		return;
	close(box->held[i].fd);
	box->held[i] = box->held[--box->n_held];
}

static inline struct vfu_holder keptbox_holder(struct keptbox *box)
{
	return (struct vfu_holder){
		.put = keptbox_put, .take = keptbox_take, .drop = keptbox_drop, .data = box};
}

/* For a function as vfubox_up() makes them. */
static inline void keptbox_up(struct keptbox *box, unsigned revision, unsigned vectors)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(limit.rlim_cur > KEPTBOX_FLOOR + KEPTBOX_HELD);
	*box = (struct keptbox){
		.size = vfu_kept_size(vectors > 0 ? vectors : 1),
		.identity = {.type = revision == 1 ? VFU_DOORBELL : VFU_LEGACY,
			.vectors = vectors > 0 ? vectors : 1, /* any of them rings INTx */
			.msi = vectors > 0,
			.bar_size = BOX_SIZE},
	};
	box->memory =
		mmap(NULL, box->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(box->memory != MAP_FAILED);
	const struct vfu_holder holder = keptbox_holder(box);
	assert_int_equal(vfu_kept_create(&box->kept, box->memory, &box->identity, &holder), 0);
}

static inline int keptbox_resume(struct keptbox *box)
{
	const struct vfu_holder holder = keptbox_holder(box);

	vfu_kept_destroy(box->kept);
	box->kept = NULL;
	box->why.text[0] = '\0';
	return vfu_kept_resume(
		&box->kept, box->memory, box->size, &box->identity, &holder, &box->why);
}

/* With nobody attached nothing may be held. */
static inline void keptbox_down(struct keptbox *box)
{
	assert_int_equal(box->n_held, 0);
	vfu_kept_destroy(box->kept);
	munmap(box->memory, box->size);
}

#endif
