/* SPDX-License-Identifier: MIT */
/* What the command line of ivshmem-device says, checked and with the defaults filled in. */
#ifndef TOOLS_DEVICE_CONFIG_H
#define TOOLS_DEVICE_CONFIG_H

#include "control.h"

#include "common/options.h"
#include "daemon/listen.h"
#include "daemon/startup.h"

#include "vfio-user/device.h"

#include <stdbool.h>
#include <stddef.h>

/* One --device, or line of --devices. */
struct device_spec {
	struct listen_config listen;
	char socket_path[SOCKET_PATH_SIZE]; /* listen.path */
	struct vfu_device_config device;
	char name[64]; /* device.name */
	char *uri;     /* device.uri, owned */
	/* Create this shared memory object if it is missing, with device.size; NULL: don't. */
	char *create_shm;
};

struct config {
	struct startup_config startup;
	struct device_spec **devices;
	size_t n_devices;
	unsigned poll_us;
	struct control_config control;
	const char *user; /* NULL: stay who we are */
	bool sandbox;
	bool check; /* that was all: end */
};

/* Parse argv into `config`. 0, or -1 after having said on stderr what is wrong. */
int config_parse(struct config *config, int argc, char **argv);
void config_free(struct config *config);

/*
 * Parse KEY=VALUE,.., which stands at `where`, say "--device". 0, or -1 after having complained
 * with the help of `table`.
 */
int device_spec_parse(struct device_spec *spec, const struct option_table *table, const char *where,
	const char *argument);
void device_spec_fini(struct device_spec *spec);

#endif
