/* SPDX-License-Identifier: MIT */
/*
 * swarm - many peers join a server at once, and every descriptor is checked by ringing it.
 *
 *     swarm -S PATH -p PEERS -n VECTORS [-f] [-s STALLED] [-H] [-t SECONDS]
 *
 *     -f  one process a peer (default: one process drains all sockets)
 *     -s  so many peers do not read until all others have the whole mesh
 *     -H  once the mesh is checked, stay until standard input ends
 *     -t  give up after so many seconds (default 120)
 *
 * Prints one line "whole peers=P ... " and exits with 0, or says what is wrong and exits with 1.
 *
 * Theory of operation
 *
 * Counting descriptors would not show one that is in the wrong place, and keeping N*N*V of them is
 * not possible (1000 peers with 4 vectors have 4 million). So each descriptor is used where it
 * stands: peer A rings vector k of peer B with the value tag(A, B, k) when it arrives, and closes
 * it. An eventfd adds up what is written to it; when everybody has the whole mesh, vector k of B
 * must hold the sum of tag(A, B, k) over all A, itself included. A descriptor that is missing,
 * doubled or swapped changes a sum. Rejected: comparing eventfd numbers from /proc/self/fdinfo,
 * which costs a file read each and trusts another interface than the one that peers use.
 *
 * It links with nothing of the project: it judges the server, and must not share its mistakes.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define IDS        65536u
#define TAG_BITS   40 /* 65536 of them still fit an eventfd */
#define READ_BATCH 64 /* messages of one peer before the next gets its turn */

enum stage { STAGE_CONNECT, STAGE_CHECK, STAGE_LEAVE, STAGE_COUNT };

static struct {
	struct sockaddr_un address;
	unsigned peers, vectors, stalled, seconds;
	bool forked, hold;
} opt = {.seconds = 120};

struct peer {
	int sock;           /* -1: not connected yet */
	int fd;             /* came with the bytes so far, or -1 */
	unsigned have;      /* bytes of the message so far */
	uint64_t messages;  /* complete ones */
	uint32_t id;        /* once messages >= 2 */
	uint32_t whole;     /* IDs of which all vectors have come, own one included */
	uint16_t *received; /* vectors, by ID */
	int *own;           /* own eventfds, received[id] of them */
	union {
		uint8_t bytes[8];
		uint64_t word;
	} in;
};

static uint64_t deadline_ms, rung;

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

#define fail(...)                                                                                  \
	do {                                                                                       \
		printf("swarm: " __VA_ARGS__);                                                     \
		printf("\n");                                                                      \
		exit(1);                                                                           \
	} while (0)

/* A value that tells which descriptor was rung: splitmix64 of the triple, cut, never 0. */
static uint64_t tag(uint64_t from, uint64_t to, uint64_t vector)
{
	uint64_t x = (from << 32 | to << 16 | vector) + UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return (x ^ x >> 31) >> (64 - TAG_BITS) | 1;
}

/* ---- messages ---- */

static void take_region(struct peer *peer, int64_t number, int fd)
{
	struct stat st;

	if (number != -1 || fd < 0)
		fail("peer %u: %lld where the region must be", peer->id, (long long)number);
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		fail("peer %u: the region has no size", peer->id);
	close(fd);
}

static void take_vector(struct peer *peer, uint32_t id, int fd)
{
	uint64_t value = tag(peer->id, id, peer->received[id]);

	if (peer->received[id] == opt.vectors)
		fail("peer %u: more than %u vectors of peer %u", peer->id, opt.vectors, id);
	if (write(fd, &value, sizeof(value)) != sizeof(value))
		fail("peer %u: ringing %u: %s", peer->id, id, strerror(errno));
	rung++;
	if (id == peer->id)
		peer->own[peer->received[id]] = fd;
	else
		close(fd);
	if (++peer->received[id] == opt.vectors)
		peer->whole++;
}

static void take_message(struct peer *peer, int64_t number, int fd)
{
	switch (peer->messages++) {
	case 0:
		if (number != 0 || fd >= 0)
			fail("version %lld", (long long)number);
		return;
	case 1:
		if (number < 0 || number >= IDS || fd >= 0)
			fail("own ID %lld", (long long)number);
		peer->id = (uint32_t)number;
		return;
	case 2:
		take_region(peer, number, fd);
		return;
	default:
		if (number < 0 || number >= IDS)
			fail("peer %u: number %lld", peer->id, (long long)number);
		if (fd < 0)
			fail("peer %u: told that %lld left", peer->id, (long long)number);
		take_vector(peer, (uint32_t)number, fd);
	}
}

