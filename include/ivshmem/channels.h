/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/channels.h - send and receive messages over the shared region: channels with names, for
 * hosts and Linux guests, through libivshmem. Firmware has <ivshmem/stream.h>, and either can be
 * the other's partner.
 *
 *     static const struct ivshmem_channel_plan plan[] = {{.name = "frames", .ring = 4 << 20}};
 *
 *     ivshmem_channels_format(peer, 0, plan, 1);              // both; the first one does it
 *
 *     struct ivshmem_sender *out = ivshmem_sender_open(peer, "frames", NULL);
 *     ivshmem_send(out, bytes, size, 0, -1);
 *
 *     struct ivshmem_receiver *in = ivshmem_receiver_open(peer, "frames", NULL);
 *     int size = ivshmem_receive(in, buffer, sizeof(buffer), NULL, -1);
 *
 * examples/hello-channel.c is a whole program. That is a stream; of the other shapes each has a
 * block of its own below.
 *
 * Start in any order. A sender may have filled the ring before there is a receiver; either may be
 * killed at any time and started again, and goes on where it was, the other one with it.
 *
 * Trust. Whoever shares the region can write anything into it. A receiver hands out copies that it
 * has checked to be messages, whatever the bytes in them say; the worst a liar can do is to spoil
 * this channel, which is EPROTO until a new life begins. To read in place, and trust, attach a
 * struct ivshmem_viewer of <ivshmem/view.h> to the lane.
 *
 * Waiting. Who waits looks for some microseconds, if that has been worth it lately, then asks to be
 * rung, looks again, and sleeps: no message is slept through, and a partner that is awake is not
 * rung. Without interrupts (IVSHMEM_CAP_TIMED_WAIT) it looks every `poll_us` of the peer; each
 * millisecond if the partner cannot ring, or the channel's flags say that this side polls; each
 * second while there is no partner, since one who cannot ring may come. A wait ends, too, when the
 * server says that the partner has gone. Meanwhile messages of the server are handled as
 * ivshmem_dispatch() does, so callbacks of the peer's listener may be called, and rings of the
 * vector are taken.
 *
 * Errors as in <ivshmem/peer.h>. Threads: a channel belongs to its peer, whose handle is one
 * thread's at a time; threads that wait at the same time have a peer each. Close channels before
 * their peer.
 * Source: docs/channel.md.
 */
#ifndef IVSHMEM_CHANNELS_H
#define IVSHMEM_CHANNELS_H

#include <ivshmem/channel.h>
#include <ivshmem/gather.h>
#include <ivshmem/latest.h>
#include <ivshmem/peer.h>
#include <ivshmem/stream.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

/* A channel to be: what is 0 has the stated default. */
struct ivshmem_channel_plan {
	const char *name; /* [a-z0-9._-]{1,63} */
	int shape;        /* enum ivshmem_channel_shape; 0: a stream */
	int policy;       /* enum ivshmem_channel_policy */
	unsigned flags;   /* enum ivshmem_channel_flag */
	unsigned lanes;   /* 0: 1, or 2 for a caller; at most 1024 */
	uint32_t largest; /* bytes of a message; 0: as many as the ring allows */
	uint32_t ring;    /* bytes, a power of two from 1 KiB to 1 GiB; 0: 64 KiB */
};

/*
 * Lay out these channels, in this order, behind a directory at `offset` of the region (0:
 * where its header says, else 4096).
 * Everybody may call it with the same list, at any time, also while the channels are in use: who
 * finds the directory there changes nothing, and who write it at the same time write the same.
 * errno: EINVAL (plan or offset), ENOSPC (the region is too small), EACCES (it is not mapped for
 * writing), EEXIST (there is another directory, or something else that is not zeros: agree on one
 * list, or on another place, or clear it while nobody has an end).
 */
int ivshmem_channels_format(struct ivshmem_peer *peer, uint32_t offset,
	const struct ivshmem_channel_plan *plan, unsigned channels);

#define IVSHMEM_CHANNEL_ANY_LANE UINT32_MAX

