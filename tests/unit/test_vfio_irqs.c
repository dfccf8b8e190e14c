/* SPDX-License-Identifier: MIT */
/* What is promised about the VMM's eventfds, with the real device core: docs/vfio-user.md, 4. */
#include "../common/fdcheck.h"
#include "../common/vfubox.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#define EVENTFD_TRIGGER (VFU_DATA_EVENTFD | VFU_ACTION_TRIGGER)
#define NONE_TRIGGER    (VFU_DATA_NONE | VFU_ACTION_TRIGGER)
#define NONE_UNMASK     (VFU_DATA_NONE | VFU_ACTION_UNMASK)
#define NONE_MASK       (VFU_DATA_NONE | VFU_ACTION_MASK)

static int set(struct vfubox *box, uint32_t flags, uint32_t index, uint32_t start, uint32_t count,
	const int *fds, size_t n_fds)
{
	const struct vfu_set_irqs request = {sizeof(request), flags, index, start, count};
	return vfu_irqs_set(&box->function.irqs, &request, NULL, 0, fds, n_fds);
}

/* A descriptor to give away (`*mine` is the VMM's own of it). */
static int give(int *mine)
{
	*mine = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	assert_true(*mine >= 0);
	return dup(*mine);
}

/* How often it was written since the last time. */
static uint64_t rung(int mine)
{
	eventfd_t count = 0;
	return eventfd_read(mine, &count) == 0 ? count : 0;
}

static void enable_msix(struct vfubox *box)
{
	vfubox_write(box, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, BOX_MSIX_ENABLE, 2);
}

static void assign(struct vfubox *box, unsigned vector, int *mine)
{
	int fd = give(mine);
	assert_int_equal(set(box, EVENTFD_TRIGGER, VFU_MSIX, vector, 1, &fd, 1), 0);
}

/* Up, with `revision` and `vectors`. */
static void up(struct vfubox *box, unsigned revision, unsigned vectors)
{
	assert_int_equal(vfubox_up(box, revision, vectors, -1), 0);
}

static void test_counts_and_flags(void **state)
{
	(void)state;
	static const struct {
		unsigned revision, vectors;
		unsigned counts[VFU_IRQS + 1];
	} cases[] = {
		{1, 4, {0, 0, 4, 1, 0, 0}},
		{1, 0, {0, 0, 0, 1, 0, 0}},
		{0, 4, {0, 0, 4, 1, 0, 0}},
		{0, 0, {1, 0, 0, 1, 0, 0}},
	};
	static const uint32_t flags[VFU_IRQS + 1] = {7, 0, 1, 1, 0, 0};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vfubox box;
		up(&box, cases[i].revision, cases[i].vectors);
		for (unsigned index = 0; index <= VFU_IRQS; index++) {
			unsigned count = cases[i].counts[index];
			assert_int_equal(vfu_irqs_count(&box.function.irqs, index), count);
			assert_int_equal(vfu_irqs_flags(&box.function.irqs, index),
				count > 0 ? flags[index] : 0);
		}
		vfu_function_fini(&box.function);
	}
}

static void test_an_interrupt_waits_for_eventfd_and_enable(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up(&box, 1, 2);

	/* Neither; twice is once. */
	vfu_function_interrupt(&box.function, 1);
	vfu_function_interrupt(&box.function, 1);
	assign(&box, 1, &mine);
	assert_int_equal(rung(mine), 0);
	enable_msix(&box);
	assert_int_equal(rung(mine), 1);

	/* Both. */
	vfu_function_interrupt(&box.function, 1);
	vfu_function_interrupt(&box.function, 1);
	assert_int_equal(rung(mine), 2);
	vfu_function_interrupt(&box.function, 0); /* another vector */
	assert_int_equal(rung(mine), 0);
	assert_int_equal(box.function.irqs.sent, 3);

	/* Enabled, but taken away: latched until it comes back. */
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 1, 1, NULL, 0), 0);
	vfu_function_interrupt(&box.function, 1);
	assert_int_equal(rung(mine), 0);
	close(mine);
	assign(&box, 1, &mine);
	assert_int_equal(rung(mine), 1);

	close(mine);
	vfu_function_fini(&box.function);
}

