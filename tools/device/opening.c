/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A device is there for the next process if and only if the memory of its state is held: that is
 * put last. Killed before, we leave parts of something that nobody has seen; they are let go, but
 * for the listening socket, where somebody may be waiting. From then on every part must be there
 * and fit our options, or we do not start: a device that is taken over as another one would be
 * pulled out from under its guest. So nothing is let go then, and the operator can start us with
 * the options that fit.
 *
 * The memory of a device without a server is held, too: by its name there could be another one
 * meanwhile, and the guest has mapped this.
 */
#include "opening.h"

#include "holding.h"
#include "relay.h"

#include "daemon/startup.h"

#include "base/parse.h"
#include "region/region.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define URI_SIZE 40

/* ---- parts ---- */

/* What an earlier process has put: 1; 0: nothing; -errno, and this has been said. */
static int take(const struct slot *slot, const char *part, int *fd)
{
	int taken = holding_take(slot->holding, part, slot->name, 0, fd, 1);
	if (taken < 0)
		log_error(slot->log, "%s: cannot take what is held as %s: %s", slot->name, part,
			strerror(-taken));
	return taken;
}

static int put(const struct slot *slot, const char *part, int fd)
{
	int error = holding_put(slot->holding, part, slot->name, 0, &fd, 1);
	if (error < 0)
		log_error(slot->log, "%s: cannot have its %s held: %s", slot->name, part,
			strerror(-error));
	return error;
}

/* ---- the region ---- */

/* The reason without the option of ivshmem-server that it names first: ours is another. */
static const char *without_option(const char *text)
{
	const char *rest = text[0] == '-' ? strstr(text, ": ") : NULL;
	return rest ? rest + 2 : text;
}

/* Created once and left there: the memory outlives its devices. */
static int create_shm(const struct device_spec *spec, struct log *log)
{
	const struct region_config config = {
		.kind = REGION_SHM,
		.name = spec->create_shm,
		.size = spec->device.size,
		.reuse = true,
		.reserve = REGION_DEFAULT_RESERVE,
		.numa_node = REGION_NUMA_ANY,
	};
	struct region region;
	struct region_error why;
	int error;

	do { /* until it is there by our doing, or by somebody's who was faster */
		error = region_create(&region, &config, &why);
		if (error == 0)
			error = region_publish(&region, &why);
		if (error < 0)
			region_fini(&region);
	} while (error == -EEXIST);
	if (error < 0) {
		log_error(log, "%s: shm=%s: %s", spec->name, spec->create_shm,
			without_option(why.text));
		return error;
	}
	free(region.name); /* nothing is left that region_fini() would remove */
	region.name = NULL;
	region_fini(&region);
	return 0;
}

static const char *after(const char *uri, const char *scheme)
{
	size_t size = strlen(scheme);
	return strncmp(uri, scheme, size) == 0 ? uri + size : NULL;
}

/* Memory without a server, to be held; -errno: whoever opens it next will say why. */
static int open_memory(const struct device_spec *spec)
{
	const char *shm = after(spec->uri, "shm:"), *file = after(spec->uri, "file:");
	bool read_only = spec->device.read_only;

	return shm ? region_open_shm(shm, read_only) : region_open_file(file, read_only);
}

/* The memory is opened by its descriptor, *fd, which is to be closed behind that. */
static int use_memory(struct slot *slot, const struct device_spec *spec, char *uri, int *fd)
{
	int taken = take(slot, "memory", fd);

	if (taken < 0)
		return taken;
	if (taken == 0) {
		if (spec->create_shm && create_shm(spec, slot->log) < 0)
			return -EIO; /* has been said */
		*fd = holding_holder(slot->holding) == KEEP_NOBODY ? -1 : open_memory(spec);
		if (*fd < 0)
			return 0;
		int error = put(slot, "memory", *fd);
		if (error < 0) {
			close(*fd);
			return error;
		}
	}
	snprintf(uri, URI_SIZE, "file:/proc/self/fd/%d", *fd);
	return 0;
}

/* ---- the server ---- */

struct relay_config slot_relay_config(const struct slot *slot)
{
	const struct vfu_device_config *device = &slot->spec->device;

	return (struct relay_config){
		.holding = slot->holding,
		.name = slot->name,
		.path = after(slot->spec->uri, "unix:"),
		/* Other peers' and the own vectors, as the device takes them, and the region. */
		.slots = device->max_fds / 2 + device->max_fds / 4 + 1,
		.timeout_ms = (int)device->timeout_ms,
		.log = slot->log,
	};
}

/* A device that waits for its server has no relay yet. */
static int use_relay(struct slot *slot, const struct device_spec *spec, char *uri)
{
	const struct relay_config config = slot_relay_config(slot);
	struct relay_error why = {0};

	int result = relay_resume(&slot->relay, &config, &why);
	if (result == 0 && !spec->device.late)
		result = relay_join(&slot->relay, &config, &why);
	if (result < 0) {
		log_error(slot->log, "%s: %s", slot->name, why.text);
		return result;
	}
	if (slot->relay)
		snprintf(uri, URI_SIZE, "fd:%d", relay_peer_fd(slot->relay));
	return 0;
}