/* How to open an end. Start from IVSHMEM_CHANNEL_OPTIONS_INIT; a zero means the stated default. */
struct ivshmem_channel_options {
	size_t struct_size; /* sizeof(struct ivshmem_channel_options) */
	uint32_t offset;    /* of the directory; 0: where the header says, else 4096 */
	unsigned lane;      /* sender, caller: or IVSHMEM_CHANNEL_ANY_LANE */
	unsigned vector;    /* own vector to be rung on */
	int timeout_ms;     /* until there is a directory; 0: do not wait; negative: no limit */
	int spin_us;        /* to look for before sleeping, at most; 0: 50; negative: not at all */
	unsigned poll_us;   /* getter: from one look to the next; 0: 1000 */
	unsigned silent_ms; /* partner that says nothing for so long is asked; 0: never */
	int anew;           /* receiver, getter: what was sent before is not wanted */
};

#define IVSHMEM_CHANNEL_OPTIONS_INIT                                                               \
	{                                                                                          \
		.struct_size = sizeof(struct ivshmem_channel_options)                              \
	}

/* What an end has done since it was opened. */
struct ivshmem_channel_counters {
	uint64_t messages;   /* sent or received, set or got */
	uint64_t lost;       /* sender: messages dropped; receiver, getter: times overtaken */
	uint64_t rings;      /* doorbells sent */
	uint64_t sleeps;     /* times it has slept */
	uint64_t looks;      /* times it has looked instead, and found something */
	uint32_t lives;      /* partners that have come, or come again */
	uint32_t generation; /* own; a getter has none */
};

struct ivshmem_sender;
struct ivshmem_receiver;

/*
 * Be the writer, or the reader, of a channel's lane. `options` may be NULL.
 * errno: EINVAL (options), EAGAIN (no directory in time), ENOENT (no such channel), EPROTO (its
 * entry makes no sense), EPROTOTYPE (it is of another shape), EACCES (region not mapped for
 * writing), EBUSY (a peer that is connected has this end), ENOMEM, and those of ivshmem_dispatch().
 * Like a wait, opening handles messages of the server.
 */
struct ivshmem_sender *ivshmem_sender_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);
struct ivshmem_receiver *ivshmem_receiver_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);

/* The lane that it has. */
unsigned ivshmem_sender_lane(const struct ivshmem_sender *sender);

/* Leave in good order. NULL is allowed. Does not wait: what the receiver has not read yet stays. */
void ivshmem_sender_close(struct ivshmem_sender *sender);
void ivshmem_receiver_close(struct ivshmem_receiver *receiver);

/*
 * Send a message, and ring the receiver if it sleeps. If there is no room, and the channel's policy
 * is to wait, waits up to `timeout_ms` (0: not at all; negative: without limit).
 * Returns 0, or 1 if the message was dropped by policy.
 * errno: EMSGSIZE, ETIMEDOUT (no room in time), EOWNERDEAD (the receiver has gone, and there is no
 * room; told once, then it waits for another), EHOSTDOWN (it does not answer, see silent_ms),
 * EPROTO (what it says cannot be), and those of ivshmem_wait().
 */
int ivshmem_send(struct ivshmem_sender *sender, const void *bytes, uint32_t size, uint32_t tag,
	int timeout_ms);

/*
 * Receive the next message: its size; `tag`, if not NULL, receives the sender's. Waits as above.
 * errno, all of them once for each time it happens:
 *   ETIMEDOUT   nothing has come     EMSGSIZE    larger than `room`; still there
 *   ESHUTDOWN   the sender has closed, and this was all; a receiver that opens is told so of the
 *               sender before it, too, unless all of that one's messages were received and no other
 *               sender has come since
 *   ECONNRESET  a sender was cut off, and what comes next is another life's
 *   EOWNERDEAD  the sender has gone without closing, and all that it has sent was received
 *   EOVERFLOW   overtaken: older messages have been overwritten
 *   EHOSTDOWN   the sender does not answer, see silent_ms
 *   EPROTO      what is in the memory cannot be; until a new life begins
 * and those of ivshmem_wait(). After each it can be called again. Unless it returns a size, `bytes`
 * and *tag may be anything.
 */
