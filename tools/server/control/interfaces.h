/* SPDX-License-Identifier: MIT */
/* The descriptions of what the control socket speaks: the files of these names, with the ending
 * .varlink, as meson makes strings of them. */
#ifndef TOOLS_SERVER_CONTROL_INTERFACES_H
#define TOOLS_SERVER_CONTROL_INTERFACES_H

extern const char service_interface[]; /* org.varlink.service */
extern const char control_interface[]; /* ivshmem.Control */

#endif
