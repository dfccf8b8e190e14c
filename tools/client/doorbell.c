/* SPDX-License-Identifier: MIT */
#include "tool.h"

#include "base/uuid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- looking ---- */

static enum command_status need_list(struct client *c)
{
	unsigned can = ivshmem_capabilities(c->peer);
	if (can & IVSHMEM_CAP_PEER_LIST)
		return COMMAND_OK;
	if (can & IVSHMEM_CAP_NOTIFY)
		return command_fail(c, COMMAND_FAILED,
			"a guest cannot list peers: its device does not tell; 'peers' on the host "
			"does");
	return command_fail(c, COMMAND_FAILED,
		"%s has no server and so no peers; connect to unix:PATH or region:NAME", c->where);
}

/* IDs of the others; *n of them. NULL with the error set. */
static unsigned *list_peers(struct client *c, int *n)
{
	if (need_list(c) != COMMAND_OK)
		return NULL;
	session_await(c, -1, -1);
	int known = ivshmem_peers(c->peer, NULL, 0);
	unsigned *ids = calloc((size_t)known + 1, sizeof(*ids));
	if (!ids)
		command_fail(c, COMMAND_FAILED, "no memory");
	else
		*n = ivshmem_peers(c->peer, ids, (size_t)known);
	return ids;
}

static json_t *dump_peer(const struct client *c, const char *label, unsigned id)
{
	json_t *list = json_array();
	int vectors = ivshmem_vectors(c->peer, id);
	if (!c->json)
		printf("%s = %u\n", label, id);
	for (int vector = 0; vector < vectors; vector++) {
		int fd = ivshmem_doorbell_fd(c->peer, id, (unsigned)vector);
		if (c->json)
			json_array_append_new(list, json_integer(fd));
		else
			printf("  vector %d is enabled (fd=%d)\n", vector, fd);
	}
	return json_pack("{s:i, s:o}", "id", (int)id, "vector_fds", list);
}

enum command_status command_dump(struct client *c, int n_words, char **words)
{
	(void)n_words;
	(void)words;
	int n;
	unsigned *ids = list_peers(c, &n);
	if (!ids)
		return COMMAND_FAILED;
	json_t *own = dump_peer(c, "our_id", (unsigned)ivshmem_id(c->peer));
	json_t *peers = json_array();
	for (int i = 0; i < n; i++)
		json_array_append_new(peers, dump_peer(c, "peer_id", ids[i]));
	free(ids);
	json_object_update(c->result, own);
	json_decref(own);
	json_object_set_new(c->result, "peers", peers);
	return COMMAND_OK;
}

enum command_status command_peers(struct client *c, int n_words, char **words)
{
	(void)n_words;
	(void)words;
	int n;
	unsigned *ids = list_peers(c, &n);
	if (!ids)
		return COMMAND_FAILED;
	json_t *peers = json_array();
	for (int i = 0; i < n; i++) {
		int vectors = ivshmem_vectors(c->peer, ids[i]);
		json_array_append_new(
			peers, json_pack("{s:i, s:i}", "id", (int)ids[i], "vectors", vectors));
		if (!c->json)
			printf("peer_id = %u vectors = %d\n", ids[i], vectors);
	}
	free(ids);
	json_object_set_new(c->result, "peers", peers);
	return COMMAND_OK;
}

static void print_members(json_t *object)
{
	const char *key;
	json_t *value;
	json_object_foreach (object, key, value) {
		if (json_is_string(value))
			printf("%s = %s\n", key, json_string_value(value));
		else if (json_is_integer(value))
			printf("%s = %lld\n", key, (long long)json_integer_value(value));
		else if (json_is_boolean(value))
			printf("%s = %s\n", key, json_is_true(value) ? "yes" : "no");
		else
			printf("%s = none\n", key);
	}
}

/* Name, UUID and generation of a region that has them. */
static void add_identity(struct client *c)
{
	struct ivshmem_identity identity;
	char uuid[UUID_TEXT_SIZE];

	if (read_identity(c, &identity))
		command_result(c,
			json_pack("{s:s, s:s, s:I}", "name", identity.name, "uuid",
				uuid_format(identity.uuid, uuid), "generation",
				(json_int_t)identity.generation));
}

