/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation. Each peer costs one descriptor and one a vector. If the sum of what regions
 * promise were more than there are, peers of one region could keep those of another out, and
 * accept() would fail with clients waiting. So a region claims the most that its peers can need
 * when it is made, and is not made if that is not there.
 */
#include "descriptors.h"

#include "common/descriptors.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

/* For the first region, log, loop, keeper, control clients, and one connection that is being
 * refused. */
#define OF_OUR_OWN 32
/* Memory, the same for reading, listener; two while they are replaced. */
#define OF_A_REGION 5

/* Who has one of these two may have any number of descriptors in flight (unix(7)). */
static bool in_flight_is_unlimited(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[0].effective & (1u << CAP_SYS_RESOURCE | 1u << CAP_SYS_ADMIN);
}

void descriptors_init(struct descriptors *descriptors, bool single)
{
	*descriptors = (struct descriptors){
		.limit = descriptors_raise(),
		.claimed = OF_OUR_OWN,
		.in_flight_unlimited = in_flight_is_unlimited(),
		.single = single,
	};
}

static uint64_t of_a_peer(const struct region_spec *spec)
{
	return 1 + (uint64_t)spec->server.vectors;
}

static uint64_t claim_of(
	const struct descriptors *descriptors, const struct region_spec *spec, unsigned max_peers)
{
	return (descriptors->single ? 0 : OF_A_REGION) + max_peers * of_a_peer(spec);
}

static int complain(
	const struct descriptors *descriptors, const struct region_spec *spec, char *reason)
{
	bool given = spec->max_peers_given;
	bool single = descriptors->single;
	unsigned long long needed = descriptors->claimed +
		claim_of(descriptors, spec, given ? spec->server.max_peers : 1);

	snprintf(reason, REASON_SIZE,
		"%s%s %u with %u vectors needs %llu descriptors%s, the limit is %llu: raise it "
		"(ulimit -n, LimitNOFILE=) or lower one of the two",
		single ? (given ? "--" : "one peer, -") : (given ? "" : "one peer, "),
		given ? "max-peers" : (single ? "n" : "vectors"),
		given ? spec->server.max_peers : spec->server.vectors, spec->server.vectors, needed,
		single ? "" : " with what others have claimed",
		(unsigned long long)descriptors->limit);
	return -EMFILE;
}

int descriptors_claim(
	struct descriptors *descriptors, struct region_spec *spec, unsigned sharers, char *reason)
{
	struct server_config *server = &spec->server;
	uint64_t taken = descriptors->claimed + claim_of(descriptors, spec, 0);
	uint64_t left = descriptors->limit > taken ? descriptors->limit - taken : 0;
	uint64_t fit = left / of_a_peer(spec);

	if (fit == 0 || (spec->max_peers_given && server->max_peers > fit))
		return complain(descriptors, spec, reason);
	if (!spec->max_peers_given) {
		fit = fit / sharers > 0 ? fit / sharers : 1;
		server->max_peers = fit > IVSHMEM_MAX_ID ? IVSHMEM_MAX_ID + 1 : (unsigned)fit;
	}
	descriptors_claim_again(descriptors, spec);
	return 0;
}

void descriptors_claim_again(struct descriptors *descriptors, struct region_spec *spec)
{
	uint64_t claim = claim_of(descriptors, spec, spec->server.max_peers);

	descriptors->claimed += claim;
	spec->server.in_flight_limit = descriptors->in_flight_unlimited ? UINT64_MAX
		: descriptors->single                                   ? descriptors->limit
									: claim;
}

void descriptors_release(struct descriptors *descriptors, const struct region_spec *spec)
{
	descriptors->claimed -= claim_of(descriptors, spec, spec->server.max_peers);
}

bool descriptors_allow(
	const struct descriptors *descriptors, const struct region_spec *spec, unsigned max_peers)
{
	uint64_t others =
		descriptors->claimed - claim_of(descriptors, spec, spec->server.max_peers);
	return others + claim_of(descriptors, spec, max_peers) <= descriptors->limit;
}
