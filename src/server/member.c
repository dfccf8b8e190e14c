/* SPDX-License-Identifier: MIT */
#include "server/internal.h"

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

struct member *member_create(uint16_t id, unsigned vectors)
{
	struct member *member = calloc(1, sizeof(*member) + vectors * sizeof(member->fds[0]));
	if (!member)
		return NULL;
	member->id = id;
	list_init(&member->link);
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
	if (member->connects == 0 && member->fds_open)
		close_fds(member);
	if (member->mentions == 0) {
		ids_return(&server->ids, member->id);
		server->stats.quarantined--;
		free(member);
	}
}
