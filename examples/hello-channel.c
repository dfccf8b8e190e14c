/* SPDX-License-Identifier: MIT */
/*
 * Lines of text through a channel. Either program can be in a virtual machine or on the host, be
 * started first, and be killed and started again: what was sent and not received is still there.
 *
 *     cc hello-channel.c $(pkg-config --cflags --libs libivshmem) -o hello-channel
 *     ./hello-channel auto: send                      # in a guest: types lines
 *     ./hello-channel unix:/tmp/ivshmem_socket        # on the host: prints them
 */
#include <ivshmem/channels.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LARGEST = 1000 };

/* Both sides have the same list, and whoever comes first lays it out. */
static const struct ivshmem_channel_plan plan[] = {{.name = "hello", .largest = LARGEST}};

static int fail(const char *what)
{
	fprintf(stderr, "hello-channel: %s: %s\n", what, strerror(errno));
	return 1;
}

static int send_lines(struct ivshmem_peer *peer)
{
	struct ivshmem_sender *sender = ivshmem_sender_open(peer, "hello", NULL);
	char line[LARGEST];

	if (!sender)
		return fail("hello");
	while (fgets(line, sizeof(line), stdin)) {
		/* Waits where there is no room; by its return somebody asleep has been rung. */
		if (ivshmem_send(sender, line, (uint32_t)strlen(line), 0, -1) < 0)
			return fail("sending");
	}
	ivshmem_sender_close(sender);
	return 0;
}

static int receive_lines(struct ivshmem_peer *peer)
{
	struct ivshmem_receiver *receiver = ivshmem_receiver_open(peer, "hello", NULL);
	char line[LARGEST];

	if (!receiver)
		return fail("hello");
	for (;;) {
		int size = ivshmem_receive(receiver, line, sizeof(line), NULL, -1);

		if (size >= 0)
			fwrite(line, 1, (size_t)size, stdout);
		else if (errno == ESHUTDOWN) /* the sender has said so: that was all */
			break;
		else if (errno != ECONNRESET && errno != EOWNERDEAD) /* another one may come */
			return fail("receiving");
		fflush(stdout);
	}
	ivshmem_receiver_close(receiver);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: %s URI [send]\n", argv[0]);
		return 2;
	}
	struct ivshmem_peer *peer = ivshmem_open(argv[1], NULL);
	if (!peer)
		return fail(argv[1]);
	if (ivshmem_channels_format(peer, 0, plan, 1) < 0)
		return fail("the list of channels");
	int status = argc > 2 ? send_lines(peer) : receive_lines(peer);
	ivshmem_close(peer);
	return status;
}
