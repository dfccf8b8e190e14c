/* SPDX-License-Identifier: MIT */
/* The public interface as an application uses it: doorbells, waiting, loops, plain regions,
 * parameters. What the server may say: test_client.c. */
#include "../common/fdcheck.h"
#include "../common/headerpage.h"
#include "../common/scripted.h"

#include <ivshmem/peer.h>

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

#define REGION_SIZE 65536
#define N_BELLS     3

static struct scripted server;
static int region, bells[N_BELLS];
static unsigned interrupts[N_BELLS];
static uint64_t last_count;
static bool take_other; /* the callback asks for the other one's descriptor, of vectors 0 and 2 */

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	assert_ptr_equal(data, &server);
	assert_true(count > 0);
	interrupts[vector]++;
	last_count = count;
	if (take_other)
		assert_true(ivshmem_vector_fd(peer, 2 - vector) >= 0);
}

/* What every region of the host has. */
static const unsigned memory_caps = IVSHMEM_CAP_REGION_FD | IVSHMEM_CAP_FAST_REGION;

static const struct ivshmem_listener with_interrupts = {.interrupt = on_interrupt};

static long elapsed_ms(const struct timespec *since)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (long)(now.tv_sec - since->tv_sec) * 1000 + (now.tv_nsec - since->tv_nsec) / 1000000;
}

static long busy_us(void)
{
	struct timespec busy;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &busy);
	return (long)busy.tv_sec * 1000000 + busy.tv_nsec / 1000;
}

static bool readable(int fd)
{
	struct pollfd entry = {.fd = fd, .events = POLLIN};
	return poll(&entry, 1, 0) == 1;
}

/* Counts come as the kernel wrote them; an emulator of a big-endian machine does not swap them for
 * a descriptor that came over a socket. */
static void assert_count(uint64_t count, uint64_t expected)
{
	if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		assert_int_equal(count, expected);
	else
		assert_true(count > 0);
}

static int set_up(void **state)
{
	fdcheck_setup(state);
	region = scripted_region(REGION_SIZE);
	for (unsigned i = 0; i < N_BELLS; i++)
		bells[i] = scripted_bell();
	memset(interrupts, 0, sizeof(interrupts));
	take_other = false;
	return 0;
}

static int tear_down(void **state)
{
	close(region);
	for (unsigned i = 0; i < N_BELLS; i++)
		close(bells[i]);
	return fdcheck_teardown(state);
}

/* Peer 5 on a server of one other peer, 1, whose vectors are our own ones too: ringing it comes
 * back. `own` of the three own vectors have been sent. */
static struct ivshmem_peer *open_5(const struct ivshmem_listener *listener, int own, int read_only)
{
	const struct line lines[] = {{0, -1}, {5, -1}, {-1, region}, {1, bells[0]}, {1, bells[1]},
		{1, bells[2]}, {5, bells[0]}, {5, bells[1]}, {5, bells[2]}};
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;

	params.listener = listener;
	params.data = &server;
	params.read_only = read_only;
	server = (struct scripted){.lines = lines, .n_lines = (size_t)(6 + own)};
	scripted_start(&server);
	struct ivshmem_peer *peer = ivshmem_open(server.uri, &params);
	assert_non_null(peer);
	scripted_join(&server);
	return peer;
}

static void end(struct ivshmem_peer *peer)
{
	ivshmem_close(peer);
	scripted_stop(&server);
}

static void test_capabilities(void **state)
{
	uint64_t size;
	char zero = 0;
	(void)state;

	struct ivshmem_peer *peer = open_5(NULL, 3, 0);
	const unsigned all = IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_INTERRUPT | IVSHMEM_CAP_PEER_LIST |
		IVSHMEM_CAP_ID | IVSHMEM_CAP_WRITE | IVSHMEM_CAP_SEALED | IVSHMEM_CAP_REGION_FD |
		IVSHMEM_CAP_FAST_REGION;
	assert_int_equal(ivshmem_capabilities(peer), all);
	assert_int_equal(ivshmem_id(peer), 5);
	assert_int_equal(ivshmem_connected(peer), 1);
	assert_int_equal(lseek(ivshmem_region_fd(peer), 0, SEEK_END), REGION_SIZE);
	end(peer);

	/* The kernel refuses to read into memory that we may not write. */
	peer = open_5(NULL, 3, 1);
	assert_int_equal(ivshmem_capabilities(peer), all & ~(unsigned)IVSHMEM_CAP_WRITE);
	int zeros = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(zeros, ivshmem_region(peer, &size), 1), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(pwrite(region, &zero, 1, 0), 1);
	close(zeros);
	end(peer);
}

