/* SPDX-License-Identifier: MIT */
/* Shared by the files of src/server only. */
#ifndef SERVER_INTERNAL_H
#define SERVER_INTERNAL_H

#include "base/fdpass.h"
#include "base/list.h"
#include "base/loglimits.h"
#include "server/ids.h"
#include "server/queue.h"
#include "server/server.h"
#include "server/users.h"
#include "server/who.h"

/*
 * State of a peer's output          in list     leaves it when
 *
 * IDLE      queue is empty          -           something is announced to it
 * DIRTY     has something to send   dirty       server_run() tries to send
 * BLOCKED   socket is full          blocked     the loop says that it is writable
 * STARVED   the kernel is out of    starved     the retry time has come
 *           memory or of descriptors in flight
 * DOOMED    no memory for its queue   doomed      server_run() drops it
 *
 * `blocked_since` is set when the queue begins to fill and on every progress.
 */
enum output_state { OUTPUT_IDLE, OUTPUT_DIRTY, OUTPUT_BLOCKED, OUTPUT_STARVED, OUTPUT_DOOMED };

struct server_peer {
	struct list link;         /* server.peers, in the order of joining; later server.dead */
	struct list out_link;     /* the list of its output state */
	struct list waiting_link; /* user.waiting, while it is blocked or starved */
	struct server *server;
	struct user *user; /* NULL once it has left */
	unsigned charged;  /* descriptors that the user has for it */
	struct member *member;
	void *data;
	struct who who;
	uint64_t joined_at; /* sequence number of its join */
	uint64_t joined_ms; /* wall clock */
	int sock;           /* owned; -1 once the peer has left */

	int rule;                     /* that let it in, -1: none */
	uint64_t rule_key;            /* by which that rule is known again among others */
	struct policy_vectors *rings; /* vectors of others that it may ring; NULL: all */
	int dead_fd;       /* in place of the others: an eventfd connected to nothing; -1: none */
	bool read_only;    /* its descriptor of the region is */
	bool watched;      /* by the loop */
	bool burst_begins; /* the queue was empty: the window is to be set anew */

	struct queue queue;
	uint64_t burst;         /* messages of its own join that are unsent: not in max_queue */
	uint64_t blocked_since; /* ms */
	uint64_t sent;          /* messages */
	enum output_state output;
	unsigned window;   /* messages that may be unread; 0: as many as the kernel likes */
	uint32_t position; /* among the live peers, at farewell */
	int unread;        /* bytes in its socket when it was last looked at */
};

struct kept;
struct user;

/* Whoever has too much waiting may be busy for so long, ms. Many joins or departures at once can be
 * more than that, and who reads must not suffer for it. */
#define OVER_LIMIT_MS 1000

/* Lines that users cause, on all servers together. */
struct users_log {
	struct log_limits news;    /* joins and leaves */
	struct log_limits trouble; /* and warnings: joins must not hide an eviction */
	uint64_t now;              /* ms */
};

struct server {
	struct server_config config;
	struct users *users;
	bool own_users;    /* they are nobody else's */
	struct kept *kept; /* NULL: nothing is kept */
	const struct server_ops *ops;
	void *data;
	struct log *log;
	struct log_limit starved_limit; /* lines about shortage in the kernel */
	int region_fd, read_only_fd;    /* borrowed; the second one may be -1 */
	const struct policy *policy;    /* borrowed; may be NULL */
	server_watcher *watcher;        /* may be NULL */
	void *watcher_data;
	server_tap *tap; /* may be NULL */
	void *tap_data;
	bool curious;             /* somebody wants to know all about newcomers */
	struct identity identity; /* of whom it is about just now: too large for each peer */
	struct ids ids;
	uint64_t *left_at;    /* of each ID: when its last holder left (sequence number), or 0 */
	uint64_t last_serial; /* of a connection */
	struct list peers, dead;
	struct list dirty, blocked, starved, doomed;
	struct list departed; /* members whose departure is not in the queues yet */
	uint64_t pass;        /* of queue_cancel_gone() */
	struct fdpass_batch *batch;
	struct server_stats stats;
	uint64_t now; /* ms, as of the last server_run() */
	uint64_t retry_at, retry_delay;
	uint64_t check_at; /* earliest time at which a blocked peer is stalled; UINT64_MAX: none */
	bool draining;
	bool resumed;       /* and has not run yet: no clock has been seen */
	bool leaving;       /* the server is going: departures are not announced any more */
	uint16_t *farewell; /* IDs of the peers that were live at farewell */
};