int ivshmem_receive(struct ivshmem_receiver *receiver, void *bytes, uint32_t room, uint32_t *tag,
	int timeout_ms);

/* The ends of <ivshmem/stream.h> inside, for batches and for loops of one's own; then do what is
 * due by the functions below. Valid until close. */
struct ivshmem_writer *ivshmem_sender_writer(struct ivshmem_sender *sender);
struct ivshmem_reader *ivshmem_receiver_reader(struct ivshmem_receiver *receiver);

/* Publish what was added, and ring the receiver if it sleeps. */
int ivshmem_sender_publish(struct ivshmem_sender *sender);
/* Release what was read, and ring the sender if it waits for that. */
int ivshmem_receiver_release(struct ivshmem_receiver *receiver);

void ivshmem_sender_counters(
	const struct ivshmem_sender *sender, struct ivshmem_channel_counters *counters);
void ivshmem_receiver_counters(
	const struct ivshmem_receiver *receiver, struct ivshmem_channel_counters *counters);

/* ---- latest value ---- */

/*
 * One sets a value, any number of others get it, and nobody waits for anybody or disturbs him: a
 * setter never blocks and makes no system call, and a getter writes nothing, so that a region
 * mapped for reading is enough. A value is got as it was set, or not at all.
 *
 *     struct ivshmem_setter *out = ivshmem_setter_open(peer, "pose", NULL);
 *     ivshmem_set(out, &pose, sizeof(pose), 0);
 *
 *     struct ivshmem_getter *in = ivshmem_getter_open(peer, "pose", NULL);
 *     int size = ivshmem_get(in, &pose, sizeof(pose), NULL);
 *
 * Plan it with .shape = IVSHMEM_CHANNEL_LATEST, no policy and no flags. A value may have
 * `ring` / 4 - 16 bytes; each of the `lanes` is a value of its own.
 */
struct ivshmem_setter;
struct ivshmem_getter;

/* Be the one who sets it, or get it; `options` and errno as for ivshmem_sender_open(). A getter
 * needs no region mapped for writing, and refuses `silent_ms`, for whom could it ask: EINVAL. */
struct ivshmem_setter *ivshmem_setter_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);
struct ivshmem_getter *ivshmem_getter_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);

/* Leave in good order: the value stays. NULL is allowed. */
void ivshmem_setter_close(struct ivshmem_setter *setter);
void ivshmem_getter_close(struct ivshmem_getter *getter);

/* Set the value. 0, or -1 with errno EMSGSIZE. */
int ivshmem_set(struct ivshmem_setter *setter, const void *bytes, uint32_t size, uint32_t tag);

/*
 * Get the value that is there now, as often as one likes: its size; `tag`, if not NULL, receives
 * the setter's. Does not wait, and makes no system call. Unless it returns a size, `bytes` may be
 * anything.
 * errno: ENODATA (none was ever set), EMSGSIZE (larger than `room`), EBUSY (it was overwritten each
 * time it was copied: this side is slower than the setter by several times), EPROTO (what is in the
 * memory cannot be).
 */
int ivshmem_get(struct ivshmem_getter *getter, void *bytes, uint32_t room, uint32_t *tag);

/*
 * Wait up to `timeout_ms`, as ivshmem_receive(), for a value that this getter has not got yet, and
 * get the latest one; those between are skipped. As a getter writes nothing, the setter cannot know
 * that one waits, and rings nobody: who waits looks for some microseconds if that has been worth it
 * lately, and from then on every `poll_us`, also while nothing is set for hours.
 * errno, the first three once for each time it happens:
 *   ESHUTDOWN   the setter has closed, and its last value was got
 *   ECONNRESET  another one has begun, and of the end of the one before nothing was heard
 *   EOWNERDEAD  the setter has gone without closing, and its last value was got
 *   ETIMEDOUT   nothing newer     EMSGSIZE, EPROTO   as for ivshmem_get()
 * and those of ivshmem_dispatch(). After each it can be called again. Unless it returns a size,
 * `bytes` may be anything, after ETIMEDOUT, too.
 */