/* Rings merge; the count says how many; a full counter is a success. */
static void test_rings(void **state)
{
	uint64_t count = 0, nearly_full = UINT64_MAX - 1;
	struct ivshmem_peer *peer = open_5(NULL, 3, 0);
	(void)state;

	assert_int_equal(ivshmem_wait(peer, 2, 1000, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ivshmem_notify(peer, 1, 2), 0);
	assert_int_equal(ivshmem_notify(peer, 5, 0), 0);
	assert_int_equal(ivshmem_wait(peer, 2, 0, &count), 1);
	assert_count(count, 3);
	assert_int_equal(ivshmem_wait(peer, 2, 0, &count), 0);
	assert_int_equal(ivshmem_wait(peer, 1, 0, &count), 0);
	assert_int_equal(ivshmem_wait(peer, 0, -1, &count), 1);
	assert_count(count, 1);

	assert_int_equal(write(bells[1], &nearly_full, 8), 8);
	assert_int_equal(ivshmem_notify(peer, 1, 1), 0);
	assert_int_equal(ivshmem_wait(peer, 1, 0, NULL), 1);

	assert_int_equal(ivshmem_notify(peer, 1, 3), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ivshmem_notify(peer, 2, 0), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(ivshmem_notify(peer, 70000, 0), -1);
	assert_int_equal(errno, ENOENT);
	end(peer);
}

static void test_wait_takes_its_time(void **state)
{
	struct ivshmem_peer *peer = open_5(NULL, 3, 0);
	struct timespec start;
	(void)state;

	/* More often than the spinning backs off. */
	for (int i = 0; i < 20; i++) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		assert_int_equal(ivshmem_wait(peer, 0, 20, NULL), 0);
		assert_true(elapsed_ms(&start) >= 19);
	}
	/* And almost never tries in vain: a try is 50 us, 500 of them would be 25 ms. Time in which
	 * a virtual machine itself has to wait is counted as ours now and then, so the best counts.
	 */
	long least = LONG_MAX;
	for (int round = 0; round < 10 && least >= 20000; round++) {
		long before = busy_us();
		for (int i = 0; i < 500; i++)
			assert_int_equal(ivshmem_wait(peer, 0, 1, NULL), 0);
		least = scripted_emulated() ? 0 : busy_us() - before;
	}
	assert_true(least < 20000);
	end(peer);
}

static void ignore(int sig)
{
	(void)sig;
}

static void test_signals_interrupt(void **state)
{
	const struct line lines[] = {{0, -1}, {5, -1}, {-1, region}, {5, bells[0]}};
	struct sigaction action = {.sa_handler = ignore}, old;
	struct itimerval soon = {.it_value.tv_usec = 50000, .it_interval.tv_usec = 50000},
			 off = {0};
	(void)state;

	/* A child in place of the thread: emulated threads do not survive signals (qemu-i386). */
	server = (struct scripted){.lines = lines, .n_lines = 4};
	scripted_listen(&server, 8);
	pid_t child = fork();
	if (child == 0) {
		scripted_play(&server);
		pause();
	}
	struct ivshmem_peer *peer = ivshmem_open(server.uri, NULL);
	assert_non_null(peer);
	assert_int_equal(ivshmem_wait(peer, 0, 50, NULL), 0);
	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &soon, NULL);
	assert_int_equal(ivshmem_wait(peer, 0, -1, NULL), -1);
	assert_int_equal(errno, EINTR);
	assert_int_equal(ivshmem_dispatch(peer, -1), -1);
	assert_int_equal(errno, EINTR);
	setitimer(ITIMER_REAL, &off, NULL);
	sigaction(SIGALRM, &old, NULL);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	end(peer);
}

static void *send_later(void *arg)
{
	(void)arg;
	usleep(20000);
	scripted_say(&server, 5, bells[0]);
	usleep(20000);
	const uint64_t one = 1;
	assert_int_equal(write(bells[0], &one, 8), 8);
	return NULL;
}