/* Joins and leaves have sequence numbers, together one series: this is the latest. */
static inline uint64_t server_sequence(const struct server *server)
{
	return server->stats.joins + server->stats.leaves;
}

/* admit.c: let somebody in, or not. `held`: a keeper has the connection already. */
int server_let_in(struct server *server, int sock, uint64_t serial, bool held);

/* rules.c: what a rule is known by again; a limit that it has does not count. */
uint64_t server_rule_key(const struct policy_rule *rule);

/* Where the rule of that key stands among those in force, first where it was; -1: nowhere. */
int server_find_rule(const struct server *server, int was_at, uint64_t key);

/* peer.c */
struct server_peer *peer_create(struct server *server, int sock);
void peer_destroy(struct server_peer *peer);
void peer_drop(struct server *server, struct server_peer *peer, enum log_level level,
	const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Against its will. */
void peer_evict(struct server *server, struct server_peer *peer, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Let it ring only these vectors of others. 0 or -errno. */
int peer_restrict(struct server_peer *peer, const struct policy_vectors *rings);

/* Put the departures since the last call into everybody's queue. */
void server_settle_departures(struct server *server);

/* Is more waiting for the peer than --max-queue allows? */
bool peer_over_limit(const struct server *server, const struct server_peer *peer);

/* Tell the watcher. server->identity says about whom. */
void server_tell(struct server *server, enum server_event event, const struct server_peer *peer,
	const char *reason);

/* A log line that this user's peers can cause: limited, unless everything is to be logged. */
void server_say(struct server *server, uid_t uid, enum log_level level, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* users.c: the peer counts for its user; its member and who it is are known. 0 or -ENOMEM. */
int user_join(struct users *users, struct server_peer *peer);
void user_leave(struct server_peer *peer);
void user_waits(struct users *users, struct server_peer *peer, bool waits);

/* Why a newcomer that costs so many descriptors would be too much for its user, or NULL. */
const char *users_refuse(struct users *users, uid_t uid, unsigned descriptors);
struct users_log *users_log(struct users *users);

/* That it costs the server. */
unsigned peer_descriptors(const struct server_peer *peer);

/* Bytes that the peer has not read yet, as the kernel charges them. */
int peer_unread(const struct server_peer *peer);

/*
 * Its time is up: has it read nothing in it? POLLOUT comes only when three quarters are read, so a
 * slow reader is told from a sleeper by what is left in its socket. And who has nothing to read
 * waits for the kernel, not for itself. Who reads has all the time again.
 */
bool peer_reads_nothing(struct server_peer *peer, uint64_t now_ms);

/* When it is stalled if it reads nothing until then (ms); UINT64_MAX: never. */
uint64_t peer_deadline(const struct server *server, const struct server_peer *peer);

void peer_set_output(struct server *server, struct server_peer *peer, enum output_state output);

/* Queue `kind` of `member` to `peer`; the room need not be reserved. */
void peer_announce(struct server *server, struct server_peer *peer, enum entry_kind kind,
	struct member *member, uint32_t messages);

/* member: allocate with its eventfds (NULL and errno), or with those that there are (NULL: none),
 * to be owned once fds_open is set; and let go when nothing needs it. */
struct member *member_create(uint16_t id, uint64_t serial, unsigned vectors);
struct member *member_adopt(uint16_t id, uint64_t serial, unsigned vectors, const int *fds);
void member_destroy(struct member *member);
void member_release(void *data, struct member *member); /* data: the server */

/* window.c: bound what the peer may have unread; double it when it reads. */
void window_start(const struct server *server, struct server_peer *peer);
void window_grow(struct server_peer *peer);
void window_resume(const struct server *server, struct server_peer *peer);

/* flush.c: send until the queue is empty or the socket takes no more. May drop the peer. */
void peer_flush(struct server *server, struct server_peer *peer);

#endif
