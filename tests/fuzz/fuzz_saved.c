/* SPDX-License-Identifier: MIT */
/*
 * What an earlier process has left of a region, whatever it is: refused with a reason, or taken,
 * and then written again it is the same.
 */
#include "server/hub/saved.h"

#include "base/parse.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *check(const char *text, size_t size)
{
	char reason[REASON_SIZE] = "";
	struct region_spec spec;
	struct region_life life;

	if (saved_read(text, size, &spec, &life, reason) < 0) {
		if (reason[0] == '\0' || strlen(reason) >= REASON_SIZE)
			abort();
		return NULL;
	}
	if (!name_is_valid(spec.name) || spec.socket_path[0] == '\0' ||
		(spec.memory.name && spec.memory.name != spec.memory_name))
		abort();
	char *again = saved_write(&spec, &life);
	if (!again)
		abort();
	region_spec_fini(&spec);
	return again;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *once = check((const char *)data, size);
	if (!once)
		return 0;
	char *twice = check(once, strlen(once));
	if (!twice || strcmp(once, twice) != 0)
		abort();
	free(once);
	free(twice);
	return 0;
}
