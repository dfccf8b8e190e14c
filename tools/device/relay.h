/* SPDX-License-Identifier: MIT */
/*
 * relay - the server's connection of a device that outlives its process.
 *
 * The device's peer (libivshmem) does not talk to the server but to us, through a socket pair. What
 * the server says goes on to it, and is kept: descriptors by the holder, the rest in memory that is
 * held as well (told.h). After a restart the peer is told that first, as a server would tell a
 * newcomer, and then what the server says next. So the peer needs to know nothing of restarts.
 *
 * A thread for each device, which sleeps in poll(); servers speak when peers come and go only.
 */
#ifndef TOOLS_DEVICE_RELAY_H
#define TOOLS_DEVICE_RELAY_H

#include "base/log.h"

#include <stdbool.h>
#include <stdint.h>

struct holding;
struct relay;

struct relay_config {
	struct holding *holding;
	const char *name; /* of the device; borrowed */
	const char *path; /* of the server's socket */
	unsigned slots;   /* most descriptors of the server's to hold */
	int timeout_ms;   /* for joining */
	struct log *log;  /* borrowed */
};

/* One line for people that says what to do next. */
struct relay_error {
	char text[400];
};

/*
 * Go on with the connection that an earlier process has left. 1; 0: there is none, or it had not
 * joined yet, and is forgotten; -errno with why->text: it cannot be understood, and stays held.
 */
int relay_resume(struct relay **out, const struct relay_config *config, struct relay_error *why);

/* Join the server. 0 or -errno with why->text, and then nothing is held. */
int relay_join(struct relay **out, const struct relay_config *config, struct relay_error *why);

/* The peer's end of the socket pair, with the opening in it: for ivshmem_open("fd:NUMBER"), which
 * takes it over. To be asked for once. */
int relay_peer_fd(struct relay *relay);

/* Bytes of the region. */
uint64_t relay_region_size(const struct relay *relay);

/*
 * After relay_resume(): tell the peer of all that the earlier process knew, and of what the server
 * has said since. `dispatch` has the peer read. Whoever uses the peer then finds those whom it has
 * found before.
 */
void relay_catch_up(struct relay *relay, void (*dispatch)(void *data), void *data);

/* Start the thread: from now on the peer hears what the server says. 0 or -errno. */
int relay_start(struct relay *relay);

/* End the thread. What is held stays held: to be called before the peer is closed, which would end
 * it all. NULL is allowed. */
void relay_close(struct relay *relay);

/* The device is not coming back: leave the server, and let go of everything that is held for it;
 * then as relay_close(). */
void relay_forget(struct relay *relay);

#endif