int ivshmem_await(
	struct ivshmem_getter *getter, void *bytes, uint32_t room, uint32_t *tag, int timeout_ms);

/* The end of <ivshmem/latest.h> inside, to write a value in place. Valid until close. */
struct ivshmem_latest_writer *ivshmem_setter_writer(struct ivshmem_setter *setter);

void ivshmem_setter_counters(
	const struct ivshmem_setter *setter, struct ivshmem_channel_counters *counters);
void ivshmem_getter_counters(
	const struct ivshmem_getter *getter, struct ivshmem_channel_counters *counters);

/* ---- gather ---- */

/*
 * Many senders, each with a lane of its own, and one who reads them all in turns: a sender that
 * floods its lane does not keep the others waiting, and one that lies or dies is told of and harms
 * no other.
 *
 *     static const struct ivshmem_channel_plan plan[] = {
 *             {.name = "events", .shape = IVSHMEM_CHANNEL_GATHER, .lanes = 8}};
 *
 *     struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
 *     options.lane = IVSHMEM_CHANNEL_ANY_LANE;                // or one that was assigned
 *     struct ivshmem_sender *out = ivshmem_sender_open(peer, "events", &options);
 *
 *     struct ivshmem_gatherer *in = ivshmem_gatherer_open(peer, "events", NULL);
 *     int size = ivshmem_gather(in, buffer, sizeof(buffer), &lane, &tag, -1);
 *
 * Any lane is the first one whose sender has closed, or has gone as the server says; where no
 * server says so, as in guests and with shm:, only who has closed. With it opening takes at least
 * 10 ms, and EBUSY means that all lanes are taken. Two who open at the same time get different
 * lanes, unless one of them is stopped for 10 ms between two certain instructions: then they can
 * have the same, and spoil each other's messages until one of them closes. Where that must not be,
 * assign lanes.
 */
struct ivshmem_gatherer;

/* Be the reader of all lanes of a gather; `options` and errno as for ivshmem_receiver_open(),
 * `lane` means nothing. */
struct ivshmem_gatherer *ivshmem_gatherer_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);

/* Leave in good order. NULL is allowed. */
void ivshmem_gatherer_close(struct ivshmem_gatherer *gatherer);

/*
 * Receive the next message of any lane, as ivshmem_receive(): its size, and its lane. errno is what
 * ivshmem_receive() says, and *lane the one it is about: IVSHMEM_CHANNEL_ANY_LANE after ETIMEDOUT
 * and what is about none. EPROTO is told once for a lane; until a new life begins there, or what is
 * there makes sense again, it is passed by. `lane` and `tag` may be NULL.
 */
int ivshmem_gather(struct ivshmem_gatherer *gatherer, void *bytes, uint32_t room, unsigned *lane,
	uint32_t *tag, int timeout_ms);

unsigned ivshmem_gatherer_lanes(const struct ivshmem_gatherer *gatherer);

/* Of one lane; sleeps and looks are those of all together. -1 with errno ENOENT: no such lane. */
int ivshmem_gatherer_counters(const struct ivshmem_gatherer *gatherer, unsigned lane,
	struct ivshmem_channel_counters *counters);

/* ---- request and reply ---- */

/*
 * Callers ask, a responder answers. Each caller has two lanes, one for each direction.
 *
 *     static const struct ivshmem_channel_plan plan[] = {
 *             {.name = "control", .shape = IVSHMEM_CHANNEL_CALL, .lanes = 2 * CALLERS}};
 *
 *     struct ivshmem_caller *caller = ivshmem_caller_open(peer, "control", NULL);
 *     int size = ivshmem_call(caller, request, length, reply, sizeof(reply), 1000);
 *
 *     struct ivshmem_responder *responder = ivshmem_responder_open(peer, "control", NULL);
 *     for (;;) {
 *             struct ivshmem_request from;
 *             int size = ivshmem_responder_next(responder, request, sizeof(request), &from, -1);
 *             if (size >= 0)
 *                     ivshmem_responder_reply(responder, &from, reply, work(request, size), 0);
 *     }
 *
 * How often is a request carried out? Once if ivshmem_call() returns a reply; at most once in any
 * case, whoever dies and is started again, since a responder gives a request back before it has it.
 * After an error of ivshmem_call() it was carried out or not, or will be: a request that no
 * responder has taken yet waits in its lane, also for one that is yet to come. Who asks again after
 * an error has *at least once*, and has to say in the request that it is the same.
 *
 * A reply never goes to another call than the one that it answers: a late one is thrown away, and
 * so is one for a former life of the caller.
 */
