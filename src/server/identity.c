/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The kernel notes the credentials of whoever calls connect(), and they stay with the socket
 * whoever holds it later. User, groups and label come from there and cannot be wrong. The rest is
 * read from /proc by PID, and a PID can be somebody else's by now. So a pidfd is taken first and
 * asked last: as long as it says that its process lives, the PID was that process' all the time.
 *
 * Since Linux 6.5 the socket itself gives the pidfd, of the very process that connected. Before,
 * pidfd_open() gives one of whoever has the PID now, and what can be checked is that it runs as the
 * user who connected: what remains is that another process of the same user is taken for it.
 *
 * A text that does not fit is as unknown as one that cannot be read. Half of a path could match a
 * rule that the whole does not.
 */
#include "server/identity.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#if !defined(SO_PEERPIDFD) && !defined(__sparc__) && !defined(__hppa__)
#define SO_PEERPIDFD 77 /* headers older than Linux 6.5 lack it */
#endif

#define FILE_BYTES 8192 /* of a file in /proc that are looked at */

static void take_text(char out[IDENTITY_TEXT], const char *text, size_t length)
{
	if (length >= IDENTITY_TEXT)
		return;
	for (size_t i = 0; i < length; i++)
		out[i] = isascii((unsigned char)text[i]) && isprint((unsigned char)text[i])
			? text[i]
			: '?';
	out[length] = '\0';
}

/*
 * What the socket itself tells
 */

static void take_groups(struct identity *identity, const gid_t *groups, size_t n)
{
	identity->groups_cut = n > IDENTITY_MAX_GROUPS;
	identity->n_groups = (unsigned)(n < IDENTITY_MAX_GROUPS ? n : IDENTITY_MAX_GROUPS);
	memcpy(identity->groups, groups, identity->n_groups * sizeof(groups[0]));
}

/* The kernel gives all groups or none, and says how many bytes it wants: at most 256 KiB. */
static void learn_groups(int sock, struct identity *identity)
{
	gid_t few[IDENTITY_MAX_GROUPS];
	socklen_t size = sizeof(few);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, few, &size) == 0) {
		take_groups(identity, few, size / sizeof(few[0]));
		return;
	}
	identity->groups_cut = true;
	if (errno != ERANGE)
		return;
	gid_t *all = malloc(size);
	if (all && getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, all, &size) == 0)
		take_groups(identity, all, size / sizeof(all[0]));
	free(all);
}

static void learn_label(int sock, struct identity *identity)
{
	char label[IDENTITY_TEXT] = "";
	socklen_t size = sizeof(label);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERSEC, label, &size) == 0)
		take_text(identity->label, label, strnlen(label, size));
}

/*
 * What /proc tells
 */

