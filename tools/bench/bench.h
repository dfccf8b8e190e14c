/* SPDX-License-Identifier: MIT */
/* ivshmem-bench: the two sides of a measurement. */
#ifndef TOOLS_BENCH_H
#define TOOLS_BENCH_H

#include <ivshmem/channels.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROGRAM "ivshmem-bench"
#define LANES   4 /* of the gather */

/* What `run` asks of `serve`, the message before those that are measured. */
enum task {
	TASK_ANSWER = 1, /* give back `count` messages, one by one */
	TASK_ABSORB = 2, /* take `count` messages, then send one */
};

struct order {
	uint32_t task, shape, size;
	uint32_t turn; /* of the first message, for shapes where one can be missed or be left */
	uint64_t count;
};

/* One side, with all its channels. */
struct side {
	struct ivshmem_peer *peer;
	uint32_t largest; /* bytes of a message of a stream */
	unsigned char *bytes;
	uint32_t turn;
	bool obeys; /* `serve` carries an order out */

	struct ivshmem_sender *sender;
	struct ivshmem_receiver *receiver;
	struct ivshmem_sender *lanes[LANES]; /* of `run` */
	unsigned next_lane;
	struct ivshmem_gatherer *gatherer;   /* of `serve` */
	struct ivshmem_caller *caller;       /* of `run` */
	struct ivshmem_responder *responder; /* of `serve` */
	struct ivshmem_setter *setter;
	struct ivshmem_getter *getter;
};

/*
 * A way to use channels. All functions return 0, or -1 with errno. A new one is a row in shapes.c,
 * and its channels one in the plan there.
 */
struct shape {
	const char *name;
	/* One message there and back, for `run`; and what `serve` does for it. */
	int (*trip)(struct side *side, uint32_t size);
	int (*answer)(struct side *side, uint32_t size);
	/* A message in a row of many; NULL: this shape is only for single ones. */
	int (*pour)(struct side *side, uint32_t size);
	int (*absorb)(struct side *side);
	uint32_t (*largest)(const struct side *side);
};

extern const struct shape shapes[];
extern const size_t n_shapes;

/* Join, and open all channels in a region that is ours. spin_us: as in struct
 * ivshmem_channel_options. 0, or -1 after having said what is wrong. */
int side_open(struct side *side, const char *uri, uint32_t offset, int spin_us, bool serves);
void side_close(struct side *side);

/* Others come, go and are cut off between two measurements; that is not an error of this one. */
bool side_is_news(int error);

/* A message of the stream, whatever happens to the other side meanwhile. */
int side_send(struct side *side, const void *bytes, uint32_t size);
int side_receive(struct side *side, void *bytes, uint32_t room);

/* Do what is asked until the peer's server has gone. Returns -1, errno is set. */
int serve(struct side *side);

struct result {
	double median_us, p99_us; /* of a round trip */
	double rate;              /* messages in a second; 0: not for this shape */
};

/* Measure one shape and size for about so long. 0, or -1 with errno. */
int measure(struct side *side, unsigned shape, uint32_t size, unsigned ms, struct result *result);

#endif
