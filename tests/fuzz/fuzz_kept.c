/* SPDX-License-Identifier: MIT */
/*
 * Kept state of unknown origin: it is refused with a reason, and no descriptor is touched, or it is
 * taken over, and then the server can be run with it: what the checks let pass does no harm.
 *
 * Input: the parts of the memory that a small server uses, one after the other: the header, two
 * headers of the batch in flight, then four times the time of an ID, a record and a row. What is
 * missing is zero, as is the rest of the memory.
 */
#include "../common/idleops.h"

#include "server/kept_state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS   4u
#define VECTORS 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *pour(const uint8_t *from, const uint8_t *end, void *to, size_t size)
{
	if (size > (size_t)(end - from))
		size = (size_t)(end - from);
	memcpy(to, from, size);
	return from + size;
}

static void fill(const struct kept_state *state, const uint8_t *data, size_t size)
{
	const uint8_t *end = data + size;

	data = pour(data, end, state->header, sizeof(*state->header));
	data = pour(data, end, state->headers, 2 * sizeof(struct mmsghdr));
	data = pour(data, end, state->left_at, PEERS * sizeof(*state->left_at));
	data = pour(data, end, state->records, PEERS * sizeof(*state->records));
	(void)pour(data, end, state->rows, PEERS * state->row_words * sizeof(*state->rows));
}

/* Each peer's connection and eventfds, and the other ends. */
struct hands {
	struct kept_descriptors sets[2 * PEERS];
	int socks[PEERS], ends[PEERS], vectors[PEERS][VECTORS];
};

static void hold(struct hands *hands)
{
	for (unsigned i = 0; i < PEERS; i++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
			abort();
		hands->socks[i] = pair[0];
		hands->ends[i] = pair[1];
		for (unsigned v = 0; v < VECTORS; v++)
			hands->vectors[i][v] = eventfd(0, EFD_NONBLOCK);
		hands->sets[2 * i] = (struct kept_descriptors){.kind = SERVER_KEPT_SOCKET,
			.serial = i + 1,
			.fds = &hands->socks[i],
			.n = 1};
		hands->sets[2 * i + 1] = (struct kept_descriptors){.kind = SERVER_KEPT_VECTORS,
			.serial = i + 1,
			.fds = hands->vectors[i],
			.n = VECTORS};
	}
}

static void take_over(const struct server_config *config, void *memory, size_t size)
{
	struct hands hands;
	struct server *server;
	char reason[KEPT_REASON_SIZE] = "";

	hold(&hands);
	if (server_create(&server, config, -1, &idle_ops, NULL, NULL) < 0)
		abort();
	if (kept_resume(server, memory, size, hands.sets, 2 * PEERS, reason) < 0) {
		if (reason[0] == '\0')
			abort();
		for (unsigned i = 0; i < 2 * PEERS; i++) {
			for (unsigned j = 0; j < hands.sets[i].n; j++) {
				if (close(hands.sets[i].fds[j]) < 0)
					abort(); /* it was not his */
			}
		}
	} else {
		server_run(server, 1);
	}
	server_destroy(server);
	for (unsigned i = 0; i < PEERS; i++)
		close(hands.ends[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct server_config config = {.format = &wire_current,
		.vectors = VECTORS,
		.max_peers = 1,
		.in_flight_limit = UINT64_MAX};
	struct kept_state state, checked;
	char reason[KEPT_REASON_SIZE];
	size_t memory_size = kept_size(&config);
	void *memory = aligned_alloc(4096, memory_size);

	if (!memory)
		abort();
	memset(memory, 0, memory_size);
	kept_lay_out(&state, memory, kept_slots(&config));
	fill(&state, data, size);
	/* Most inputs end here, without the cost of descriptors. */
	if (kept_check(&checked, memory, memory_size, &config, reason) == 0)
		take_over(&config, memory, memory_size);
	free(memory);
	return 0;
}