/* Waiting for a vector that is still to come, and may never come. */
static void test_wait_for_arrival(void **state)
{
	struct ivshmem_peer *peer = open_5(&with_interrupts, 0, 0);
	pthread_t thread;
	(void)state;

	assert_int_equal(ivshmem_wait(peer, 0, 0, NULL), 0);
	assert_int_equal(ivshmem_vector_fd(peer, 0), -1);
	assert_int_equal(errno, EAGAIN);
	pthread_create(&thread, NULL, send_later, NULL);
	assert_int_equal(ivshmem_wait(peer, 0, 20000, NULL), 1);
	pthread_join(thread, NULL);
	assert_int_equal(ivshmem_vectors(peer, 5), 1);
	assert_int_equal(ivshmem_vectors(peer, 1), 3);
	assert_int_equal(ivshmem_wait(peer, 1, 10, NULL), 0);
	assert_int_equal(ivshmem_wait(peer, 2048, 10, NULL), -1);
	assert_int_equal(errno, EINVAL);
	scripted_hang_up(&server);
	assert_int_equal(ivshmem_wait(peer, 1, 5000, NULL), -1);
	assert_int_equal(errno, ENOENT);
	assert_int_equal(ivshmem_connected(peer), 0);
	end(peer);
}

/* The loop is the caller's: get_fd() is readable when there is something to do, and not after. */
static void test_loop(void **state)
{
	struct ivshmem_peer *peer = open_5(&with_interrupts, 3, 0);
	int loop = ivshmem_get_fd(peer);
	(void)state;

	assert_true(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 0), 6);
	assert_false(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 0), 0);

	for (int i = 0; i < 5; i++)
		assert_int_equal(ivshmem_notify(peer, 1, 1), 0);
	assert_int_equal(ivshmem_notify(peer, 5, 2), 0);
	assert_true(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 1000), 2);
	assert_int_equal(interrupts[0] * 100 + interrupts[1] * 10 + interrupts[2], 11);
	assert_false(readable(loop));

	/* Half a message is no event: the time passes. */
	struct timespec start;
	clock_gettime(CLOCK_MONOTONIC, &start);
	scripted_raw(server.conn, "\2\0\0\0", 4, NULL, 0);
	assert_true(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 50), 0);
	assert_true(elapsed_ms(&start) >= 49);

	scripted_hang_up(&server);
	assert_true(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 1000), 1);
	assert_false(readable(loop));
	/* Doorbells go on. */
	assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
	assert_true(readable(loop));
	assert_int_equal(ivshmem_dispatch(peer, 1000), 1);
	assert_count(last_count, 1);
	assert_int_equal(ivshmem_get_fd(peer), loop);
	end(peer);
}

/* Who does not listen to interrupts keeps them for ivshmem_wait(). */
static void test_dispatch_leaves_doorbells(void **state)
{
	struct ivshmem_peer *peer = open_5(NULL, 3, 0);
	(void)state;

	assert_int_equal(ivshmem_dispatch(peer, 0), 6);
	assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
	assert_false(readable(ivshmem_get_fd(peer)));
	assert_int_equal(ivshmem_dispatch(peer, 0), 0);
	assert_int_equal(ivshmem_wait(peer, 0, 0, NULL), 1);
	end(peer);
}

static void test_vector_fd(void **state)
{
	struct ivshmem_peer *peer = open_5(&with_interrupts, 3, 0);
	uint64_t count;
	(void)state;

	assert_int_equal(ivshmem_dispatch(peer, 0), 6);
	int fd = ivshmem_vector_fd(peer, 1);
	assert_true(fd >= 0);
	assert_int_equal(ivshmem_vector_fd(peer, 1), fd);
	assert_int_equal(ivshmem_notify(peer, 1, 1), 0);
	assert_int_equal(ivshmem_notify(peer, 1, 2), 0);
	assert_int_equal(ivshmem_dispatch(peer, 0), 1);
	assert_int_equal(interrupts[1], 0);
	assert_true(readable(fd));
	assert_int_equal(read(fd, &count, 8), 8);

	/* Taken by the callback of one vector while the other is waiting for its turn. */
	interrupts[2] = 0;
	take_other = true;
	assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
	assert_int_equal(ivshmem_notify(peer, 1, 2), 0);
	assert_int_equal(ivshmem_dispatch(peer, 0), 1);
	assert_int_equal(interrupts[0] + interrupts[2], 1);
	assert_true(readable(bells[interrupts[0] ? 2 : 0]));
	end(peer);
}

/* The eventfds are shared by all: others may clear O_NONBLOCK, and steal. */
static void test_hostile_flags(void **state)
{
	(void)state;

	fcntl(bells[0], F_SETFL, 0);
	struct ivshmem_peer *peer = open_5(&with_interrupts, 3, 0);
	assert_int_equal(ivshmem_dispatch(peer, 0), 6);
	assert_true(fcntl(bells[0], F_GETFL) & O_NONBLOCK);

	fcntl(bells[0], F_SETFL, 0);
	alarm(20);
	assert_int_equal(ivshmem_wait(peer, 0, 50, NULL), 0);
	assert_int_equal(ivshmem_notify(peer, 1, 0), 0);
	assert_int_equal(ivshmem_wait(peer, 0, 50, NULL), 1);
	alarm(0);
	end(peer);
}

