/* SPDX-License-Identifier: MIT */
#include "server/kept_held.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int compare_sets(const struct kept_descriptors *x, const struct kept_descriptors *y)
{
	if (x->serial != y->serial)
		return x->serial < y->serial ? -1 : 1;
	return (int)x->kind - (int)y->kind;
}

static int compare_held(const void *a, const void *b)
{
	const struct kept_held *x = a, *y = b;
	return compare_sets(x->set, y->set);
}

struct kept_held *kept_find_held(
	const struct kept_holdings *holdings, enum server_kept kind, uint64_t serial)
{
	const struct kept_descriptors set = {.kind = kind, .serial = serial};
	const struct kept_held key = {.set = &set};

	return bsearch(&key, holdings->held, holdings->n, sizeof(key), compare_held);
}

int kept_sort_held(struct kept_holdings *holdings, const struct kept_descriptors *sets,
	char reason[KEPT_REASON_SIZE])
{
	for (size_t i = 0; i < holdings->n; i++)
		holdings->held[i] = (struct kept_held){.set = &sets[i]};
	qsort(holdings->held, holdings->n, sizeof(*holdings->held), compare_held);
	for (size_t i = 0; i < holdings->n; i++) {
		const struct kept_descriptors *set = holdings->held[i].set;
		bool is_socket = set->kind == SERVER_KEPT_SOCKET;
		const char *what = NULL;

		if (set->serial == 0 || (!is_socket && set->kind != SERVER_KEPT_VECTORS))
			what = "descriptors of no kind, or of nobody, are held";
		else if (i > 0 && compare_sets(holdings->held[i - 1].set, set) == 0)
			what = is_socket ? "its connection is held twice"
					 : "its vectors are held twice";
		else if (is_socket && set->n != 1)
			what = "its connection is not one descriptor";
		if (!what)
			continue;
		snprintf(reason, KEPT_REASON_SIZE, "descriptors of serial %llu: %s",
			(unsigned long long)set->serial, what);
		return -EPROTO;
	}
	return 0;
}

int kept_check_held(const struct kept_state *state, const struct kept_holdings *holdings,
	uint64_t *half_told, char reason[KEPT_REASON_SIZE])
{
	const struct kept_header *header = state->header;

	for (unsigned reader = 0; reader < header->slots_used; reader++) {
		const struct kept_record *record = &state->records[reader];
		struct kept_step step;

		(void)kept_step_unpack(record->progress, &step);
		if (kept_is_live(record) && step.kind == KEPT_CONNECT)
			kept_set_bit(half_told, step.member, true);
	}
	for (unsigned slot = 0; slot < header->slots_used; slot++) {
		const struct kept_record *record = &state->records[slot];
		const struct kept_held *vectors =
			kept_find_held(holdings, SERVER_KEPT_VECTORS, record->serial);
		unsigned n = vectors ? vectors->set->n : 0;

		if ((!kept_is_live(record) && !kept_bit(half_told, slot)) || n == header->vectors)
			continue;
		snprintf(reason, KEPT_REASON_SIZE,
			"descriptors of serial %llu: %u vectors are held, and it has %u",
			(unsigned long long)record->serial, n, header->vectors);
		return -EPROTO;
	}
	return 0;
}
