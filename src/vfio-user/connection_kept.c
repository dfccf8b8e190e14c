/* SPDX-License-Identifier: MIT */
/*
 * What is different in a connection that outlives the process.
 *
 * Theory of operation
 *
 * A plain recvmsg() takes bytes and descriptors out of the socket and into a process that may be
 * killed in the same moment. So a read is three things:
 *
 *   look     with MSG_PEEK: this is where a thread waits. If descriptors come with it, look again
 *            to get copies of them, and have those held;
 *   take     just that many bytes with recvmmsg() into kept memory, where the kernel notes that it
 *            was done. The descriptors that come with them are the kernel's to close;
 *   commit   sooner or later: what was noted behind a commit belongs to what that commit says.
 *
 * The bytes that are taken are those that were looked at, and a read ends behind a message with
 * descriptors. Whether those that were held came with them, the kernel notes as well.
 *
 * A reply is sent by sendmmsg() from kept memory for the same reason. There is no commit for a read
 * or a reply that was whole: the next request's has both.
 *
 * So a register access costs one system call more than without. Rejected: to answer from what was
 * looked at, and take it when the VMM has its answer. That takes nothing off the processor, only
 * the time between look and answer; and a message that comes in parts must be taken before.
 */
#include "vfio-user/connection_internal.h"
#include "vfio-user/kept_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct vfu_kept_header *header_of(const struct vfu_connection *c)
{
	return c->kept->state.header;
}

static struct vfu_kept_fds fds_of(const struct held *held)
{
	return (struct vfu_kept_fds){
		.first = held->first, .owner = (uint32_t)held->owner, .n = (uint32_t)held->n};
}

static struct vfu_kept_block block_of(const struct vfu_connection *c)
{
	const struct vfu_session *session = &c->session;
	struct vfu_kept_block block = {
		.early = fds_of(&c->early),
		.late = fds_of(&c->late),
		.at = (uint32_t)c->at,
		.have = (uint32_t)c->have,
		.guest_restarts = session->restarts,
		.closing = c->closing,
		.agreed = session->agreed,
		.configured = session->configured,
		.trapped = session->function->trapped,
	};

	if (c->replying) {
		block.reply_size = (uint32_t)c->reply.size;
		block.reply_sent = (uint32_t)c->sent;
		block.reply_with_fd = c->sent == 0 && c->reply.fd >= 0;
	}
	return block;
}

static void commit(struct vfu_connection *c, const struct vfu_function *function)
{
	const struct vfu_kept_block block = block_of(c);
	vfu_kept_commit(c->kept, &block, function);
}

void kept_loosen(struct vfu_connection *c, const struct held *held)
{
	vfu_kept_loosen(c->kept, held->first, held->n);
}

/*
 * Reading
 */

static bool was_taken(const struct vfu_kept_header *header, size_t *bytes)
{
	return header->take.at == header->current && fdpass_noted(&header->take.note, bytes);
}

/* A look that finds as much as there is room for goes on to the next descriptors, whose message was
 * not taken, then. (Nor was it if a kill has cut the copying short.) Another look will find them.
 */
static void end_read(struct vfu_connection *c, size_t bytes)
{
	if (!fdpass_noted_fds(&header_of(c)->take.note)) {
		kept_loosen(c, &c->late);
		while (c->late.n > 0)
			close(c->late.fds[--c->late.n]);
	}
	connection_end_read(c, bytes);
}

/* Make room for a message. What was noted for the last commit must be in one by now. */
static void make_room(struct vfu_connection *c)
{
	size_t bytes;
	bool taken = was_taken(header_of(c), &bytes);
	bool must_move = c->at > VFU_MESSAGE_MAX && c->at < c->have;

	if (c->at == c->have)
		c->at = c->have = 0; /* see vfu_kept_from() */
	else if (must_move)
		connection_move(c); /* it is too short to reach what counts so far */
	if (taken || must_move)
		commit(c, NULL);
}

static ssize_t take(struct vfu_connection *c, size_t size)
{
	struct vfu_kept_header *header = header_of(c);

	fdpass_note_clear(&header->take.note);
	header->take.first = c->late.first;
	header->take.n = c->late.n;
	header->take.size = size;
	kept_commit(&header->take.at, header->current);
	return fdpass_take_noted(&header->take.note, c->sock, c->in + c->have, size);
}

