/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A wait is three things in this order, for whoever waits: arm, look, sleep. `arm` says in the own
 * slot which position is waited for, and has a full fence behind it; the partner publishes, has a
 * full fence, and looks at what is said there. So either our look finds what was published, or the
 * partner finds that it has to ring (docs/channel.md, section 8). A ring stays with us until it is
 * taken, so it does no harm if it comes before we sleep; and one for another channel on the same
 * vector only makes us look once too often.
 *
 * Looking before sleeping is worth a factor of a hundred while the partner is at work on another
 * processor, and 50 us of a processor for nothing otherwise. Hence it is tried, and after each
 * failure left out for some waits, twice as many each time, up to SPIN_BACKOFF_MAX.
 *
 * A sleep also ends when the server has something to say. Of a partner that was connected, and is
 * not any more, we learn there. Where no server tells, the slot is all there is: each look of a
 * partner counts its beat on, and a doorbell makes it look. So a partner that says nothing for a
 * while is rung, and if it says nothing for as long again, does not answer. Nobody has to wake up
 * just to say that he lives.
 */
#include "channel/internal.h"

#include "base/clock.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SPIN_US          50
#define SPIN_BACKOFF_MAX 255
#define SPIN_LOOKS       32 /* between two looks at the clock */
#define LOOK_AGAIN_MS    10 /* for a directory */
#define NAP_MS           1  /* where nobody can be rung, as with shm: and file: */
#define FENCE_MS         1  /* longer than any processor keeps a store to itself */
#define NOBODY_MS        1000
#define TOLD_MS          10 /* for a newcomer to be told who is there */
#define TOLD_ROUNDS      64 /* of ivshmem_dispatch(): more than there can be peers */

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("isb" ::: "memory");
#else
	__asm__ volatile("" ::: "memory");
#endif
}

/* ---- opening ---- */

static int find(struct ivshmem_peer *peer, const char *name, uint32_t offset,
	struct ivshmem_channel *channel)
{
	uint64_t size;
	const void *region = ivshmem_region(peer, &size);

	channel_fence_init();
	if (offset == 0)
		offset = ivshmem_channels_at(region, (size_t)size);
	enum ivshmem_channel_error error = (enum ivshmem_channel_error)ivshmem_channel_find(
		region, (size_t)size, offset, name, channel);

	switch (error) {
	case IVSHMEM_CHANNEL_NO_DIRECTORY:
		return -EAGAIN;
	case IVSHMEM_CHANNEL_NO_SUCH:
		return -ENOENT;
	case IVSHMEM_CHANNEL_BAD:
		return -EPROTO;
	}
	return 0;
}

int endpoint_find_channel(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_channel *channel)
{
	const struct timespec pause = {.tv_nsec = LOOK_AGAIN_MS * 1000000L};
	const uint64_t deadline = deadline_after(options->timeout_ms);
	int err;

	if (options->struct_size != sizeof(*options))
		return -EINVAL;
	while ((err = find(peer, name, options->offset, channel)) == -EAGAIN &&
		deadline_left(deadline) != 0)
		nanosleep(&pause, NULL);
	return err;
}

int endpoint_find_lanes(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_channel *channel)
{
	if (!(ivshmem_capabilities(peer) & IVSHMEM_CAP_WRITE))
		return -EACCES;
	int err = endpoint_find_channel(peer, name, options, channel);
	if (err < 0)
		return err;
	return channel->shape == IVSHMEM_CHANNEL_LATEST ? -EPROTOTYPE : 0;
}

int endpoint_find(struct ivshmem_peer *peer, const char *name,
	struct ivshmem_channel_options *options, struct ivshmem_stream *stream)
{
	struct ivshmem_channel channel = {0};
	int err = endpoint_find_lanes(peer, name, options, &channel);

	if (err < 0)
		return err;
	return ivshmem_channel_lane(&channel, ivshmem_region(peer, NULL), options->lane, stream) < 0
		? -ENOENT
		: 0;
}

bool endpoint_is_connected(const struct ivshmem_peer *peer, uint32_t id)
{
	return id <= IVSHMEM_MAX_ID && ivshmem_vectors(peer, id) >= 0;
}

/*
 * A newcomer hears of himself last, and hears nothing if there are no vectors; so he gives it some
 * time. Who is rung all the while does not stay for ever.
 */
bool endpoint_is_there(struct ivshmem_peer *peer, uint32_t id)
{
	const uint64_t deadline = deadline_after(TOLD_MS);
	int handled, rounds = 0;

	do {
		const bool complete = ivshmem_vectors(peer, (unsigned)ivshmem_id(peer)) > 0 ||
			!ivshmem_connected(peer);
		handled = ivshmem_dispatch(peer, complete ? 0 : deadline_left(deadline));
	} while (handled > 0 && ++rounds < TOLD_ROUNDS);
	return endpoint_is_connected(peer, id);
}

