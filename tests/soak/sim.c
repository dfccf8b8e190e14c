/* SPDX-License-Identifier: MIT */
#include "sim.h"

#include "shortage.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FAREWELLS 50 /* of 100 ms, until those who are awake must know of the end */

int64_t sim_wall_error_ms;

/* ---- the clocks ---- */

int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

/* The wall clock of the server; the other one it gets from its loop, which is the box. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	int result = __real_clock_gettime(clock, now);

	if (clock == CLOCK_REALTIME)
		*now = (struct timespec){.tv_sec = 1800000000 + sim_wall_error_ms / 1000};
	return result;
}

static uint64_t wall_clock_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000;
}

/* ---- guests ---- */

void sim_welcome(struct sim *sim, struct sim_guest *guest, uint64_t serial)
{
	*guest = (struct sim_guest){.in = true,
		.serial = serial,
		.joined_ms = wall_clock_ms(),
		.id = -1,
		.lucky = something_is_short()};
	sim->n++;
	sim->joins++;
}

int sim_any(const struct sim *sim, bool in)
{
	unsigned start = chance_below(sim->chance, SIM_GUESTS);

	for (unsigned i = 0; i < SIM_GUESTS; i++) {
		unsigned guest = (start + i) % SIM_GUESTS;
		if (sim->guests[guest].in == in)
			return (int)guest;
	}
	return -1;
}

/* ---- its beginning and end ---- */

int sim_create(struct sim *sim, struct chance *chance)
{
	static const unsigned vectors[] = {1, 2, 4, 8};
	static const unsigned in_flight[] = {0, 64, 1024};
	static const unsigned seconds[] = {0, 30, 300};
	static const unsigned queues[] = {0, 100, 2000};

	*sim = (struct sim){.chance = chance, .clock = sim->clock};
	const struct server_config config = {
		.vectors = vectors[chance_below(chance, 4)],
		.max_peers = SIM_GUESTS - 8 * chance_below(chance, 4),
		.in_flight_limit = in_flight[chance_below(chance, 3)],
		.stall_timeout_ms = 1000 * seconds[chance_below(chance, 3)],
		.max_queue = queues[chance_below(chance, 3)],
	};
	for (unsigned g = 0; g < SIM_GUESTS; g++)
		sim->guests[g].id = -1;
	sim->keeper_accepts = chance_one_in(chance, 2);
	sim->box = box_create(&config);
	if (!sim->box || box_keep(sim->box) < 0)
		return sim_complain(sim, 0, "cannot be created");
	sim->box->around = shortage_around;
	sim->copy = mmap(NULL, sim->box->kept_size, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return sim->copy == MAP_FAILED ? sim_complain(sim, 0, "no memory") : 0;
}

/* Everybody who reads is told that everybody else has left. */
int sim_remove(struct sim *sim)
{
	struct box *box = sim->box;

	server_farewell(box->server);
	for (unsigned i = 0; i < FAREWELLS; i++) {
		sim_read_all(sim);
		box_wait(box, 100);
	}
	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		const struct box_client *client = &box->clients[g];
		const struct sim_guest *guest = &sim->guests[g];
		if (!guest->in || guest->temper != AWAKE || guest->broken || client->ended)
			continue;
		if (client->violation || (client->others > 0 && !something_is_short()))
			return sim_complain(sim, g, "was not told of the end");
	}
	munmap(sim->copy, box->kept_size);
	box->around = NULL;
	box_destroy(box);
	sim->box = NULL;
	return 0;
}

/* ---- time ---- */

static void wake(struct sim *sim)
{
	for (unsigned g = 0; g < SIM_GUESTS; g++) {
		struct sim_guest *guest = &sim->guests[g];
		if (!guest->in)
			continue;
		if (guest->temper == ASLEEP && guest->wakes <= sim->clock) {
			box_read(sim->box, g, UINT32_MAX);
			if (!sim->box->clients[g].ended) /* too late */
				guest->temper = AWAKE;
		}
		if (guest->temper == SLOW)
			box_read(sim->box, g, 1 + chance_below(sim->chance, 20));
	}
}

int sim_wait(struct sim *sim, uint64_t ms)
{
	uint64_t end = sim->clock + ms;

	/* The server is called when it wants to be; but not thousands of times for somebody who is
	 * asleep while the kernel is short of something. */
	for (unsigned i = 0; i < 20 && sim->clock < end; i++) {
		uint64_t piece = end - sim->clock;
		if (i < 19 && sim->box->due >= 0 && (uint64_t)sim->box->due < piece)
			piece = sim->box->due > 0 ? (uint64_t)sim->box->due : 1;
		sim->clock += piece;
		wake(sim);
		box_wait(sim->box, piece);
	}
	return sim_check(sim);
}

void sim_jump(struct sim *sim, uint64_t ms)
{
	sim->jumped = true;
	box_wait(sim->box, ms);
}

/* ---- what guests do ---- */

/* For those who are in and those who are gone and not forgotten (docs/restart.md). */
static unsigned places_of(const struct sim *sim)
{
	return 2 * sim->box->config.max_peers + 64;
}

