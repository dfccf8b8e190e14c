/* SPDX-License-Identifier: MIT */
/* Every system call and allocation of a client's life fails once: nothing leaks, the application
 * is told, and the next client works. */
#include "../common/fdcheck.h"
#include "../common/scripted.h"
#include "fault.h"

#include <ivshmem/peer.h>

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static struct scripted server;

/* Two peers of two vectors, our own two, one peer leaves. Then wait for the client to go. */
static void serve(int region, const int bells[2])
{
	const struct line lines[] = {{0, -1}, {9, -1}, {-1, region}, {1, bells[0]}, {1, bells[1]},
		{2, bells[0]}, {2, bells[1]}, {9, bells[0]}, {9, bells[1]}, {1, -1}};
	char end;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		int conn = accept(server.listener, NULL, NULL);
		for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
			scripted_part(&server, conn, lines[i], SIZE_MAX);
		while (read(conn, &end, 1) > 0)
			;
		close(conn);
	}
}

struct seen {
	int joined, vectors, left, interrupts, lost;
};

static void on_joined(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer, (void)id;
	((struct seen *)data)->joined++;
}

static void on_vector(struct ivshmem_peer *peer, void *data, unsigned id, unsigned vectors)
{
	(void)peer, (void)id, (void)vectors;
	((struct seen *)data)->vectors++;
}

static void on_left(struct ivshmem_peer *peer, void *data, unsigned id)
{
	(void)peer, (void)id;
	((struct seen *)data)->left++;
}

static void on_interrupt(struct ivshmem_peer *peer, void *data, unsigned vector, uint64_t count)
{
	(void)peer, (void)vector, (void)count;
	((struct seen *)data)->interrupts++;
}

static void on_lost(struct ivshmem_peer *peer, void *data, int error)
{
	(void)peer, (void)error;
	((struct seen *)data)->lost++;
}

static int client_life(void *data)
{
	static const struct ivshmem_listener listener = {
		.peer_joined = on_joined,
		.vector_added = on_vector,
		.peer_left = on_left,
		.interrupt = on_interrupt,
		.server_lost = on_lost,
	};
	struct seen seen = {0};
	struct ivshmem_params params = IVSHMEM_PARAMS_INIT;
	char error[256] = "";
	(void)data;

	params.listener = &listener;
	params.data = &seen;
	params.error_text = error;
	params.error_size = sizeof(error);
	params.timeout_ms = 2000;
	struct ivshmem_peer *peer = ivshmem_open(server.uri, &params);
	if (!peer) {
		assert_int_not_equal(error[0], '\0');
		return -1;
	}
	uint32_t *words = ivshmem_region(peer, NULL);
	words[0]++;
	/* Whatever happens, the application hears of everything or of the loss. */
	for (int i = 0; i < 50 && !seen.left && !seen.lost; i++)
		ivshmem_dispatch(peer, 100);
	assert_true(seen.lost || (seen.joined == 2 && seen.vectors == 6));
	assert_true(seen.lost == !ivshmem_connected(peer));

	int rung = ivshmem_notify(peer, 9, 0);
	if (rung == 0)
		ivshmem_dispatch(peer, 100);
	int waited = -1;
	if (ivshmem_notify(peer, 2, 1) == 0)
		waited = ivshmem_wait(peer, 1, 100, NULL);
	int fd = ivshmem_vector_fd(peer, 1);
	ivshmem_close(peer);
	/* The doorbells outlive the runs, so one that was cut short may leave a ring behind. */
	bool right = rung == 0 && waited == 1 && fd >= 0 && seen.left == 1 && seen.interrupts > 0;
	return right ? 0 : -1;
}

static int plain_life(void *data)
{
	(void)data;
	struct ivshmem_peer *peer = ivshmem_open("file:/proc/self/exe",
		&(struct ivshmem_params){
			.struct_size = sizeof(struct ivshmem_params), .read_only = 1});
	if (!peer)
		return -1;
	int got = ivshmem_dispatch(peer, 0);
	ivshmem_close(peer);
	return got;
}

static void test_client(void **state)
{
	(void)state;
	unsigned faults = fault_sweep(client_life, NULL);
	print_message("%u calls failed one after the other\n", faults);
	assert_true(faults > 30);
}

static void test_plain(void **state)
{
	(void)state;
	assert_true(fault_sweep(plain_life, NULL) >= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(test_client), TEST(test_plain)};
	const int bells[2] = {scripted_bell(), scripted_bell()};
	int region = scripted_region(4096);

	scripted_listen(&server, 8);
	pid_t child = fork();
	if (child == 0)
		serve(region, bells);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	scripted_stop(&server);
	return failed;
}
