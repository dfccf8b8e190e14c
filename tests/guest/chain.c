/* SPDX-License-Identifier: MIT */
/*
 * Messages that go round through several machines, each of which adds one to their tag:
 *
 *     chain URI LENGTH IN OUT MESSAGES
 *
 * Channels s0, s1, .. are streams. The link with IN and OUT takes what comes by one and sends it on
 * by the other. The first link has OUT 0 and IN LENGTH - 1, and it sends what it then expects,
 * LENGTH - 1 links later: messages of all sizes, more than fit into a ring. tests/cortex/fw_chain.c
 * is a link, too. Exit status 0: all came round.
 */
#include <ivshmem/channels.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST = 9, LARGEST = 2040, AHEAD = 16, TIMEOUT_MS = 60000 };

struct link {
	struct ivshmem_sender *out;
	struct ivshmem_receiver *in;
	unsigned length, messages;
};

static int fail(const char *what)
{
	fprintf(stderr, "chain: %s: %s\n", what, strerror(errno));
	return 1;
}

static uint32_t size_of(unsigned number)
{
	return number * 2654435761u >> 8 & (number % 16 == 0 ? 2047 : 127);
}

static void fill(unsigned char *message, uint32_t size, unsigned number)
{
	for (uint32_t i = 0; i < size; i++)
		message[i] = (unsigned char)(number * 31 + i);
}

static int receive(struct link *link, unsigned char *message, uint32_t *tag)
{
	int size;

	do
		size = ivshmem_receive(link->in, message, LARGEST, tag, TIMEOUT_MS);
	while (size < 0 && errno == ECONNRESET); /* a sender of another run was cut off */
	return size;
}

static int pass_on(struct link *link)
{
	unsigned char message[LARGEST];

	for (unsigned i = 0; i < link->messages; i++) {
		uint32_t tag;
		const int size = receive(link, message, &tag);

		if (size < 0)
			return fail("receiving");
		if (ivshmem_send(link->out, message, (uint32_t)size, tag + 1, TIMEOUT_MS) < 0)
			return fail("sending");
	}
	return 0;
}

/* Never more on its way than a ring holds, or all would wait for room. */
static int begin(struct link *link)
{
	unsigned char message[LARGEST], expected[LARGEST];
	unsigned sent = 0;

	for (unsigned i = 0; i < link->messages; i++) {
		for (; sent < link->messages && sent < i + AHEAD; sent++) {
			const uint32_t size = size_of(sent) % (LARGEST + 1);

			fill(message, size, sent);
			if (ivshmem_send(link->out, message, size, sent << 8, TIMEOUT_MS) < 0)
				return fail("sending");
		}
		const uint32_t size = size_of(i) % (LARGEST + 1);
		uint32_t tag;
		const int got = receive(link, message, &tag);

		if (got < 0)
			return fail("receiving");
		fill(expected, size, i);
		if ((uint32_t)got != size || memcmp(message, expected, size) != 0 ||
			tag != ((i << 8) | (link->length - 1))) {
			fprintf(stderr, "chain: message %u is another: %d bytes, tag 0x%x\n", i,
				got, tag);
			return 1;
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct ivshmem_channel_options options = IVSHMEM_CHANNEL_OPTIONS_INIT;
	struct ivshmem_channel_plan plan[LONGEST] = {0};
	char names[LONGEST][3];
	struct link link;

	if (argc != 6) {
		fprintf(stderr, "usage: %s URI LENGTH IN OUT MESSAGES\n", argv[0]);
		return 2;
	}
	link.length = (unsigned)strtoul(argv[2], NULL, 10) % (LONGEST + 1);
	const unsigned in = (unsigned)strtoul(argv[3], NULL, 10) % LONGEST;
	const unsigned out = (unsigned)strtoul(argv[4], NULL, 10) % LONGEST;
	link.messages = (unsigned)strtoul(argv[5], NULL, 10);
	for (unsigned i = 0; i < LONGEST; i++) {
		snprintf(names[i], sizeof(names[i]), "s%u", i);
		plan[i] = (struct ivshmem_channel_plan){
			.name = names[i], .largest = LARGEST, .ring = 4096};
	}
	struct ivshmem_peer *peer = ivshmem_open(argv[1], NULL);
	if (!peer)
		return fail(argv[1]);
	if (ivshmem_channels_format(peer, 0, plan, link.length) < 0)
		return fail("the list of channels");
	link.in = ivshmem_receiver_open(peer, names[in], &options);
	link.out = ivshmem_sender_open(peer, names[out], &options);
	if (!link.in || !link.out)
		return fail("opening");
	printf("chain: ID %d\n", ivshmem_id(peer));
	fflush(stdout);
	const int status = out == 0 ? begin(&link) : pass_on(&link);
	if (status == 0)
		printf("chain: passed messages=%u\n", link.messages);
	ivshmem_sender_close(link.out);
	ivshmem_receiver_close(link.in);
	ivshmem_close(peer);
	return status;
}
