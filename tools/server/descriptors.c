/* SPDX-License-Identifier: MIT */
#include "descriptors.h"

#include "common/descriptors.h"

#include <ivshmem/abi.h>

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

/* For the region, the listener, the log, the loop and one connection that is being refused. */
#define DESCRIPTORS_OF_OUR_OWN 32

/* Who has one of these two may have any number of descriptors in flight (unix(7)). */
static bool in_flight_is_unlimited(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {{0}};
	if (syscall(SYS_capget, &header, data) < 0)
		return false;
	return data[0].effective & (1u << CAP_SYS_RESOURCE | 1u << CAP_SYS_ADMIN);
}

int descriptors_settle(struct config *config, struct log *log)
{
	struct server_config *server = &config->server;
	uint64_t limit = descriptors_raise();
	uint64_t each = 1 + (uint64_t)server->vectors;
	uint64_t fit = limit > DESCRIPTORS_OF_OUR_OWN ? (limit - DESCRIPTORS_OF_OUR_OWN) / each : 0;

	server->in_flight_limit = in_flight_is_unlimited() ? UINT64_MAX : limit;
	if (fit == 0 || (config->max_peers_given && server->max_peers > fit)) {
		log_error(log,
			"%s %u with %u vectors needs %llu descriptors, the limit is %llu: raise it "
			"(ulimit -n, LimitNOFILE=) or lower one of the two",
			config->max_peers_given ? "--max-peers" : "one peer, -n",
			config->max_peers_given ? server->max_peers : server->vectors,
			server->vectors,
			(unsigned long long)((config->max_peers_given ? server->max_peers : 1) *
					each +
				DESCRIPTORS_OF_OUR_OWN),
			(unsigned long long)limit);
		return -1;
	}
	if (!config->max_peers_given)
		server->max_peers = fit > IVSHMEM_MAX_ID ? IVSHMEM_MAX_ID + 1 : (unsigned)fit;
	return 0;
}
