/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Two parties that may start in any order, be started again, or find anything at all in the memory.
 * Each writes only its own slot (enum ivshmem_meeting) and repeats three things until all is said:
 * look at the other's slot, answer in the own one, ring the other unless it has heard.
 *
 * Old words deceive nobody: a session is a fresh random number, so whoever names mine has read it
 * since this call. Who sees a session that it has not seen before starts over with it.
 *
 * The two need not end at the same moment. Whoever ends first has by then written all that the
 * other still waits for, and has nothing more to say.
 *
 * A ring wakes the sleeper, so who waits for the other to be started looks less and less often; how
 * often matters only where doorbells do not work.
 */
#include "base/clock.h"
#include "peer/transport.h"

#include <ivshmem/abi.h>

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#define SHORTEST_NAP_MS 1
#define LONGEST_NAP_MS  100

/* What a slot says. */
struct slot {
	uint32_t session, id, flags, seen, heard;
};

struct meeting {
	struct ivshmem_peer *peer;
	unsigned vector;
	volatile char *mine, *theirs;
	struct slot me, other;
};

static uint32_t load(const volatile char *slot, enum ivshmem_meeting word)
{
	const volatile uint32_t *at = (const volatile uint32_t *)(slot + word);
	return le32toh(__atomic_load_n(at, __ATOMIC_ACQUIRE));
}

/* False if its owner is just writing it, or has never done so. */
static bool read_slot(const volatile char *slot, struct slot *said)
{
	*said = (struct slot){
		.session = load(slot, IVSHMEM_MEETING_SESSION),
		.id = load(slot, IVSHMEM_MEETING_ID),
		.flags = load(slot, IVSHMEM_MEETING_FLAGS),
		.seen = load(slot, IVSHMEM_MEETING_SEEN),
		.heard = load(slot, IVSHMEM_MEETING_HEARD),
	};
	return said->session != 0 && load(slot, IVSHMEM_MEETING_SESSION) == said->session &&
		(said->id <= IVSHMEM_MAX_ID || said->id == IVSHMEM_MEETING_NO_ID);
}

/* Say it, unless the slot does: whoever starts may have cleared the memory. */
static void say(const struct meeting *meeting)
{
	const struct slot *me = &meeting->me;
	const struct {
		enum ivshmem_meeting word;
		uint32_t value;
	} words[] = {
		{IVSHMEM_MEETING_SESSION, 0},
		{IVSHMEM_MEETING_ID, me->id},
		{IVSHMEM_MEETING_FLAGS, me->flags},
		{IVSHMEM_MEETING_SEEN, me->seen},
		{IVSHMEM_MEETING_HEARD, me->heard},
		{IVSHMEM_MEETING_SESSION, me->session},
	};
	struct slot said;

	if (read_slot(meeting->mine, &said) && memcmp(&said, me, sizeof(said)) == 0)
		return;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		__atomic_store_n((volatile uint32_t *)(meeting->mine + words[i].word),
			htole32(words[i].value), __ATOMIC_RELEASE);
}

static uint32_t new_session(void)
{
	uint32_t session = 0;

	/* A machine that has just been booted may not have gathered randomness yet. It need not be
	 * secret, only new. */
	if (getrandom(&session, sizeof(session), GRND_NONBLOCK) != sizeof(session))
		session = (uint32_t)clock_ns();
	return session != 0 ? session : 1;
}

static bool has_doorbell(const struct slot *from, const struct slot *to)
{
	return from->flags & IVSHMEM_MEETING_RINGS && to->flags & IVSHMEM_MEETING_HEARS &&
		to->id != IVSHMEM_MEETING_NO_ID;
}

/* Has `to` said that a doorbell of `from` has come, or can there be none? */
static bool is_heard(const struct slot *from, const struct slot *to)
{
	return to->heard == from->session || !has_doorbell(from, to);
}

static bool is_complete(const struct meeting *meeting)
{
	const struct slot *me = &meeting->me, *other = &meeting->other;
	return me->seen != 0 && other->seen == me->session && is_heard(me, other) &&
		is_heard(other, me);
}

