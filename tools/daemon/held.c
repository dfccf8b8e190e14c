/* SPDX-License-Identifier: MIT */
#include "daemon/held.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void held_init(struct held_names *names)
{
	names->tree = NULL;
	names->count = 0;
	list_init(&names->list);
}

void held_fini(struct held_names *names)
{
	while (!list_empty(&names->list))
		held_drop(names, container_of(names->list.next, struct held, link));
}

/* The name is the first member, so what points to a struct held points to its name as well. */
static int by_name(const void *one, const void *other)
{
	return strcmp(one, other);
}

struct held *held_find(const struct held_names *names, const char *name)
{
	struct held **node = tfind(name, &names->tree, by_name);
	return node ? *node : NULL;
}

struct held *held_add(struct held_names *names, const char *name, int fd, struct list *next)
{
	struct held *held = calloc(1, sizeof(*held));
	if (!held)
		return NULL;
	memcpy(held->name, name, strnlen(name, sizeof(held->name) - 1));
	list_init(&held->accepting);
	held->n = 1;
	struct held **node = tsearch(held, &names->tree, by_name);
	if (!node || *node != held) {
		free(held);
		return NULL;
	}
	held->fd = fd;
	list_append(next, &held->link);
	names->count++;
	return held;
}

void held_drop(struct held_names *names, struct held *held)
{
	tdelete(held, &names->tree, by_name);
	list_remove(&held->link);
	list_remove(&held->accepting);
	names->count--;
	if (held->fd >= 0)
		close(held->fd);
	free(held);
}
