/* SPDX-License-Identifier: MIT */
#include "firmware.h"

/* Of the lm3s6965evb after reset. Nothing here depends on exact times. */
#define CLOCK_HZ 12500000u

#define SETTLE_TICKS 2u

struct ivshmem_mmio iv;
volatile uint32_t events, ticks;
void (*volatile on_doorbell)(unsigned vector);
static unsigned first_line;

static void rung(unsigned vector)
{
	events = events + 1;
	if (on_doorbell != NULL)
		on_doorbell(vector);
}

/* The interrupt that a vector has for itself. */
static void pulse(void)
{
	unsigned vector = exception_number() - 16 - first_line;

	ivshmem_mmio_interrupt(&iv, vector);
	rung(vector);
}

/* The one for all vectors. */
static void level(void)
{
	uint32_t status = ivshmem_mmio_interrupts(&iv);

	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		if ((status >> vector & 1) != 0)
			rung(vector);
}

static void tick(void)
{
	events = events + 1;
	ticks = ticks + 1;
	if (ticks > parameter("deadline", 60) * TICKS)
		fail("deadline");
}

void clock_start(void)
{
	tick_start(CLOCK_HZ, TICKS, tick);
}

void settle(void)
{
	uint32_t start = ticks;

	while (ticks - start < SETTLE_TICKS)
		ivshmem_mmio_sleep_while(&ticks, ticks);
}

static const struct role {
	const char *name;
	void (*run)(void);
} roles[] = {
	{"talk", role_talk},
	{"pair", role_pair},
	{"order", role_order},
	{"self", role_self},
	{"vectors", role_vectors},
	{"storm", role_storm},
	{"unknown", role_unknown},
	{"garbage", role_garbage},
	{"record", role_record},
	{"echo", role_echo},
	{"image", role_image},
	{"chain", role_chain},
};

int main(void)
{
	ivshmem_mmio_init(&iv, REGISTERS, MEMORY, parameter("size", 1 << 20));
	first_line = parameter("irq", 40);
	for (unsigned vector = 0; vector < IVSHMEM_MMIO_VECTORS; vector++)
		interrupt_on(first_line + vector, pulse);
	if (parameter("level", 0) != 0)
		interrupt_on(first_line, level);
	print("id=%u\n", (uint32_t)ivshmem_mmio_id(&iv));
	for (unsigned i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (!parameter_is("role", roles[i].name))
			continue;
		roles[i].run();
		print("passed=%s\n", roles[i].name);
		return 0;
	}
	fail("role");
}
