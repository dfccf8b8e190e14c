/* SPDX-License-Identifier: MIT */
#include "server/internal.h"
#include "server/kept_record.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void close_fds(struct member *member)
{
	for (unsigned i = 0; i < member->vectors; i++)
		close(member->fds[i]);
	member->fds_open = false;
}

void member_destroy(struct member *member)
{
	close_fds(member);
	free(member);
}

static struct member *allocate(uint16_t id, uint64_t serial, unsigned vectors)
{
	struct member *member = calloc(1, sizeof(*member) + vectors * sizeof(member->fds[0]));
	if (!member)
		return NULL;
	member->id = id;
	member->serial = serial;
	list_init(&member->link);
	return member;
}

struct member *member_create(uint16_t id, uint64_t serial, unsigned vectors)
{
	struct member *member = allocate(id, serial, vectors);
	if (!member)
		return NULL;
	member->fds_open = true;
	for (; member->vectors < vectors; member->vectors++) {
		int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0) {
			int saved = errno;
			member_destroy(member);
			errno = saved;
			return NULL;
		}
		member->fds[member->vectors] = fd;
	}
	return member;
}

struct member *member_adopt(uint16_t id, uint64_t serial, unsigned vectors, const int *fds)
{
	struct member *member = allocate(id, serial, vectors);
	if (!member)
		return NULL;
	member->vectors = (uint16_t)vectors;
	for (unsigned i = 0; i < vectors; i++)
		member->fds[i] = fds ? fds[i] : -1;
	return member;
}

/*
 * Two lives end here at different times. The descriptors are closed as soon as no half-sent connect
 * needs them, or a reader that has stopped would hold the descriptors of everyone who has left. The
 * ID stays taken until the last reader has been sent the disconnect.
 */
void member_release(void *data, struct member *member)
{
	struct server *server = data;

	if (!member->gone)
		return;
	if (member->connects == 0 && member->fds_open) {
		close_fds(member);
		kept_vectors_done(server, member);
	}
	if (member->mentions == 0) {
		if (server->left_at) /* not while a server ends whose state is kept */
			server->left_at[member->id] = member->left_at;
		kept_forgotten(server, member);
		ids_return(&server->ids, member->id);
		server->stats.quarantined--;
		free(member);
	}
}
