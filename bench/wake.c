/* SPDX-License-Identifier: MIT */
/*
 * wake - channels of <ivshmem/channels.h> between two host peers who sleep when there is nothing to
 * do.
 *
 *     wake SERVER
 *
 * The round trip when neither looks before it sleeps; how late messages are that come every 20 us
 * when the receiver does look, and what it costs when no more come; how often a sender rings that
 * has always something to send.
 */
#include "anchors/common.h"
#include "anchors/timing.h"
#include "host.h"

#include <ivshmem/channels.h>

#include <errno.h>
#include <unistd.h>

#define SIZE      56
#define PACE_NS   20000
#define QUIET_MS  300
#define SLEEPS    (-1) /* spin_us: not at all */
#define LOOKS     0    /* as the library likes it */
#define PACED_MAX 20000

static const struct ivshmem_channel_plan plan[] = {{.name = "there"}, {.name = "back"}};

/* What the other side tells us. */
struct board {
	uint64_t messages, rings;
	int stop;
};

struct side {
	const char *socket;
	int spin_us;
	struct board *board;
	struct ivshmem_peer *peer;
	struct ivshmem_sender *sender;
	struct ivshmem_receiver *receiver;
};

static void open_side(struct side *side, const char *out, const char *in)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;

	options.spin_us = side->spin_us;
	side->peer = ivshmem_open(side->socket, NULL);
	if (!side->peer || ivshmem_channels_format(side->peer, 0, plan, 2) < 0)
		die("joining");
	side->sender = ivshmem_sender_open(side->peer, out, &options);
	side->receiver = ivshmem_receiver_open(side->peer, in, &options);
	if (!side->sender || !side->receiver)
		die("opening a channel");
}

static void close_side(struct side *side)
{
	ivshmem_sender_close(side->sender);
	ivshmem_receiver_close(side->receiver);
	ivshmem_close(side->peer);
}

static void send(struct side *side, uint64_t time)
{
	const uint64_t bytes[SIZE / 8] = {time};

	if (ivshmem_send(side->sender, bytes, SIZE, 0, -1) < 0)
		die("ivshmem_send");
}

/* Those who come and go between two tests are none of ours. */
static uint64_t receive(struct side *side)
{
	uint64_t bytes[SIZE / 8];

	while (ivshmem_receive(side->receiver, bytes, sizeof(bytes), NULL, -1) < 0)
		if (errno != ECONNRESET && errno != EOWNERDEAD && errno != ESHUTDOWN)
			die("ivshmem_receive");
	return bytes[0];
}

/* ---- round trip ---- */

static void answer(void *data)
{
	struct side *side = data;

	open_side(side, "back", "there");
	for (;;) {
		receive(side);
		send(side, 0);
	}
}

static void trip(void *data)
{
	send(data, 0);
	receive(data);
}

static void measure_trip(const char *socket)
{
	struct side side = {.socket = socket, .spin_us = SLEEPS}, there = side;

	test_begin();
	pid_t other = spawn(cpu_b(), answer, &there);
	open_side(&side, "there", "back");
	const double time = trip_of(trip, &side, 1);
	reap(other);
	test_end();
	close_side(&side);
	emit("wake.trip.sleep", time, "ns");
}

/* ---- a message now and then ---- */

static void pace(void *data)
{
	struct side *side = data;

	open_side(side, "there", "back");
	for (uint64_t next = now_ns(); !__atomic_load_n(&side->board->stop, __ATOMIC_ACQUIRE);
		next += PACE_NS) {
		while (now_ns() < next)
			cpu_relax();
		send(side, now_ns());
	}
	for (;;)
		pause();
}

/* Processor time of waiting for nothing. */
static uint64_t quiet(struct side *side)
{
	unsigned char bytes[SIZE];
	const uint64_t used = cpu_time_ns(0);

	if (ivshmem_receive(side->receiver, bytes, SIZE, NULL, QUIET_MS) >= 0 || errno != ETIMEDOUT)
		die("waiting for nothing");
	return cpu_time_ns(0) - used;
}

static void measure_pace(const char *socket)
{
	static uint64_t times[PACED_MAX];
	struct side side = {
		.socket = socket, .spin_us = LOOKS, .board = shared_alloc(sizeof(*side.board))};
	struct side there = side;
	unsigned char rest[SIZE];
	size_t n = 0;

	test_begin();
	pid_t other = spawn(cpu_b(), pace, &there);
	open_side(&side, "back", "there");
	for (unsigned i = 0; i < 200; i++)
		receive(&side);
	for (uint64_t end = now_ns() + TEST_NS; now_ns() < end && n < PACED_MAX; n++) {
		const uint64_t sent = receive(&side), now = now_ns();
		times[n] = now > sent ? now - sent : 0;
	}
	__atomic_store_n(&side.board->stop, 1, __ATOMIC_RELEASE);
	while (ivshmem_receive(side.receiver, rest, SIZE, NULL, 10) >= 0)
		;
	const double used = (double)quiet(&side);
	reap(other);
	test_end();
	close_side(&side);
	emit("wake.paced.p99", (double)quantile(times, n, 0.99), "ns");
	emit("wake.quiet.cpu", used / QUIET_MS, "us/s");
}

/* ---- doorbells while there is always something to send ---- */

static void flood(void *data)
{
	struct side *side = data;
	struct ivshmem_channel_counters counters;

	open_side(side, "there", "back");
	for (;;) {
		for (unsigned i = 0; i < 256; i++)
			send(side, 0);
		ivshmem_sender_counters(side->sender, &counters);
		__atomic_store_n(&side->board->rings, counters.rings, __ATOMIC_RELAXED);
		__atomic_store_n(&side->board->messages, counters.messages, __ATOMIC_RELEASE);
	}
}

static unsigned take(void *data)
{
	receive(data);
	return 1;
}

static void measure_flood(const char *socket, int spin_us, const char *rate, const char *rings)
{
	struct side side = {
		.socket = socket, .spin_us = spin_us, .board = shared_alloc(sizeof(*side.board))};
	struct side there = side;

	test_begin();
	pid_t other = spawn(cpu_b(), flood, &there);
	open_side(&side, "back", "there");
	for (unsigned i = 0; i < 4096; i++)
		receive(&side);
	const uint64_t messages = __atomic_load_n(&side.board->messages, __ATOMIC_ACQUIRE);
	const uint64_t rung = __atomic_load_n(&side.board->rings, __ATOMIC_RELAXED);
	const double per_second = rate_of(take, &side, 256);
	const uint64_t more = __atomic_load_n(&side.board->messages, __ATOMIC_ACQUIRE) - messages;
	const uint64_t rung_more = __atomic_load_n(&side.board->rings, __ATOMIC_RELAXED) - rung;
	reap(other);
	test_end();
	close_side(&side);
	emit(rate, per_second, "messages/s");
	emit(rings, 1000.0 * (double)rung_more / (double)more, "rings/1000");
}

int main(int argc, char **argv)
{
	struct host host;

	if (argc != 2) {
		errno = EINVAL;
		die("usage: wake SERVER");
	}
	pin(cpu_a());
	host_start(&host, argv[1], &(struct host_options){.vectors = 1});
	measure_trip(host.socket);
	measure_pace(host.socket);
	measure_flood(host.socket, SLEEPS, "wake.rate.sleep", "wake.rings.sleep");
	measure_flood(host.socket, LOOKS, "wake.rate.spin", "wake.rings.spin");
	host_stop(&host);
	return 0;
}