static void test_ranges(void **state)
{
	(void)state;
	struct vfubox box;
	int mine[4], fds[4];
	up(&box, 1, 6);
	enable_msix(&box);
	int before = fdcheck_count();

	for (int i = 0; i < 4; i++)
		fds[i] = give(&mine[i]);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 2, 4, fds, 4), 0);
	for (unsigned i = 0; i < 6; i++)
		vfu_function_interrupt(&box.function, i);
	for (int i = 0; i < 4; i++)
		assert_int_equal(rung(mine[i]), 1);

	/* Take the middle away; the rest goes on. */
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 3, 2, NULL, 0), 0);
	assert_int_equal(fdcheck_count(), before + 4 + 2);
	for (unsigned i = 0; i < 6; i++)
		vfu_function_interrupt(&box.function, i);
	assert_int_equal(rung(mine[0]), 1);
	assert_int_equal(rung(mine[1]), 0);
	assert_int_equal(rung(mine[2]), 0);
	assert_int_equal(rung(mine[3]), 1);

	/* Taking away what isn't there: a VMM does that when it enables MSI-X. */
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 0, 1, NULL, 0), 0);
	/* Counting nothing changes nothing. */
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 6, 0, NULL, 0), 0);
	assert_int_equal(fdcheck_count(), before + 4 + 2);

	/* All off. */
	assert_int_equal(set(&box, NONE_TRIGGER, VFU_MSIX, 0, 0, NULL, 0), 0);
	assert_int_equal(fdcheck_count(), before + 4);

	for (int i = 0; i < 4; i++)
		close(mine[i]);
	vfu_function_fini(&box.function);
}

static void test_a_replaced_eventfd_is_closed_and_silent(void **state)
{
	(void)state;
	struct vfubox box;
	int first, second;
	up(&box, 1, 1);
	enable_msix(&box);
	int before = fdcheck_count();

	assign(&box, 0, &first);
	assign(&box, 0, &second);
	assert_int_equal(fdcheck_count(), before + 3);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(first), 0);
	assert_int_equal(rung(second), 1);
	close(first);
	close(second);
	vfu_function_fini(&box.function);
}

static void test_nonsense_is_refused_and_its_descriptors_closed(void **state)
{
	(void)state;
	static const struct {
		uint32_t flags, index, start, count;
		size_t n_fds;
	} cases[] = {
		{EVENTFD_TRIGGER, VFU_MSIX, 0, 2, 1}, /* not one each */
		{EVENTFD_TRIGGER, VFU_MSIX, 0, 1, 2}, {EVENTFD_TRIGGER, VFU_MSIX, 0, 0, 1},
		{EVENTFD_TRIGGER, VFU_MSIX, 4, 1, 1}, /* out of range */
		{EVENTFD_TRIGGER, VFU_MSIX, 3, 2, 2}, {EVENTFD_TRIGGER, VFU_MSIX, 5, 0, 0},
		{EVENTFD_TRIGGER, VFU_MSIX, 2, UINT32_MAX, 0}, /* .. by wrapping round */
		{EVENTFD_TRIGGER, VFU_MSIX, UINT32_MAX, 2, 2},
		{EVENTFD_TRIGGER, VFU_MSI, 0, 1, 1}, /* no such interrupt */
		{EVENTFD_TRIGGER, VFU_REQ, 0, 1, 1}, {EVENTFD_TRIGGER, VFU_IRQS, 0, 1, 1},
		{EVENTFD_TRIGGER, UINT32_MAX, 0, 1, 1},
		{EVENTFD_TRIGGER | VFU_DATA_NONE, VFU_MSIX, 0, 1, 1}, /* one of each kind of flag */
		{EVENTFD_TRIGGER | VFU_ACTION_MASK, VFU_MSIX, 0, 1, 1},
		{VFU_DATA_EVENTFD, VFU_MSIX, 0, 1, 1}, {VFU_ACTION_TRIGGER, VFU_MSIX, 0, 1, 1},
		{EVENTFD_TRIGGER | 0x40, VFU_MSIX, 0, 1, 1}, {0, VFU_MSIX, 0, 1, 1},
		{NONE_MASK, VFU_MSIX, 0, 1, 0}, /* not maskable */
		{NONE_UNMASK, VFU_ERR, 0, 1, 0},
		{VFU_DATA_EVENTFD | VFU_ACTION_MASK, VFU_INTX, 0, 1, 1}, /* only the other way */
		{VFU_DATA_BOOL | VFU_ACTION_TRIGGER, VFU_MSIX, 0, 1, 0}, /* without the data */
	};
	struct vfubox box;
	int mine;
	up(&box, 1, 4);
	enable_msix(&box);
	assign(&box, 0, &mine);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int before = fdcheck_count(), fds[2] = {-1, -1}, others[2] = {-1, -1};
		for (size_t n = 0; n < cases[i].n_fds; n++)
			fds[n] = give(&others[n]);
		int result = set(&box, cases[i].flags, cases[i].index, cases[i].start,
			cases[i].count, fds, cases[i].n_fds);
		if (result != -EINVAL)
			fail_msg("case %zu: %d", i, result);
		for (size_t n = 0; n < cases[i].n_fds; n++)
			close(others[n]);
		if (fdcheck_count() != before)
			fail_msg("case %zu leaks", i);
	}
	/* What was there goes on. */
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 1);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_descriptors_where_none_belong_are_closed(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up(&box, 0, 0);
	int before = fdcheck_count(), fd = give(&mine);

	assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, &fd, 1), 0);
	close(mine);
	assert_int_equal(fdcheck_count(), before);
	vfu_function_fini(&box.function);
}

