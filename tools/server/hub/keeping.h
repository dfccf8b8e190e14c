/* SPDX-License-Identifier: MIT */
/* keeping - what of a region outlives this process: names, order, and taking it over again. */
#ifndef TOOLS_SERVER_HUB_KEEPING_H
#define TOOLS_SERVER_HUB_KEEPING_H

#include "hosted.h"

/* All of these do nothing if nobody holds. */

/*
 * A new region: have its memory held, before that gets its name; then the rest, before it accepts.
 * 0, or -errno with `reason`: then keeping_end().
 */
int keeping_begin(struct hosted *hosted, char *reason);
int keeping_complete(struct hosted *hosted, char *reason);

/* Part of the name of a listening socket that we have had systemd hold: listen.N is the unit's. */
#define KEEPING_BOUND "bound"

/* In place of "memory" for memory with a name that is to be removed with it. */
#define KEEPING_OWN "own"

/* Its listening socket, if somebody has passed one. */
bool keeping_take_listener(struct hosted *hosted);

/* It is the unit's: for the next region of that name, which gets `fd`. */
void keeping_give_listener_back(struct hosted *hosted, int fd);

/* Close one that is held and that no region wants, and remove its file. */
void keeping_end_listener(struct hub *hub, int fd);

/* Its spec or life has changed. */
void keeping_save(struct hosted *hosted);

/* Accept, or let the keeper do it. */
void keeping_accept(struct hosted *hosted);

/* It ends: nothing of it is to be held any more. */
void keeping_end(struct hosted *hosted);

/* Unmap its state. */
void keeping_fini(struct hosted *hosted);

/* For server_ops. */
int keeping_put_peer(
	void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n);
void keeping_drop_peer(void *data, enum server_kept kind, uint64_t serial);

/* The name of set number `set` of a peer's eventfds. */
void keeping_name_vectors(
	char name[KEEP_NAME_SIZE], const char *region, uint64_t serial, unsigned set);

/* All regions that an earlier process has left, into the hub. 0 or -errno, having said why. */
int keeping_resume(struct hub *hub);

/* All that is wanted is there: let go of what nobody has wanted. Returns how many names. */
size_t keeping_settle(struct hub *hub);

/* Take connections from the keeper as they come. 0 or -errno. */
int keeping_listen(struct hub *hub);

#endif
