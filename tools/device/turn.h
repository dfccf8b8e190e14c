/* SPDX-License-Identifier: MIT */
/*
 * turn - whoever touches a device takes its turn first: one fair lock for all devices of the
 * process, and a watchdog for the one who holds it.
 */
#ifndef TOOLS_DEVICE_TURN_H
#define TOOLS_DEVICE_TURN_H

/* Prepare; the calling thread is the one that runs the loop. 0 or -errno. */
int turn_init(void);
void turn_fini(void);

/*
 * Take the turn, give it back. A turn is one request or event, and waits for nothing; should a
 * write in it block all the same, it ends with EINTR after 20 to 40 milliseconds
 * (src/base/doorbell.h).
 */
void turn_begin(void);
void turn_end(void);

#endif
