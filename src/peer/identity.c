/* SPDX-License-Identifier: MIT */
/* ivshmem_identity(): what the region says of itself. */
#include "peer/transport.h"
#include "region/header.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(((struct ivshmem_identity *)0)->name) == IVSHMEM_HEADER_NAME_SIZE &&
		sizeof(((struct ivshmem_identity *)0)->uuid) == IVSHMEM_HEADER_UUID_SIZE,
	"the interface has room for what the header says");

int ivshmem_identity(const struct ivshmem_peer *peer, struct ivshmem_identity *identity)
{
	struct region_identity found;
	int err = identity->struct_size == sizeof(*identity)
		? region_header_find(peer->region, peer->size, &found)
		: -EINVAL;

	if (err < 0) {
		errno = -err;
		return -1;
	}
	identity->generation = found.generation;
	memcpy(identity->name, found.name, sizeof(identity->name));
	memcpy(identity->uuid, found.uuid, sizeof(identity->uuid));
	return 0;
}
