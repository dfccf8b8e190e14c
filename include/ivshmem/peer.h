/* SPDX-License-Identifier: MIT */
/*
 * ivshmem/peer.h - be a peer: share a region with other peers and ring their doorbells.
 *
 *     struct ivshmem_peer *peer = ivshmem_open("unix:/tmp/ivshmem_socket", NULL);
 *     unsigned other;
 *     while (ivshmem_peers(peer, &other, 1) < 1)  // wait for somebody to come
 *             ivshmem_dispatch(peer, -1);
 *     uint32_t *words = ivshmem_region(peer, NULL);
 *     words[0] = 42;
 *     ivshmem_notify(peer, other, 0);
 *     ivshmem_wait(peer, 0, 1000, NULL);          // until it answers, at most a second
 *     ivshmem_close(peer);
 *
 * Two ways of use, which can be mixed:
 *   - the caller owns the loop: poll ivshmem_get_fd() for reading, then call ivshmem_dispatch();
 *   - blocking calls with a timeout: ivshmem_dispatch() and ivshmem_wait().
 *
 * Errors: functions that return int return 0 (or the count that their comment states) on success
 * and -1 with errno set on failure; functions that return a pointer return NULL with errno set.
 * Arguments are not changed on failure unless stated.
 *
 * Threads: a handle may be used by one thread at a time; different handles are independent. The
 * library keeps no global state, starts no thread, installs no signal handler, changes no process
 * limit and prints nothing.
 *
 * Descriptors: everything a handle holds is close-on-exec and is closed by ivshmem_close(). The
 * descriptors that functions return stay the handle's: do not close them.
 *
 * Trust: the memory is written by others at any time. Copy a value out once, check the copy, use
 * the copy. Whoever joins the same server can ring any vector, steal the notifications of others
 * and keep ringing after it has left; the protocol cannot prevent it (docs/protocol.md, section 3).
 */
#ifndef IVSHMEM_PEER_H
#define IVSHMEM_PEER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What stands from here on is what the library exports; the rest of it is hidden. */
#pragma GCC visibility push(default)

struct ivshmem_peer;

/* What a transport can do: bits of ivshmem_capabilities(). */
enum ivshmem_capability {
	IVSHMEM_CAP_NOTIFY = 1 << 0,    /* ivshmem_notify() reaches other peers */
	IVSHMEM_CAP_INTERRUPT = 1 << 1, /* own vectors can be waited for */
	IVSHMEM_CAP_PEER_LIST = 1 << 2, /* ivshmem_peers() and the joined/left callbacks work */
	IVSHMEM_CAP_ID = 1 << 3,        /* ivshmem_id() is an ID that a server gave */
	IVSHMEM_CAP_WRITE = 1 << 4,     /* the region is mapped for writing */
	IVSHMEM_CAP_SEALED = 1 << 5,    /* nobody can shrink the region */
};

/*
 * Callbacks, called only from within ivshmem_dispatch(), and from ivshmem_wait() while it waits for
 * a vector that has not arrived yet. Each may be NULL. A callback may call any function of this
 * header on the handle except ivshmem_dispatch(), ivshmem_wait() and ivshmem_close().
 */
struct ivshmem_listener {
	/* The first vector of peer `id` has arrived; the others follow one by one (the protocol
	 * does not say how many there will be, see docs/protocol.md, section 2.4). */
	void (*peer_joined)(struct ivshmem_peer *peer, void *data, unsigned id);
	/* Peer `id` can now be rung on `vectors` vectors (0 .. vectors - 1). With the own ID: that
	 * many own vectors have arrived. */
	void (*vector_added)(struct ivshmem_peer *peer, void *data, unsigned id, unsigned vectors);
	/* Peer `id` is gone. The ID may come back later as another peer. */
	void (*peer_left)(struct ivshmem_peer *peer, void *data, unsigned id);
	/* Own vector `vector` was rung `count` times since it was last read (at least once). While
	 * this callback is NULL, ivshmem_dispatch() and ivshmem_get_fd() leave the own vectors
	 * alone: they are for ivshmem_wait() and ivshmem_vector_fd(), and cost less. */
	void (*interrupt)(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count);
	/* The server is gone; `error` is 0 for an orderly close, else an errno (EPROTO: it broke
	 * the protocol). Called once. Region, known peers and doorbells keep working; there will be
	 * no further joined and left callbacks. */
	void (*server_lost)(struct ivshmem_peer *peer, void *data, int error);
};

