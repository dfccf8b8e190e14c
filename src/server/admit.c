/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Who may join is asked first, and costs nothing but the kernel's word for the user as long as
 * neither rules nor somebody who looks on want to know more. Then comes all that can fail, and only
 * then is anybody told: from there on nothing can.
 */
#include "server/internal.h"
#include "server/kept_record.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct newcomer {
	int sock; /* owned by its peer, once it has one */
	uint64_t serial;
	bool held; /* the keeper has the connection */
};

/* Why somebody is not let in; error 0: he is. */
struct refusal {
	enum wire_refusal code;
	int error;
	char reason[200];
};

static void __attribute__((format(printf, 4, 5)))
no(struct refusal *refusal, enum wire_refusal code, int error, const char *format, ...)
{
	va_list args;

	refusal->code = code;
	refusal->error = error;
	va_start(args, format);
	vsnprintf(refusal->reason, sizeof(refusal->reason), format, args);
	va_end(args);
}

static void no_resources(struct refusal *refusal, int error)
{
	if (error == -ENOSPC)
		no(refusal, WIRE_REFUSAL_FULL, error,
			"full: too many have left of whose departure not everybody knows yet, or "
			"no more descriptors can be held");
	else
		no(refusal, WIRE_REFUSAL_RESOURCES, error, "out of memory or descriptors");
}

/* The one line of the audit. */
static void say_refused(struct server *server, const char *reason)
{
	const struct identity *who = &server->identity;
	bool has_machine = who->machine[0] != '\0';
	char details[2 * IDENTITY_TEXT + 16] = "";

	if (who->executable[0] != '\0' || has_machine)
		snprintf(details, sizeof(details), " (%s%s%s)",
			who->executable[0] != '\0' ? who->executable : "?",
			has_machine ? ", machine " : "", who->machine);
	server_say(server, who->uid, LOG_LEVEL_WARNING, "refused pid %d, uid %u%s: %s",
		(int)who->pid, (unsigned)who->uid, details, reason);
}

/* Does a rule ask for more than the user? */
static bool rules_ask(const struct policy *policy)
{
	for (size_t i = 0; policy && i < policy->n; i++) {
		const struct policy_rule *rule = &policy->rules[i];
		if (rule->gid != (gid_t)-1 || rule->executable[0] != '\0' ||
			rule->cgroup[0] != '\0' || rule->machine[0] != '\0' ||
			rule->label[0] != '\0')
			return true;
	}
	return false;
}

static bool wants_to_know(const struct server *server)
{
	return server->curious || rules_ask(server->policy);
}

/* The client must refuse a version that it does not know; QEMU hangs if we merely close. */
static void send_refusal(int sock, const struct wire_format *format, enum wire_refusal code)
{
	uint8_t bytes[WIRE_WIDTH_MAX];

	if (format->has_version)
		(void)fdpass_send(sock, bytes, wire_encode(format, code, bytes), -1);
}

static int refuse(
	struct server *server, const struct newcomer *newcomer, const struct refusal *refusal)
{
	/* The line is to say who it was; the process may end as soon as it has its answer. */
	if (!wants_to_know(server))
		(void)identity_of_socket(newcomer->sock, "/proc", &server->identity);
	send_refusal(newcomer->sock, server->config.format, refusal->code);
	server->stats.refusals++;
	kept_counters(server);
	if (newcomer->held)
		kept_refused(server, newcomer->sock, newcomer->serial);
	close(newcomer->sock);
	say_refused(server, refusal->reason);
	server_tell(server, SERVER_REFUSED, NULL, refusal->reason);
	return refusal->error;
}

/*
 * May it?
 */

/* Into server->identity. */
static void identify(struct server *server, int sock)
{
	struct who who;

	if (wants_to_know(server) && identity_of_socket(sock, "/proc", &server->identity) == 0)
		return;
	who_from_socket(&who, sock);
	who_get(&who, &server->identity);
}

/* The same for good. 0 or -ENOMEM. */
static int identify_peer(const struct server *server, struct server_peer *peer)
{
	const struct identity *identity = &server->identity;

	peer->who = (struct who){.uid = identity->uid, .gid = identity->gid, .pid = identity->pid};
	return wants_to_know(server) ? who_set(&peer->who, identity) : 0;
}

static unsigned peers_of_uid(const struct server *server, uid_t uid)
{
	unsigned n = 0;
	list_for_each (node, &server->peers)
		n += container_of(node, struct server_peer, link)->who.uid == uid;
	return n;
}

static unsigned peers_of_rule(void *data, size_t rule)
{
	const struct server *server = data;
	unsigned n = 0;
	list_for_each (node, &server->peers)
		n += container_of(node, struct server_peer, link)->rule == (int)rule;
	return n;
}

