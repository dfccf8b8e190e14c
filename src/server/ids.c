/* SPDX-License-Identifier: MIT */
#include "server/ids.h"

#include <errno.h>
#include <stdlib.h>

int ids_init(struct ids *ids)
{
	*ids = (struct ids){.returned = calloc(IDS_COUNT, sizeof(*ids->returned))};
	return ids->returned ? 0 : -ENOMEM;
}

void ids_fini(struct ids *ids)
{
	free(ids->returned);
	*ids = (struct ids){0};
}

int ids_take(struct ids *ids)
{
	if (ids->fresh < IDS_COUNT)
		return (int)ids->fresh++;
	if (ids->count == 0)
		return -ENOSPC;
	int id = ids->returned[ids->head];
	ids->head = (ids->head + 1) % IDS_COUNT;
	ids->count--;
	return id;
}

void ids_return(struct ids *ids, uint16_t id)
{
	ids->returned[(ids->head + ids->count) % IDS_COUNT] = id;
	ids->count++;
}

void ids_untake(struct ids *ids, uint16_t id)
{
	if (id + 1u == ids->fresh) {
		ids->fresh--;
		return;
	}
	ids->head = (ids->head + IDS_COUNT - 1) % IDS_COUNT;
	ids->returned[ids->head] = id;
	ids->count++;
}