static void test_only_eventfds_are_taken(void **state)
{
	(void)state;
	struct vfubox box;
	int first, mine, ends[2];
	up(&box, 1, 2);
	enable_msix(&box);
	assign(&box, 0, &first);

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	int fds[] = {give(&mine), ends[1]};
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 0, 2, fds, 2), -EINVAL);
	assert_int_equal(fcntl(ends[1], F_GETFD), -1);
	/* All or nothing: vector 0 is as it was. */
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(first), 1);
	assert_int_equal(rung(mine), 0);

	close(ends[0]);
	close(first);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_a_full_counter_does_not_block(void **state)
{
	(void)state;
	struct vfubox box;
	up(&box, 1, 1);
	enable_msix(&box);
	int mine = eventfd(0, EFD_CLOEXEC); /* blocking */
	int fd = dup(mine);

	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_MSIX, 0, 1, &fd, 1), 0);
	assert_int_equal(eventfd_write(mine, UINT64_MAX - 1), 0);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), UINT64_MAX - 1);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_trigger_by_message(void **state)
{
	(void)state;
	struct vfubox box;
	int mine[3];
	up(&box, 1, 4);
	for (unsigned i = 0; i < 3; i++)
		assign(&box, i, &mine[i]);

	assert_int_equal(set(&box, NONE_TRIGGER, VFU_MSIX, 1, 3, NULL, 0), 0); /* 3 has none */
	assert_int_equal(rung(mine[0]), 0);
	assert_int_equal(rung(mine[1]), 1);
	assert_int_equal(rung(mine[2]), 1);

	const struct vfu_set_irqs some = {
		sizeof(some), VFU_DATA_BOOL | VFU_ACTION_TRIGGER, VFU_MSIX, 0, 3};
	const uint8_t which[] = {1, 0, 255, 1};
	assert_int_equal(vfu_irqs_set(&box.function.irqs, &some, which, sizeof(which), NULL, 0), 0);
	assert_int_equal(rung(mine[0]), 1);
	assert_int_equal(rung(mine[1]), 0);
	assert_int_equal(rung(mine[2]), 1);

	for (unsigned i = 0; i < 3; i++)
		close(mine[i]);
	vfu_function_fini(&box.function);
}

/* Revision 0 with INTx and its eventfd, unmasked in the register. */
static void up_intx(struct vfubox *box, int *mine)
{
	up(box, 0, 0);
	vfubox_write(box, 0, IVSHMEM_REG_INTRMASK, 1, 4);
	int fd = give(mine);
	assert_int_equal(set(box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, &fd, 1), 0);
}

static void test_intx_masks_itself(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up_intx(&box, &mine);

	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 1);
	vfu_function_interrupt(&box.function, 0);
	vfubox_read(&box, 0, IVSHMEM_REG_INTRSTATUS, 4);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 0); /* low, and high again, but the VMM has not unmasked it */

	/* The guest has not seen to it: the level is still high. */
	assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 1);

	/* The guest sees to it, and the VMM unmasks. */
	assert_int_equal(vfubox_read(&box, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
	assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 0);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 1);

	close(mine);
	vfu_function_fini(&box.function);
}

/* As a process does that takes the device over: it cannot know that the VMM was told. */
static void test_intx_told_twice_is_taken_back(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up_intx(&box, &mine);

	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 1);
	vfu_irqs_restore(&box.function.irqs, 0, dup(mine));
	assert_int_equal(vfubox_read(&box, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
	assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 0);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 1);

	close(mine);
	vfu_function_fini(&box.function);
}

