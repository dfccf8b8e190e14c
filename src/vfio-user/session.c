/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A request is answered in one step by one function, which either appends the payload of the reply
 * or returns an errno. Which errors are allowed is the point of docs/vfio-user.md, section 9: there
 * is a VMM that waits for ever for the rest of a reply that became an error, and one that prints a
 * line for each. So whatever a known VMM sends, a success is the answer.
 *
 * The client's JSON in VERSION is not read. It holds limits on what a server may send: descriptors
 * and data in a message (we send one and what was asked for), migration (we don't). There is
 * nothing in it that would change what we do.
 */
#include "vfio-user/session.h"

#include "base/clock.h"
#include "base/le.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Of the protocol: 0.1 is what Cloud Hypervisor speaks; QEMU speaks 0.0 and gets that. */
enum { MAJOR = 0, MINOR = 1 };

#define STRING_OF(text) #text
#define STRING(macro)   STRING_OF(macro)
static const char capabilities[] = "{\"capabilities\":{\"max_msg_fds\":" STRING(
	VFU_FDS_MAX) ",\"max_data_xfer_size\":" STRING(VFU_DATA_MAX) "}}";

/* May this VMM have another line in the log? */
static bool may_log(struct vfu_session *session, enum log_level level)
{
	unsigned held_back = 0;

	if (!session->log || level > session->log->level ||
		!log_allow(&session->limit, clock_ms(), &held_back))
		return false;
	if (held_back > 0)
		log_line(session->log, level, "%s: %u lines were left out", session->name,
			held_back);
	return true;
}

static size_t payload_size(const struct vfu_request *request)
{
	return request->header.size - VFU_HEADER_SIZE;
}

/* The fixed structure at the start of the payload. What follows it, some clients send more than
 * they need to, is left alone. */
static bool take(const struct vfu_request *request, void *out, size_t size)
{
	return vfu_take(request->payload, payload_size(request), out, size);
}

static int answer_version(
	struct vfu_session *session, const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_version version;

	if (session->agreed || !take(request, &version, sizeof(version)))
		return EINVAL;
	if (version.major != MAJOR)
		return EPROTONOSUPPORT;
	if (version.minor > MINOR)
		version.minor = MINOR;
	vfu_reply_add(reply, &version, sizeof(version));
	vfu_reply_add(reply, capabilities, sizeof(capabilities)); /* with its NUL: VMMs want it */
	session->agreed = true;
	if (may_log(session, LOG_LEVEL_INFO))
		log_info(session->log, "%s: the VMM speaks vfio-user %d.%u", session->name, MAJOR,
			version.minor);
	return 0;
}

/* The device does no DMA, so the guest's memory is none of its business: no mapping is made, none
 * is remembered, and taking away what was never there succeeds. */
static int answer_dma_map(const struct vfu_request *request)
{
	struct vfu_dma_map map;
	return take(request, &map, sizeof(map)) ? 0 : EINVAL;
}

static int answer_dma_unmap(const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_dma_unmap unmap;

	if (!take(request, &unmap, sizeof(unmap)))
		return EINVAL;
	vfu_reply_add(reply, &unmap, sizeof(unmap));
	return 0;
}

static int answer_info(const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_device_info info;

	if (!take(request, &info, sizeof(info)) || info.argsz < sizeof(info))
		return EINVAL;
	info = (struct vfu_device_info){
		.argsz = sizeof(info),
		.flags = VFU_DEVICE_PCI | VFU_DEVICE_RESET,
		.num_regions = VFU_REGIONS,
		.num_irqs = VFU_IRQS,
	};
	vfu_reply_add(reply, &info, sizeof(info));
	return 0;
}

static int answer_region_info(
	struct vfu_function *function, const struct vfu_request *request, struct vfu_reply *reply)
{
	const struct vfu_memory *memory = &function->memory;
	struct vfu_region_info info;

	if (!take(request, &info, sizeof(info)) || info.argsz < sizeof(info) ||
		info.index >= VFU_REGIONS)
		return EINVAL;
	info = (struct vfu_region_info){
		.argsz = sizeof(info),
		.index = info.index,
		.size = vfu_function_region_size(function, info.index),
	};
	if (info.size > 0)
		info.flags = VFU_REGION_READABLE | VFU_REGION_WRITABLE;
	if (info.index == IVSHMEM_BAR_MEMORY && memory->read_only)
		info.flags &= ~(uint32_t)VFU_REGION_WRITABLE;
	if (info.index == IVSHMEM_BAR_MEMORY && memory->fd < 0)
		function->trapped = true;
	if (info.index == IVSHMEM_BAR_MEMORY && !function->trapped) {
		info.flags |= VFU_REGION_MMAP;
		reply->fd = memory->fd;
	}
	vfu_reply_add(reply, &info, sizeof(info));
	return 0;
}

/* Doorbells without a message for each could be offered here, but no VMM asks. */
static int answer_region_io_fds(const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_region_io_fds io_fds;

	if (!take(request, &io_fds, sizeof(io_fds)) || io_fds.argsz < sizeof(io_fds) ||
		io_fds.index >= VFU_REGIONS)
		return EINVAL;
	io_fds = (struct vfu_region_io_fds){.argsz = sizeof(io_fds), .index = io_fds.index};
	vfu_reply_add(reply, &io_fds, sizeof(io_fds));
	return 0;
}

static int answer_irq_info(
	const struct vfu_irqs *irqs, const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_irq_info info;

	if (!take(request, &info, sizeof(info)) || info.argsz < sizeof(info) ||
		info.index >= VFU_IRQS)
		return EINVAL;
	info = (struct vfu_irq_info){
		.argsz = sizeof(info),
		.flags = vfu_irqs_flags(irqs, info.index),
		.index = info.index,
		.count = vfu_irqs_count(irqs, info.index),
	};
	vfu_reply_add(reply, &info, sizeof(info));
	return 0;
}

static int answer_set_irqs(struct vfu_irqs *irqs, struct vfu_request *request)
{
	struct vfu_set_irqs set;

	if (!take(request, &set, sizeof(set)) || set.argsz < sizeof(set))
		return EINVAL;
	size_t n_fds = request->n_fds;
	request->n_fds = 0; /* taken over */
	return -vfu_irqs_set(irqs, &set, request->payload + sizeof(set),
		payload_size(request) - sizeof(set), request->fds, n_fds);
}

/* I/O, memory or bus mastering in the command register. (VMMs write zeros there at a reset, and to
 * BARs whatever they like, so that is not the guest.) */
static bool is_enabled(struct vfu_function *function)
{
	uint8_t command[2];

	vfu_function_read(function, VFU_REGION_CONFIG, 4, command, sizeof(command));
	return load_le(command, sizeof(command)) & 7;
}

/* A device that is used and was never enabled has a guest that knows it from elsewhere. */
static void check_enabled(struct vfu_session *session, uint32_t region)
{
	if (session->configured || region >= IVSHMEM_PCI_BARS)
		return;
	session->configured = true;
	if (may_log(session, LOG_LEVEL_WARNING))
		log_warning(session->log,
			"%s: the guest uses the device without having enabled it. Was it migrated "
			"here? The device's state was not: reload the guest's driver",
			session->name);
}

static int answer_read(
	struct vfu_session *session, const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_region_access access;

	if (!take(request, &access, sizeof(access)) || access.count > VFU_DATA_MAX)
		return EINVAL;
	check_enabled(session, access.region);
	vfu_reply_add(reply, &access, sizeof(access));
	uint8_t *data = vfu_reply_add(reply, NULL, access.count);
	vfu_function_read(session->function, access.region, access.offset, data, access.count);
	return 0;
}

static int answer_write(
	struct vfu_session *session, const struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_region_access access;

	if (!take(request, &access, sizeof(access)))
		return EINVAL;
	check_enabled(session, access.region);
	vfu_reply_add(reply, &access, sizeof(access));
	/* With fewer data than announced there is nothing to write. */
	if (access.count <= payload_size(request) - sizeof(access))
		vfu_function_write(session->function, access.region, access.offset,
			request->payload + sizeof(access), access.count);
	if (access.region == VFU_REGION_CONFIG && !session->configured)
		session->configured = is_enabled(session->function);
	return 0;
}

static int answer_reset(struct vfu_session *session)
{
	/* The eventfds stay: a VMM sets up that of errors only once. */
	ivshmem_pci_reset(session->function->pci);
	/* A VMM resets more often than a machine is: only what a guest has used is worth a line. */
	if (session->configured) {
		session->restarts++;
		if (may_log(session, LOG_LEVEL_INFO))
			log_info(session->log, "%s: reset by the VMM: the guest starts anew",
				session->name);
	}
	session->configured = false;
	return 0;
}

/* 0 and the reply's payload, or an errno. Descriptors that it takes over it takes out of `request`.
 */
static int answer(struct vfu_session *session, struct vfu_request *request, struct vfu_reply *reply)
{
	struct vfu_function *function = session->function;

	switch ((enum vfu_command)request->header.command) {
	case VFU_VERSION:
		return answer_version(session, request, reply);
	case VFU_DMA_MAP:
		return answer_dma_map(request);
	case VFU_DMA_UNMAP:
		return answer_dma_unmap(request, reply);
	case VFU_GET_INFO:
		return answer_info(request, reply);
	case VFU_GET_REGION_INFO:
		return answer_region_info(function, request, reply);
	case VFU_GET_REGION_IO_FDS:
		return answer_region_io_fds(request, reply);
	case VFU_GET_IRQ_INFO:
		return answer_irq_info(&function->irqs, request, reply);
	case VFU_SET_IRQS:
		return answer_set_irqs(&function->irqs, request);
	case VFU_REGION_READ:
		return answer_read(session, request, reply);
	case VFU_REGION_WRITE:
		return answer_write(session, request, reply);
	case VFU_RESET:
		return answer_reset(session);
	case VFU_DMA_READ: /* only a server asks for these */
	case VFU_DMA_WRITE:
	case VFU_REGION_WRITE_MULTI: /* not offered in VERSION */
	case VFU_FEATURE:
	case VFU_MIG_DATA_READ:
	case VFU_MIG_DATA_WRITE:
		break;
	}
	return EOPNOTSUPP;
}

/* Is it a request, and one that may come now? 0 or an errno. */
static int check(struct vfu_session *session, const struct vfu_header *header)
{
	if (!session->function)
		return EBUSY;
	if ((header->flags & VFU_TYPE_MASK) != VFU_TYPE_COMMAND)
		return EINVAL; /* we have asked nothing */
	return session->agreed || header->command == VFU_VERSION ? 0 : EINVAL;
}

void vfu_session_init(struct vfu_session *session, struct vfu_function *function, const char *name,
	struct log *log)
{
	*session = (struct vfu_session){
		.function = function,
		.log = log,
		.limit = LOG_LIMIT_INIT(20),
		.name = name,
	};
}

static void log_failure(struct vfu_session *session, unsigned command, int error, bool refused)
{
	enum log_level level = refused ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG;

	if (!may_log(session, level))
		return;
	if (refused)
		log_line(session->log, level, "%s: a VMM was refused: %s", session->name,
			strerror(error));
	else
		log_line(session->log, level, "%s: request %u: %s", session->name, command,
			strerror(error));
}

enum vfu_outcome vfu_session_handle(
	struct vfu_session *session, const struct vfu_request *request, struct vfu_reply *reply)
{
	const struct vfu_header *header = &request->header;
	struct vfu_request rest = *request; /* with the descriptors that nobody has taken */
	int error = check(session, header);

	if (error == 0)
		error = answer(session, &rest, reply);
	for (size_t i = 0; i < rest.n_fds; i++)
		close(rest.fds[i]);
	vfu_reply_finish(reply, header, error);

	/* Without an agreement there is nothing more to say, and a VMM that doesn't know error
	 * replies waits for the rest of this one until the connection ends. */
	bool refused = !session->function || (header->command == VFU_VERSION && !session->agreed);
	if (error != 0)
		log_failure(session, header->command, error, refused);
	if (header->flags & VFU_NO_REPLY)
		return refused ? VFU_CLOSE : VFU_NOTHING;
	return refused ? VFU_SEND_AND_CLOSE : VFU_SEND;
}
