/* SPDX-License-Identifier: MIT */
/*
 * server - IDs, peers, output queues, limits, admission, counters. The whole behaviour of an
 * ivshmem server without an event loop, a listening socket or a command line: those are
 * tools/server.
 *
 * Rules: docs/protocol.md, section 2.8. One thread.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "server/identity.h"
#include "server/policy.h"

#include "base/log.h"
#include "wire/wire.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct server;
struct server_peer;
struct users;

struct server_config {
	const struct wire_format *format; /* generation of the protocol */
	unsigned vectors;                 /* per peer, 0..2048 */
	unsigned max_peers;               /* 1..65536 */
	unsigned max_peers_per_uid;       /* 0: no limit */
	uint64_t max_queue;        /* messages for one peer beyond its own join; 0: no limit */
	uint64_t stall_timeout_ms; /* a peer whose queue does not move for so long goes; 0: never */
	uint64_t in_flight_limit;  /* descriptors in flight that the kernel allows this user;
				      UINT64_MAX: it does not limit us */
	struct users *users;       /* borrowed: counts for several servers (users.h); NULL: for this
				      one alone */
};

/* What a keeper holds of a peer. */
enum server_kept {
	SERVER_KEPT_SOCKET,  /* the connection */
	SERVER_KEPT_VECTORS, /* the eventfds of its vectors, in order */
};

/*
 * How the server asks its loop to watch sockets, and its keeper to hold descriptors. None of these
 * may call back into the server.
 */
struct server_ops {
	/* A peer is in; watch `sock` for reading and hang-up. False: can't, drop it again. */
	bool (*joined)(void *data, struct server_peer *peer, int sock);
	/* Watch for writing too, or no longer. */
	void (*want_write)(void *data, struct server_peer *peer, bool on);
	/* The peer is gone: stop watching. Its socket is closed when this returns. */
	void (*left)(void *data, struct server_peer *peer);
	/*
	 * Only with kept state (kept.h). Hold copies of these descriptors, under a name that says
	 * kind and serial number, before anybody hears of them; 0 or -errno. And: they are needed
	 * no more.
	 */
	int (*keep)(void *data, enum server_kept kind, uint64_t serial, const int *fds, unsigned n);
	void (*forget)(void *data, enum server_kept kind, uint64_t serial);
};

struct server_stats {
	uint64_t joins, leaves, evictions, refusals, messages;
	unsigned peers, quarantined;
	uint64_t restarts;       /* that this region has lived through, with kept state */
	uint64_t lost_in_accept; /* at most: clients that a process took along to its end */
};

/* One peer, for who wants to see inside. Texts are borrowed and end with the next call. */
struct server_peer_info {
	int id;
	uint64_t serial;    /* of its connection: 1, 2, ... never given twice */
	uint64_t joined_ms; /* wall clock, milliseconds since 1970 */
	unsigned vectors;
	bool read_only;
	int rule; /* index of the rule that let it in, -1: none */
	const struct identity *identity;
	uint64_t queued;      /* messages that wait for it */
	uint64_t sent;        /* messages that went out to it */
	unsigned unread;      /* bytes in its socket that it has not read */
	uint64_t idle_ms;     /* for so long it has taken nothing although something waits; 0 */
	unsigned descriptors; /* that it costs the server */
	const char *state;    /* "idle", "sending", "blocked", "starved" */
};

/* What the server tells whoever watches it, besides the log. Callbacks may not call back. */
enum server_event { SERVER_JOINED, SERVER_LEFT, SERVER_REFUSED };
struct server_news {
	enum server_event event;
	uint64_t serial; /* 0 for SERVER_REFUSED */
	int id;          /* -1 for SERVER_REFUSED */
	const struct identity *identity;
	const char *reason; /* why it left or was refused; "" when it joined */
	const int *fds;     /* eventfds of its vectors, borrowed: see server_visit_vectors() */
	unsigned vectors;
};
typedef void server_watcher(void *data, const struct server_news *news);

/* A message that has gone out to a peer, for who wants to see all of them. */
enum server_message_kind {
	SERVER_SENT_VERSION,
	SERVER_SENT_ID,
	SERVER_SENT_REGION,
	SERVER_SENT_CONNECT,
	SERVER_SENT_LEAVE
};
enum server_message_fd {
	SERVER_NO_FD,
	SERVER_FD_MEMORY,
	SERVER_FD_MEMORY_READ_ONLY,
	SERVER_FD_DOORBELL,
	SERVER_FD_DEAD_DOORBELL /* an eventfd connected to nothing: it may not ring this vector */
};
struct server_message {
	enum server_message_kind kind;
	enum server_message_fd fd;
	uint64_t serial; /* of who got it, */
	int id;          /* and its ID */
	int64_t number;  /* that the message consists of */
	int vector;      /* that a connect is about, else -1 */
};
typedef void server_tap(void *data, const struct server_message *message);