/* Read what one message lacks. False: nothing there. */
static bool receive(struct peer *peer)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = {peer->in.bytes + peer->have, sizeof(peer->in) - peer->have};
	struct msghdr header = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	ssize_t got = recvmsg(peer->sock, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *cmsg;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (got <= 0)
		fail("peer %u: closed by the server after %llu messages: %s", peer->id,
			(unsigned long long)peer->messages, got ? strerror(errno) : "end");
	if (header.msg_flags & MSG_CTRUNC)
		fail("peer %u: descriptors cut off", peer->id);
	cmsg = CMSG_FIRSTHDR(&header);
	if (cmsg) {
		if (cmsg->cmsg_len != CMSG_LEN(sizeof(int)) || peer->have)
			fail("peer %u: descriptors not as they must be", peer->id);
		memcpy(&peer->fd, CMSG_DATA(cmsg), sizeof(int));
	}
	peer->have += (unsigned)got;
	if (peer->have == sizeof(peer->in)) {
		int fd = peer->fd;

		peer->have = 0;
		peer->fd = -1;
		take_message(peer, (int64_t)le64toh(peer->in.word), fd);
	}
	return true;
}

/* ---- joining ---- */

static struct peer *peers_create(unsigned count)
{
	struct peer *peers = calloc(count, sizeof(*peers));

	for (unsigned i = 0; peers && i < count; i++) {
		peers[i].sock = peers[i].fd = -1;
		peers[i].received = calloc(IDS, sizeof(*peers->received));
		peers[i].own = calloc(opt.vectors + 1, sizeof(*peers->own));
		if (!peers[i].received || !peers[i].own)
			fail("out of memory");
	}
	return peers;
}

/* False: the server's backlog is full, try later. */
static bool start_connect(struct peer *peer)
{
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (sock < 0)
		fail("socket: %s", strerror(errno));
	if (connect(sock, (struct sockaddr *)&opt.address, sizeof(opt.address)) < 0) {
		if (errno != EAGAIN)
			fail("connect: %s", strerror(errno));
		close(sock);
		return false;
	}
	peer->sock = sock;
	return true;
}

static bool is_whole(const struct peer *peer)
{
	return peer->messages >= 3 && (opt.vectors == 0 || peer->whole == opt.peers);
}

static void watch(int epoll, struct peer *peer)
{
	struct epoll_event event = {.events = EPOLLIN, .data.ptr = peer};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, peer->sock, &event) < 0)
		fail("epoll_ctl: %s", strerror(errno));
}

static void check_deadline(const struct peer *peers, unsigned count)
{
	if (now_ms() < deadline_ms)
		return;
	for (unsigned i = 0; i < count; i++)
		if (!is_whole(&peers[i]))
			fail("time is up: peer %u has %llu messages, %u of %u peers whole",
				peers[i].id, (unsigned long long)peers[i].messages, peers[i].whole,
				opt.peers);
	fail("time is up");
}

/* Serve the watched sockets until `want` of the `count` peers have the whole mesh. */
static void serve(int epoll, struct peer *peers, unsigned count, unsigned *connected, unsigned want)
{
	struct epoll_event events[64];
	unsigned whole = 0;

	while (whole < want || *connected < count) {
		int n;

		while (*connected < count && start_connect(&peers[*connected]))
			if ((*connected)++ >= opt.stalled)
				watch(epoll, &peers[*connected - 1]);
		n = epoll_wait(epoll, events, 64, *connected < count ? 1 : 1000);
		for (int i = 0; i < n; i++) {
			struct peer *peer = events[i].data.ptr;
			bool before = is_whole(peer);

			for (int batch = 0; batch < READ_BATCH && receive(peer); batch++)
				;
			whole += is_whole(peer) && !before;
		}
		check_deadline(peers, count);
	}
}

/* Join `count` peers, the first opt.stalled of which read only when the others are whole. */
static void join_all(struct peer *peers, unsigned count)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	unsigned connected = 0;

	serve(epoll, peers, count, &connected, count - opt.stalled);
	for (unsigned i = 0; i < opt.stalled; i++)
		watch(epoll, &peers[i]);
	serve(epoll, peers, count, &connected, opt.stalled);
	close(epoll);
}

/* Everybody has the whole mesh: nothing more may come, and the sums must be right. */
static void check_all(const struct peer *peers, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct peer *peer = &peers[i];
		struct pollfd more = {peer->sock, POLLIN, 0};

		if (poll(&more, 1, 0) != 0)
			fail("peer %u: a message too many", peer->id);
		for (unsigned vector = 0; vector < opt.vectors; vector++) {
			uint64_t expected = 0, value = 0;

			for (uint32_t id = 0; id < IDS; id++)
				if (peer->received[id])
					expected += tag(id, peer->id, vector);
			if (read(peer->own[vector], &value, sizeof(value)) < 0)
				fail("peer %u vector %u: %s", peer->id, vector, strerror(errno));
			if (value != expected)
				fail("peer %u vector %u was not rung by exactly all peers",
					peer->id, vector);
		}
	}
}

