/* SPDX-License-Identifier: MIT */
/*
 * The configuration file, whatever it contains: it is right, and then each region is one that could
 * be, or there is at least one line that says where it is wrong.
 */
#include "server/file.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void count(void *data, const char *line)
{
	unsigned *complaints = data;

	if (strncmp(line, "FILE:", 5) != 0 || strchr(line, '\n'))
		abort();
	(*complaints)++;
}

static void check_region(const struct region_spec *spec)
{
	if (!name_is_valid(spec->name) || spec->socket_path[0] != '/' ||
		strlen(spec->socket_path) >= sizeof(spec->socket_path) ||
		spec->server.vectors > IVSHMEM_MAX_VECTORS ||
		(spec->max_peers_given &&
			(spec->server.max_peers == 0 ||
				spec->server.max_peers > IVSHMEM_MAX_ID + 1)))
		abort();
	if ((spec->memory.kind == REGION_MEMFD) != (spec->memory.name == NULL))
		abort();
	if (spec->policy.n == 0 || spec->policy.n > FILE_MAX_RULES)
		abort(); /* none would be: everybody */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct file_config config;
	unsigned complaints = 0;

	int error = file_parse(&config, "FILE", (const char *)data, size, count, &complaints);
	if (error != 0 && error != -EINVAL)
		abort();
	if ((error == 0) != (complaints == 0))
		abort();
	for (size_t i = 0; i < config.n && error == 0; i++)
		check_region(&config.regions[i]);
	file_config_fini(&config);
	return 0;
}
