/* SPDX-License-Identifier: MIT */
/*
 * A box: one descriptor that holds several others, in their order.
 *
 * Whoever keeps descriptors for us (a keeper, systemd) then keeps one thing for each thing that
 * belongs together: it cannot lose a part of it or change the order, and its lists stay short.
 */
#ifndef BASE_FDSET_H
#define BASE_FDSET_H

#include <stddef.h>

#define FDSET_MAX 253 /* what the kernel passes in one message */

/*
 * Put copies of 1 to FDSET_MAX descriptors into a new box. Returns its descriptor (close-on-exec,
 * the caller's), or -errno: -ETOOMANYREFS if this user has more descriptors in boxes and messages
 * than RLIMIT_NOFILE allows, and neither CAP_SYS_RESOURCE nor CAP_SYS_ADMIN.
 */
int fdset_pack(const int *fds, size_t n);

/*
 * Get copies of what is in a box; they stay in it, too. Returns how many (close-on-exec, the
 * caller's), or -errno: -EBADMSG if this is no box, -E2BIG if there are more than `max`, -EMFILE if
 * there are no descriptors left.
 */
int fdset_unpack(int box, int *fds, size_t max);

#endif
