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
 * Threads: a handle may be used by one thread at a time; different handles are independent. The one
 * exception: once its own vectors have arrived, several threads may at the same time be in
 * ivshmem_wait(), each for another vector, and in ivshmem_notify(). Meanwhile nobody may be in
 * ivshmem_dispatch(): on a host let them come out now and then for that, or the server's messages
 * pile up. The library keeps no global
 * state, starts no thread, installs no signal handler, changes no process limit and prints nothing.
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
	/* Own vectors cannot be waited for: ivshmem_wait() sleeps for `poll_us` instead. */
	IVSHMEM_CAP_TIMED_WAIT = 1 << 6,
	IVSHMEM_CAP_REGION_FD = 1 << 7, /* ivshmem_region_fd() works */
	/* The region is read about as fast as ordinary memory. A guest measures it when it opens
	 * the device; without this bit, `ivshmem-client doctor` says what to do. */
	IVSHMEM_CAP_FAST_REGION = 1 << 8,
};

/*
 * Callbacks, called only from within ivshmem_dispatch(), and from ivshmem_wait() while it waits for
 * a vector that has not arrived yet. Each may be NULL. A callback may call any function of this
 * header on the handle except ivshmem_dispatch(), ivshmem_wait(), ivshmem_meet() and
 * ivshmem_close().
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
	unsigned poll_us;  /* with IVSHMEM_CAP_TIMED_WAIT: microseconds between two looks at the
			      memory; 0: 1000 */
};

#define IVSHMEM_PARAMS_INIT                                                                        \
	{                                                                                          \
		.struct_size = sizeof(struct ivshmem_params)                                       \
	}

/*
 * Open a peer by URI:
 *
 *   unix:PATH     join the server that listens on PATH
 *   region:NAME   the region of that name, [a-z0-9._-]{1,63}: PATH is /run/ivshmem/NAME.sock; or
 *                 in a guest, see below
 *   fd:NUMBER     the same over a Unix socket that is open in this process and connected to a
 *                 server, which has said nothing yet: one that was inherited, or passed to a
 *                 program that is not allowed to connect. It is the handle's from then on, and
 *                 closed if this fails, unless it is no such socket (EINVAL)
 *   shm:NAME      map a POSIX shared memory object, no server, no interrupts
 *   file:PATH     map a file (also on hugetlbfs or a block device), no server, no interrupts
 *
 * and in a guest, which is a peer through its ivshmem PCI device:
 *
 *   uio:NAME      the device that the module uio_ivshmem drives. NAME is its PCI address, as in
 *                 0000:00:04.0, for all vectors; or a UIO device, as in uio3, or its name, as in
 *                 ivshmem-0000:00:04.0.3, for that vector alone: processes can share a device
 *   vfio:BDF      the device at that PCI address, driven by vfio-pci; nobody else has it meanwhile
 *   pci:BDF       the same without a driver: memory and doorbells, no interrupts
 *   auto:         the only ivshmem device, in whichever of these ways its driver calls for;
 *                 auto:BDF chooses among several
 *   region:NAME   the ivshmem device whose region has a header (docs/region.md) with that name, in
 *                 whichever way its driver calls for
 *
 * region: takes the socket if there is a file of that name, whatever becomes of it then, and looks
 * at the devices only if there is none; so a host that is a guest, too, has its own servers first.
 * It opens each device for a moment, also those that vfio-pci has and nobody uses. A header is a
 * hint: who may write to a region can call it anything. If two devices claim the name, neither is
 * taken; if only the wrong one claims it, that one is: where this matters, name the device.
 *
 * A URI without a scheme that contains a slash is taken as unix:PATH. `params` may be NULL.
 *
 * Returns a handle after the handshake is complete and the region is mapped: own ID and region are
 * final; peers and own vectors arrive through ivshmem_dispatch(). In a guest the own vectors are
 * there at once, and nobody tells about peers. Close it with ivshmem_close().
 *
 * Rings that came before this call: there are none on a host, where others learn of this peer by
 * its joining. In a guest the peer is the machine, which others can ring at any time. Over uio:,
 * those since the driver took the device are reported by the first ivshmem_wait() or interrupt
 * callback of their vector, whoever may have seen them already; earlier ones, and with vfio: all,
 * are lost. So say in the memory that you are ready, then look at the memory, then wait;
 * ivshmem_meet() does the first for you.
 *
 * errno: EINVAL (URI or params malformed), ENOTSUP (unknown scheme), ENAMETOOLONG (socket path over
 * 107 bytes), ENOENT, ECONNREFUSED, EACCES (from connect or open), ETIMEDOUT (handshake not
 * finished in time), ECONNRESET (server closed during the handshake), EPROTO (server broke the
 * protocol or speaks another version), EUSERS (server refused: full, or its rules), EFBIG (over
 * map_limit), EMFILE, ENOMEM. In a guest: ENODEV (no such device, or not an ivshmem one, or region:
 * and none has that name), ENOTUNIQ (auto: and several devices, region: and several of that name),
 * ENXIO (the device is not bound to that driver), EBUSY (vfio: somebody else has it, or a device of
 * its IOMMU group has another driver; pci: a driver has it), EPERM (pci: the kernel is locked down;
 * vfio: the IOMMU does not remap interrupts), EAGAIN (the device has no ID yet: its server is not
 * there), EINTR, EIO (sysfs says what it never should).
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

/* What the region says of itself. */
struct ivshmem_identity {
	size_t struct_size;  /* set it to sizeof(struct ivshmem_identity) */
	uint32_t generation; /* not 0; another one whenever the memory was made anew or cleared */
	char name[64];       /* [a-z0-9._-]{1,63} and a zero */
	uint8_t uuid[16];    /* in the order of its text; not all zero */
};