int endpoint_check_slot(
	struct ivshmem_peer *peer, const volatile struct ivshmem_channel_slot *slot, uint32_t key)
{
	const uint32_t id = ivshmem_channel_get(&slot->id);

	/* Without a list of peers nobody can tell. Our own ID: a former handle of this peer's. */
	if (!(ivshmem_capabilities(peer) & IVSHMEM_CAP_PEER_LIST) ||
		ivshmem_channel_get(&slot->key) != key ||
		ivshmem_channel_get(&slot->state) != IVSHMEM_SLOT_OPEN ||
		id == (uint32_t)ivshmem_id(peer))
		return 0;
	return endpoint_is_there(peer, id) ? -EBUSY : 0;
}

int endpoint_check_seat(
	struct ivshmem_peer *peer, const struct ivshmem_stream *stream, uint32_t seat)
{
	return endpoint_check_slot(peer,
		(const volatile struct ivshmem_channel_slot *)(stream->lane + seat), stream->key);
}

/* The descriptor of the own vector, which may still be on its way from the server. */
static int find_bell(struct endpoint *endpoint)
{
	if (!(ivshmem_capabilities(endpoint->peer) & IVSHMEM_CAP_INTERRUPT)) {
		endpoint->bell = -1;
		return 0;
	}
	while ((endpoint->bell = ivshmem_vector_fd(endpoint->peer, endpoint->vector)) < 0) {
		if (errno != EAGAIN)
			return -errno;
		if (!ivshmem_connected(endpoint->peer))
			return -ENOENT; /* it will never come */
		if (ivshmem_dispatch(endpoint->peer, -1) < 0 && errno != EINTR)
			return -errno;
	}
	return 0;
}

void endpoint_prepare(struct endpoint *endpoint, struct ivshmem_peer *peer, struct ivshmem_end *end,
	const struct ivshmem_channel_options *options)
{
	int spin_us = options->spin_us ? options->spin_us : SPIN_US;

	*endpoint = (struct endpoint){
		.peer = peer,
		.end = end,
		.vector = options->vector,
		.bell = -1,
		.seen_id = UINT_MAX,
		.silent_ms = options->silent_ms,
	};
	/* With one processor, to look is to keep the partner from going on. */
	if (spin_us > 0 && sysconf(_SC_NPROCESSORS_ONLN) > 1)
		endpoint->spin_ns = (uint64_t)spin_us * 1000;
}

int endpoint_init(struct endpoint *endpoint, struct ivshmem_peer *peer, struct ivshmem_end *end,
	const struct ivshmem_channel_options *options, uint32_t polls, uint32_t *id)
{
	const int own = ivshmem_id(peer);

	endpoint_prepare(endpoint, peer, end, options);
	endpoint->polls = polls != 0;
	int err = find_bell(endpoint);
	*id = own < 0 || endpoint->bell < 0 ? IVSHMEM_ID_NOBODY : (uint32_t)own;
	return err;
}

/* ---- ringing ---- */

static int ring(struct endpoint *endpoint)
{
	uint32_t id, vector;

	endpoint->owes_ring = false;
	if (!(ivshmem_capabilities(endpoint->peer) & IVSHMEM_CAP_NOTIFY) ||
		ivshmem_stream_whom(endpoint->end, &id, &vector) < 0)
		return 0;
	if (ivshmem_notify(endpoint->peer, id, vector) == 0) {
		endpoint->counters.rings++;
		return 0;
	}
	/* It has gone, or has only come: that the server has told, or will. */
	if (errno != ENOENT && errno != EINVAL)
		return -errno;
	endpoint->owes_ring = true;
	return 1;
}

/* As long as nobody has been there, nobody sleeps; and what stands there is no ID. */
int endpoint_greet(struct endpoint *endpoint)
{
	const struct ivshmem_end *end = endpoint->end;

	if (ivshmem_channel_get(&end->theirs->key) != end->key)
		endpoint->end->due = 0;
	return endpoint_ring(endpoint);
}

int endpoint_ring(struct endpoint *endpoint)
{
	if (!ivshmem_stream_due(endpoint->end) && !endpoint->owes_ring)
		return 0;
	int err = ring(endpoint);
	if (err <= 0)
		return err;
	if (ivshmem_dispatch(endpoint->peer, 0) < 0 && errno != EINTR)
		return -errno;
	err = ring(endpoint);
	return err < 0 ? err : 0;
}

/* ---- the partner ---- */