enum command_status command_info(struct client *c, int n_words, char **words)
{
	(void)n_words;
	(void)words;
	session_await(c, -1, -1);
	int id = ivshmem_id(c->peer);
	unsigned can = ivshmem_capabilities(c->peer);
	bool has_server = can & IVSHMEM_CAP_PEER_LIST; /* that we are connected to ourselves */
	const char *server = !has_server     ? id < 0 ? "none" : "unknown"
		: ivshmem_connected(c->peer) ? "connected"
					     : "lost";
	const char *protocol = !has_server                ? "none"
		: c->protocol == IVSHMEM_PROTOCOL_PRE_2_5 ? "pre-2.5"
							  : "current";
	uint64_t size;
	ivshmem_region(c->peer, &size);

	command_result(c,
		json_pack("{s:o, s:I, s:b, s:b, s:s, s:s, s:i}", "id",
			id < 0 ? json_null() : json_integer(id), "region_size", (json_int_t)size,
			"sealed", (can & IVSHMEM_CAP_SEALED) != 0, "writable",
			(can & IVSHMEM_CAP_WRITE) != 0, "server", server, "protocol", protocol,
			"vectors", c->own_vectors));
	add_identity(c);
	if (has_server || id < 0) /* a guest cannot tell */
		json_object_set_new(c->result, "peers",
			json_integer(has_server ? ivshmem_peers(c->peer, NULL, 0) : 0));
	if (!c->json)
		print_members(c->result);
	return COMMAND_OK;
}

/* ---- ringing ---- */

enum command_status need_vector(struct client *c, long id, long vector)
{
	unsigned can = ivshmem_capabilities(c->peer);
	if (!(can & IVSHMEM_CAP_NOTIFY))
		return need_list(c);
	if (session_await(c, id, vector))
		return COMMAND_OK;
	int vectors = is_id(id) ? ivshmem_vectors(c->peer, (unsigned)id) : -1;
	if (vectors >= 0)
		return command_fail(c, COMMAND_FAILED, "peer_id = %ld has no vector %ld: it has %d",
			id, vector, vectors);
	/* A guest may ring anybody, there or not. */
	if (!(can & IVSHMEM_CAP_PEER_LIST) && is_id(id) && vector < (long)IVSHMEM_MAX_VECTORS)
		return COMMAND_OK;
	return command_fail(c, COMMAND_FAILED, "cannot find peer_id = %ld", id);
}

static void ring(struct client *c, unsigned id, int vector, int *rung)
{
	say_verbose(c, "notify peer %u on vector %d, fd %d\n", id, vector,
		ivshmem_doorbell_fd(c->peer, id, (unsigned)vector));
	*rung += ivshmem_notify(c->peer, id, (unsigned)vector) == 0;
}

static enum command_status ring_all_vectors(struct client *c, unsigned id, int *rung)
{
	int vectors = ivshmem_vectors(c->peer, id);
	if (vectors < 0)
		return command_fail(c, COMMAND_FAILED,
			"a guest cannot know how many vectors peer_id = %u has: name one", id);
	for (int vector = 0; vector < vectors; vector++)
		ring(c, id, vector, rung);
	return COMMAND_OK;
}

static enum command_status ring_everybody(struct client *c, int *rung)
{
	int n;
	unsigned *ids = list_peers(c, &n);
	if (!ids)
		return COMMAND_FAILED;
	for (int i = 0; i < n; i++)
		ring_all_vectors(c, ids[i], rung);
	free(ids);
	return COMMAND_OK;
}

enum command_status command_int(struct client *c, int n, char **words)
{
	bool everybody = n == 2 && strcmp(words[1], "all") == 0;
	bool all = n == 3 && strcmp(words[2], "all") == 0;
	long id = -1;
	long vector = 0;
	int rung = 0;
	if (!everybody && (n != 3 || input_long(words[1], &id) < 0))
		return command_fail(c, COMMAND_MISUSED, "invalid command, type help");
	if (!everybody && !all && (input_long(words[2], &vector) < 0 || vector < 0))
		return command_fail(c, COMMAND_MISUSED, "invalid command, type help");

	if (all)
		session_await(c, -1, -1);
	enum command_status status =
		everybody ? ring_everybody(c, &rung) : need_vector(c, id, vector);
	if (all && status == COMMAND_OK)
		status = ring_all_vectors(c, (unsigned)id, &rung);
	else if (!everybody && status == COMMAND_OK)
		ring(c, (unsigned)id, (int)vector, &rung);
	json_object_set_new(c->result, "rung", json_integer(rung));
	return status;
}