/*
 * Read the header in the region's first 4096 bytes, which is there if the server was told to write
 * one. It is read anew each time, from memory that others can write: a hint, to tell regions apart
 * and to notice that the content is not the one of before (compare generations for equality). What
 * it returns is complete and of the form above, but not for that reason true.
 * Usually some microseconds; if the header does not add up, it is looked at again for some
 * milliseconds. Any thread may call it at any time, but not during ivshmem_close().
 * errno: ENODATA (no header), EPROTONOSUPPORT (one of a later version), EBADMSG (a damaged one),
 * EINVAL (struct_size). Without IVSHMEM_CAP_SEALED the first page may be gone: SIGBUS, as with any
 * access to the region.
 * Source: enum ivshmem_header in <ivshmem/abi.h>, docs/region.md.
 */
int ivshmem_identity(const struct ivshmem_peer *peer, struct ivshmem_identity *identity);

/*
 * Descriptor of the region, which starts at its offset 0, for passing on or mapping again. Owned by
 * the handle. ENOTSUP without IVSHMEM_CAP_REGION_FD (uio:, vfio:).
 */
int ivshmem_region_fd(const struct ivshmem_peer *peer);

/*
 * Descriptor to poll for reading (an epoll instance; it stays the same for the life of the handle).
 * When it is readable call ivshmem_dispatch(). Never fails; with shm: and file: it is never
 * readable.
 */
int ivshmem_get_fd(const struct ivshmem_peer *peer);

/*
 * Process what has arrived and call the listener. Waits up to `timeout_ms` milliseconds for the
 * first event (0: not at all; negative: without limit), then handles what is there without waiting,
 * at most 1024 messages and each vector once.
 * Returns the number of server messages and interrupts handled, the loss of the server being one;
 * 0 means that the time passed.
 * errno: EINTR (a signal came while waiting), EMFILE (no descriptor free for a message: the server
 * is taken as lost), ENODEV (in a guest: the driver has been unbound, or the device unplugged; from
 * then on always, while ivshmem_get_fd() becomes readable for it only once). Losing the server is a
 * callback, not an error.
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
 * so far (in a guest, those of the device, of which uio:NAME.VECTOR can wait for one only). errno:
 * ENOENT (no such peer), ENOTSUP (transport cannot tell: a guest knows its own only).
 */
int ivshmem_vectors(const struct ivshmem_peer *peer, unsigned id);

/*
 * Ring vector `vector` of peer `id` (the own ID is allowed and loops back). Doorbells that the
 * other side has not read yet merge into one. Does not block, unless a hostile peer has both filled
 * the counter and made the shared descriptor blocking (docs/protocol.md, section 3.2).
 * errno: ENOENT (no such peer, or its arrival has not been dispatched yet), EINVAL (no such vector,
 * likewise), ENOTSUP (no IVSHMEM_CAP_NOTIFY). A guest only writes to its device, which ignores
 * peers and vectors that do not exist: there, EINVAL is for numbers above 65535 and ENOENT never
 * comes. Source: docs/protocol.md, section 3.
 */
int ivshmem_notify(struct ivshmem_peer *peer, unsigned id, unsigned vector);