/* Whether it must be let in: 1, must not: 0, may be either: -1. */
static int expect(const struct sim *sim)
{
	struct server_stats stats;

	server_get_stats(sim->box->server, &stats);
	if (sim->draining || stats.peers >= sim->box->config.max_peers)
		return 0;
	if (something_is_short() || stats.peers + stats.quarantined >= places_of(sim))
		return -1;
	return 1;
}

static int connect_guest(struct sim *sim, unsigned g, uint64_t *serial)
{
	*serial = server_last_serial(sim->box->server) + 1;
	if (!sim->keeper_accepts)
		return box_connect(sim->box, g);
	int sock = box_new_client(sim->box, g);
	if (sock < 0)
		return sock;
	box_hold_socket(sim->box, *serial, sock);
	shortage_around(true);
	int result = server_admit(sim->box->server, sock, *serial);
	shortage_around(false);
	return result;
}

int sim_arrive(struct sim *sim, unsigned g)
{
	int expected = expect(sim);
	uint64_t serial;
	int result = connect_guest(sim, g, &serial);

	if (result == 0 && expected == 0)
		return sim_complain(sim, g, "let in, and should not be");
	if (result < 0 && expected == 1)
		return sim_complain(sim, g, "refused");
	if (result == 0) {
		sim_welcome(sim, &sim->guests[g], serial);
		return 0;
	}
	box_read(sim->box, g, 1);
	if (sim->box->clients[g].refusal == 0 && !something_is_short())
		return sim_complain(sim, g, "refused without a reason");
	box_disconnect(sim->box, g);
	sim->refusals++;
	return 0;
}

int sim_hang_up(struct sim *sim, unsigned g)
{
	shutdown(sim->box->clients[g].sock, SHUT_RDWR);
	sim->guests[g].parting = true;
	return 0;
}

void sim_sleep(struct sim *sim, unsigned g, uint64_t ms)
{
	sim->guests[g].temper = ASLEEP;
	sim->guests[g].wakes = sim->clock + ms;
}

void sim_be_slow(struct sim *sim, unsigned g)
{
	sim->guests[g].temper = SLOW;
}

void sim_be_hostile(struct sim *sim, unsigned g)
{
	static const char bytes[64];
	struct sim_guest *guest = &sim->guests[g];
	int sock = sim->box->clients[g].sock;

	switch (chance_below(sim->chance, 4)) {
	case 0: /* it may not say anything */
		guest->parting = send(sock, bytes, sizeof(bytes), MSG_NOSIGNAL) > 0;
		break;
	case 1: /* which shows if setsockopt() could not fail, as it cannot */
		guest->parting = send(sock, bytes, 1, MSG_NOSIGNAL | MSG_OOB) > 0 && !guest->lucky;
		guest->broken = true;
		break;
	case 2:
		guest->parting = shutdown(sock, SHUT_WR) == 0;
		break;
	case 3: /* shows only when there is something to be told */
		guest->broken = shutdown(sock, SHUT_RD) == 0;
		break;
	}
}

/* ---- what the operator does ---- */

int sim_evict(struct sim *sim, unsigned g)
{
	sim->guests[g].evicted = true;
	return server_evict(sim->box->server, sim->guests[g].serial, "by the operator") == 0
		? 0
		: sim_complain(sim, g, "cannot be evicted");
}

void sim_drain(struct sim *sim, bool on)
{
	sim->draining = on;
	server_set_draining(sim->box->server, on);
}

/* ---- a kill ---- */

/* Nobody serves, and the keeper accepts. Some do not wait long. */
static void wait_for_a_server(struct sim *sim, unsigned n, uint64_t last_serial)
{
	for (unsigned g = 0; g < SIM_GUESTS && n > 0; g++) {
		struct sim_guest *guest = &sim->guests[g];
		if (guest->in)
			continue;
		int sock = box_new_client(sim->box, g);
		if (sock < 0)
			return;
		*guest = (struct sim_guest){.waiting = true, .serial = ++last_serial, .id = -1};
		box_hold_socket(sim->box, guest->serial, sock);
		close(sock);
		if (chance_one_in(sim->chance, 4))
			(void)sim_hang_up(sim, g);
		n--;
	}
}

int sim_kill(struct sim *sim, unsigned leave, unsigned arrive)
{
	static const uint64_t clocks[] = {0, 1000000, UINT64_C(1) << 40};
	uint64_t last_serial = server_last_serial(sim->box->server);
	struct server_stats stats;
	unsigned attempts = 0;

	server_get_stats(sim->box->server, &stats);
	box_halt(sim->box);
	for (; leave > 0 && sim->n > 0; leave--)
		(void)sim_hang_up(sim, (unsigned)sim_any(sim, true));
	sim->may_refuse = sim->draining || sim->n + arrive > sim->box->config.max_peers ||
		sim->n + arrive + stats.quarantined >= places_of(sim);
	if (sim->keeper_accepts)
		wait_for_a_server(sim, arrive, last_serial);
	sim->box->now = clocks[chance_below(sim->chance, 3)] + chance_below(sim->chance, 1000);
	while (box_resume(sim->box, sim->reason) < 0) {
		if (!something_is_short() || ++attempts > 100)
			return sim_complain(sim, 0, sim->reason);
		box_halt(sim->box);
	}
	sim->restarts++;
	sim_drain(sim, sim->draining);
	return 0;
}