/* A descriptor that is no eventfd is a trap: a pipe that nobody reads would kill us by SIGPIPE when
 * we ring, a file cannot be waited for. The server broke the protocol. */
static void test_no_eventfd(void **state)
{
	(void)state;
	for (int id = 5; id < 8; id++) { /* our own and another's, and a file */
		struct ivshmem_peer *peer = open_5(&with_interrupts, 0, 0);
		int ends[2];

		assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
		close(ends[0]);
		assert_int_equal(ivshmem_dispatch(peer, 0), 3);
		scripted_say(&server, id == 7 ? 5 : id, id == 7 ? region : ends[1]);
		assert_int_equal(ivshmem_dispatch(peer, 1000), 1);
		close(ends[1]);
		assert_int_equal(ivshmem_connected(peer), 0);
		assert_int_equal(ivshmem_notify(peer, 6, 0), -1);
		assert_false(readable(ivshmem_get_fd(peer)));
		end(peer);
	}
}

static void assert_plain(const char *uri, unsigned capabilities)
{
	struct timespec start;
	uint64_t size;
	struct ivshmem_peer *peer = ivshmem_open(uri, NULL);
	assert_non_null(peer);
	assert_int_equal(ivshmem_capabilities(peer), capabilities);
	char *memory = ivshmem_region(peer, &size);
	assert_int_equal(size, 8192);
	memory[8191] = 'x';
	assert_int_equal(ivshmem_id(peer), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_peers(peer, NULL, 0), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_vectors(peer, 0), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_notify(peer, 0, 0), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_wait(peer, 0, 0, NULL), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_vector_fd(peer, 0), -1);
	assert_int_equal(errno, ENOTSUP);
	assert_int_equal(ivshmem_connected(peer), 0);
	assert_false(readable(ivshmem_get_fd(peer)));
	clock_gettime(CLOCK_MONOTONIC, &start);
	assert_int_equal(ivshmem_dispatch(peer, 30), 0);
	assert_true(elapsed_ms(&start) >= 29);
	errno = EXDEV;
	ivshmem_close(peer);
	assert_int_equal(errno, EXDEV);
}

static void test_plain_regions(void **state)
{
	char uri[64], name[32], byte;
	(void)state;

	snprintf(name, sizeof(name), "/ivshmem-test-%d", (int)getpid());
	int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 8192), 0);
	snprintf(uri, sizeof(uri), "shm:%s", name + 1);
	assert_plain(uri, memory_caps | IVSHMEM_CAP_WRITE);
	assert_int_equal(pread(fd, &byte, 1, 8191), 1);
	assert_int_equal(byte, 'x');
	snprintf(uri, sizeof(uri), "file:/dev/shm%s", name);
	assert_plain(uri, memory_caps | IVSHMEM_CAP_WRITE);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_null(ivshmem_open(uri, NULL));
	assert_int_equal(errno, EINVAL);
	shm_unlink(name);
	close(fd);
}

static void assert_open_fails(
	const char *uri, const struct ivshmem_params *with, int expected, const char *hint)
{
	char error[256] = "";
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	if (with)
		params = *with;
	params.error_text = error;
	params.error_size = sizeof(error);
	assert_null(ivshmem_open(uri, &params));
	assert_int_equal(errno, expected);
	if (!strstr(error, hint))
		fail_msg("%s: \"%s\" does not say \"%s\"", uri, error, hint);
}

static void test_uris(void **state)
{
	const char *const malformed[] = {"", "nothing", ":", ":/x", "unix:", "shm:", "Unix"};
	(void)state;

	for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++)
		assert_open_fails(
			malformed[i], NULL, i == 3 ? ENOENT : EINVAL, i == 3 ? "" : "unix:PATH");
	assert_open_fails("tcp:host", NULL, ENOTSUP, "unix:PATH");
	assert_open_fails("/nonexistent/socket", NULL, ENOENT, "-S /nonexistent/socket");
	assert_open_fails("./a:b", NULL, ENOENT, "./a:b");
	assert_open_fails(
		"region:no-such-region", NULL, ENOENT, "/run/ivshmem/no-such-region.sock");
	assert_open_fails("region:../x", NULL, EINVAL, "a-z");
	assert_open_fails("shm:ivshmem-no-such", NULL, ENOENT, "create it first");
	assert_open_fails("file:/nonexistent", NULL, ENOENT, "/nonexistent");
	assert_open_fails("file:/dev/null", NULL, EINVAL, "size above 0");
	assert_open_fails("file:/tmp", NULL, EISDIR, "/tmp");
}