/* Take the rings of the vector, waiting for one as long as that: 1, 0, -errno. */
static int listen_for(const struct meeting *meeting, int nap_ms)
{
	uint64_t count = 0;

	if (!(meeting->me.flags & IVSHMEM_MEETING_HEARS))
		return ivshmem_dispatch(meeting->peer, nap_ms) < 0 ? -errno : 0;
	if (ivshmem_wait(meeting->peer, meeting->vector, nap_ms, &count) < 0)
		return -errno;
	if (ivshmem_dispatch(meeting->peer, 0) < 0)
		return -errno;
	return count > 0;
}

/* Look at the other's slot. 1 if it says something new, 0, -errno. */
static int look(struct meeting *meeting)
{
	struct slot *me = &meeting->me, said;

	if (!read_slot(meeting->theirs, &said))
		return 0;
	bool news = memcmp(&said, &meeting->other, sizeof(said)) != 0;
	meeting->other = said;
	if (said.session == me->seen)
		return news;

	/* What has been rung until now was not for this session. */
	int err = listen_for(meeting, 0);
	if (err < 0)
		return err;
	me->seen = said.session;
	me->heard = 0;
	return 1;
}

static void ring(const struct meeting *meeting)
{
	const struct slot *me = &meeting->me, *other = &meeting->other;

	/* It may not have joined yet, as far as we know, or not have that vector yet: the next
	 * time, then. */
	if (me->seen != 0 && !is_heard(me, other))
		ivshmem_notify(meeting->peer, other->id, meeting->vector);
}

static int meet(struct meeting *meeting, uint64_t deadline)
{
	struct slot *me = &meeting->me;
	int nap = SHORTEST_NAP_MS;

	for (;;) {
		int news = look(meeting);
		if (news < 0)
			return news;
		say(meeting);
		if (is_complete(meeting))
			return 0;
		ring(meeting);

		int left = deadline_left(deadline);
		if (left == 0)
			return -ETIMEDOUT;
		nap = news ? SHORTEST_NAP_MS : nap * 2 < LONGEST_NAP_MS ? nap * 2 : LONGEST_NAP_MS;
		int heard = listen_for(meeting, left >= 0 && left < nap ? left : nap);
		if (heard < 0)
			return heard;
		if (heard > 0)
			me->heard = me->seen;
	}
}

static int check(const struct ivshmem_peer *peer, uint64_t offset, unsigned seat)
{
	const uint64_t size = UINT64_C(2) * IVSHMEM_MEETING_SLOT;

	if (offset % IVSHMEM_MEETING_SLOT != 0 || peer->size < size || offset > peer->size - size ||
		seat > 1)
		return -EINVAL;
	return ivshmem_capabilities(peer) & IVSHMEM_CAP_WRITE ? 0 : -EACCES;
}

static struct slot introduce(const struct ivshmem_peer *peer)
{
	const unsigned capabilities = ivshmem_capabilities(peer);
	struct slot me = {
		.session = new_session(),
		.id = peer->id < 0 ? IVSHMEM_MEETING_NO_ID : (uint32_t)peer->id,
	};

	if (capabilities & IVSHMEM_CAP_NOTIFY)
		me.flags |= IVSHMEM_MEETING_RINGS;
	if (capabilities & IVSHMEM_CAP_INTERRUPT)
		me.flags |= IVSHMEM_MEETING_HEARS;
	return me;
}

int ivshmem_meet(struct ivshmem_peer *peer, uint64_t offset, unsigned seat, unsigned vector,
	int timeout_ms, unsigned *other)
{
	int err = check(peer, offset, seat);

	if (err == 0) {
		volatile char *slots = (volatile char *)peer->region + offset;
		struct meeting meeting = {
			.peer = peer,
			.vector = vector,
			.mine = slots + (size_t)seat * IVSHMEM_MEETING_SLOT,
			.theirs = slots + (size_t)!seat * IVSHMEM_MEETING_SLOT,
			.me = introduce(peer),
		};
		err = meet(&meeting, deadline_after(timeout_ms));
		if (err == 0 && other)
			*other = meeting.other.id;
	}
	if (err == 0)
		return 0;
	errno = -err;
	return -1;
}
