/* SPDX-License-Identifier: MIT */
/*
 * A peer that was given the region for reading and tries everything to change it.
 *
 *   attack-peer SOCKET VICTIM                  join, attack; print NAME=OUTCOME for each trick
 *   attack-peer --as-pid PID PROGRAM ARGUMENT...   run PROGRAM as process number PID (root)
 *
 * OUTCOME is the name of the error with which the trick was refused, or "done". VICTIM is the PID
 * of a process that may write. When all is tried it prints "end" and stays until its input ends.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PAGE 4096

static int region = -1;
static pid_t victim;
static const char mark[] = "attacked";

/* ---- joining ---- */

/* One message: a number, and a descriptor or -1. False at the end of the stream. */
static bool receive(int sock, int64_t *number, int *fd)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec bytes = {.iov_base = number, .iov_len = sizeof(*number)};
	struct msghdr message = {.msg_iov = &bytes,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};

	*fd = -1;
	if (recvmsg(sock, &message, MSG_WAITALL) != sizeof(*number))
		return false;
	const struct cmsghdr *header = CMSG_FIRSTHDR(&message);
	if (header && header->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(header), sizeof(*fd));
	return true;
}

static void join(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	int64_t version, id, minus_one;
	int none;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0 ||
		!receive(sock, &version, &none) || version != 0 || !receive(sock, &id, &none) ||
		!receive(sock, &minus_one, &region) || region < 0) {
		printf("not in\n");
		exit(1);
	}
	printf("id=%d\n", (int)id);
}

/* ---- tricks: -1 with errno, or something else if it worked ---- */

/* Write through a descriptor that should not allow it. */
static int use(int fd)
{
	if (fd < 0)
		return -1;
	return (int)pwrite(fd, mark, sizeof(mark), 0);
}

static int map(int protection, int flags, char **at)
{
	*at = mmap(NULL, PAGE, protection, flags, region, 0);
	return *at == MAP_FAILED ? -1 : 0;
}

static int reopen(const char *folder, int flags)
{
	char path[64];
	snprintf(path, sizeof(path), "%s/%d", folder, region);
	return open(path, flags);
}

static int by_write(void)
{
	return use(region);
}

static int by_mapping(void)
{
	char *at;
	if (map(PROT_READ | PROT_WRITE, MAP_SHARED, &at) < 0)
		return -1;
	memcpy(at, mark, sizeof(mark));
	return 0;
}

static int by_mprotect(void)
{
	char *at;
	if (map(PROT_READ, MAP_SHARED, &at) < 0 || mprotect(at, PAGE, PROT_READ | PROT_WRITE) < 0)
		return -1;
	memcpy(at, mark, sizeof(mark));
	return 0;
}

/* A copy of its own: allowed, and nobody else sees it. */
static int by_private_mapping(void)
{
	char *at;
	if (map(PROT_READ | PROT_WRITE, MAP_PRIVATE, &at) < 0)
		return -1;
	memcpy(at, mark, sizeof(mark));
	return 0;
}

static int by_own_memory_file(void)
{
	char *at;
	if (map(PROT_READ, MAP_SHARED, &at) < 0)
		return -1;
	int fd = open("/proc/self/mem", O_RDWR);
	return fd < 0 ? -1 : (int)pwrite(fd, mark, sizeof(mark), (off_t)(uintptr_t)at);
}

static int by_map_files(void)
{
	char *at, path[96];
	if (map(PROT_READ, MAP_SHARED, &at) < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx", (unsigned long)at,
		(unsigned long)at + PAGE);
	return use(open(path, O_RDWR));
}

static int by_reopening(void)
{
	return use(reopen("/proc/self/fd", O_RDWR));
}

static int by_reopening_write_only(void)
{
	return use(reopen("/dev/fd", O_WRONLY));
}

static int by_reopening_truncated(void)
{
	return reopen("/proc/thread-self/fd", O_RDONLY | O_TRUNC);
}

/* Root of a user namespace of its own may do much, but not with inodes of others. */
static int by_user_namespace(void)
{
	pid_t child = fork();
	if (child == 0) {
		errno = 0;
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0)
			use(reopen("/proc/self/fd", O_RDWR));
		_exit(errno);
	}
	int status;
	waitpid(child, &status, 0);
	errno = WEXITSTATUS(status);
	return errno ? -1 : 0;
}

static int by_ftruncate(void)
{
	return ftruncate(region, 0);
}

static int by_growing(void)
{
	return ftruncate(region, INT64_C(1) << 30);
}

static int by_hole(void)
{
	return fallocate(region, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, PAGE);
}

static int by_removing_pages(void)
{
	char *at;
	return map(PROT_READ, MAP_SHARED, &at) < 0 ? -1 : madvise(at, PAGE, MADV_REMOVE);
}

static int by_seal(void)
{
	return fcntl(region, F_ADD_SEALS, F_SEAL_WRITE);
}

static int by_fchmod(void)
{
	return fchmod(region, 0666);
}

static int by_chmod_of_link(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", region);
	return chmod(path, 0666);
}

static int by_fchown(void)
{
	return fchown(region, geteuid(), getegid());
}

static int by_attribute(void)
{
	return fsetxattr(region, "user.x", mark, sizeof(mark), 0);
}

