/* SPDX-License-Identifier: MIT */
/*
 * A VMM's messages, with descriptors, through framing, session and the real device core. Whatever
 * comes: each reply has the size that its header says and that its request must get, region
 * accesses never fail, an INTx that is high was told, and no descriptor is left behind.
 *
 * Input: first byte: bit 0 revision 0 with INTx instead of revision 1 with MSI-X, bit 1 VERSION is
 * still to come, bit 2 the device is taken. Then, for each message, a byte and the message as it
 * stands on the wire. The byte: bits 0..4 number of descriptors, bit 5 the last one is a pipe, bit
 * 6 a peer rings before it, bit 7 the resample descriptor is said to be readable.
 */
#include "vfio-user/session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INTX = 1, UNAGREED = 2, TAKEN = 4 };
enum { FDS = 0x1f, PIPE = 0x20, RING = 0x40, RESAMPLE = 0x80 };

static uint8_t memory[65536];
static int an_eventfd = -1, pipe_ends[2]; /* what the VMM's descriptors are copies of */
static const int memory_fd = 0;           /* only passed on */

static void ignore_ring(void *data, unsigned peer, unsigned vector)
{
	(void)data;
	(void)peer;
	(void)vector;
}

static void set_up(struct vfu_function *function, bool intx)
{
	const struct vfu_function_config config = {
		.revision = intx ? 0 : 1,
		.vectors = intx ? 0 : 5,
		.bar_size = sizeof(memory),
		.position = 3,
		.memory = {.address = memory, .size = sizeof(memory), .fd = memory_fd},
		.ring = ignore_ring,
	};
	if (an_eventfd < 0) {
		an_eventfd = eventfd(0, EFD_NONBLOCK);
		if (an_eventfd < 0 || pipe(pipe_ends) < 0)
			abort();
	}
	if (vfu_function_init(function, &config) < 0)
		abort();
}

static int lowest_free_fd(void)
{
	int fd = dup(an_eventfd);
	close(fd);
	return fd;
}

static void check_access(
	const struct vfu_request *request, const struct vfu_reply *reply, uint32_t error)
{
	struct vfu_region_access access;
	bool read = request->header.command == VFU_REGION_READ;

	if (!vfu_take(request->payload, request->header.size - VFU_HEADER_SIZE, &access,
		    sizeof(access)) ||
		(read && access.count > VFU_DATA_MAX)) {
		if (error != EINVAL)
			abort();
		return;
	}
	if (error != 0 || reply->size != 32 + (read ? access.count : 0) ||
		memcmp(reply->bytes + 16, &access, sizeof(access)) != 0)
		abort();
}

/* Size of a success' payload. */
static size_t payload_of(unsigned command)
{
	static const size_t sizes[] = {[VFU_VERSION] = 67,
		[VFU_DMA_UNMAP] = 24,
		[VFU_GET_INFO] = 16,
		[VFU_GET_REGION_INFO] = 32,
		[VFU_GET_REGION_IO_FDS] = 16,
		[VFU_GET_IRQ_INFO] = 16,
		[VFU_RESET] = 0};
	return command < sizeof(sizes) / sizeof(sizes[0]) ? sizes[command] : 0;
}

static void check_reply(const struct vfu_request *request, const struct vfu_reply *reply)
{
	struct vfu_header header;
	unsigned command = request->header.command;

	memcpy(&header, reply->bytes, sizeof(header));
	if (header.size != reply->size || header.id != request->header.id ||
		header.command != command)
		abort();
	if (header.error ? header.flags != 0x21 || header.size != 16 : header.flags != 1)
		abort();
	if (reply->fd >= 0 && (command != VFU_GET_REGION_INFO || reply->fd != memory_fd))
		abort();
	if (command == VFU_REGION_READ || command == VFU_REGION_WRITE)
		return;
	if (header.error == 0 && header.size != VFU_HEADER_SIZE + payload_of(command))
		abort();
	if ((command == 0 || command > VFU_RESET) && header.error == 0)
		abort();
}

static enum vfu_outcome one_message(struct vfu_session *session, const struct vfu_request *request)
{
	static uint8_t buffer[VFU_MESSAGE_MAX];
	struct vfu_reply reply;
	bool serving = session->agreed;

	vfu_reply_init(&reply, buffer);
	enum vfu_outcome outcome = vfu_session_handle(session, request, &reply);
	bool silent = request->header.flags & VFU_NO_REPLY;
	if (silent == (outcome == VFU_SEND || outcome == VFU_SEND_AND_CLOSE))
		abort();
	if (!session->function && outcome != VFU_CLOSE && outcome != VFU_SEND_AND_CLOSE)
		abort();
	if (serving && outcome != VFU_SEND && outcome != VFU_NOTHING)
		abort(); /* nothing that is framed ends an agreed connection */
	if (silent)
		return outcome;
	check_reply(request, &reply);
	bool access = request->header.command == VFU_REGION_READ ||
		request->header.command == VFU_REGION_WRITE;
	if (serving && access && (request->header.flags & VFU_TYPE_MASK) == VFU_TYPE_COMMAND) {
		struct vfu_header header;
		memcpy(&header, reply.bytes, sizeof(header));
		check_access(request, &reply, header.error);
	}
	return outcome;
}

static size_t make_fds(uint8_t what, int fds[VFU_FDS_MAX])
{
	size_t n = what & FDS;
	if (n > VFU_FDS_MAX)
		n = VFU_FDS_MAX;
	for (size_t i = 0; i < n; i++)
		fds[i] = dup(i == n - 1 && (what & PIPE) ? pipe_ends[1] : an_eventfd);
	return n;
}

static void check_intx(const struct vfu_irqs *irqs)
{
	if (irqs->intx >= 0 && !irqs->intx_masked && ivshmem_pci_line(irqs->pci))
		abort();
}

static void dialogue(struct vfu_session *session, struct vfu_function *function,
	const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		struct vfu_request request;
		int fds[VFU_FDS_MAX];
		uint8_t what = data[at++];

		if (vfu_frame(data + at, size - at, &request.header) != VFU_FRAME_WHOLE)
			return;
		if (what & RING)
			vfu_function_interrupt(function, what & 7);
		if (what & RESAMPLE)
			vfu_irqs_resampled(&function->irqs);
		check_intx(&function->irqs);
		request.payload = data + at + VFU_HEADER_SIZE;
		request.fds = fds;
		request.n_fds = make_fds(what, fds);
		enum vfu_outcome outcome = one_message(session, &request);
		check_intx(&function->irqs);
		if (outcome == VFU_CLOSE || outcome == VFU_SEND_AND_CLOSE)
			return;
		at += request.header.size;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vfu_function function;
	struct vfu_session session;

	if (size < 1)
		return 0;
	set_up(&function, data[0] & INTX);
	int free_fd = lowest_free_fd();
	vfu_session_init(&session, data[0] & TAKEN ? NULL : &function, "fuzz", NULL);
	session.agreed = !(data[0] & (UNAGREED | TAKEN));
	dialogue(&session, &function, data + 1, size - 1);

	vfu_function_release(&function); /* the next VMM */
	if (lowest_free_fd() != free_fd || ivshmem_pci_line(function.pci))
		abort();
	vfu_function_fini(&function);
	return 0;
}
