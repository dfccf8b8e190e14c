/* SPDX-License-Identifier: MIT */
/*
 * window - the ivshmem device of the board: the flat device's registers at an address, the server's
 * memory at another, and an interrupt for each vector.
 */
#ifndef BOARD_WINDOW_H
#define BOARD_WINDOW_H

#include "config.h"
#include "core/core.h"

#include "base/log.h"

#include <ivshmem/flat.h>
#include <ivshmem/peer.h>

struct window {
	const struct config *config;
	struct core *core;
	struct log *log;
	struct ivshmem_peer *peer;
	struct ivshmem_flat flat;
	uint64_t start; /* for --trace: when time began, nanoseconds of CLOCK_MONOTONIC */
};

/* Join the server and map the device. 0, or -1 after having said why not; `config`, `core` and
 * `log` must outlive it. window_close() is for both cases, and for one that was zeroed only. */
int window_open(
	struct window *window, const struct config *config, struct core *core, struct log *log);
void window_close(struct window *window);

/* Poll for reading, then call window_dispatch(), which raises interrupts. */
int window_fd(const struct window *window);
void window_dispatch(struct window *window);

void window_reset(struct window *window);

#endif
