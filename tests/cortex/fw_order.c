/* SPDX-License-Identifier: MIT */
/*
 * What is written before a doorbell is there when it rings: two exchange messages of many words,
 * "seat" 0 begins, and each looks at the whole message inside the interrupt, where nothing else can
 * have made it visible. Then the interrupt answers with the next message. Each writes where the
 * last message was, so that every word that comes late is an old one.
 */
#include "firmware.h"

#define SEATS    0x9000u /* ID + 1 of each */
#define MESSAGES 0x9100u /* of each: WORDS words */
#define WORDS    64u

static unsigned self, other;
static volatile uint32_t heard; /* messages so far */
static uint32_t rounds;

static uint32_t content(unsigned from, uint32_t number, unsigned word)
{
	uint32_t x = number * 2654435761u ^ (from << 24 | word);

	return x ^ x >> 15;
}

static void say(uint32_t number)
{
	uint32_t at = MESSAGES + self * WORDS * 4;

	for (unsigned i = 0; i < WORDS; i++)
		store(at + 4 * i, content(self, number, i));
	ivshmem_mmio_ring(&iv, other, 0);
}

/* Seat 0 rings message 1 until it is answered, as the first doorbells may be for nobody yet. So a
 * message can be rung twice, and what was answered to message 1 is said again. */
static void hear(unsigned vector)
{
	uint32_t at = MESSAGES + (self ^ 1) * WORDS * 4;

	ivshmem_mmio_barrier();
	bool again = heard > 0 && load(at) == content(self ^ 1, heard, 0);
	uint32_t number = again ? heard : heard + 1;

	expect("vector", vector, 0);
	for (unsigned i = 0; i < WORDS; i++)
		expect("a message's word", load(at + 4 * i), content(self ^ 1, number, i));
	heard = number;
	if (self == 1 && (!again || number == 1))
		say(number);
	else if (self == 0 && !again && number < rounds)
		say(number + 1);
}

static void begin(void)
{
	while (heard == 0) {
		interrupts_off();
		if (heard == 0)
			say(1);
		interrupts_on();
		settle();
	}
}

void role_order(void)
{
	self = parameter("seat", 0) & 1;
	rounds = parameter("rounds", 2000);
	clock_start();
	store(SEATS + 4 * self, (uint32_t)ivshmem_mmio_id(&iv) + 1);
	sleep_until(load(SEATS + 4 * (self ^ 1)) != 0);
	other = load(SEATS + 4 * (self ^ 1)) - 1;
	on_doorbell = hear;
	if (self == 0)
		begin();
	sleep_until(heard == rounds);
	print("heard=%u\n", heard);
}