/* Generation of the client-server protocol. */
enum ivshmem_protocol {
	IVSHMEM_PROTOCOL_CURRENT = 0, /* QEMU 2.5 and later: version 0, little-endian 64 bit */
	IVSHMEM_PROTOCOL_PRE_2_5 = 1, /* before: no version, the host's long */
};

/*
 * How to open. Start from IVSHMEM_PARAMS_INIT and set what you need; a zero means the stated
 * default. `struct_size` must be sizeof(struct ivshmem_params), as the initialiser has it, which
 * lets later versions append members.
 */
struct ivshmem_params {
	size_t struct_size;
	const struct ivshmem_listener *listener; /* copied; NULL: no callbacks */
	void *data;                              /* handed to the callbacks */
	int timeout_ms;       /* connect and handshake together; 0: 5000; negative: no limit */
	int protocol;         /* enum ivshmem_protocol, for unix: and region: */
	unsigned max_peers;   /* most peers to remember; 0: 65536. Others do not exist for us. */
	unsigned max_vectors; /* most vectors a peer to remember; 0: 2048. More are closed. */
	unsigned max_fds;     /* most descriptors to hold of all other peers together; 0: no limit
				 but RLIMIT_NOFILE. More are closed: such a peer is listed, but can
				 be rung on fewer vectors or none. */
	uint64_t map_limit;   /* largest region to map, bytes; 0: no limit (EFBIG above it) */
	int read_only;        /* map the region without write permission */
	char *error_text;  /* receives one line on failure that says what to do next; may be NULL */
	size_t error_size; /* bytes at error_text; 256 is plenty */
};

#define IVSHMEM_PARAMS_INIT                                                                        \
	{                                                                                          \
		.struct_size = sizeof(struct ivshmem_params)                                       \
	}

/*
 * Open a peer by URI:
 *
 *   unix:PATH     join the server that listens on PATH
 *   region:NAME   the same, PATH being /run/ivshmem/NAME.sock; NAME is [a-z0-9._-]{1,63}
 *   shm:NAME      map a POSIX shared memory object, no server, no interrupts
 *   file:PATH     map a file (also on hugetlbfs or a block device), no server, no interrupts
 *
 * A URI without a scheme that contains a slash is taken as unix:PATH. `params` may be NULL.
 *
 * Returns a handle after the handshake is complete and the region is mapped: own ID and region are
 * final; peers and own vectors arrive through ivshmem_dispatch(). Close it with ivshmem_close().
 *
 * errno: EINVAL (URI or params malformed), ENOTSUP (unknown scheme), ENAMETOOLONG (socket path over
 * 107 bytes), ENOENT, ECONNREFUSED, EACCES (from connect or open), ETIMEDOUT (handshake not
 * finished in time), ECONNRESET (server closed during the handshake), EPROTO (server broke the
 * protocol or speaks another version), EUSERS (server refused: full), EFBIG (over map_limit),
 * EMFILE, ENOMEM.
 * Source: docs/protocol.md, sections 2.2 and 2.3.
 */
struct ivshmem_peer *ivshmem_open(const char *uri, const struct ivshmem_params *params);

/* Leave: unmaps the region, closes everything, frees the handle. NULL is allowed. Keeps errno. */
void ivshmem_close(struct ivshmem_peer *peer);

/* Bits of enum ivshmem_capability. Never fails. */
unsigned ivshmem_capabilities(const struct ivshmem_peer *peer);

/* Own ID, 0..65535. -1 with errno ENOTSUP where there is no server (no IVSHMEM_CAP_ID). */
int ivshmem_id(const struct ivshmem_peer *peer);

/* Start of the region; `size`, if not NULL, receives its bytes. Page-aligned; valid until
 * ivshmem_close(), also after the server is gone. Never fails. */
void *ivshmem_region(const struct ivshmem_peer *peer, uint64_t *size);

