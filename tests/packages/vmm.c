/* SPDX-License-Identifier: MIT */
/*
 * vmm - a virtual machine monitor with a guest that has an ivshmem device, as far as
 * ivshmem-device can tell.
 *
 *     vmm PATH
 *
 * Prints `"connected" "id": ID` once its guest has the device with two vectors and its memory is
 * announced, as a descriptor that the device has to take, and then
 * `"interrupt" "vector": V` for each. A line "int PEER VECTOR" on standard input rings that
 * doorbell; the end of it ends this. Exits with 1 as soon as the device does not answer, or not
 * rightly.
 *
 * It links with nothing of the project, and is written against docs/vfio-user.md.
 */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { VERSION = 1, DMA_MAP = 2, SET_IRQS = 8, REGION_READ = 9, REGION_WRITE = 10 };
enum { REGISTERS = 0, CONFIG = 7 };
enum { COMMAND = 4, MSIX_CONTROL = 0x42, IVPOSITION = 8, DOORBELL = 12 };
enum { MEMORY_AND_MASTER = 6, MSIX_ENABLE = 0x8000, MSIX = 2, EVENTFD_TRIGGER = 0x24 };
enum { VECTORS = 2, REPLY = 1 };
enum { READ = 1, WRITE = 2, MEMORY_SIZE = 1 << 20 };

struct header {
	uint16_t number, command;
	uint32_t size, flags, error;
};

struct access {
	struct header header;
	uint64_t offset;
	uint32_t region, count, value;
};

static int sock;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* Send `message`, whose size is in its header; its place then has the reply, of `size` bytes. */
static void ask(struct header *message, size_t size, const int *fds, size_t n_fds)
{
	static uint16_t number;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(VECTORS * sizeof(int))];
	} control = {.header = {.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS}};
	struct iovec iov = {.iov_base = message, .iov_len = message->size};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	message->number = ++number;
	if (n_fds > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = sizeof(control.space);
		control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
	}
	if (sendmsg(sock, &msg, MSG_NOSIGNAL) != (ssize_t)message->size)
		fail("sending");
	uint16_t command = message->command;
	if (recv(sock, message, size, MSG_WAITALL) != (ssize_t)size)
		fail("receiving");
	if (message->number != number || message->command != command || message->size != size ||
		message->flags != REPLY)
		fail("the reply is none, or an error");
}

static void say_hello(void)
{
	struct {
		struct header header;
		uint16_t major, minor;
		char json[256];
	} hello = {.header = {.command = VERSION, .size = sizeof(struct header) + 4}};

	/* What the device says of itself has no fixed length. */
	if (send(sock, &hello, hello.header.size, MSG_NOSIGNAL) != (ssize_t)hello.header.size ||
		recv(sock, &hello, sizeof(hello), 0) < (ssize_t)sizeof(struct header) ||
		hello.header.flags != REPLY)
		fail("version");
}

static uint32_t load(uint32_t region, uint64_t offset)
{
	struct access access = {
		.header = {.command = REGION_READ, .size = 32},
		.offset = offset,
		.region = region,
		.count = 4,
	};
	ask(&access.header, 36, NULL, 0);
	return access.value;
}

static void store(uint32_t region, uint64_t offset, uint32_t value, uint32_t size)
{
	struct access access = {
		.header = {.command = REGION_WRITE, .size = 32 + size},
		.offset = offset,
		.region = region,
		.count = size,
		.value = value,
	};
	ask(&access.header, 32, NULL, 0);
}

static void announce_memory(void)
{
	struct {
		struct header header;
		uint32_t argsz, flags;
		uint64_t offset, address, size;
	} map = {{.command = DMA_MAP, .size = 48}, 32, READ | WRITE, 0, 0, MEMORY_SIZE};
	int memory = memfd_create("guest", 0);

	if (memory < 0 || ftruncate(memory, MEMORY_SIZE) < 0)
		fail("memory");
	ask(&map.header, 16, &memory, 1);
}

static void set_vectors(const int *fds)
{
	struct {
		struct header header;
		uint32_t argsz, flags, index, start, count;
	} set = {{.command = SET_IRQS, .size = 36}, 20, EVENTFD_TRIGGER, MSIX, 0, VECTORS};

	ask(&set.header, 16, fds, VECTORS);
}

static void obey(void)
{
	unsigned peer, vector;
	char line[80];

	/* One line at a time comes from a test, and it waits for what that does. */
	if (!fgets(line, sizeof(line), stdin))
		exit(0);
	if (sscanf(line, "int %u %u", &peer, &vector) == 2)
		store(REGISTERS, DOORBELL, peer << 16 | vector, 4);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct pollfd polls[VECTORS + 2] = {{.fd = STDIN_FILENO, .events = POLLIN}};
	int fds[VECTORS];

	if (argc != 2)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
	strncpy(address.sun_path, argv[1], sizeof(address.sun_path) - 1);
	sock = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
		fail("connecting");
	say_hello();
	announce_memory();
	for (int vector = 0; vector < VECTORS; vector++)
		fds[vector] = eventfd(0, EFD_NONBLOCK);
	store(CONFIG, COMMAND, MEMORY_AND_MASTER, 2);
	set_vectors(fds);
	store(CONFIG, MSIX_CONTROL, MSIX_ENABLE, 2);
	printf("\"connected\" \"id\": %u\n", load(REGISTERS, IVPOSITION));

	for (int vector = 0; vector < VECTORS; vector++)
		polls[vector + 1] = (struct pollfd){.fd = fds[vector], .events = POLLIN};
	polls[VECTORS + 1] = (struct pollfd){.fd = sock, .events = POLLIN};
	while (poll(polls, VECTORS + 2, -1) > 0) {
		eventfd_t count;
		for (int vector = 0; vector < VECTORS; vector++) {
			if (eventfd_read(fds[vector], &count) == 0)
				printf("\"interrupt\" \"vector\": %d\n", vector);
		}
		if (polls[VECTORS + 1].revents)
			fail("nobody has asked, or the connection has ended");
		if (polls[0].revents)
			obey();
	}
	return 1;
}
