/* SPDX-License-Identifier: MIT */
/*
 * holding - what of the devices outlives this process, by name; daemon/keep.h for all threads.
 *
 *   device.DEVICE     the memory of the device's state (vfio-user/kept.h); put last: where it is
 *                     missing, the rest is what a beginning has left
 *   listen.DEVICE     the socket where VMMs connect
 *   memory.DEVICE     that of a device without a server
 *   c.DEVICE.NUMBER   a VMM's connection
 *   i.DEVICE.NUMBER   descriptors that it has sent
 *   told.DEVICE       the memory of what the server has told (told.h)
 *   server.DEVICE     the connection to the server
 *   w.DEVICE.NUMBER   a descriptor that the server has sent
 *   control.socket    the control socket
 *
 * Without a holder all of this does nothing. If a keeper dies, we go on as if it were still there;
 * the next end of this process is then one for all.
 */
#ifndef TOOLS_DEVICE_HOLDING_H
#define TOOLS_DEVICE_HOLDING_H

#include "daemon/keep.h"

#include "base/log.h"
#include "vfio-user/kept.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HOLDING_DEVICE_SIZE 64 /* of a device's name, with its zero */

struct holding;

/* 0, or -errno after having said on `log` what is wrong. */
int holding_open(struct holding **out, struct log *log);
void holding_close(struct holding *holding); /* what is held stays held */

enum keep_holder holding_holder(const struct holding *holding);

/* How many sets can be held in all. */
uint64_t holding_room(const struct holding *holding);

/* We serve. */
void holding_ready(struct holding *holding);

/* As keep_put(), keep_take(), keep_drop(); `number` 0: the name has none. */
int holding_put(struct holding *holding, const char *part, const char *device, uint64_t number,
	const int *fds, size_t n);
int holding_take(struct holding *holding, const char *part, const char *device, uint64_t number,
	int *fds, size_t max);
void holding_drop(struct holding *holding, const char *part, const char *device, uint64_t number);

/* The lowest number above `after` of a set that nobody has taken yet; 0: there is none. */
uint64_t holding_next(
	struct holding *holding, const char *part, const char *device, uint64_t after);

/* Has an earlier process left a device that nobody has taken yet? */
bool holding_has_devices(struct holding *holding);

/* Let go of what a beginning of a device has left, but for its listening socket. */
void holding_forget_parts(struct holding *holding, const char *device);

/*
 * Let go of the listening sockets of devices that are not wanted, so that another may have their
 * place. What else they have left stays held until holding_settle().
 */
void holding_discard_listeners(struct holding *holding,
	bool (*is_wanted)(const void *data, const char *device), const void *data);

/* Every device has taken what it wants: let go of the rest. */
void holding_settle(struct holding *holding);

/* For vfu_kept_create(): i.DEVICE.NUMBER. `device` is borrowed. */
struct holding_of {
	struct holding *holding;
	const char *device;
};
struct vfu_holder holding_for(struct holding_of *of);

/* Memory that can be held, of *size bytes at least, which becomes what it has: zero, mapped at
 * *address. Returns its descriptor or -errno. */
int holding_make_memory(size_t *size, void **address);
/* Take that of an earlier process. 1; 0: there is none; -errno. */
int holding_take_memory(struct holding *holding, const char *part, const char *device,
	void **address, size_t *size);
void holding_unmap(void *address, size_t size);

/* Only with KEEP_KEEPER: see keep_accept() and what follows it. Of the loop's thread. */
int holding_accept(struct holding *holding, const char *device, uint64_t first);
int holding_fd(const struct holding *holding);
int holding_accepted(
	struct holding *holding, char device[HOLDING_DEVICE_SIZE], uint64_t *number, int *fd);

/* The keeper has died. */
void holding_orphaned(struct holding *holding);

#endif
