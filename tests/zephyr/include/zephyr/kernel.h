/* SPDX-License-Identifier: MIT */
/*
 * What zephyr/ uses of Zephyr, as far as a compiler needs it, written from its documentation: one
 * board with one flat device. Not Zephyr's headers, which are no package; a test plays the kernel.
 */
#ifndef STUB_ZEPHYR_KERNEL_H
#define STUB_ZEPHYR_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define __maybe_unused __attribute__((unused))

struct k_poll_signal {
	unsigned signaled;
	int result;
};
#define K_POLL_SIGNAL_INITIALIZER(signal)                                                          \
	{                                                                                          \
		0, 0                                                                               \
	}

int k_poll_signal_raise(struct k_poll_signal *signal, int result);
void k_poll_signal_reset(struct k_poll_signal *signal);

enum { K_POLL_TYPE_SIGNAL = 1, K_POLL_MODE_NOTIFY_ONLY = 0 };
struct k_poll_event {
	int type, mode;
	void *object;
};
#define K_POLL_EVENT_INITIALIZER(type, mode, object)                                               \
	{                                                                                          \
		type, mode, object                                                                 \
	}

typedef struct {
	int64_t ticks;
} k_timeout_t;
#define K_MSEC(ms) ((k_timeout_t){ms})

int k_poll(struct k_poll_event *events, int count, k_timeout_t timeout);

/* ---- what macros need ---- */

#define STUB_JOIN(a, b)  STUB_JOIN_(a, b)
#define STUB_JOIN_(a, b) a##b
#define STUB_BARE(...)   __VA_ARGS__

#define COND_CODE_1(flag, yes, no) STUB_JOIN(STUB_COND_, flag)(yes, no)
#define STUB_COND_0(yes, no)       STUB_BARE no
#define STUB_COND_1(yes, no)       STUB_BARE yes

#define LISTIFY(count, f, separator, ...) STUB_JOIN(STUB_LIST_, count)(f, separator, __VA_ARGS__)
#define STUB_LIST_0(f, separator, ...)
#define STUB_LIST_1(f, separator, ...) f(0, __VA_ARGS__)
#define STUB_LIST_2(f, separator, ...) f(0, __VA_ARGS__) STUB_BARE separator f(1, __VA_ARGS__)

#endif