/* ---- one process, or one a peer ---- */

static void report(void)
{
	unsigned long long per_peer = (unsigned long long)opt.peers * opt.vectors;

	printf("whole peers=%u vectors=%u rung=%llu\n", opt.peers, opt.vectors,
		(unsigned long long)opt.peers * per_peer);
	fflush(stdout);
}

static void hold(void)
{
	char byte;

	while (opt.hold && read(STDIN_FILENO, &byte, 1) > 0)
		;
}

static int drain_main(void)
{
	struct peer *peers = peers_create(opt.peers);

	join_all(peers, opt.peers);
	check_all(peers, opt.peers);
	if (rung != (uint64_t)opt.peers * opt.peers * opt.vectors)
		fail("rang %llu descriptors", (unsigned long long)rung);
	report();
	hold();
	return 0;
}

/* The parent lets the children start each stage together: it closes gate[stage]. */
static int arrive[2], gate[STAGE_COUNT][2];

static void pass_gate(enum stage stage)
{
	char byte = 0;

	if (write(arrive[1], &byte, 1) != 1 || read(gate[stage][0], &byte, 1) != 0)
		_exit(1);
}

static int child_main(void)
{
	struct peer *peer = peers_create(1);

	for (int stage = 0; stage < STAGE_COUNT; stage++)
		close(gate[stage][1]);
	pass_gate(STAGE_CONNECT);
	join_all(peer, 1);
	pass_gate(STAGE_CHECK);
	check_all(peer, 1);
	pass_gate(STAGE_LEAVE);
	return 0;
}

/* Wait until all children are at the gate, or one has failed. */
static void await_arrival(void)
{
	unsigned arrived = 0;
	char bytes[256];

	while (arrived < opt.peers) {
		struct pollfd pfd = {arrive[0], POLLIN, 0};

		if (poll(&pfd, 1, 100) > 0) {
			ssize_t got = read(arrive[0], bytes, sizeof(bytes));

			arrived += got > 0 ? (unsigned)got : 0;
		} else if (waitpid(-1, NULL, WNOHANG) > 0) {
			fail("a peer's process has failed");
		}
		if (now_ms() > deadline_ms + 2000)
			fail("time is up: %u of %u processes are there", arrived, opt.peers);
	}
}

static void fork_peers(void)
{
	for (unsigned i = 0; i < opt.peers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			fail("fork: %s", strerror(errno));
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			exit(child_main());
		}
	}
}

static int fork_main(void)
{
	int failed = 0, status;

	if (pipe2(arrive, O_CLOEXEC) < 0)
		fail("pipe: %s", strerror(errno));
	for (int stage = 0; stage < STAGE_COUNT; stage++)
		if (pipe2(gate[stage], O_CLOEXEC) < 0)
			fail("pipe: %s", strerror(errno));
	fork_peers();
	for (int stage = 0; stage < STAGE_COUNT; stage++) {
		await_arrival();
		if (stage == STAGE_LEAVE) {
			report();
			hold();
		}
		close(gate[stage][1]);
	}
	while (wait(&status) > 0)
		failed |= status;
	return failed ? 1 : 0;
}

static unsigned number(const char *text)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (!*text || *end || value > IDS)
		fail("not a number that I can use: %s", text);
	return (unsigned)value;
}

static void parse(int argc, char **argv)
{
	int c;

	opt.address.sun_family = AF_UNIX;
	while ((c = getopt(argc, argv, "S:p:n:s:t:fH")) != -1) {
		switch (c) {
		case 'S':
			if (strlen(optarg) >= sizeof(opt.address.sun_path))
				fail("socket path too long");
			strcpy(opt.address.sun_path, optarg);
			break;
		case 'p':
			opt.peers = number(optarg);
			break;
		case 'n':
			opt.vectors = number(optarg);
			break;
		case 's':
			opt.stalled = number(optarg);
			break;
		case 't':
			opt.seconds = number(optarg);
			break;
		case 'f':
			opt.forked = true;
			break;
		case 'H':
			opt.hold = true;
			break;
		default:
			fail("usage: see the top of swarm.c");
		}
	}
	if (!*opt.address.sun_path || !opt.peers || opt.stalled > opt.peers ||
		(opt.forked && opt.stalled))
		fail("usage: see the top of swarm.c");
}

int main(int argc, char **argv)
{
	struct rlimit files;

	parse(argc, argv);
	deadline_ms = now_ms() + opt.seconds * UINT64_C(1000);
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	return opt.forked ? fork_main() : drain_main();
}