/* Remember who it is, as long as it can be told that it is there. */
static void know_partner(struct endpoint *endpoint)
{
	const volatile struct ivshmem_channel_slot *slot = endpoint->end->theirs;
	const uint32_t life = ivshmem_channel_acquire(&slot->generation);
	const uint32_t id = ivshmem_channel_get(&slot->id);

	if (ivshmem_channel_get(&slot->key) != endpoint->end->key)
		return;
	if (life != endpoint->life) {
		endpoint->life = life;
		endpoint->seen_id = UINT_MAX;
		endpoint->told_dead = false;
		endpoint->counters.lives++;
	}
	if (endpoint->seen_id == UINT_MAX && endpoint_is_connected(endpoint->peer, id))
		endpoint->seen_id = id;
}

static bool is_dead(const struct endpoint *endpoint)
{
	return (ivshmem_capabilities(endpoint->peer) & IVSHMEM_CAP_PEER_LIST) &&
		endpoint->seen_id != UINT_MAX && !endpoint->told_dead &&
		ivshmem_channel_get(&endpoint->end->theirs->state) == IVSHMEM_SLOT_OPEN &&
		!endpoint_is_connected(endpoint->peer, endpoint->seen_id);
}

/* Anything that only a living partner does. */
static uint32_t sign_of_life(const struct endpoint *endpoint)
{
	const volatile struct ivshmem_channel_slot *slot = endpoint->end->theirs;
	return ivshmem_channel_get(&slot->beat) + ivshmem_channel_get(&slot->position) +
		ivshmem_channel_get(&slot->generation);
}

/* 0, or -EHOSTDOWN; *next is when to look again, at the latest. Who is not there is not silent. */
static int check_silence(struct endpoint *endpoint, uint64_t *next)
{
	if (endpoint->silent_ms == 0 ||
		ivshmem_channel_get(&endpoint->end->theirs->state) != IVSHMEM_SLOT_OPEN)
		return 0;
	const uint32_t sign = sign_of_life(endpoint);
	const uint64_t now = clock_ms();
	if (sign != endpoint->last_sign || endpoint->silent_since == 0) {
		endpoint->last_sign = sign;
		endpoint->silent_since = now;
		endpoint->asked = false;
	}
	if (now - endpoint->silent_since >= endpoint->silent_ms) {
		endpoint->silent_since = 0;
		if (endpoint->asked)
			return -EHOSTDOWN;
		int err = ring(endpoint);
		if (err < 0)
			return err;
		endpoint->silent_since = now;
		endpoint->asked = true;
	}
	if (endpoint->silent_since + endpoint->silent_ms < *next)
		*next = endpoint->silent_since + endpoint->silent_ms;
	return 0;
}

/*
 * How long this end may sleep at most, though nobody rings it. Whoever has no ID has nothing to
 * ring by; and somebody like that may come at any time, of which no server tells.
 */
static uint64_t longest_sleep(const struct endpoint *endpoint)
{
	const volatile struct ivshmem_channel_slot *slot = endpoint->end->theirs;

	if (endpoint->polls)
		return NAP_MS;
	if (ivshmem_channel_get(&slot->key) != endpoint->end->key ||
		ivshmem_channel_get(&slot->state) != IVSHMEM_SLOT_OPEN)
		return NOBODY_MS;
	return ivshmem_channel_get(&slot->id) > IVSHMEM_MAX_ID ? NAP_MS : UINT64_MAX;
}

static void sleep_no_longer(const struct endpoint *endpoint, uint64_t *next)
{
	const uint64_t longest = endpoint->nap_us != 0 ? UINT64_MAX : longest_sleep(endpoint);

	if (longest != UINT64_MAX && clock_ms() + longest < *next)
		*next = clock_ms() + longest;
}

/* 0, or what is to be told of one of them. */
static int check_partners(struct endpoint *first, uint64_t *next)
{
	for (struct endpoint *endpoint = first; endpoint; endpoint = endpoint->next) {
		first->told = endpoint;
		know_partner(endpoint);
		if (is_dead(endpoint)) {
			endpoint->told_dead = true;
			return -EOWNERDEAD;
		}
		int err = check_silence(endpoint, next);
		if (err < 0)
			return err;
		sleep_no_longer(endpoint, next);
	}
	return 0;
}

