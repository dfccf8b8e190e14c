/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. A user is known from his first peer to his last. Descriptors are counted as
 * peers come and go; bytes by the queues themselves, which add what they allocate to the user's
 * meter (queue.h). Peers for which something waits stand in a list of their user, so nobody else is
 * looked at to find the slowest one. What a peer costs after it has left, since somebody has heard
 * half of it, is not counted: that is in the hands of the reader, who may be somebody else.
 *
 * Evicted is one peer at a time, because the next look may find enough; and only one that has read
 * nothing for a second, as for --max-queue: a storm of joins fills everybody's queue, and who reads
 * must not suffer for it. Newcomers of that user are refused meanwhile (admit.c). So he goes beyond
 * the limit by one newcomer's queue, and by what others announce to his peers in that time.
 */
#include "server/users.h"

#include "server/internal.h"

#include <errno.h>
#include <stdlib.h>

#define BUCKETS 64

struct user {
	struct list link;       /* users.buckets[] */
	struct list in_waiting; /* users.waiting, if something waits for one of his peers */
	struct list waiting;    /* these peers */
	uint64_t queue_bytes, descriptors;
	uint64_t look_at; /* nobody's time is up before */
	uid_t uid;
	unsigned peers;
};

struct users {
	struct users_limits limits;
	struct list buckets[BUCKETS]; /* by uid */
	struct list waiting;
	struct users_log log;
};

/*
 * Who there is
 */

struct users *users_create(void)
{
	struct users *users = calloc(1, sizeof(*users));
	if (!users)
		return NULL;
	for (unsigned i = 0; i < BUCKETS; i++)
		list_init(&users->buckets[i]);
	list_init(&users->waiting);
	log_limits_init(&users->log.news);
	log_limits_init(&users->log.trouble);
	return users;
}

void users_destroy(struct users *users)
{
	free(users);
}

static struct user *find(struct users *users, uid_t uid)
{
	list_for_each (node, &users->buckets[uid % BUCKETS]) {
		struct user *user = container_of(node, struct user, link);
		if (user->uid == uid)
			return user;
	}
	return NULL;
}

static struct user *find_or_make(struct users *users, uid_t uid)
{
	struct user *user = find(users, uid);
	if (user)
		return user;
	user = calloc(1, sizeof(*user));
	if (!user)
		return NULL;
	user->uid = uid;
	list_init(&user->in_waiting);
	list_init(&user->waiting);
	list_append(&users->buckets[uid % BUCKETS], &user->link);
	return user;
}

/*
 * What they take
 */

unsigned peer_descriptors(const struct server_peer *peer)
{
	return 1u + peer->member->vectors + (peer->dead_fd >= 0);
}

int user_join(struct users *users, struct server_peer *peer)
{
	struct user *user = find_or_make(users, peer->who.uid);
	if (!user)
		return -ENOMEM;
	peer->user = user;
	peer->charged = peer_descriptors(peer);
	user->peers++;
	user->descriptors += peer->charged;
	queue_set_meter(&peer->queue, &user->queue_bytes);
	return 0;
}

static void stop_waiting(struct server_peer *peer)
{
	struct user *user = peer->user;

	list_remove(&peer->waiting_link);
	if (list_empty(&user->waiting))
		list_remove(&user->in_waiting);
}

void user_leave(struct server_peer *peer)
{
	struct user *user = peer->user;

	if (!user)
		return;
	stop_waiting(peer);
	queue_set_meter(&peer->queue, NULL);
	peer->user = NULL;
	user->descriptors -= peer->charged;
	if (--user->peers > 0)
		return;
	list_remove(&user->link);
	free(user);
}

void user_waits(struct users *users, struct server_peer *peer, bool waits)
{
	struct user *user = peer->user;

	if (!waits) {
		stop_waiting(peer);
		return;
	}
	if (list_empty(&peer->waiting_link))
		list_append(&user->waiting, &peer->waiting_link);
	if (list_empty(&user->in_waiting))
		list_append(&users->waiting, &user->in_waiting);
}

const char *users_refuse(struct users *users, uid_t uid, unsigned descriptors)
{
	const struct users_limits *limits = &users->limits;
	struct users_limits taken;

	users_get(users, uid, &taken);
	if (limits->descriptors > 0 && taken.descriptors + descriptors > limits->descriptors)
		return "full for this user (--max-descriptors-per-uid)";
	if (limits->queue_bytes > 0 && taken.queue_bytes > limits->queue_bytes)
		return "full for this user (--max-queue-bytes-per-uid)";
	return NULL;
}

void users_get(const struct users *users, uint32_t uid, struct users_limits *taken)
{
	const struct user *user = find((struct users *)users, uid);

	*taken = (struct users_limits){0};
	if (user)
		*taken = (struct users_limits){user->descriptors, user->queue_bytes};
}

/*
 * Limits
 */

void users_set_limits(struct users *users, const struct users_limits *limits)
{
	users->limits = *limits;
}

const struct users_limits *users_limits(const struct users *users)
{
	return &users->limits;
}

static struct server_peer *find_slowest(const struct user *user)
{
	struct server_peer *slowest = NULL;

	list_for_each (node, &user->waiting) {
		struct server_peer *peer = container_of(node, struct server_peer, waiting_link);
		if (!slowest || peer->blocked_since < slowest->blocked_since)
			slowest = peer;
	}
	return slowest;
}

/* When to look again; UINT64_MAX: not before something has happened. The user may be gone then. */
static uint64_t relieve(struct user *user, uint64_t limit, uint64_t now_ms)
{
	if (user->queue_bytes <= limit)
		return UINT64_MAX;
	if (now_ms < user->look_at)
		return user->look_at;
	struct server_peer *peer = find_slowest(user);
	user->look_at = peer->blocked_since + OVER_LIMIT_MS;
	if (now_ms < user->look_at)
		return user->look_at;
	if (peer_reads_nothing(peer, now_ms))
		peer_evict(peer->server, peer,
			"it has read nothing for %llu ms, and what waits for peers of uid %u takes "
			"%llu bytes (--max-queue-bytes-per-uid)",
			(unsigned long long)(now_ms - peer->blocked_since), (unsigned)user->uid,
			(unsigned long long)user->queue_bytes);
	return now_ms; /* there may be more */
}

int users_run(struct users *users, uint64_t now_ms)
{
	uint64_t next = UINT64_MAX;

	if (users->limits.queue_bytes == 0)
		return -1;
	list_for_each_safe (node, &users->waiting) {
		struct user *user = container_of(node, struct user, in_waiting);
		uint64_t due = relieve(user, users->limits.queue_bytes, now_ms);
		next = due < next ? due : next;
	}
	if (next == UINT64_MAX)
		return -1;
	return next > now_ms ? (int)(next - now_ms) : 0;
}

/*
 * Their part of the log
 */

void users_set_time(struct users *users, uint64_t now_ms)
{
	if (now_ms > users->log.now)
		users->log.now = now_ms;
}

struct users_log *users_log(struct users *users)
{
	return &users->log;
}