int kept_receive(struct vfu_connection *c, bool wait)
{
	bool with_fds;

	make_room(c);
	connection_begin_read(c);
	size_t room = VFU_MESSAGE_MAX - (c->have - c->at);
	ssize_t got = fdpass_look(c->sock, c->in + c->have, room, wait, &with_fds);
	if (got > 0 && with_fds) {
		got = fdpass_look_at_fds(c->sock, c->in + c->have, room, c->late.fds, &c->late.n);
		int error =
			got > 0 ? vfu_kept_put(c->kept, c->late.fds, c->late.n, &c->late.first) : 0;
		if (error < 0)
			return error;
	}
	if (got > 0)
		got = take(c, (size_t)got);
	if (got > 0)
		end_read(c, (size_t)got);
	return (int)got;
}

/*
 * Answering
 */

static bool was_sent(const struct vfu_kept_header *header, size_t *bytes)
{
	return header->send.at == header->current && fdpass_noted(&header->send.note, bytes);
}

ssize_t kept_send(struct vfu_connection *c, int fd)
{
	struct vfu_kept_header *header = header_of(c);
	size_t bytes;

	if (was_sent(header, &bytes))
		commit(c, c->session.function);
	fdpass_note_clear(&header->send.note);
	kept_commit(&header->send.at, header->current);
	return fdpass_send_noted(
		&header->send.note, c->sock, c->out + c->sent, c->reply.size - c->sent, fd);
}

void kept_handled(struct vfu_connection *c, const struct vfu_request *request, uint64_t first)
{
	const struct vfu_function *function = c->session.function;

	if (request->header.command == VFU_SET_IRQS)
		vfu_kept_note_irqs(c->kept, &function->irqs, request->fds, request->n_fds, first);
	vfu_kept_loosen(c->kept, first, request->n_fds);
	commit(c, function);
}

/*
 * Going on
 */

static int take_held(struct vfu_connection *c, struct held *held, const struct vfu_kept_fds *fds,
	struct vfu_why *why)
{
	int error = vfu_kept_take_fds(c->kept, fds->first, fds->n, held->fds, why);

	held->first = fds->first;
	held->owner = fds->owner;
	held->n = error < 0 ? 0 : fds->n;
	return error;
}

static int restore_input(
	struct vfu_connection *c, const struct vfu_kept_block *block, struct vfu_why *why)
{
	const struct vfu_kept_take *taken = &header_of(c)->take;
	const struct vfu_kept_fds fds = {.first = taken->first, .n = (uint32_t)taken->n};
	size_t bytes;

	c->at = block->at;
	c->have = block->have;
	int error = take_held(c, &c->early, &block->early, why);
	if (error == 0)
		error = take_held(c, &c->late, &block->late, why);
	if (error < 0 || !was_taken(header_of(c), &bytes))
		return error;
	if (c->at == c->have)
		c->at = c->have = vfu_kept_from(block);
	connection_begin_read(c);
	error = take_held(c, &c->late, &fds, why);
	if (error == 0)
		end_read(c, bytes);
	return error;
}

static int restore_reply(
	struct vfu_connection *c, const struct vfu_kept_block *block, struct vfu_why *why)
{
	size_t bytes;

	c->closing = block->closing;
	c->sent = block->reply_sent;
	c->reply = (struct vfu_reply){.bytes = c->out, .size = block->reply_size, .fd = -1};
	connection_sent(c, was_sent(header_of(c), &bytes) ? bytes : 0);
	if (!block->reply_with_fd || c->sent > 0)
		return 0;
	c->reply.fd = c->session.function->memory.fd;
	if (c->reply.fd >= 0)
		return 0;
	snprintf(
		why->text, sizeof(why->text), "the memory that the VMM has asked for is not there");
	return -ENODEV;
}

int vfu_connection_resume(struct vfu_connection **connection, int sock,
	struct vfu_function *function, const char *name, struct log *log, struct vfu_why *why)
{
	struct vfu_kept *kept = function->kept;
	const struct vfu_kept_block block = *vfu_kept_current(&kept->state);
	struct vfu_connection *c = connection_make(sock, function, name, log);

	if (!c) {
		snprintf(why->text, sizeof(why->text), "out of memory");
		return -ENOMEM;
	}
	c->session.agreed = block.agreed;
	c->session.configured = block.configured;
	c->session.restarts = block.guest_restarts;
	int error = vfu_kept_restore(kept, function, why);
	if (error == 0)
		error = restore_input(c, &block, why);
	if (error == 0)
		error = restore_reply(c, &block, why);
	if (error < 0) {
		c->sock = -1; /* it stays the caller's */
		vfu_connection_destroy(c);
		return error;
	}
	const struct vfu_kept_block now = block_of(c);
	vfu_kept_go_on(kept, &now, function);
	*connection = c;
	return 0;
}