int endpoint_news(struct endpoint *endpoint, enum ivshmem_stream_result result)
{
	const bool midway = endpoint->midway;

	switch (result) {
	case IVSHMEM_STREAM_BEGIN: /* worth telling only if it cuts another off */
		endpoint->midway = false;
		return midway ? -ECONNRESET : 0;
	case IVSHMEM_STREAM_END:
		endpoint->midway = false;
		return -ESHUTDOWN;
	case IVSHMEM_STREAM_LOST:
		endpoint->counters.lost++;
		return -EOVERFLOW;
	case IVSHMEM_STREAM_TOO_BIG:
		return -EMSGSIZE;
	case IVSHMEM_STREAM_BROKEN:
		return -EPROTO;
	case IVSHMEM_STREAM_OK:
	case IVSHMEM_STREAM_EMPTY:
	case IVSHMEM_STREAM_FULL:
		break;
	}
	return 0;
}

/* ---- waiting ---- */

static int spin(struct endpoint *endpoint, endpoint_look look, void *data)
{
	int found = 0;

	if (endpoint->spin_ns == 0)
		return 0;
	if (endpoint->spin_skip > 0) {
		endpoint->spin_skip--;
		return 0;
	}
	const uint64_t end = clock_ns() + endpoint->spin_ns;
	do {
		/* A look that was overtaken has copied much for nothing: not so many of them. */
		const uint64_t lost = endpoint->counters.lost;
		for (int i = 0; i < SPIN_LOOKS && found == 0 && endpoint->counters.lost == lost;
			i++) {
			relax();
			found = look(data);
		}
	} while (found == 0 && clock_ns() < end);
	if (found != 0) {
		endpoint->spin_backoff = 0;
		endpoint->counters.looks++;
		return found;
	}
	if (endpoint->spin_backoff < SPIN_BACKOFF_MAX)
		endpoint->spin_backoff = 2 * endpoint->spin_backoff + 1;
	endpoint->spin_skip = endpoint->spin_backoff;
	return 0;
}

/* Sleep for a moment, unless the server speaks. 0 or -errno. */
static int nap(struct endpoint *endpoint, uint64_t deadline)
{
	struct pollfd server = {.fd = ivshmem_get_fd(endpoint->peer), .events = POLLIN};
	const int left = deadline_left(deadline);
	uint64_t us = endpoint->nap_us;

	if (left >= 0 && us > (uint64_t)left * 1000)
		us = (uint64_t)left * 1000;
	const struct timespec pause = {
		.tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000) * 1000};
	const int ready = ppoll(&server, 1, &pause, NULL);
	if (ready < 0)
		return -errno;
	return ready > 0 && ivshmem_dispatch(endpoint->peer, 0) < 0 ? -errno : 0;
}

/* Those that are due; or after the server has spoken, that could not be rung before. */
static int ring_all(struct endpoint *first, bool owed)
{
	for (struct endpoint *endpoint = first; endpoint; endpoint = endpoint->next) {
		int err = !owed || endpoint->owes_ring ? endpoint_ring(endpoint) : 0;
		if (err < 0)
			return err;
	}
	return 0;
}

/* Sleep until rung, the server speaks, or the time has passed. 0 or -errno. */
static int doze(struct endpoint *endpoint, uint64_t deadline)
{
	struct pollfd fds[] = {{.fd = endpoint->bell, .events = POLLIN},
		{.fd = ivshmem_get_fd(endpoint->peer), .events = POLLIN}};

	endpoint->counters.sleeps++;
	if (endpoint->nap_us != 0)
		return nap(endpoint, deadline);
	const int left = deadline_left(deadline);
	if (ivshmem_capabilities(endpoint->peer) & IVSHMEM_CAP_TIMED_WAIT)
		return ivshmem_wait(endpoint->peer, endpoint->vector, left, NULL) < 0 ? -errno : 0;
	if (endpoint->bell < 0)
		return ivshmem_dispatch(endpoint->peer, NAP_MS) < 0 ? -errno : 0;
	if (poll(fds, 2, left) < 0)
		return -errno;
	if (fds[0].revents && ivshmem_wait(endpoint->peer, endpoint->vector, 0, NULL) < 0)
		return -errno;
	if (fds[1].revents && ivshmem_dispatch(endpoint->peer, 0) < 0)
		return -errno;
	return ring_all(endpoint, true);
}

int endpoint_wait(struct endpoint *endpoint, uint64_t deadline, endpoint_look look,
	void (*arm)(void *data), void *data)
{
	int found = look(data);

	if (found == 0 && deadline_left(deadline) != 0)
		found = spin(endpoint, look, data);
	while (found == 0) {
		uint64_t until = deadline;

		arm(data);
		int err = ring_all(endpoint, false);
		found = look(data);
		if (found != 0 || err < 0)
			return found != 0 ? found : err;
		err = check_partners(endpoint, &until);
		if (err < 0 || deadline_left(deadline) == 0)
			return err;
		err = doze(endpoint, until);
		if (err < 0)
			return err;
		found = look(data);
	}
	return found;
}