struct ivshmem_caller;
struct ivshmem_responder;

/*
 * Be a caller, with lanes 2 x `lane` and 2 x `lane` + 1 of the channel; or with any two, as for a
 * gather. `options` and errno as for ivshmem_sender_open(). There is one call at a time: who wants
 * several has several callers.
 */
struct ivshmem_caller *ivshmem_caller_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);

/* Leave in good order. NULL is allowed. */
void ivshmem_caller_close(struct ivshmem_caller *caller);

/*
 * Send a request, wait for its reply, and return its size. There need not be a responder yet.
 * errno: EMSGSIZE (the request is larger than the channel has them; it was not sent), ENOBUFS (the
 * reply is larger than `room`, and thrown away), ETIMEDOUT (no reply in time), EOWNERDEAD (the
 * responder has gone, or has been started again, and will not answer), EHOSTDOWN (it does not
 * answer, see silent_ms), EPROTO (what is in the memory cannot be; until the responder begins a new
 * life), and those of ivshmem_wait(). After each it can be called again.
 */
int ivshmem_call(struct ivshmem_caller *caller, const void *request, uint32_t size, void *reply,
	uint32_t room, int timeout_ms);

/* Which caller of the channel it is, from 0. */
unsigned ivshmem_caller_lane(const struct ivshmem_caller *caller);

/* messages: replies received; lost: replies that came too late. */
void ivshmem_caller_counters(
	const struct ivshmem_caller *caller, struct ivshmem_channel_counters *counters);

/* Be the responder of all callers of a channel; `options` and errno as for ivshmem_gatherer_open().
 * With `anew` the requests that nobody has taken are not carried out: EOWNERDEAD for who waits. */
struct ivshmem_responder *ivshmem_responder_open(
	struct ivshmem_peer *peer, const char *name, const struct ivshmem_channel_options *options);

/* Leave in good order. NULL is allowed. Who waits for a reply to what was taken gets EOWNERDEAD. */
void ivshmem_responder_close(struct ivshmem_responder *responder);

/* Where a reply goes. May be kept, and answered later and in any order. */
struct ivshmem_request {
	unsigned lane;       /* which caller, from 0 */
	uint32_t tag;        /* of its request */
	uint32_t generation; /* its life */
};

/*
 * The next request of any caller, in turns: its size, and *request to reply to. errno as for
 * ivshmem_gather(), with request->lane: callers come and go, and after each of these errors but
 * those of ivshmem_wait() it can simply be called again. A request larger than `room` is thrown
 * away (EMSGSIZE).
 */
int ivshmem_responder_next(struct ivshmem_responder *responder, void *bytes, uint32_t room,
	struct ivshmem_request *request, int timeout_ms);

/*
 * Send the reply. Returns 0; or 1 if nobody waits for it, since the caller has left or has begun
 * another life. A caller that waits has room for its reply, and one that does not read its replies
 * keeps nobody waiting but who gives it the time: so `timeout_ms` is best 0, and ETIMEDOUT means
 * that the reply is lost. errno as for ivshmem_send(), and EINVAL (no such lane).
 */
int ivshmem_responder_reply(struct ivshmem_responder *responder,
	const struct ivshmem_request *request, const void *bytes, uint32_t size, int timeout_ms);

/* How many callers there can be. */
unsigned ivshmem_responder_lanes(const struct ivshmem_responder *responder);

/* Of the requests of one caller, as ivshmem_gatherer_counters(). */
int ivshmem_responder_counters(const struct ivshmem_responder *responder, unsigned lane,
	struct ivshmem_channel_counters *counters);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