/* `region_fd` is borrowed and must outlive the server. 0 or -errno. */
int server_create(struct server **out, const struct server_config *config, int region_fd,
	const struct server_ops *ops, void *data, struct log *log);

/* A second descriptor of the region, opened for reading, for peers that a rule makes read-only;
 * borrowed. Without one such peers are refused. */
void server_set_read_only_region(struct server *server, int fd);

/* Rules, borrowed until they are replaced. Peers that are in stay. NULL: none. */
void server_set_policy(struct server *server, const struct policy *policy);

/* Take over the numbers of peers, the queue and the stall timeout from another configuration. With
 * kept state max_peers may not exceed the one that it was made with. Peers that are in stay. */
void server_set_limits(struct server *server, const struct server_config *config);

/* Connections of numbers up to this one are late ones, not for this server: before it is kept. */
void server_set_last_serial(struct server *server, uint64_t serial);

/* The highest serial number of a connection so far. */
uint64_t server_last_serial(const struct server *server);

/*
 * For a loop that accepts by itself: before each accept(), and (false) once that connection has
 * been admitted, or there was none. With kept state the next process then knows whether this one
 * can have ended with a connection that nobody holds, and counts it.
 */
void server_accepting(struct server *server, bool on);

/* At most one watcher; NULL: none. */
void server_set_watcher(struct server *server, server_watcher *watcher, void *data);

/* The same for every message, once the kernel has taken all of it. */
void server_set_tap(struct server *server, server_tap *tap, void *data);

/* Learn all of newcomers' identity, which costs some file reads, for a watcher that wants it. Else
 * it is user, group and process, unless rules or a refusal ask for more. */
void server_set_curious(struct server *server, bool curious);

/* Close every peer at once. For a clean exit call server_farewell() before. */
void server_destroy(struct server *server);

/*
 * A client has connected. Takes over `sock` (non-blocking, close-on-exec) whatever happens. Joining
 * is atomic: the newcomer is announced to everyone or refused and announced to nobody.
 * 0, or -errno if it was refused; the others are not affected.
 *
 * `serial` is the number of the connection, by which a keeper knows it (SERVER_KEPT_SOCKET is held
 * already then); each is higher than those before. 0: the server counts, and has it kept.
 */
int server_admit(struct server *server, int sock, uint64_t serial);

/* A client has connected to a server that is no more: refuse it as one that is ending does. */
void server_turn_away(int sock);

/* The loop saw this on a peer's socket. The peer may be gone afterwards. */
void server_peer_readable(struct server *server, struct server_peer *peer);
void server_peer_writable(struct server *server, struct server_peer *peer);

/*
 * Do what is due: send what is queued, retry, evict. To be called after each batch of events, so
 * that announcements of one batch leave together. Returns in how many milliseconds it must be
 * called again at the latest, or -1: only after the next event.
 */
int server_run(struct server *server, uint64_t now_ms);

/* Clean exit: queue to every peer that every other has left. */
void server_farewell(struct server *server);

/* Is there nothing left to send to anybody? */
bool server_flushed(const struct server *server);

/* Let nobody in any more (refused with that reason), or again. */
void server_set_draining(struct server *server, bool draining);
bool server_draining(const struct server *server);

/* Take a peer out, by the serial number of its connection. 0, or -ENOENT. `reason` for the log. */
int server_evict(struct server *server, uint64_t serial, const char *reason);

/* Each peer, in the order of joining, until `visit` returns false. It may not call back. */
void server_visit(struct server *server,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data);

/* The same without those whose serial numbers are not above `serial`: where an earlier visit ended.
 * Those cost nothing worth mentioning. */
void server_visit_after(struct server *server, uint64_t serial,
	bool (*visit)(void *data, const struct server_peer_info *info), void *data);

/* The eventfds of each peer whose serial number is above `serial`, in order, until `visit` returns
 * false. They are borrowed until it has left (SERVER_LEFT), to be watched, not to be read. */
typedef bool server_vectors_visitor(
	void *data, uint64_t serial, int id, const int *fds, unsigned vectors);
void server_visit_vectors(
	const struct server *server, uint64_t serial, server_vectors_visitor *visit, void *data);

void server_get_stats(const struct server *server, struct server_stats *stats);

/* A place for the loop to keep its own handle of a peer. */
void server_peer_set_data(struct server_peer *peer, void *data);
void *server_peer_data(const struct server_peer *peer);

#endif
