/* SPDX-License-Identifier: MIT */
/*
 * Register accesses over a vfio-user socket, as a VMM makes them, and how long they take: the same
 * code for an empty responder and for our device.
 */
#ifndef ANCHORS_ACCESS_H
#define ANCHORS_ACCESS_H

#include <stdbool.h>

/*
 * Make accesses for a while and print their medians, under names that begin "access.WHO.":
 *   read    4 bytes of IVPosition, with the reply
 *   write   4 bytes to the doorbell, for a peer that does not exist, until the reply is there
 *   posted  the same without a reply, in bursts that a read ends; the time is that of one access
 * `sock` is connected, and the version agreed upon.
 */
void access_measure(bool one, const char *who, int sock);

#endif