static void test_intx_mask_by_message(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up_intx(&box, &mine);

	assert_int_equal(set(&box, NONE_MASK, VFU_INTX, 0, 1, NULL, 0), 0);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 0);
	/* DATA_BOOL of 0 leaves it as it is. */
	const uint8_t no = 0, yes = 1;
	const struct vfu_set_irqs unmask = {
		sizeof(unmask), VFU_DATA_BOOL | VFU_ACTION_UNMASK, VFU_INTX, 0, 1};
	assert_int_equal(vfu_irqs_set(&box.function.irqs, &unmask, &no, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 0);
	assert_int_equal(vfu_irqs_set(&box.function.irqs, &unmask, &yes, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 1);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_intx_follows_mask_register_and_command(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up_intx(&box, &mine);

	vfubox_write(&box, VFU_REGION_CONFIG, BOX_COMMAND, BOX_INTX_DISABLE, 2);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 0);
	vfubox_write(&box, VFU_REGION_CONFIG, BOX_COMMAND, 0, 2);
	assert_int_equal(rung(mine), 1);

	vfubox_write(&box, 0, IVSHMEM_REG_INTRMASK, 0, 4); /* low */
	assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 0);
	vfubox_write(&box, 0, IVSHMEM_REG_INTRMASK, 1, 4); /* high again */
	assert_int_equal(rung(mine), 1);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_intx_asserted_before_the_eventfd_comes(void **state)
{
	(void)state;
	struct vfubox box;
	int first, second;
	up_intx(&box, &first);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(first), 1);

	/* The VMM starts over, as after a change of routing: a new eventfd starts unmasked. */
	int fd = give(&second);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, &fd, 1), 0);
	assert_int_equal(rung(first), 0);
	assert_int_equal(rung(second), 1);

	/* Off, in both ways of saying so. */
	int before = fdcheck_count();
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, NULL, 0), 0);
	assert_int_equal(fdcheck_count(), before - 1);
	fd = dup(second);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, &fd, 1), 0);
	assert_int_equal(set(&box, NONE_TRIGGER, VFU_INTX, 0, 0, NULL, 0), 0);
	assert_int_equal(fdcheck_count(), before - 1);
	close(first);
	close(second);
	vfu_function_fini(&box.function);
}

/* As QEMU sets INTx up where the kernel injects it, again at each change of routing. */
static void test_intx_with_a_resample_eventfd(void **state)
{
	(void)state;
	struct vfubox box;
	int trigger = -1, resample = -1;
	up(&box, 0, 0);
	vfubox_write(&box, 0, IVSHMEM_REG_INTRMASK, 1, 4);
	int before = fdcheck_count();

	for (int round = 0; round < 3; round++) {
		if (round > 0) {
			close(trigger);
			close(resample);
		}
		int fd = give(&trigger);
		assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, &fd, 1), 0);
		assert_int_equal(set(&box, NONE_MASK, VFU_INTX, 0, 1, NULL, 0), 0);
		fd = give(&resample);
		assert_int_equal(
			set(&box, VFU_DATA_EVENTFD | VFU_ACTION_UNMASK, VFU_INTX, 0, 1, &fd, 1), 0);
		assert_int_equal(set(&box, NONE_UNMASK, VFU_INTX, 0, 1, NULL, 0), 0);
		assert_int_equal(box.watched, fd);
		assert_int_equal(box.watches, round + 1);
		assert_true(round == 0 || box.old_valid);
		assert_int_equal(fdcheck_count(), before + 4);
	}

	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(trigger), 1);
	vfu_irqs_resampled(&box.function.irqs); /* nothing was written: no unmask */
	assert_int_equal(rung(trigger), 0);
	eventfd_write(resample, 1);
	vfu_irqs_resampled(&box.function.irqs); /* the level is still high */
	assert_int_equal(rung(trigger), 1);
	assert_int_equal(rung(resample), 0); /* taken */
	vfubox_read(&box, 0, IVSHMEM_REG_INTRSTATUS, 4);
	eventfd_write(resample, 1);
	vfu_irqs_resampled(&box.function.irqs);
	assert_int_equal(rung(trigger), 0);

	/* Off: the loop hears of it while the old one is open still. */
	assert_int_equal(set(&box, NONE_TRIGGER, VFU_INTX, 0, 0, NULL, 0), 0);
	assert_int_equal(box.watched, -1);
	assert_true(box.old_valid);
	vfu_irqs_resampled(&box.function.irqs);
	close(trigger);
	close(resample);
	vfu_function_fini(&box.function);
	assert_int_equal(box.watches, 4);
}