/* At most size - 1 bytes, with a zero behind them; "" if it can't be read. */
static void read_file(int dir, const char *name, char *text, size_t size)
{
	size_t used = 0;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	while (fd >= 0 && used < size - 1) {
		ssize_t n = read(fd, text + used, size - 1 - used);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	if (fd >= 0)
		close(fd);
	text[used] = '\0';
}

/* The rest of the line that begins with `key`, without its end; NULL: none, or it was cut off. */
static const char *find_line(const char *text, const char *key, size_t *length)
{
	for (const char *end; (end = strchr(text, '\n')); text = end + 1) {
		if (strncmp(text, key, strlen(key)) == 0) {
			text += strlen(key);
			*length = (size_t)(end - text);
			return text;
		}
	}
	return NULL;
}

static void learn_executable(int dir, struct identity *identity)
{
	char path[IDENTITY_TEXT] = "";
	ssize_t length = readlinkat(dir, "exe", path, sizeof(path));

	if (length > 0)
		take_text(identity->executable, path, (size_t)length);
}

static void learn_cgroup(int dir, struct identity *identity)
{
	char text[FILE_BYTES] = "";
	size_t length;

	read_file(dir, "cgroup", text, sizeof(text));
	const char *path = find_line(text, "0::", &length);
	if (path)
		take_text(identity->cgroup, path, length);
	identity_machine_of_cgroup(identity->cgroup, identity->machine);
}

/* Where the security module labels processes but not sockets, as AppArmor long did. */
static void learn_label_of_process(int dir, struct identity *identity)
{
	char text[IDENTITY_TEXT + 1] = "";

	read_file(dir, "attr/current", text, sizeof(text));
	take_text(identity->label, text, strcspn(text, "\n"));
}

/* Does one of the four user IDs of the process say that it can have been `uid` that connected? */
static bool runs_as(int dir, uid_t uid)
{
	char text[FILE_BYTES];
	size_t length;

	read_file(dir, "status", text, sizeof(text));
	const char *line = find_line(text, "Uid:", &length);
	for (int i = 0; line && i < 4; i++) {
		char *end;
		unsigned long id = strtoul(line, &end, 10);
		if (end == line)
			break;
		if (id == uid)
			return true;
		line = end;
	}
	return false;
}

static bool lives(int pidfd)
{
	struct pollfd watch = {.fd = pidfd, .events = POLLIN};
	return poll(&watch, 1, 0) == 0;
}

/* A pidfd or -1. *exact: it is of the process that connected; else of whoever has its PID. */
static int pidfd_of_peer(int sock, pid_t pid, bool *exact)
{
	int pidfd = -1;

	*exact = false;
#ifdef SO_PEERPIDFD
	socklen_t size = sizeof(pidfd);
	*exact = getsockopt(sock, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0;
	if (*exact || errno != ENOPROTOOPT)
		return *exact ? pidfd : -1;
#endif
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static void learn_process(int sock, const char *proc, struct identity *identity)
{
	char path[256];
	bool exact;

	if (snprintf(path, sizeof(path), "%s/%d", proc, (int)identity->pid) >= (int)sizeof(path))
		return;
	int pidfd = pidfd_of_peer(sock, identity->pid, &exact);
	if (pidfd < 0)
		return;
	struct identity learnt = *identity;
	int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir >= 0 && (exact || runs_as(dir, identity->uid))) {
		learn_executable(dir, &learnt);
		learn_cgroup(dir, &learnt);
		if (learnt.label[0] == '\0')
			learn_label_of_process(dir, &learnt);
		if (lives(pidfd))
			*identity = learnt;
	}
	if (dir >= 0)
		close(dir);
	close(pidfd);
}

int identity_of_socket(int sock, const char *proc, struct identity *identity)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	*identity = (struct identity)IDENTITY_INIT;
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	if (cred.uid == (uid_t)-1)
		return -ENOTCONN;
	identity->uid = cred.uid;
	identity->gid = cred.gid;
	identity->pid = cred.pid;
	learn_groups(sock, identity);
	learn_label(sock, identity);
	if (cred.pid > 0)
		learn_process(sock, proc, identity);
	return 0;
}

bool identity_in_group(const struct identity *identity, gid_t gid)
{
	bool found = identity->gid == gid;
	for (unsigned i = 0; i < identity->n_groups && !found; i++)
		found = identity->groups[i] == gid;
	return found;
}

/*
 * Names of machines
 */

static int hex_digit(char c)
{
	const char *digits = "0123456789abcdef";
	const char *at = c != '\0' ? strchr(digits, c) : NULL;
	return at ? (int)(at - digits) : -1;
}

/* Undo systemd's escapes in `length` bytes. Bytes that are there now, or -1: not such a name. */
static ssize_t unescape(const char *text, size_t length, char out[IDENTITY_TEXT])
{
	size_t used = 0;

	for (size_t i = 0; i < length; i++) {
		char byte = text[i];
		if (byte == '\\') {
			if (length - i < 4 || text[i + 1] != 'x')
				return -1;
			int high = hex_digit(text[i + 2]);
			int low = hex_digit(text[i + 3]);
			if (high < 0 || low < 0)
				return -1;
			byte = (char)(high << 4 | low);
			i += 3;
		}
		out[used++] = byte; /* never longer than what it was, and that fits */
	}
	return (ssize_t)used;
}

/* libvirt calls its machines "qemu-NUMBER-NAME". */
static size_t libvirt_prefix(const char *name, size_t length)
{
	static const char driver[] = "qemu-";
	size_t at = sizeof(driver) - 1;

	if (length < at || memcmp(name, driver, at) != 0)
		return 0;
	size_t number = at;
	while (at < length && isdigit((unsigned char)name[at]))
		at++;
	return at > number && at + 1 < length && name[at] == '-' ? at + 1 : 0;
}

static bool ends_with(const char *text, size_t length, const char *end)
{
	size_t n = strlen(end);
	return length > n && memcmp(text + length - n, end, n) == 0;
}

/*
 * Only slices may stand above the scope: these and that are made by the system's manager alone. In
 * the control group of a service, a session or a container its owner makes groups of any name.
 */
void identity_machine_of_cgroup(const char *cgroup, char machine[IDENTITY_TEXT])
{
	static const char begin[] = "machine-", end[] = ".scope";
	char name[IDENTITY_TEXT];
	size_t length = 0;

	machine[0] = '\0';
	while (*cgroup == '/') {
		cgroup++;
		length = strcspn(cgroup, "/");
		if (!ends_with(cgroup, length, ".slice"))
			break;
		cgroup += length;
	}
	if (length >= IDENTITY_TEXT || strncmp(cgroup, begin, strlen(begin)) != 0 ||
		!ends_with(cgroup, length, end) || length <= strlen(begin) + strlen(end))
		return;
	ssize_t n = unescape(cgroup + strlen(begin), length - strlen(begin) - strlen(end), name);
	if (n <= 0)
		return;
	size_t skip = libvirt_prefix(name, (size_t)n);
	take_text(machine, name + skip, (size_t)n - skip);
}
