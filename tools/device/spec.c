/* SPDX-License-Identifier: MIT */
/*
 * A device as --device has it, or a line of a file: KEY=VALUE,... as QEMU writes it, a comma within
 * a value doubled.
 *
 * Theory of operation. First the text is cut into a value for each key, then each value is parsed,
 * then the combination is judged by the device's type. So a complaint is always about what the user
 * has written, whatever the order, and names the key and what to do.
 */
#include "config.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum key {
	KEY_SOCKET,
	KEY_TYPE,
	KEY_SERVER,
	KEY_MEMDEV,
	KEY_SHM,
	KEY_VECTORS,
	KEY_MSI,
	KEY_SIZE,
	KEY_LATE_SERVER,
	KEY_READONLY,
	KEY_SUBSYSTEM_ID,
	KEY_ID,
	KEYS,
};

static const char *const key_names[KEYS] = {
	[KEY_SOCKET] = "socket",
	[KEY_TYPE] = "type",
	[KEY_SERVER] = "server",
	[KEY_MEMDEV] = "memdev",
	[KEY_SHM] = "shm",
	[KEY_VECTORS] = "vectors",
	[KEY_MSI] = "msi",
	[KEY_SIZE] = "size",
	[KEY_LATE_SERVER] = "late-server",
	[KEY_READONLY] = "readonly",
	[KEY_SUBSYSTEM_ID] = "subsystem-id",
	[KEY_ID] = "id",
};

static const char *const type_names[] = {
	[VFU_DOORBELL] = "doorbell",
	[VFU_PLAIN] = "plain",
	[VFU_LEGACY] = "legacy",
};

/* While parsing. */
struct parser {
	struct device_spec *spec;
	const struct option_table *table;
	const char *where;  /* it stands, for complaints */
	char name[300];     /* where, and a key */
	char *text;         /* copy of the argument, cut into values */
	char *values[KEYS]; /* into `text`; NULL: not given */
};

static __attribute__((format(printf, 2, 3))) int complain(
	const struct parser *parser, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return options_complain(parser->table, "%s: %s", parser->where, text);
}

/* For complaints of others, until the next one. */
static const char *name_of(struct parser *parser, enum key key)
{
	snprintf(parser->name, sizeof(parser->name), "%s %s", parser->where, key_names[key]);
	return parser->name;
}

/* ---- cutting ---- */

/* Cut the first item, up to a single comma, off *rest; doubled commas in it become single ones. */
static char *cut_item(char **rest)
{
	char *item = *rest, *to = item, *from = item;

	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = '\0';
	return item;
}

static int add_item(struct parser *parser, char *item)
{
	char *value = strchr(item, '=');
	if (!value)
		return complain(parser, "'%s': give KEY=VALUE,KEY=VALUE..", item);
	*value++ = '\0';
	for (enum key key = 0; key < KEYS; key++) {
		if (strcmp(item, key_names[key]) != 0)
			continue;
		if (parser->values[key])
			return complain(parser, "%s= is given twice", item);
		if (*value == '\0')
			return complain(parser, "%s=: give a value", item);
		parser->values[key] = value;
		return 0;
	}
	return complain(parser,
		"there is no %s=: the keys are socket, type, server, memdev, shm, vectors, msi, "
		"size, "
		"late-server, readonly, subsystem-id and id (a comma in a value is written twice)",
		item);
}

/* ---- values ---- */

static int parse_switch(struct parser *parser, enum key key, bool *value)
{
	const char *text = parser->values[key];
	if (!text)
		return 0;
	*value = strcmp(text, "on") == 0;
	if (*value || strcmp(text, "off") == 0)
		return 0;
	return complain(parser, "%s=%s: give on or off", key_names[key], text);
}

static int parse_type(struct parser *parser)
{
	const char *text = parser->values[KEY_TYPE];
	for (size_t i = 0; text && i < sizeof(type_names) / sizeof(type_names[0]); i++) {
		if (strcmp(text, type_names[i]) == 0) {
			parser->spec->device.type = (enum vfu_device_type)i;
			return 0;
		}
	}
	if (!text)
		return complain(parser, "type= is missing: doorbell, plain or legacy");
	return complain(parser, "type=%s: give doorbell, plain or legacy", text);
}

