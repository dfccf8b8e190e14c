/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * An eventfd wakes those who wait for it to become readable at each write, and those who wait for
 * it to become writable at each read. Edge-triggered epoll hands on one event for each such wake-up
 * (for several, if we are late), but looks again before it does: was it to be readable and the
 * receiver has read it meanwhile, there is no event. So who waits for readable alone misses most
 * rings of a receiver that is awake; measured, between 6 and 97 of a hundred. But an eventfd is
 * writable all the time, so the reading of it is never missed. Hence two epoll sets:
 *
 *   `unread`  readable: it has been rung, and not been taken yet
 *   `taken`   writable: the receiver has taken what there was
 *
 * A ring that is seen in both must count once. Each one that was seen unread is a credit, with
 * which one taking is paid; a taking without credit is a ring of which nothing was seen before. The
 * sets are asked in this order, taken first: the taking of older rings is then not mistaken for
 * that of a new one. It can be, if it happens between the two questions; then one taking more is
 * to come for what was counted, hence credit for two, and no more, or a receiver that takes many
 * rings at once would hide as many later ones. So what is counted was rung, and what was rung is
 * counted unless it came closer to another ring of the same vector than we look, or is the first
 * after several were taken at once.
 *
 * KVM takes what is rung before any epoll set hears of it (kernel 5.11 and later). Nothing is seen
 * then, and nothing tells that case from silence. (io_uring's polls are woken without a second
 * look, and would do with one set, but many systems forbid io_uring, for good reasons.)
 */
#include "bellset.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#define BATCH  64 /* events of one look, from each set */
#define CREDIT 2

int bell_set_open(struct bell_set *set, bell_rung *rung, void *data)
{
	*set = (struct bell_set){
		.unread = epoll_create1(EPOLL_CLOEXEC),
		.taken = epoll_create1(EPOLL_CLOEXEC),
		.rung = rung,
		.data = data,
	};
	if (set->unread >= 0 && set->taken >= 0)
		return 0;
	bell_set_close(set);
	return -EMFILE;
}

void bell_set_close(struct bell_set *set)
{
	if (set->unread >= 0)
		close(set->unread);
	if (set->taken >= 0)
		close(set->taken);
}

/* ---- looking ---- */

static void count(struct bell_set *set, struct bell *bell)
{
	bell->seen++;
	set->rung(set->data, bell);
}

static void was_taken(struct bell_set *set, struct bell *bell)
{
	if (!bell->ready)
		return;
	if (bell->credit > 0)
		bell->credit--;
	else
		count(set, bell);
}

static void is_unread(struct bell_set *set, struct bell *bell)
{
	if (bell->credit < CREDIT)
		bell->credit++;
	if (bell->ready)
		count(set, bell);
}

/* Could there be more? */
static bool look_into(
	struct bell_set *set, int epoll, void (*handle)(struct bell_set *set, struct bell *bell))
{
	struct epoll_event events[BATCH];
	int n = epoll_wait(epoll, events, BATCH, 0);

	for (int i = 0; i < n; i++)
		handle(set, events[i].data.ptr);
	return n == BATCH;
}

bool bell_set_look(struct bell_set *set)
{
	bool more = look_into(set, set->taken, was_taken);
	return look_into(set, set->unread, is_unread) || more;
}

/* ---- watches ---- */

static bool watch(const struct bell_set *set, struct bell *bell)
{
	struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.ptr = bell};
	if (epoll_ctl(set->taken, EPOLL_CTL_ADD, bell->fd, &event) < 0)
		return false;
	event.events = EPOLLIN | EPOLLET;
	if (epoll_ctl(set->unread, EPOLL_CTL_ADD, bell->fd, &event) == 0)
		return true;
	(void)epoll_ctl(set->taken, EPOLL_CTL_DEL, bell->fd, NULL);
	return false;
}

unsigned bell_set_watch(struct bell_set *set, struct bell *bells, unsigned n)
{
	unsigned watched = 0;

	while (watched < n && watch(set, &bells[watched]))
		watched++;
	set->n += watched;
	/* Each tells at once that it is writable, which is no news. */
	for (uint64_t i = 0; i <= set->n / BATCH && bell_set_look(set); i++)
		;
	for (unsigned i = 0; i < watched; i++)
		bells[i].ready = true;
	return watched;
}

void bell_set_unwatch(struct bell_set *set, const struct bell *bells, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		(void)epoll_ctl(set->taken, EPOLL_CTL_DEL, bells[i].fd, NULL);
		(void)epoll_ctl(set->unread, EPOLL_CTL_DEL, bells[i].fd, NULL);
	}
	set->n -= n;
}