static void test_params(void **state)
{
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	(void)state;

	params.map_limit = REGION_SIZE - 1;
	char uri[64];
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	assert_open_fails(uri, &params, EFBIG, "map_limit");
	params.map_limit++;
	struct ivshmem_peer *peer = ivshmem_open(uri, &params);
	assert_non_null(peer);
	assert_int_equal(
		ivshmem_capabilities(peer), memory_caps | IVSHMEM_CAP_WRITE | IVSHMEM_CAP_SEALED);
	ivshmem_close(peer);

	params.protocol = 2;
	assert_open_fails(uri, &params, EINVAL, "INIT");
	params.protocol = 0;

	/* A caller of the first version, and one of none: nobody knows where the text goes. */
	params.struct_size = offsetof(struct ivshmem_params, error_size) + sizeof(size_t);
	peer = ivshmem_open(uri, &params);
	assert_non_null(peer);
	ivshmem_close(peer);
	params.struct_size--;
	assert_null(ivshmem_open(uri, &params));
	assert_int_equal(errno, EINVAL);

	/* A caller from the future, who asks for nothing new, and one who does. */
	struct {
		struct ivshmem_params params;
		long more;
	} later = {.params.struct_size = sizeof(later)};
	peer = ivshmem_open(uri, &later.params);
	assert_non_null(peer);
	ivshmem_close(peer);
	later.more = 1;
	assert_null(ivshmem_open(uri, &later.params));
	assert_int_equal(errno, EINVAL);

	ivshmem_close(NULL);
	assert_non_null(strchr(ivshmem_version(), '.'));
}

/* ---- what the region says of itself ---- */

static void assert_no_identity(const struct ivshmem_peer *peer, int expected)
{
	struct ivshmem_identity identity = {.struct_size = sizeof(identity), .generation = 42};

	errno = 0;
	assert_int_equal(ivshmem_identity(peer, &identity), -1);
	assert_int_equal(errno, expected);
	assert_int_equal(identity.generation, 42);
}

static void test_identity(void **state)
{
	struct ivshmem_identity identity = {.struct_size = sizeof(identity)};
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	uint8_t page[HEADER_PAGE], uuid[16];
	char uri[64];
	(void)state;

	params.read_only = 1;
	snprintf(uri, sizeof(uri), "file:/proc/self/fd/%d", region);
	struct ivshmem_peer *peer = ivshmem_open(uri, &params);
	assert_non_null(peer);
	assert_no_identity(peer, ENODATA);

	header_page(page, "frames", 5);
	assert_int_equal(pwrite(region, page, sizeof(page), 0), sizeof(page));
	assert_int_equal(ivshmem_identity(peer, &identity), 0);
	assert_string_equal(identity.name, "frames");
	assert_int_equal(identity.generation, 5);
	assert_memory_equal(identity.uuid, memset(uuid, 0x0f, sizeof(uuid)), sizeof(uuid));

	/* It is read each time. */
	header_page(page, "frames", 6);
	assert_int_equal(pwrite(region, page, sizeof(page), 0), sizeof(page));
	assert_int_equal(ivshmem_identity(peer, &identity), 0);
	assert_int_equal(identity.generation, 6);
	assert_int_equal(pwrite(region, "x", 1, 4000), 1);
	assert_no_identity(peer, EBADMSG);
	header_word(page, 4, 2);
	header_seal(page);
	assert_int_equal(pwrite(region, page, sizeof(page), 0), sizeof(page));
	assert_no_identity(peer, EPROTONOSUPPORT);

	identity.struct_size--;
	errno = 0;
	assert_int_equal(ivshmem_identity(peer, &identity), -1);
	assert_int_equal(errno, EINVAL);
	ivshmem_close(peer);
}

#define PEER_TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PEER_TEST(test_signals_interrupt), /* before there are threads */
		PEER_TEST(test_capabilities),
		PEER_TEST(test_rings),
		PEER_TEST(test_wait_takes_its_time),
		PEER_TEST(test_wait_for_arrival),
		PEER_TEST(test_loop),
		PEER_TEST(test_dispatch_leaves_doorbells),
		PEER_TEST(test_vector_fd),
		PEER_TEST(test_hostile_flags),
		PEER_TEST(test_no_eventfd),
		PEER_TEST(test_plain_regions),
		PEER_TEST(test_uris),
		PEER_TEST(test_params),
		PEER_TEST(test_identity),
	};
	/* An emulator lacks the call, preadv2(), that this one rests on. */
	if (scripted_emulated())
		cmocka_set_skip_filter("test_hostile_flags");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
