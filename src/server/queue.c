/* SPDX-License-Identifier: MIT */
#include "server/queue.h"

#include <errno.h>
#include <stdlib.h>

struct entry *queue_at(const struct queue *queue, uint32_t i)
{
	return &queue->ring[(queue->head + i) & (queue->capacity - 1)];
}

static void count(const struct queue *queue, uint32_t before, uint32_t after)
{
	if (queue->meter)
		*queue->meter += (uint64_t)after * sizeof(struct entry) -
			(uint64_t)before * sizeof(struct entry);
}

void queue_set_meter(struct queue *queue, uint64_t *meter)
{
	count(queue, queue->capacity, 0);
	queue->meter = meter;
	count(queue, 0, queue->capacity);
}

static void free_ring(struct queue *queue)
{
	count(queue, queue->capacity, 0);
	free(queue->ring);
	queue->ring = NULL;
	queue->capacity = queue->head = 0;
}

/* Squeeze the cancelled entries out, into `ring` of `capacity`. */
static void move_entries(struct queue *queue, struct entry *ring, uint32_t capacity)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < queue->count; i++) {
		const struct entry *entry = queue_at(queue, i);
		if (entry->kind != ENTRY_CANCELLED)
			ring[kept++] = *entry;
	}
	free(queue->ring);
	count(queue, queue->capacity, capacity);
	queue->ring = ring;
	queue->capacity = capacity;
	queue->head = 0;
	queue->count = kept;
}

int queue_reserve(struct queue *queue, uint32_t entries)
{
	if (queue->capacity - queue->count >= entries)
		return 0;

	uint32_t live = 0;
	for (uint32_t i = 0; i < queue->count; i++)
		live += queue_at(queue, i)->kind != ENTRY_CANCELLED;
	/* A quarter of slack on top, so that squeezing does not happen at every push. */
	uint64_t need = (uint64_t)live + entries;
	uint64_t capacity = 4;
	while (capacity < need + need / 4)
		capacity *= 2;
	if (capacity > UINT32_MAX / 2)
		return -ENOMEM;
	struct entry *ring = calloc(capacity, sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	move_entries(queue, ring, (uint32_t)capacity);
	return 0;
}

void queue_push(struct queue *queue, enum entry_kind kind, struct member *member, uint32_t messages)
{
	struct entry *entry = queue_at(queue, queue->count++);
	*entry = (struct entry){.member = member, .kind = kind, .messages = messages};
	queue->messages += messages;
	if (member) {
		member->mentions++;
		member->connects += kind == ENTRY_CONNECT;
	}
}

static void forget(struct entry *entry, queue_release *release, void *data)
{
	struct member *member = entry->member;
	if (!member)
		return;
	member->mentions--;
	member->connects -= entry->kind == ENTRY_CONNECT;
	entry->member = NULL;
	release(data, member);
}

void queue_cancel_gone(struct queue *queue, uint64_t pass)
{
	for (uint32_t i = 0; i < queue->count; i++) {
		struct entry *entry = queue_at(queue, i);
		struct member *member = entry->member;
		if (entry->kind != ENTRY_CONNECT || !member->gone)
			continue;
		if (i == 0 && (queue->done > 0 || queue->offset > 0))
			continue; /* begun: its disconnect must follow */
		member->mentions--;
		member->connects--;
		member->pass = pass;
		queue->messages -= entry->messages;
		*entry = (struct entry){.kind = ENTRY_CANCELLED};
	}
}

void queue_advance(
	struct queue *queue, uint32_t messages, uint32_t offset, queue_release *release, void *data)
{
	queue->messages -= messages;
	queue->done += messages;
	while (queue->count > 0 && queue->done >= queue_at(queue, 0)->messages) {
		struct entry *entry = queue_at(queue, 0);
		queue->done -= entry->messages;
		forget(entry, release, data);
		queue->head = (queue->head + 1) & (queue->capacity - 1);
		queue->count--;
	}
	/* A partly sent message: its earlier bytes count only while it is the same message. */
	queue->offset = messages > 0 ? offset : queue->offset + offset;
	if (queue->count == 0)
		free_ring(queue);
}

void queue_clear(struct queue *queue, queue_release *release, void *data)
{
	for (uint32_t i = 0; i < queue->count; i++)
		forget(queue_at(queue, i), release, data);
	queue_free(queue);
}

void queue_free(struct queue *queue)
{
	free_ring(queue);
	*queue = (struct queue){.meter = queue->meter};
}