static void check_limits(const struct server *server, struct refusal *refusal)
{
	unsigned per_uid = server->config.max_peers_per_uid;

	if (server->leaving)
		no(refusal, WIRE_REFUSAL_FULL, -EUSERS, "the server is ending");
	else if (server->draining)
		no(refusal, WIRE_REFUSAL_FULL, -EUSERS, "the region is being drained");
	else if (server->stats.peers >= server->config.max_peers)
		no(refusal, WIRE_REFUSAL_FULL, -EUSERS, "full (--max-peers)");
	else if (per_uid > 0 && peers_of_uid(server, server->identity.uid) >= per_uid)
		no(refusal, WIRE_REFUSAL_UID_FULL, -EUSERS,
			"full for this user (--max-peers-per-uid)");
}

static void check_rules(
	struct server *server, struct policy_verdict *verdict, struct refusal *refusal)
{
	const struct policy_facts facts = {.data = server, .joined_by_rule = peers_of_rule};

	if (server->policy && server->policy->n > 0 && server->identity.uid == (uid_t)-1) {
		no(refusal, WIRE_REFUSAL_RULES, -EACCES, "it cannot be known who it is");
		return;
	}
	policy_decide(server->policy, &server->identity, &facts, verdict);
	if (verdict->access == POLICY_DENY)
		no(refusal, WIRE_REFUSAL_RULES, -EACCES, "%s", verdict->reason);
	else if (verdict->access == POLICY_READ_ONLY && server->read_only_fd < 0)
		no(refusal, WIRE_REFUSAL_RULES, -EACCES,
			"it may read only, and the region cannot be opened so");
}

static void check_user(
	struct server *server, const struct policy_verdict *verdict, struct refusal *refusal)
{
	unsigned descriptors = 1 + server->config.vectors + (verdict->rings != NULL);
	const char *why = users_refuse(server->users, server->identity.uid, descriptors);

	if (why)
		no(refusal, WIRE_REFUSAL_UID_FULL, -EUSERS, "%s", why);
}

/*
 * The way in
 */

/* Peers are in the order of joining. NULL: nobody is in. */
static const struct server_peer *find_oldest(const struct server *server)
{
	if (list_empty(&server->peers))
		return NULL;
	return container_of(server->peers.next, struct server_peer, link);
}

/*
 * QEMU's device uses freed memory when an ID comes back that it has seen leave. So a reserved one
 * is given again only when nobody is left who was there when its last holder left.
 */
static int take_id(struct server *server, int wanted, struct refusal *refusal)
{
	int id = wanted;

	if (wanted == POLICY_ANY_ID) {
		id = ids_take(&server->ids);
		if (id < 0)
			no(refusal, WIRE_REFUSAL_FULL, id, "no ID is free");
		return id;
	}
	if (wanted < 0 || wanted > WIRE_MAX_ID) {
		no(refusal, WIRE_REFUSAL_FULL, -EINVAL, "its ID %d is none", wanted);
		return -EINVAL;
	}
	const struct server_peer *oldest = find_oldest(server);
	if (oldest && oldest->joined_at < server->left_at[id]) {
		no(refusal, WIRE_REFUSAL_FULL, -EBUSY,
			"its ID %d cannot be given again while peer %u is connected, which saw it "
			"leave",
			id, oldest->member->id);
		return -EBUSY;
	}
	int error = ids_take_exactly(&server->ids, (uint16_t)id);
	if (error < 0) {
		no(refusal, WIRE_REFUSAL_FULL, error, "its ID %d is in use", id);
		return error;
	}
	return id;
}

/* What the verdict says of it. 0 or -errno. */
static int apply_verdict(
	const struct server *server, struct server_peer *peer, const struct policy_verdict *verdict)
{
	peer->read_only = verdict->access == POLICY_READ_ONLY;
	if (verdict->rule != SIZE_MAX) {
		peer->rule = (int)verdict->rule;
		peer->rule_key = server_rule_key(&server->policy->rules[verdict->rule]);
	}
	return verdict->rings ? peer_restrict(peer, verdict->rings) : 0;
}

/* Everything that can fail on the way in but the ID; nobody has been told yet. 0 or -errno. */
static int prepare(struct server *server, struct server_peer *peer, struct newcomer *newcomer)
{
	int error = user_join(server->users, peer);
	if (error == 0)
		error = queue_reserve(&peer->queue, server->stats.peers + 2);
	list_for_each (node, &server->peers) {
		struct server_peer *other = container_of(node, struct server_peer, link);
		if (error == 0)
			error = queue_reserve(&other->queue, 1);
	}
	if (error == 0)
		error = kept_joining(server, peer, &newcomer->held);
	if (error < 0)
		return error;
	peer->watched = server->ops->joined(server->data, peer, peer->sock);
	if (!peer->watched)
		kept_not_joining(server, peer);
	return peer->watched ? 0 : -ENOMEM;
}