static int by_inode_flags(void)
{
	int flags = FS_IMMUTABLE_FL;
	return ioctl(region, FS_IOC_SETFLAGS, &flags);
}

static int by_lease(void)
{
	return fcntl(region, F_SETLEASE, F_WRLCK);
}

static int by_link(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/dev/shm/attack-%d", (int)getpid());
	return linkat(region, "", AT_FDCWD, path, AT_EMPTY_PATH);
}

static int by_sendfile(void)
{
	int from = open("/proc/self/exe", O_RDONLY);
	return (int)sendfile(region, from, NULL, PAGE);
}

static int by_splice(void)
{
	int ends[2];
	loff_t at = 0;
	if (pipe(ends) < 0 || write(ends[1], mark, sizeof(mark)) < 0)
		return -1;
	return (int)splice(ends[0], NULL, region, &at, sizeof(mark), 0);
}

/* Take over a pipe's page that is the region's own, and write behind what was spliced. */
static int by_dirty_pipe(void)
{
	int ends[2];
	loff_t at = 0;
	char byte = 0;
	if (pipe(ends) < 0)
		return -1;
	for (int i = 0; i < 16 * PAGE; i++) { /* every buffer was once written to */
		if (write(ends[1], &byte, 1) != 1)
			return -1;
	}
	for (int i = 0; i < 16 * PAGE; i++) {
		if (read(ends[0], &byte, 1) != 1)
			return -1;
	}
	if (splice(region, &at, ends[1], NULL, 1, 0) != 1)
		return -1;
	return write(ends[1], mark, sizeof(mark)) < 0 ? -1 : 0;
}

/* ---- tricks by way of a process that may write ---- */

static int by_victims_descriptors(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)victim);
	DIR *folder = opendir(path);
	if (!folder)
		return -1;
	for (const struct dirent *entry; (entry = readdir(folder));)
		use(openat(dirfd(folder), entry->d_name, O_RDWR));
	closedir(folder);
	return 0;
}

static int by_victims_memory(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)victim);
	return open(path, O_RDWR);
}

static int by_taking_descriptors(void)
{
	int pidfd = (int)syscall(SYS_pidfd_open, victim, 0);
	if (pidfd < 0)
		return -1;
	int taken = -1;
	for (int fd = 0; fd < 64 && taken < 0; fd++)
		taken = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
	return taken;
}

static int by_ptrace(void)
{
	return (int)ptrace(PTRACE_ATTACH, victim, NULL, NULL);
}

static int by_writing_to_victim(void)
{
	char bytes[8] = "";
	struct iovec from = {bytes, sizeof(bytes)};
	struct iovec to = {(void *)bytes, sizeof(bytes)};
	return (int)process_vm_writev(victim, &from, 1, &to, 1, 0);
}

static int by_signal(void)
{
	return kill(victim, SIGKILL);
}

#define TRICK(function)                                                                            \
	{                                                                                          \
		.name = #function, .attempt = function                                             \
	}

static const struct {
	const char *name;
	int (*attempt)(void);
} tricks[] = {
	TRICK(by_write),
	TRICK(by_mapping),
	TRICK(by_mprotect),
	TRICK(by_private_mapping),
	TRICK(by_own_memory_file),
	TRICK(by_map_files),
	TRICK(by_reopening),
	TRICK(by_reopening_write_only),
	TRICK(by_reopening_truncated),
	TRICK(by_user_namespace),
	TRICK(by_ftruncate),
	TRICK(by_growing),
	TRICK(by_hole),
	TRICK(by_removing_pages),
	TRICK(by_seal),
	TRICK(by_fchmod),
	TRICK(by_chmod_of_link),
	TRICK(by_fchown),
	TRICK(by_attribute),
	TRICK(by_inode_flags),
	TRICK(by_lease),
	TRICK(by_link),
	TRICK(by_sendfile),
	TRICK(by_splice),
	TRICK(by_dirty_pipe),
	TRICK(by_victims_descriptors),
	TRICK(by_victims_memory),
	TRICK(by_taking_descriptors),
	TRICK(by_ptrace),
	TRICK(by_writing_to_victim),
	TRICK(by_signal),
};

static void attack(void)
{
	for (size_t i = 0; i < sizeof(tricks) / sizeof(tricks[0]); i++) {
		errno = 0;
		int result = tricks[i].attempt();
		printf("%s=%d\n", tricks[i].name, result < 0 ? errno : 0);
	}
}

/* ---- somebody else's PID ---- */

static int run_as_pid(pid_t pid, char **command)
{
	struct clone_args {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
			set_tid, set_tid_size;
	} args = {.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&pid, .set_tid_size = 1};
	int status;

	pid_t child = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	if (child == 0) {
		execv(command[0], command);
		_exit(127);
	}
	if (child < 0) {
		perror("clone3");
		return 1;
	}
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int main(int argc, char **argv)
{
	if (argc > 3 && strcmp(argv[1], "--as-pid") == 0)
		return run_as_pid(atoi(argv[2]), argv + 3);
	if (argc != 3)
		return 2;
	victim = atoi(argv[2]);
	join(argv[1]);
	attack();
	printf("end\n");
	fflush(stdout);
	char byte;
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
