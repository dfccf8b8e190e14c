/* SPDX-License-Identifier: MIT */
/*
 * wire - the client-server protocol, pure: bytes and descriptors in, events out.
 *
 * No system call, no allocation, no clock, no log: the same object runs in the client, under the
 * fuzzer, and on a big-endian 32-bit machine under an emulator. Descriptors are plain numbers here;
 * each one comes out again in exactly one place, so that the caller can keep or close it.
 *
 * The protocol is docs/protocol.md, section 2; section numbers below refer to it.
 */
#ifndef WIRE_WIRE_H
#define WIRE_WIRE_H

#include <ivshmem/abi.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_VERSION   IVSHMEM_PROTOCOL_VERSION
#define WIRE_REGION    (-1) /* the number that announces the shared memory */
#define WIRE_MAX_ID    ((int)IVSHMEM_MAX_ID)
#define WIRE_WIDTH_MAX 8

/*
 * Refusals (section 2.6): our server answers a client that it cannot take with one of these in
 * place of the version. Every client, ours or not, must refuse an unknown version; QEMU then fails
 * with a message instead of hanging on a socket that just closed.
 */
enum wire_refusal {
	WIRE_REFUSAL_FULL = -2,      /* max-peers reached, or no ID free */
	WIRE_REFUSAL_UID_FULL = -3,  /* this user's limit reached */
	WIRE_REFUSAL_RESOURCES = -4, /* the server is out of memory or descriptors */
	WIRE_REFUSAL_RULES = -5,     /* the region's rules do not let it in */
	WIRE_REFUSAL_LAST = WIRE_REFUSAL_RULES,
};

/* How numbers look on the wire (section 2.1). */
struct wire_format {
	uint8_t width; /* bytes in a message, 4 or 8 */
	bool big_endian;
	bool has_version; /* the first message is the protocol version */
};

/* QEMU 2.5 and later: 8 bytes, little-endian, version first. */
extern const struct wire_format wire_current;
/* Before QEMU 2.5: the host's `long` in the host's order, no version (section 2.7). */
extern const struct wire_format wire_pre_2_5;

/* Encode `number` into `out`; returns the number of bytes, format->width. */
size_t wire_encode(const struct wire_format *format, int64_t number, uint8_t out[WIRE_WIDTH_MAX]);

/* ---- decoder: bytes to messages ---- */

struct wire_message {
	int64_t number;
	int fd; /* -1: none. Whoever takes the message owns it. */
};

struct wire_decoder {
	struct wire_format format;
	uint8_t bytes[WIRE_WIDTH_MAX];
	uint8_t have; /* bytes so far, < format.width */
	int fd;       /* came with the bytes so far, or -1 */
};

void wire_decoder_init(struct wire_decoder *decoder, const struct wire_format *format);

/* How many bytes to read next: exactly what completes the current message. Asking for more could
 * bring the next message's bytes under this one's descriptor (section 1.2). */
size_t wire_decoder_want(const struct wire_decoder *decoder);

enum wire_push {
	WIRE_PUSH_MORE,      /* message not complete yet */
	WIRE_PUSH_MESSAGE,   /* *message is filled */
	WIRE_PUSH_SURPLUS_FD /* a second descriptor in one message: protocol error */
};

/*
 * Add `size` bytes (1 .. wire_decoder_want()) that arrived with descriptor `fd` (or -1). On
 * WIRE_PUSH_SURPLUS_FD nothing was taken: `fd` is still the caller's. A pending descriptor of an
 * abandoned decoder comes out of wire_decoder_abandon().
 */
enum wire_push wire_decoder_push(struct wire_decoder *decoder, const uint8_t *bytes, size_t size,
	int fd, struct wire_message *message);

/* Forget a half message; returns its descriptor for closing, or -1. */
int wire_decoder_abandon(struct wire_decoder *decoder);

/* ---- handshake: messages to events, client side ---- */

/*
 * State    what is expected                           legal messages -> next state
 *
 * VERSION  the protocol version                       0 without fd -> ID
 * ID       the own ID                                 0..65535 without fd -> SETUP
 * SETUP    the region; peers may come before it       -1 with fd -> RUN
 *          (section 2.4)                              any of RUN but a second region -> SETUP
 * RUN      peers come, go and ring                    own ID with fd: own vector
 *                                                     other ID with fd: that peer's next vector
 *                                                     other ID without fd: that peer has left
 * DEAD     nothing: close the socket, keep memory     none
 *          and peers (section 2.5)
 *
 * Anything else is an error and leads to DEAD. The pre-2.5 protocol starts in ID.
 */
enum wire_state {
	WIRE_STATE_VERSION,
	WIRE_STATE_ID,
	WIRE_STATE_SETUP,
	WIRE_STATE_RUN,
	WIRE_STATE_DEAD,
	WIRE_STATE_COUNT
};

enum wire_error {
	WIRE_ERROR_NONE,
	WIRE_ERROR_BAD_VERSION,   /* a version that is not 0; event.number has it */
	WIRE_ERROR_REFUSED,       /* event.number is an enum wire_refusal */
	WIRE_ERROR_STRAY_FD,      /* descriptor with the version or the own ID */
	WIRE_ERROR_BAD_ID,        /* number outside -1..65535, or no ID where one must be */
	WIRE_ERROR_NO_REGION_FD,  /* -1 without a descriptor */
	WIRE_ERROR_SECOND_REGION, /* -1 after SETUP */
	WIRE_ERROR_OWN_LEFT,      /* own ID without a descriptor */
	WIRE_ERROR_AFTER_DEATH,   /* message in DEAD */
	WIRE_ERROR_COUNT
};

enum wire_event_type {
	WIRE_EVENT_VERSION,     /* version accepted; nothing to do */
	WIRE_EVENT_OWN_ID,      /* peer = own ID */
	WIRE_EVENT_REGION,      /* fd = the shared memory; the handshake is complete */
	WIRE_EVENT_OWN_VECTOR,  /* fd = eventfd of the own next vector */
	WIRE_EVENT_PEER_VECTOR, /* fd = eventfd of the next vector of `peer` */
	WIRE_EVENT_PEER_LEFT,   /* `peer` is gone; may be one never seen: ignore that */
	WIRE_EVENT_ERROR        /* the session is DEAD; fd, if any, is for closing */
};

struct wire_event {
	enum wire_event_type type;
	enum wire_error error;
	uint16_t peer;
	int fd; /* -1: none. Whoever handles the event owns it. */
	int64_t number;
};

struct wire_session {
	enum wire_state state;
	uint16_t own_id; /* valid from SETUP on */
};

void wire_session_init(struct wire_session *session, const struct wire_format *format);

/* Take one message (and its descriptor) and say what it means. */
struct wire_event wire_session_feed(
	struct wire_session *session, const struct wire_message *message);

/* One line for people, without a final dot. */
const char *wire_error_text(enum wire_error error);
const char *wire_refusal_text(int64_t number);

#endif