/*
 * Wait up to `timeout_ms` milliseconds (0: just look; negative: without limit) until own vector
 * `vector` has been rung, and take the notification. `count`, if not NULL, receives how many rings
 * were merged. Does not look at the server's messages and calls no listener; call
 * ivshmem_dispatch(peer, 0) now and then to keep the peer list current. If the vector has not
 * arrived from the server yet, waits for that too (handling server messages meanwhile).
 * While answers keep coming within microseconds it looks for up to 50 us before it sleeps.
 * With IVSHMEM_CAP_TIMED_WAIT nobody can tell whether it was rung: it sleeps for `poll_us`, or for
 * `timeout_ms` if that is less, and if time remains returns 1 with *count 0, for a look at the
 * memory. So `while (!there_is_work) ivshmem_wait(...)` is right everywhere; but `timeout_ms`
 * limits one call, and whoever wants the loop to end looks at a clock of his own. Returns 1 if
 * rung, 0 if the time passed. errno: EINTR (a signal handler has run; over uio: and without a limit
 * not if it was installed with SA_RESTART, as signal() does), ENOTSUP (neither
 * IVSHMEM_CAP_INTERRUPT nor IVSHMEM_CAP_TIMED_WAIT), EINVAL (vector above the limit, or not of this
 * handle), ENOENT (the server is gone and the vector will never arrive), EPROTO (the server gave
 * something else than a doorbell), ENODEV (the driver has been unbound, or the device unplugged).
 */
int ivshmem_wait(struct ivshmem_peer *peer, unsigned vector, int timeout_ms, uint64_t *count);

/*
 * The descriptor of own vector `vector`, for a loop that wants one source per vector: readable when
 * rung. Take the rings with ivshmem_wait(peer, vector, 0, &count), the same for every transport.
 * (On a host and over vfio: it is an eventfd; over uio: a UIO device.) After this call
 * ivshmem_dispatch() leaves the vector alone. Owned by the handle. In a guest take rings once
 * before the first poll: those from before ivshmem_open() do not make it readable. errno: EAGAIN
 * (not arrived yet), EINVAL (not of this handle), ENOTSUP (no IVSHMEM_CAP_INTERRUPT).
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

/*
 * Meet one other party that calls this too, whichever of the two starts first. When it returns,
 * both know each other's ID, and since they know it the vector has been rung at each of the two
 * that can be rung. This is how a guest learns whom to ring, and how nobody's first ring is lost on
 * the way through a server and two VMMs. A party that is started again meets whoever calls this
 * again. It is no barrier: one may return while the other still has a moment to go, the other's
 * last ring may come after both have, and who rang a vector nobody can tell.
 *
 * The two agree on 128 bytes of the region at `offset` (a multiple of 64; any content), which with
 * a header is 4096 at least, on who has `seat` 0 and who 1, and each on the own vector `vector` to
 * be rung on, which must be the same. Handles server messages meanwhile, as ivshmem_dispatch()
 * does, and takes rings of that vector: the other side may have gone on and rung already, so look
 * at the memory before you wait.
 *
 * `timeout_ms`: negative is without limit. `other`, if not NULL, receives the other's ID, or
 * UINT_MAX if it has none. Returns 0.
 * errno: ETIMEDOUT, EINVAL (offset or seat), EACCES (region not mapped for writing), EINTR, and
 * those of ivshmem_wait() and ivshmem_dispatch().
 * Source: enum ivshmem_meeting in <ivshmem/abi.h>.
 */
int ivshmem_meet(struct ivshmem_peer *peer, uint64_t offset, unsigned seat, unsigned vector,
	int timeout_ms, unsigned *other);

/* How the processor's cache takes part in access to the region. */
enum ivshmem_cache {
	IVSHMEM_CACHE_UNKNOWN = 0,
	IVSHMEM_CACHE_WRITE_BACK = 1,      /* as ordinary memory */
	IVSHMEM_CACHE_WRITE_COMBINING = 2, /* writes are gathered, reads go to memory one by one */
	IVSHMEM_CACHE_UNCACHED = 3,        /* each access goes to memory */
};

/* What ivshmem_measure() finds. Bandwidths are in bytes a second. */
struct ivshmem_memory {
	size_t struct_size; /* set it to sizeof(struct ivshmem_memory) */
	int cache;          /* enum ivshmem_cache, as far as the kernel tells */
	/* Of the region. For writing 0 if it is read-only or not cached: then it is not measured.
	 */
	uint64_t read_bandwidth, write_bandwidth;
	uint64_t ram_read_bandwidth, ram_write_bandwidth; /* of ordinary memory, the same way */
};

/*
 * Measure the region, or the first MiB of it, against ordinary memory; takes some milliseconds, a
 * second where the region is slow. Disturbs nobody: it reads every word, and for writing adds 0 to
 * a word in each cache line, atomically.
 * errno: EINVAL (struct_size), ENOMEM.
 */
int ivshmem_measure(const struct ivshmem_peer *peer, struct ivshmem_memory *memory);

/* Version of the library, "MAJOR.MINOR.PATCH". */
const char *ivshmem_version(void);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif

#endif
