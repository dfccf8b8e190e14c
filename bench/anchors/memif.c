/* SPDX-License-Identifier: MIT */
/*
 * memif - packets of 64 bytes, 32 at a time, through DPDK's driver for FD.io's shared-memory packet
 * interface. Both sides copy: into the ring, out of the ring. No huge pages. The writer is this
 * program executed again: "memif SOCKET".
 */
#include "common.h"
#include "timing.h"

#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BURST    32
#define SIZE     64
#define START_MS 10000
#define WORD(x)                                                                                    \
	((char *)(uintptr_t)(x)) /* rte_eal_init() wants them writable, and writes nothing */

static struct rte_mempool *pool;

/* Starting waits for threads on the same CPU, by turning round: not for a real-time task. */
static int policy;
static struct sched_param priority;

static void be_ordinary(void)
{
	const struct sched_param none = {0};

	policy = sched_getscheduler(0);
	if (policy < 0 || sched_getparam(0, &priority) < 0 ||
		sched_setscheduler(0, SCHED_OTHER, &none) < 0)
		die("scheduler");
}

static void be_as_before(void)
{
	if (sched_setscheduler(0, policy, &priority) < 0)
		die("scheduler");
}

static void start(const char *role, const char *socket, int cpu)
{
	char device[160], core[16], prefix[32];
	struct rte_eth_conf conf = {0};

	snprintf(device, sizeof(device),
		"net_memif0,role=%s,socket=%s,socket-abstract=no,rsize=10,bsize=2048", role,
		socket);
	snprintf(core, sizeof(core), "%d", cpu);
	snprintf(prefix, sizeof(prefix), "ivshmem-bench-%d", getpid());
	char *arguments[] = {WORD("memif"), WORD("-l"), core, WORD("--no-huge"), WORD("-m"),
		WORD("64"), WORD("--no-pci"), WORD("--no-telemetry"), WORD("--file-prefix"), prefix,
		WORD("--log-level"), WORD("lib.*:error"), WORD("--vdev"), device, NULL};
	if (rte_eal_init(sizeof(arguments) / sizeof(arguments[0]) - 1, arguments) < 0)
		die("rte_eal_init");
	pool = rte_pktmbuf_pool_create("pool", 4095, 128, 0, 2176, SOCKET_ID_ANY);
	if (!pool || rte_eth_dev_configure(0, 1, 1, &conf) != 0 ||
		rte_eth_rx_queue_setup(0, 0, 1024, SOCKET_ID_ANY, NULL, pool) != 0 ||
		rte_eth_tx_queue_setup(0, 0, 1024, SOCKET_ID_ANY, NULL) != 0 ||
		rte_eth_dev_start(0) != 0)
		die("memif");
}

static void await_link(void)
{
	struct rte_eth_link link;

	for (int ms = 0; ms < START_MS; ms++) {
		if (rte_eth_link_get_nowait(0, &link) == 0 && link.link_status == RTE_ETH_LINK_UP)
			return;
		usleep(1000);
	}
	die("no link");
}

_Noreturn static void produce(const char *socket)
{
	static const char bytes[SIZE] = {1};
	struct rte_mbuf *packets[BURST];

	be_ordinary();
	start("client", socket, cpu_b());
	await_link();
	be_as_before();
	for (;;) {
		while (rte_pktmbuf_alloc_bulk(pool, packets, BURST) != 0)
			;
		for (int i = 0; i < BURST; i++) {
			memcpy(rte_pktmbuf_mtod(packets[i], void *), bytes, SIZE);
			packets[i]->data_len = SIZE;
			packets[i]->pkt_len = SIZE;
		}
		for (uint16_t done = 0; done < BURST;)
			done = (uint16_t)(done +
				rte_eth_tx_burst(0, 0, packets + done, (uint16_t)(BURST - done)));
	}
}

static void execute(void *socket)
{
	execl("/proc/self/exe", "memif", (char *)socket, (char *)NULL);
	die("execl");
}

static unsigned take(void *data)
{
	struct rte_mbuf *packets[BURST];
	const uint16_t n = rte_eth_rx_burst(0, 0, packets, BURST);

	(void)data;
	if (n > 0)
		rte_pktmbuf_free_bulk(packets, n);
	return n;
}

int main(int argc, char **argv)
{
	char socket[64];

	if (argc == 2)
		produce(argv[1]);
	pin(cpu_a());
	snprintf(socket, sizeof(socket), "/tmp/ivshmem-bench-memif.%d", getpid());
	be_ordinary();
	start("server", socket, cpu_a());
	be_as_before();
	test_begin();
	pid_t other = spawn(cpu_b(), execute, socket);
	await_link();
	while (take(NULL) == 0)
		usleep(1000); /* its threads are busy with the beginning */
	const double rate = rate_of(take, NULL, 64);
	reap(other);
	test_end();
	emit("memif.rate.32", rate, "messages/s");
	unlink(socket);
	_exit(0); /* rte_eal_cleanup() waits for the one that was killed */
}