/* ---- the device ---- */

static int make_device(struct slot *slot, struct device_spec *spec, const struct opening *opening)
{
	struct vfu_device_config config = spec->device;
	bool has_server = after(spec->uri, "unix:");
	char uri[URI_SIZE] = "";
	int fd = -1, error = 0;

	if (!has_server)
		error = use_memory(slot, spec, uri, &fd);
	else if (holding_holder(slot->holding) != KEEP_NOBODY)
		error = use_relay(slot, spec, uri);
	if (error < 0)
		return error;
	if (uri[0]) {
		config.uri = uri;
		config.late = false; /* it has come */
	}
	error = vfu_device_create(&slot->device, opening->board, &config, slot->log);
	if (fd >= 0)
		close(fd);
	return error;
}

static int listen_anew(struct slot *slot, const struct device_spec *spec)
{
	if (listener_open(&slot->listener, &spec->listen, slot->log) < 0)
		return -EIO; /* has been said */
	return put(slot, "listen", slot->listener.fd);
}

static int listen_for_vmms(struct slot *slot, const struct device_spec *spec)
{
	int fd;

	int taken = take(slot, "listen", &fd);
	if (taken < 0)
		return taken;
	if (taken == 0)
		return listen_anew(slot, spec);
	if (listener_adopt(&slot->listener, fd, spec->socket_path))
		return 0;
	if (!slot->is_new) {
		close(fd);
		log_error(slot->log, "%s: it does not listen on %s", slot->name, spec->socket_path);
		return -EINVAL;
	}
	listener_discard(fd);
	holding_drop(slot->holding, "listen", slot->name, 0);
	return listen_anew(slot, spec);
}

static int begin_state(struct slot *slot, const struct vfu_kept_identity *identity)
{
	const struct vfu_holder holder = holding_for(&slot->of);

	slot->state_size = vfu_kept_size(identity->vectors);
	int fd = holding_make_memory(&slot->state_size, &slot->state);
	if (fd < 0)
		return fd;
	int error = vfu_kept_create(&slot->kept, slot->state, identity, &holder);
	if (error == 0)
		error = put(slot, "device", fd);
	close(fd);
	return error;
}

static int keep_device(struct slot *slot, bool left)
{
	const struct vfu_holder holder = holding_for(&slot->of);
	struct vfu_kept_identity identity;
	struct vfu_why why;
	int error;

	if (holding_holder(slot->holding) == KEEP_NOBODY)
		return 0;
	vfu_device_identity(slot->device, &identity);
	if (left) {
		size_t size = vfu_kept_size(identity.vectors);
		if (size > slot->state_size)
			size = slot->state_size;
		error = vfu_kept_resume(&slot->kept, slot->state, size, &identity, &holder, &why);
		if (error < 0)
			log_error(slot->log, "%s: %s", slot->name, why.text);
	} else {
		error = begin_state(slot, &identity);
	}
	if (error < 0)
		return error;
	vfu_device_keep(slot->device, slot->kept);
	slot->next_number = vfu_kept_attached(slot->kept) + 1;
	return 0;
}

static int open_parts(
	struct slot *slot, struct device_spec *spec, const struct opening *opening, bool left)
{
	int error = make_device(slot, spec, opening);
	if (error == 0)
		error = listen_for_vmms(slot, spec);
	if (error == 0)
		error = keep_device(slot, left);
	return error;
}

int slot_open(struct slot *slot, struct device_spec *spec, const struct opening *opening)
{
	spec->device.max_fds = opening->max_fds;
	*slot = (struct slot){
		.name = spec->name,
		.spec = spec,
		.holding = opening->holding,
		.listener = LISTENER_INIT,
		.spin_ns = opening->spin_ns,
		.resample_fd = -1,
		.next_number = 1,
		.log = opening->log,
	};
	slot->of = (struct holding_of){.holding = slot->holding, .device = slot->name};
	int left = holding_take_memory(
		slot->holding, "device", slot->name, &slot->state, &slot->state_size);
	slot->is_new = left == 0;
	if (slot->is_new)
		holding_forget_parts(slot->holding, slot->name);
	if (left >= 0 && open_parts(slot, spec, opening, left) == 0)
		return 0;
	if (left != 0)
		log_error(slot->log,
			"cannot go on with what an earlier process has left of %s; it stays held",
			slot->name);
	slot_close(slot);
	return left == 0 ? EXIT_STARTUP : EXIT_STATE;
}

void slot_forget(struct slot *slot)
{
	struct holding *holding = slot->holding;

	holding_drop(holding, "device", slot->name, 0);
	holding_drop(holding, "listen", slot->name, 0);
	holding_drop(holding, "memory", slot->name, 0);
	relay_forget(slot->relay);
	slot->relay = NULL;
	listener_close(&slot->listener);
}

void slot_close(struct slot *slot)
{
	if (slot->is_new)
		slot_forget(slot);
	relay_close(slot->relay); /* first: or it would see its peer leave */
	vfu_device_destroy(slot->device);
	vfu_kept_destroy(slot->kept);
	holding_unmap(slot->state, slot->state_size);
	if (slot->listener.fd >= 0)
		close(slot->listener.fd);
}