/* As QEMU's own: what can stand in a command line and in a log line without marks around it. */
static int parse_id(struct parser *parser)
{
	const char *text = parser->values[KEY_ID];
	if (!text)
		return 0;
	size_t length = strlen(text);
	if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") !=
			length ||
		length >= sizeof(parser->spec->name))
		return complain(parser, "id=%s: up to 63 letters, digits and - . _", text);
	memcpy(parser->spec->name, text, length + 1);
	return 0;
}

static int parse_subsystem_id(struct parser *parser)
{
	const char *text = parser->values[KEY_SUBSYSTEM_ID];
	const char *digits = "0123456789abcdefABCDEF";

	if (!text)
		return 0;
	if (strspn(text, digits) == 4 && text[4] == ':' && strspn(text + 5, digits) == 4 &&
		text[9] == '\0') {
		parser->spec->device.subsystem_id =
			(uint32_t)(strtoul(text, NULL, 16) << 16 | strtoul(text + 5, NULL, 16));
		if (parser->spec->device.subsystem_id != 0)
			return 0;
	}
	return complain(parser,
		"subsystem-id=%s: give vendor and device, four hexadecimal digits each and not all "
		"0, as in 1af4:1100",
		text);
}

static int parse_numbers(struct parser *parser)
{
	const char *vectors = parser->values[KEY_VECTORS], *size = parser->values[KEY_SIZE];
	struct vfu_device_config *device = &parser->spec->device;
	uint64_t value = 1;

	if (vectors &&
		option_uint(parser->table, name_of(parser, KEY_VECTORS), vectors, 1,
			IVSHMEM_MAX_VECTORS, &value) < 0)
		return -1;
	device->vectors = (unsigned)value;
	if (!size)
		return 0;
	if (option_size(parser->table, name_of(parser, KEY_SIZE), size, &device->size) < 0)
		return -1;
	if (device->size < 4096 || next_power_of_two(device->size) != device->size)
		return complain(
			parser, "size=%s: a BAR's size is a power of two, at least 4K", size);
	return 0;
}

static int set_uri(struct parser *parser, const char *scheme, const char *rest)
{
	if (asprintf(&parser->spec->uri, "%s:%s", scheme, rest) < 0) {
		parser->spec->uri = NULL;
		return complain(parser, "no memory");
	}
	parser->spec->device.uri = parser->spec->uri;
	return 0;
}

static int set_server(struct parser *parser)
{
	char path[SOCKET_PATH_SIZE];
	if (option_socket(parser->table, name_of(parser, KEY_SERVER), parser->values[KEY_SERVER],
		    " (memory without a server: shm= or memdev=)", path) < 0)
		return -1;
	return set_uri(parser, "unix", path);
}

/* Where the memory comes from. The combination has been judged. */
static int set_source(struct parser *parser)
{
	const char *memdev = parser->values[KEY_MEMDEV], *shm = parser->values[KEY_SHM];

	if (memdev)
		return set_uri(parser, "file", memdev);
	if (!shm)
		return set_server(parser);
	if (parser->spec->device.size) {
		parser->spec->create_shm = strdup(shm);
		if (!parser->spec->create_shm)
			return complain(parser, "no memory");
	}
	return set_uri(parser, "shm", shm);
}

/* ---- combinations ---- */

/* `key` has no place on this device. */
static int refuse(struct parser *parser, enum key key, const char *why)
{
	if (!parser->values[key])
		return 0;
	return complain(parser, "%s=%s: %s", key_names[key], parser->values[key], why);
}

