/* SPDX-License-Identifier: MIT */
#include "vmm.h"

#include "anchors/common.h"

#include "vfio-user/message.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DEVICES_MAX 64
#define PCI_COMMAND 4
#define PCI_MEMORY  2              /* of the command register */
#define POLL_US     (char *)"1000" /* longer than any pause between two accesses */

static void socket_path(const struct board *board, int i, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s/device-%d",
		board->host->directory, i);
}

void board_start(struct board *board, const char *program, const struct host *host)
{
	static char *const ends[] = {PROCESS_READY, NULL};
	char *argv[2 * DEVICES_MAX + 6], **next = argv;

	board->host = host;
	*next++ = (char *)"ivshmem-device";
	for (int i = 0; i < board->count; i++) {
		struct sockaddr_un address;
		socket_path(board, i, &address);
		*next++ = (char *)"--device";
		if (asprintf(next++, "socket=%s,type=doorbell,server=unix:%s,vectors=1",
			    address.sun_path, host->socket) < 0)
			die("asprintf");
	}
	if (board->poll) {
		*next++ = (char *)"--poll-us";
		*next++ = POLL_US;
	}
	memcpy(next, ends, sizeof(ends));
	board->pid = process_start(program, argv, &(struct process_options){.cpu = board->cpu});
	for (int i = 0; i < board->count; i++)
		free(argv[2 * i + 2]);
}

void board_stop(struct board *board)
{
	process_kill(board->pid);
	for (int i = 0; i < board->count; i++) {
		struct sockaddr_un address;
		socket_path(board, i, &address);
		unlink(address.sun_path);
	}
}

/* Send `size` bytes, which are a message, and wait for the reply. */
static void request(int sock, struct vfu_header *message, size_t size)
{
	uint8_t reply[512];

	message->size = (uint32_t)size;
	if (send(sock, message, size, 0) != (ssize_t)size)
		die("sending a request");
	ssize_t got = recv(sock, reply, sizeof(reply), 0);
	if (got < VFU_HEADER_SIZE)
		die("receiving a reply");
	memcpy(message, reply, VFU_HEADER_SIZE);
	if (message->flags != VFU_TYPE_REPLY) {
		fprintf(stderr, "the device refuses its VMM\n");
		exit(2);
	}
}

int board_connect(const struct board *board, int i)
{
	struct sockaddr_un address;
	struct {
		struct vfu_header header;
		struct vfu_version version;
		char json[36];
	} hello = {{.command = VFU_VERSION}, {0, 0}, "{\"capabilities\":{\"max_msg_fds\":16}}"};
	struct {
		struct vfu_header header;
		struct vfu_region_access access;
		uint16_t data;
	} command = {
		{.command = VFU_REGION_WRITE}, {PCI_COMMAND, VFU_REGION_CONFIG, 2}, PCI_MEMORY};

	socket_path(board, i, &address);
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (sock < 0 || connect(sock, (struct sockaddr *)&address, sizeof(address)) < 0)
		die("connecting to the device");
	request(sock, &hello.header, sizeof(hello));
	request(sock, &command.header, offsetof(typeof(command), data) + sizeof(command.data));
	return sock;
}