static void test_a_resample_descriptor_that_is_none_goes(void **state)
{
	(void)state;
	struct vfubox box;
	up(&box, 0, 0);
	int fd = epoll_create1(EPOLL_CLOEXEC); /* no file type either, like an eventfd */

	assert_int_equal(
		set(&box, VFU_DATA_EVENTFD | VFU_ACTION_UNMASK, VFU_INTX, 0, 1, &fd, 1), 0);
	vfu_irqs_resampled(&box.function.irqs);
	assert_int_equal(box.watched, -1);
	assert_int_equal(fcntl(fd, F_GETFD), -1);
	vfu_function_fini(&box.function);
}

static void test_intx_next_to_msix_is_accepted_and_silent(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up(&box, 0, 1);
	int fd = give(&mine);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_INTX, 0, 1, &fd, 1), 0);
	vfubox_write(&box, 0, IVSHMEM_REG_INTRMASK, 1, 4);
	vfubox_write(&box, 0, IVSHMEM_REG_INTRSTATUS, 1, 4);
	vfu_function_interrupt(&box.function, 0);
	assert_int_equal(rung(mine), 0);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_the_error_eventfd_is_kept_and_never_written(void **state)
{
	(void)state;
	struct vfubox box;
	int mine;
	up(&box, 1, 1);
	int before = fdcheck_count(), fd = give(&mine);

	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_ERR, 0, 1, &fd, 1), 0);
	assert_int_equal(set(&box, NONE_TRIGGER, VFU_ERR, 0, 1, NULL, 0), 0);
	assert_int_equal(rung(mine), 0);
	ivshmem_pci_reset(box.function.pci);
	assert_int_equal(fdcheck_count(), before + 2);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_ERR, 0, 1, NULL, 0), 0); /* at unplug */
	assert_int_equal(fdcheck_count(), before + 1);
	close(mine);
	vfu_function_fini(&box.function);
}

static void test_the_next_vmm_starts_from_nothing(void **state)
{
	(void)state;
	struct vfubox box;
	int mine[3], err;
	up(&box, 1, 3);
	int before = fdcheck_count();
	enable_msix(&box);
	for (unsigned i = 0; i < 3; i++)
		assign(&box, i, &mine[i]);
	int fd = give(&err);
	assert_int_equal(set(&box, EVENTFD_TRIGGER, VFU_ERR, 0, 1, &fd, 1), 0);

	vfu_function_release(&box.function);
	assert_int_equal(fdcheck_count(), before + 4);
	assert_int_equal(
		vfubox_read(&box, VFU_REGION_CONFIG, BOX_MSIX_CONTROL, 2) & BOX_MSIX_ENABLE, 0);
	assert_int_equal(vfubox_read(&box, 0, IVSHMEM_REG_IVPOSITION, 4), 7); /* identity stays */
	enable_msix(&box);
	vfu_function_interrupt(&box.function, 0); /* the core knows that nobody is there */
	int again;
	assign(&box, 0, &again);
	assert_int_equal(rung(again), 1);

	for (unsigned i = 0; i < 3; i++)
		close(mine[i]);
	close(err);
	close(again);
	vfu_function_fini(&box.function);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_counts_and_flags),
		TEST(test_an_interrupt_waits_for_eventfd_and_enable),
		TEST(test_ranges),
		TEST(test_a_replaced_eventfd_is_closed_and_silent),
		TEST(test_nonsense_is_refused_and_its_descriptors_closed),
		TEST(test_descriptors_where_none_belong_are_closed),
		TEST(test_only_eventfds_are_taken),
		TEST(test_a_full_counter_does_not_block),
		TEST(test_trigger_by_message),
		TEST(test_intx_masks_itself),
		TEST(test_intx_told_twice_is_taken_back),
		TEST(test_intx_mask_by_message),
		TEST(test_intx_follows_mask_register_and_command),
		TEST(test_intx_asserted_before_the_eventfd_comes),
		TEST(test_intx_with_a_resample_eventfd),
		TEST(test_a_resample_descriptor_that_is_none_goes),
		TEST(test_intx_next_to_msix_is_accepted_and_silent),
		TEST(test_the_error_eventfd_is_kept_and_never_written),
		TEST(test_the_next_vmm_starts_from_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
