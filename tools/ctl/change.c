/* SPDX-License-Identifier: MIT */
/* The commands that change something: create, remove, drain, evict, reload. */
#include "ctl.h"

#include "common/jsontext.h"
#include "common/options.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <inttypes.h>
#include <stdio.h>

/* Silence is success, but for programs there is what the server has said. */
static bool print_answer(void *data, json_t *parameters)
{
	const struct ctl *ctl = data;
	if (ctl->json)
		json_print_line(json_incref(parameters), stdout);
	return true;
}

static bool print_created(void *data, json_t *parameters)
{
	const struct ctl *ctl = data;
	json_t *region = json_object_get(parameters, "region");
	if (ctl->json)
		json_print_line(json_incref(region), stdout);
	else
		printf("%s\n", get_text(region, "socket"));
	return true;
}

int command_create(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	json_object_set_new(ctl->spec, "name", json_text(arguments[0]));
	return ctl_call(ctl, "CreateRegion", json_pack("{s:O}", "spec", ctl->spec), false,
		print_created, ctl);
}

int command_remove(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	return ctl_call(ctl, "RemoveRegion",
		json_pack("{s:o, s:b}", "name", json_text(arguments[0]), "force", (int)ctl->force),
		false, print_answer, ctl);
}

static bool print_drained(void *data, json_t *parameters)
{
	const struct ctl *ctl = data;
	if (ctl->json || ctl->off)
		return print_answer(data, parameters);
	printf("peers that are still in: %" PRId64 "\n", get_number(parameters, "peers"));
	return true;
}

int command_drain(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	return ctl_call(ctl, "DrainRegion",
		json_pack("{s:o, s:b}", "name", json_text(arguments[0]), "on", (int)!ctl->off),
		false, print_drained, ctl);
}

int command_evict(struct ctl *ctl, int n, char **arguments)
{
	const char *peer = arguments[1];
	bool by_serial = peer[0] == '@';
	uint64_t value;

	(void)n;
	if (parse_uint(peer + by_serial, by_serial, by_serial ? INT64_MAX : IVSHMEM_MAX_ID,
		    &value) < 0) {
		fprintf(stderr, CTL_PROGRAM ": %s: give a peer's ID, or @ and its serial number\n",
			peer);
		return EXIT_USAGE;
	}
	json_t *parameters = json_pack("{s:o, s:I}", "region", json_text(arguments[0]),
		by_serial ? "serial" : "id", (json_int_t)value);
	if (ctl->reason)
		json_object_set_new(parameters, "reason", json_text(ctl->reason));
	return ctl_call(ctl, "EvictPeer", parameters, false, print_answer, ctl);
}

int command_reload(struct ctl *ctl, int n, char **arguments)
{
	(void)n;
	(void)arguments;
	return ctl_call(ctl, "Reload", NULL, false, print_answer, ctl);
}
