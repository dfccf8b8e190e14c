/* SPDX-License-Identifier: MIT */
#include "common/options.h"

#include "base/parse.h"

#include <ivshmem/abi.h>

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#define MAX_SECONDS  1000000
#define MS_PER_SCALE 1000

_Static_assert(sizeof(((struct sockaddr_un *)0)->sun_path) == SOCKET_PATH_SIZE, "as unix(7) says");

static int bad(const struct option_table *table, const char *option, const char *argument,
	const char *wanted)
{
	return options_complain(table, "%s %s: %s", option, argument, wanted);
}

int option_uint(const struct option_table *table, const char *option, const char *argument,
	uint64_t min, uint64_t max, uint64_t *value)
{
	if (parse_uint(argument, min, max, value) == 0)
		return 0;
	return options_complain(table, "%s %s: give a number from %llu to %llu", option, argument,
		(unsigned long long)min, (unsigned long long)max);
}

int option_size(
	const struct option_table *table, const char *option, const char *argument, uint64_t *bytes)
{
	int error = parse_size(argument, bytes);
	if (error == 0)
		return 0;
	if (error == -ERANGE)
		return bad(table, option, argument, "too large: sizes end at 16E");
	return bad(table, option, argument, "give a size in bytes, e.g. 65536, 64K, 4M, 1G");
}

int option_mode(const struct option_table *table, const char *option, const char *argument,
	mode_t min, mode_t max, mode_t *mode)
{
	char *end;
	unsigned long value = strtoul(argument, &end, 8);
	if (argument[0] < '0' || argument[0] > '7' || *end != '\0' || value < min || value > max)
		return bad(table, option, argument, "give a permission in octal, e.g. 0660");
	*mode = (mode_t)value;
	return 0;
}

/* A number for a user or group; not the last one, which chown(2) takes for "leave it". */
static int parse_id(const char *text, unsigned *id)
{
	uint64_t number;
	if (parse_uint(text, 0, UINT32_MAX - 1, &number) < 0)
		return -EINVAL;
	*id = (unsigned)number;
	return 0;
}

int option_owner(const struct option_table *table, const char *option, const char *argument,
	uid_t *uid, gid_t *gid)
{
	char name[128];
	const char *colon = strchr(argument, ':');
	size_t length = colon ? (size_t)(colon - argument) : strlen(argument);

	if (argument[0] == '\0')
		return bad(table, option, argument, "give USER, USER:GROUP or :GROUP");
	if (length >= sizeof(name))
		return bad(table, option, argument, "name too long");
	memcpy(name, argument, length);
	name[length] = '\0';
	if (length > 0) {
		const struct passwd *user = getpwnam(name);
		if (user)
			*uid = user->pw_uid;
		else if (parse_id(name, uid) < 0)
			return bad(table, option, argument, "no such user");
	}
	if (colon && colon[1] != '\0') {
		const struct group *group = getgrnam(colon + 1);
		if (group)
			*gid = group->gr_gid;
		else if (parse_id(colon + 1, gid) < 0)
			return bad(table, option, argument, "no such group");
	}
	return 0;
}

static bool has_scheme(const char *text)
{
	return text[strspn(text, "abcdefghijklmnopqrstuvwxyz")] == ':';
}

int option_socket(const struct option_table *table, const char *option, const char *argument,
	const char *hint, char path[SOCKET_PATH_SIZE])
{
	const char *given = argument;
	if (strncmp(argument, "region:", 7) == 0) {
		int error = socket_of_region(
			IVSHMEM_SOCKET_FOLDER, argument + 7, path, SOCKET_PATH_SIZE);
		if (error == 0)
			return 0;
		return bad(table, option, argument, "a region's name is [a-z0-9._-]{1,63}");
	}
	if (strncmp(argument, "unix:", 5) == 0)
		given = argument + 5;
	else if (has_scheme(argument))
		return options_complain(table, "%s %s: give a path, unix:PATH or region:NAME%s",
			option, argument, hint);
	int length = snprintf(path, SOCKET_PATH_SIZE, "%s", given);
	if (length == 0)
		return bad(table, option, argument, "choose a path for the socket");
	if (length >= SOCKET_PATH_SIZE)
		return options_complain(table,
			"%s: a socket path has at most %d bytes, this one has %d: choose a shorter "
			"one",
			option, SOCKET_PATH_SIZE - 1, length);
	return 0;
}

int parse_seconds(const char *text, int *ms)
{
	if (!isdigit((unsigned char)text[0]) || strpbrk(text, "xXeEpP"))
		return -EINVAL;
	char *end;
	double seconds = strtod(text, &end);
	if (*end != '\0')
		return -EINVAL;
	if (seconds > MAX_SECONDS)
		return -ERANGE;
	int whole = (int)(seconds * MS_PER_SCALE);
	*ms = whole + (whole < seconds * MS_PER_SCALE);
	return 0;
}
