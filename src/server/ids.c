/* SPDX-License-Identifier: MIT */
#include "server/ids.h"

#include <errno.h>
#include <stdbool.h>
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

static bool is_early(const struct ids *ids, uint32_t id)
{
	return ids->early[id / 64] >> (id % 64) & 1;
}

static void set_early(struct ids *ids, uint32_t id, bool early)
{
	uint64_t bit = UINT64_C(1) << (id % 64);
	ids->early[id / 64] = early ? ids->early[id / 64] | bit : ids->early[id / 64] & ~bit;
}

static uint16_t *slot(const struct ids *ids, uint32_t i)
{
	return &ids->returned[(ids->head + i) % IDS_COUNT];
}

static uint16_t pop(struct ids *ids)
{
	uint16_t id = *slot(ids, 0);
	ids->head = (ids->head + 1) % IDS_COUNT;
	ids->count--;
	return id;
}

int ids_take(struct ids *ids)
{
	while (ids->fresh < IDS_COUNT) {
		uint16_t id = (uint16_t)ids->fresh++;
		if (is_early(ids, id))
			continue;
		if (!policy_reserves(ids->policy, id))
			return id;
		ids_return(ids, id); /* for the day on which the rules have changed */
	}
	for (uint32_t left = ids->count; left > 0; left--) {
		uint16_t id = pop(ids);
		if (!policy_reserves(ids->policy, id))
			return id;
		ids_return(ids, id);
	}
	return -ENOSPC;
}

int ids_take_exactly(struct ids *ids, uint16_t id)
{
	uint32_t i = 0;

	if (id >= ids->fresh && !is_early(ids, id)) {
		set_early(ids, id, true);
		return 0;
	}
	while (i < ids->count && *slot(ids, i) != id)
		i++;
	if (i == ids->count)
		return -EBUSY;
	for (; i + 1 < ids->count; i++)
		*slot(ids, i) = *slot(ids, i + 1);
	ids->count--;
	return 0;
}

void ids_return(struct ids *ids, uint16_t id)
{
	*slot(ids, ids->count++) = id;
}

void ids_untake(struct ids *ids, uint16_t id)
{
	if (id + 1u == ids->fresh) {
		ids->fresh--;
		return;
	}
	ids->head = (ids->head + IDS_COUNT - 1) % IDS_COUNT;
	*slot(ids, 0) = id;
	ids->count++;
}

struct left {
	uint64_t at;
	uint16_t id;
};

static int compare_left(const void *a, const void *b)
{
	const struct left *x = a, *y = b;
	return (x->at > y->at) - (x->at < y->at);
}

int ids_restore(struct ids *ids, const uint64_t *left_at, unsigned n, const uint64_t *in_use)
{
	struct left *left = calloc(n + 1, sizeof(*left));
	unsigned free_again = 0;

	if (!left)
		return -ENOMEM;
	for (unsigned id = 0; id < n; id++) {
		bool used = in_use[id / 64] >> (id % 64) & 1;
		if (!used && left_at[id] == 0)
			continue;
		set_early(ids, id, true);
		if (!used)
			left[free_again++] = (struct left){left_at[id], (uint16_t)id};
	}
	qsort(left, free_again, sizeof(*left), compare_left);
	for (unsigned i = 0; i < free_again; i++)
		ids_return(ids, left[i].id);
	free(left);
	return 0;
}