/* Descriptor of the region, for passing on or mapping again. Owned by the handle. Never fails. */
int ivshmem_region_fd(const struct ivshmem_peer *peer);

/*
 * Descriptor to poll for reading (an epoll instance; it stays the same for the life of the handle).
 * When it is readable call ivshmem_dispatch(). Never fails; without a server it is never readable.
 */
int ivshmem_get_fd(const struct ivshmem_peer *peer);

/*
 * Process what has arrived and call the listener. Waits up to `timeout_ms` milliseconds for the
 * first event (0: not at all; negative: without limit), then handles what is there without waiting,
 * at most 1024 messages and each vector once.
 * Returns the number of server messages and interrupts handled, the loss of the server being one;
 * 0 means that the time passed.
 * errno: EINTR (a signal came while waiting), EMFILE (no descriptor free for a message: the server
 * is taken as lost). Losing the server is a callback, not an error.
 */
int ivshmem_dispatch(struct ivshmem_peer *peer, int timeout_ms);

/*
 * List the peers known now, own ID not among them, in ascending order. Writes at most `n` IDs to
 * `ids` (which may be NULL when n is 0) and returns how many there are. ENOTSUP without
 * IVSHMEM_CAP_PEER_LIST.
 */
int ivshmem_peers(const struct ivshmem_peer *peer, unsigned *ids, size_t n);

/*
 * Number of vectors on which `id` can be rung; for the own ID, the number of own vectors received
 * so far. errno: ENOENT (no such peer), ENOTSUP (transport cannot tell).
 */
int ivshmem_vectors(const struct ivshmem_peer *peer, unsigned id);

/*
 * Ring vector `vector` of peer `id` (the own ID is allowed and loops back). Doorbells that the
 * other side has not read yet merge into one. Does not block, unless a hostile peer has both filled
 * the counter and made the shared descriptor blocking (docs/protocol.md, section 3.2).
 * errno: ENOENT (no such peer, or its arrival has not been dispatched yet), EINVAL (no such vector,
 * likewise), ENOTSUP (no IVSHMEM_CAP_NOTIFY).
 * Source: docs/protocol.md, section 3.
 */
int ivshmem_notify(struct ivshmem_peer *peer, unsigned id, unsigned vector);

/*
 * Wait up to `timeout_ms` milliseconds (0: just look; negative: without limit) until own vector
 * `vector` has been rung, and take the notification. `count`, if not NULL, receives how many rings
 * were merged. Does not look at the server's messages and calls no listener; call
 * ivshmem_dispatch(peer, 0) now and then to keep the peer list current. If the vector has not
 * arrived from the server yet, waits for that too (handling server messages meanwhile).
 * While answers keep coming within microseconds it looks for up to 50 us before it sleeps.
 * Returns 1 if rung, 0 if the time passed.
 * errno: EINTR, ENOTSUP (no IVSHMEM_CAP_INTERRUPT), EINVAL (vector above the limit), ENOENT (the
 * server is gone and the vector will never arrive), EPROTO (the server gave something else than a
 * doorbell).
 */
int ivshmem_wait(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count);

/*
 * The eventfd of own vector `vector`, for a loop that wants one source per vector: readable when
 * rung; read exactly 8 bytes, tolerating EAGAIN. Such a vector must not also be waited for here:
 * after this call ivshmem_dispatch() leaves it alone. Owned by the handle.
 * errno: EAGAIN (not arrived yet), ENOTSUP.
 */
int ivshmem_vector_fd(struct ivshmem_peer *peer, unsigned vector);

/*
 * The eventfd that ivshmem_notify() would write to for vector `vector` of peer `id` (the own ID:
 * the own vector), for handing to something that rings by itself (KVM's ioeventfd, io_uring). Has
 * no side effect. Owned by the handle, and closed when the peer leaves: duplicate it to keep it.
 * errno: ENOENT (no such peer), EINVAL (no such vector), ENOTSUP.
 */
int ivshmem_doorbell_fd(const struct ivshmem_peer *peer, unsigned id, unsigned vector);

/* 1 while the server is connected, else 0 (also where the transport has no server). */
int ivshmem_connected(const struct ivshmem_peer *peer);

/* Version of the library, "MAJOR.MINOR.PATCH". */
const char *ivshmem_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
