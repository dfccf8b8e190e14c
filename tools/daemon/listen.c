/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * A crash leaves the socket file behind, and the next bind() fails. Removing it is only right if
 * nobody listens there, and the only proof of that is to be refused: connect() gives ECONNREFUSED
 * on a stale socket and nothing else does. We knock with a datagram socket: a live stream server
 * answers that with EPROTOTYPE and does not get us for a peer that joins and leaves. Two servers
 * that start at once could each take the other's fresh socket for the stale one between the proof
 * and the bind(), so all this happens under a lock on the directory; a lock file would be one more
 * thing to leave behind.
 *
 * The permission is right before anybody can connect, by the umask at bind(); chmod() of the path
 * would follow a link that somebody with rights to the directory has put in its place meanwhile.
 */
#include "daemon/listen.h"

#include <ivshmem/abi.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG      4096 /* the kernel cuts it to net.core.somaxconn */
#define LOCK_TRIES   200
#define LOCK_WAIT_NS 10000000

static int lock_directory(const char *path)
{
	char copy[PATH_MAX];
	snprintf(copy, sizeof(copy), "%s", path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -1; /* bind() will say it better */
	/* Anybody can hold the lock of a public directory; wait two seconds, then go on without. */
	for (int i = 0; i < LOCK_TRIES && flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			break;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_WAIT_NS}, NULL);
	}
	return fd;
}

static int bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode)
{
	mode_t mask = umask(0777 & ~mode);
	int result = bind(fd, (const struct sockaddr *)address, sizeof(*address));
	int saved = errno;
	umask(mask);
	errno = saved;
	return result;
}

/* The path is taken. 0 if a stale socket was there and is gone now. */
static int remove_stale(
	const struct listen_config *config, const struct sockaddr_un *address, struct log *log)
{
	const char *path = config->path;
	struct stat st;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		log_error(log, "%s %s: a file of that name is in the way, and it is no socket",
			config->option, path);
		return -1;
	}
	int probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (probe < 0) {
		log_error(log, "socket: %m");
		return -1;
	}
	int connected = connect(probe, (const struct sockaddr *)address, sizeof(*address));
	int error = errno;
	close(probe);
	if (connected == 0 || error != ECONNREFUSED) {
		log_error(log,
			"%s %s: another %s is listening there: stop it or choose another path",
			config->option, path, config->what);
		return -1;
	}
	if (unlink(path) < 0) {
		log_error(log, "%s %s: cannot remove the stale socket: %m", config->option, path);
		return -1;
	}
	log_info(log, "removed the stale socket %s", path);
	return 0;
}

static int bind_path(int fd, const struct listen_config *config, const struct sockaddr_un *address,
	struct log *log)
{
	if (bind_with_mode(fd, address, config->mode) == 0)
		return 0;
	if (errno == EADDRINUSE) {
		if (remove_stale(config, address, log) < 0)
			return -1;
		if (bind_with_mode(fd, address, config->mode) == 0)
			return 0;
	}
	log_error(log, "%s %s: %m: choose a path in a directory that exists and is writable",
		config->option, config->path);
	return -1;
}

/* From here on the file is ours to remove. */
static int adjust_and_listen(
	struct listener *listener, const struct listen_config *config, struct log *log)
{
	struct stat st;
	const char *path = listener->path;

	if (lstat(path, &st) < 0) {
		log_error(log, "%s %s: %m", config->option, path);
		return -1;
	}
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	if ((config->uid != (uid_t)-1 || config->gid != (gid_t)-1) &&
		lchown(path, config->uid, config->gid) < 0) {
		log_error(log, "%s: cannot change the owner of %s: %m", config->owner_option, path);
		return -1;
	}
	if (listen(listener->fd, BACKLOG) < 0) {
		log_error(log, "%s %s: cannot listen: %m", config->option, path);
		return -1;
	}
	return 0;
}

/* region:NAME lives in a folder of its own, which an early start of the machine may lack. */
static int make_folder(const struct listen_config *config, struct log *log)
{
	const char *path = config->path;
	const size_t length = sizeof(IVSHMEM_SOCKET_FOLDER) - 1;

	if (strncmp(path, IVSHMEM_SOCKET_FOLDER, length) != 0 || path[length] != '/')
		return 0;
	if (mkdir(IVSHMEM_SOCKET_FOLDER, 0755) == 0 || errno == EEXIST)
		return 0;
	log_error(log,
		"%s: cannot make the folder " IVSHMEM_SOCKET_FOLDER
		": %m: let an administrator make it, or give a path",
		config->option);
	return -1;
}

int listener_open(struct listener *listener, const struct listen_config *config, struct log *log)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int result = -1;

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", config->path);
	*listener = (struct listener){.path = config->path};
	listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (listener->fd < 0) {
		log_error(log, "socket: %m");
		return -1;
	}
	if (make_folder(config, log) < 0) {
		listener_close(listener);
		return -1;
	}
	int lock = lock_directory(config->path);
	if (bind_path(listener->fd, config, &address, log) == 0) {
		result = adjust_and_listen(listener, config, log);
		if (result < 0)
			listener_close(listener);
	} else {
		close(listener->fd);
		listener->fd = -1;
	}
	if (lock >= 0)
		close(lock);
	return result;
}

/* The file is held by a descriptor while it is changed, so that no link can take its place. */
int listener_permit(const struct listener *listener, mode_t mode, uid_t uid, gid_t gid)
{
	char path[40];
	struct stat st;
	int error = 0;

	int fd = open(listener->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fstat(fd, &st) < 0 || st.st_dev != listener->device || st.st_ino != listener->inode)
		error = -ENOENT;
	else if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 || chmod(path, mode) < 0)
		error = -errno;
	close(fd);
	return error;
}

bool listener_name(int fd, char path[LISTENER_PATH_SIZE])
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	socklen_t size = sizeof(address), flag_size = sizeof(int);
	int listens = 0;

	_Static_assert(sizeof(address.sun_path) == LISTENER_PATH_SIZE, "any path fits");
	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0 ||
		address.sun_family != AF_UNIX ||
		getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size) < 0 || !listens)
		return false;
	memcpy(path, address.sun_path, LISTENER_PATH_SIZE);
	return path[0] != '\0' && memchr(path, '\0', LISTENER_PATH_SIZE);
}

bool listener_adopt(struct listener *listener, int fd, const char *path)
{
	char name[LISTENER_PATH_SIZE];
	struct stat st;

	if (!listener_name(fd, name) || strcmp(name, path) != 0 ||
		fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		return false;
	*listener = (struct listener){.fd = fd, .path = path};
	if (lstat(path, &st) == 0) {
		listener->device = st.st_dev;
		listener->inode = st.st_ino;
	}
	return true;
}

void listener_unlink(struct listener *listener)
{
	struct stat st;

	if (listener->inode != 0 && lstat(listener->path, &st) == 0 &&
		st.st_dev == listener->device && st.st_ino == listener->inode)
		unlink(listener->path);
	listener->device = listener->inode = 0;
}

void listener_close(struct listener *listener)
{
	if (listener->fd < 0)
		return;
	listener_unlink(listener);
	close(listener->fd);
	listener->fd = -1;
}

void listener_discard(int fd)
{
	char path[LISTENER_PATH_SIZE];
	struct listener listener;

	if (listener_name(fd, path) && listener_adopt(&listener, fd, path))
		listener_close(&listener);
	else
		close(fd);
}