static int judge_doorbell(struct parser *parser)
{
	if (refuse(parser, KEY_MEMDEV, "a doorbell device has its server's memory: leave it out") <
			0 ||
		refuse(parser, KEY_SHM, "a doorbell device has its server's memory: leave it out") <
			0 ||
		refuse(parser, KEY_SIZE, "a doorbell device has its server's size: leave it out") <
			0 ||
		refuse(parser, KEY_LATE_SERVER,
			"a doorbell device has its ID from the start: start the server first, or "
			"take type=legacy") < 0)
		return -1;
	if (!parser->spec->device.msi)
		return refuse(parser, KEY_MSI,
			"a doorbell device has MSI-X only: take type=legacy for INTx");
	if (!parser->values[KEY_SERVER])
		return complain(
			parser, "type=doorbell needs server=PATH, the socket of an ivshmem-server");
	return 0;
}

static int judge_plain(struct parser *parser)
{
	if (refuse(parser, KEY_SERVER,
		    "a plain device has no server: take type=doorbell, or memdev= or shm=") < 0 ||
		refuse(parser, KEY_VECTORS, "a plain device has no interrupts: leave it out") < 0 ||
		refuse(parser, KEY_MSI, "a plain device has no interrupts: leave it out") < 0 ||
		refuse(parser, KEY_LATE_SERVER, "a plain device has no server: leave it out") < 0)
		return -1;
	if (!parser->values[KEY_MEMDEV] == !parser->values[KEY_SHM])
		return complain(parser,
			"type=plain needs memdev=PATH, a file, or shm=NAME, a POSIX shared memory "
			"object: one of the two");
	return parser->values[KEY_MEMDEV]
		? refuse(parser, KEY_SIZE, "with memdev= the file's size counts: leave it out")
		: 0;
}

static int judge_legacy(struct parser *parser)
{
	const struct vfu_device_config *device = &parser->spec->device;

	if (refuse(parser, KEY_MEMDEV, "a legacy device takes server= or shm=") < 0)
		return -1;
	if (!parser->values[KEY_SERVER] == !parser->values[KEY_SHM])
		return complain(parser,
			"type=legacy needs server=PATH, the socket of an ivshmem-server, or "
			"shm=NAME: one of the two");
	if (!device->late)
		return 0;
	if (!parser->values[KEY_SERVER])
		return complain(parser, "late-server=on needs server=");
	if (!device->size)
		return complain(parser,
			"late-server=on needs size=: the guest asks for it before there is a "
			"server");
	return 0;
}

static int judge(struct parser *parser)
{
	switch (parser->spec->device.type) {
	case VFU_DOORBELL:
		return judge_doorbell(parser);
	case VFU_PLAIN:
		return judge_plain(parser);
	case VFU_LEGACY:
		return judge_legacy(parser);
	}
	return -1;
}

static int parse_values(struct parser *parser)
{
	struct vfu_device_config *device = &parser->spec->device;

	if (!parser->values[KEY_SOCKET])
		return complain(parser, "socket= is missing: where the VMM connects");
	if (option_socket(parser->table, name_of(parser, KEY_SOCKET), parser->values[KEY_SOCKET],
		    "", parser->spec->socket_path) < 0)
		return -1;
	if (parse_type(parser) < 0 || parse_id(parser) < 0 || parse_numbers(parser) < 0 ||
		parse_subsystem_id(parser) < 0 || parse_switch(parser, KEY_MSI, &device->msi) < 0 ||
		parse_switch(parser, KEY_LATE_SERVER, &device->late) < 0 ||
		parse_switch(parser, KEY_READONLY, &device->read_only) < 0)
		return -1;
	if (judge(parser) < 0)
		return -1;
	return set_source(parser);
}

int device_spec_parse(struct device_spec *spec, const struct option_table *table, const char *where,
	const char *argument)
{
	struct parser parser = {
		.spec = spec, .table = table, .where = where, .text = strdup(argument)};
	int result = parser.text ? 0 : complain(&parser, "no memory");

	*spec = (struct device_spec){.device = {.msi = true}};
	for (char *rest = parser.text; rest && result == 0;)
		result = add_item(&parser, cut_item(&rest));
	if (result == 0)
		result = parse_values(&parser);
	free(parser.text);
	return result;
}

void device_spec_fini(struct device_spec *spec)
{
	free(spec->uri);
	free(spec->create_shm);
}
