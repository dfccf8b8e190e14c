/* SPDX-License-Identifier: MIT */
/* The client-client protocol: what is done to one eventfd. docs/protocol.md, section 3. */
#ifndef CLIENT_DOORBELL_H
#define CLIENT_DOORBELL_H

#include <stdint.h>

/* Make a received eventfd fit for use: non-blocking. 0 or -errno. */
int doorbell_prepare(int fd);

/* Ring. 0 or -errno; a counter that is full already is a success. */
int doorbell_ring(int fd);

/* Take the rings since the last time: 1 and *count, 0 if there are none, or -errno if this is no
 * doorbell at all. Never blocks, whatever the others do to the shared descriptor. */
int doorbell_take(int fd, uint64_t *count);

#endif
