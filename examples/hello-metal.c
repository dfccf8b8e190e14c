/* SPDX-License-Identifier: MIT */
/* hello-guest.c for firmware, with hello-guest on the other seat. examples/cortex-m is a board. */
#include <ivshmem/mmio.h>

/* Behind the meeting place a line for each seat: the round it is for, and its text. */
enum { PLACE = 4096, LINES = PLACE + 128, LINE = 64, TEXT = 4, TEXT_SIZE = LINE - TEXT, SHOWN = 5 };

int hello(struct ivshmem_mmio *iv, unsigned seat, unsigned rounds, void (*print)(const char *));

/* Append a text and a number. */
static volatile char *put(volatile char *to, const char *text, uint32_t number)
{
	uint32_t unit = 1;

	while (*text != '\0')
		*to++ = *text++;
	while (number / unit > 9)
		unit *= 10;
	for (; unit > 0; unit /= 10)
		*to++ = (char)('0' + number / unit % 10);
	*to = '\0';
	return to;
}

static void say(struct ivshmem_mmio *iv, unsigned other, uint32_t line, uint32_t round)
{
	put(put((volatile char *)iv->memory + line + TEXT, "hello ", round), " from peer ",
		(uint32_t)ivshmem_mmio_id(iv));
	ivshmem_mmio_store(iv, line, round); /* whoever sees the number sees the text */
	ivshmem_mmio_ring(iv, other, 0);
}

static void hear(struct ivshmem_mmio *iv, uint32_t line, uint32_t round, char *text)
{
	/* First look, then wait: a doorbell may have rung before, and one can come for nothing. */
	while (ivshmem_mmio_load(iv, line) != round)
		ivshmem_mmio_wait(iv, 0);
	for (unsigned i = 0; i < TEXT_SIZE; i++) /* others go on writing: copy, then use it */
		text[i] = (char)iv->memory[line + TEXT + i];
	text[TEXT_SIZE - 1] = '\0';
}

/* Returns 0, or -1 if the memory is too small or there is no such seat. */
int hello(struct ivshmem_mmio *iv, unsigned seat, unsigned rounds, void (*print)(const char *))
{
	const uint32_t to = LINES + seat * LINE, from = LINES + (1 - seat) * LINE;
	struct ivshmem_mmio_meeting meeting;
	char text[TEXT_SIZE];

	if (iv->size < LINES + 2 * LINE || seat > 1)
		return -1;
	ivshmem_mmio_store(iv, to, 0); /* forget an earlier life, before anybody knows of us */
	ivshmem_mmio_meet_start(&meeting, iv, PLACE, seat, 0);
	while (!ivshmem_mmio_meet(&meeting))
		ivshmem_mmio_sleep(iv, 0);
	for (unsigned round = 1; round <= rounds; round++) {
		if (seat == 0)
			say(iv, meeting.other, to, round);
		hear(iv, from, round, text);
		if (round <= SHOWN)
			print(text);
		if (seat == 1)
			say(iv, meeting.other, to, round);
	}
	put(text, "hello: passed rounds=", rounds);
	print(text);
	return 0;
}