static void announce(struct server *server, struct server_peer *peer)
{
	struct member *member = peer->member;
	uint32_t vectors = member->vectors;

	queue_push(&peer->queue, ENTRY_HELLO, NULL, server->config.format->has_version ? 3 : 2);
	if (vectors > 0) {
		list_for_each (node, &server->peers) {
			struct server_peer *other = container_of(node, struct server_peer, link);
			peer_announce(server, other, ENTRY_CONNECT, member, vectors);
			queue_push(&peer->queue, ENTRY_CONNECT, other->member, vectors);
		}
		queue_push(&peer->queue, ENTRY_CONNECT, member, vectors);
	}
	peer->burst = peer->queue.messages;
	list_append(&server->peers, &peer->link);
	server->stats.peers++;
	server->stats.joins++;
	peer->joined_at = server_sequence(server);
	kept_joined(server, peer);
	peer->burst_begins = true;
	peer_set_output(server, peer, OUTPUT_DIRTY);
}

/* The peer with everything that it will need, or NULL: refused, and nothing is left of it. */
static struct server_peer *make_peer(struct server *server, struct newcomer *newcomer,
	const struct policy_verdict *verdict, struct refusal *refusal)
{
	struct server_peer *peer = peer_create(server, newcomer->sock);
	if (!peer) {
		no_resources(refusal, -ENOMEM);
		return NULL;
	}
	peer->joined_ms = clock_wall_ms();
	int id = take_id(server, verdict->id, refusal);
	if (id < 0)
		goto no_id;
	int error = identify_peer(server, peer);
	if (error == 0)
		error = apply_verdict(server, peer, verdict);
	if (error == 0) {
		peer->member =
			member_create((uint16_t)id, newcomer->serial, server->config.vectors);
		error = peer->member ? prepare(server, peer, newcomer) : -errno;
	}
	if (error == 0)
		return peer;

	no_resources(refusal, error);
	queue_clear(&peer->queue, member_release, server);
	if (peer->member)
		member_destroy(peer->member);
	if (verdict->id == POLICY_ANY_ID)
		ids_untake(&server->ids, (uint16_t)id);
	else
		ids_return(&server->ids, (uint16_t)id);
no_id:
	peer_destroy(peer);
	return NULL;
}

int server_let_in(struct server *server, int sock, uint64_t serial, bool held)
{
	const int on = 1;
	struct newcomer newcomer = {.sock = sock, .serial = serial, .held = held};
	struct refusal refusal = {.error = 0};
	struct policy_verdict verdict = {.rings = NULL};
	struct server_peer *peer = NULL;

	/* Else a byte sent out of band would make the socket readable with nothing to read. */
	(void)setsockopt(sock, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	identify(server, sock);
	check_limits(server, &refusal);
	if (refusal.error == 0)
		check_rules(server, &verdict, &refusal);
	if (refusal.error == 0)
		check_user(server, &verdict, &refusal);
	if (refusal.error == 0)
		peer = make_peer(server, &newcomer, &verdict, &refusal);
	if (!peer)
		return refuse(server, &newcomer, &refusal);
	announce(server, peer);

	server_say(server, peer->who.uid, LOG_LEVEL_INFO,
		"peer %u joined (pid %d, uid %u, %u peers)", peer->member->id, (int)peer->who.pid,
		(unsigned)peer->who.uid, server->stats.peers);
	server_tell(server, SERVER_JOINED, peer, "");
	return 0;
}

void server_turn_away(int sock)
{
	send_refusal(sock, &wire_current, WIRE_REFUSAL_FULL);
	(void)shutdown(sock, SHUT_RDWR); /* a keeper has it, too */
	close(sock);
}

int server_admit(struct server *server, int sock, uint64_t serial)
{
	bool counted = serial == 0;

	server_settle_departures(server); /* before somebody comes whom they do not concern */
	if (counted)
		serial = server->last_serial + 1;
	if (serial <= server->last_serial) {
		const struct newcomer late = {.sock = sock, .serial = serial, .held = true};
		struct refusal refusal;
		no(&refusal, WIRE_REFUSAL_FULL, -EINVAL, "it has come for what was here before");
		return refuse(server, &late, &refusal);
	}
	server->last_serial = serial;
	kept_serial(server);
	return server_let_in(server, sock, serial, !counted);
}
