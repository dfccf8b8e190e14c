/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * The file has 32-bit registers. A narrower read takes its bytes out of one, with what reading
 * does; a narrower write comes with a mask of the bytes it covers, and the others keep what they
 * have. Here are those that belong to SysTick and the NVIC, the others in scb.c.
 */
#include "scb.h"

/* Offsets. */
enum {
	REG_SYSTICK = 0x010,
	REG_ISER = 0x100,
	REG_ICER = 0x180,
	REG_ISPR = 0x200,
	REG_ICPR = 0x280,
	REG_IABR = 0x300,
	REG_IPR = 0x400,
	REG_IPR_END = 0x4f0,
};

void scs_init(struct scs *scs, const struct core_config *config)
{
	unsigned priority_bits = config->kind == CORTEX_M0 ? 2 : 3;

	scs->kind = config->kind;
	systick_init(&scs->systick, config->clock_hz);
	nvic_init(&scs->nvic, config->interrupts, priority_bits);
	scs_reset(scs);
}

void scs_reset(struct scs *scs)
{
	nvic_reset(&scs->nvic);
	systick_init(&scs->systick, scs->systick.clock_hz);
	scb_reset(scs);
}

void scs_advance(struct scs *scs, uint64_t now)
{
	if (systick_advance(&scs->systick, now))
		nvic_pend(&scs->nvic, EXC_SYSTICK);
}

/* Four priorities, from that of exception `number` upwards. */
uint32_t scs_read_priorities(const struct nvic *nvic, unsigned number)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 4 && number + i < EXC_LINE0 + nvic->lines; i++)
		value |= (uint32_t)nvic->priority[number + i] << 8 * i;
	return value;
}

void scs_write_priorities(struct scs *scs, unsigned number, uint32_t value, uint32_t lanes)
{
	for (unsigned i = 0; i < 4; i++)
		if (lanes >> 8 * i & 0xff)
			nvic_set_priority(&scs->nvic, number + i, (uint8_t)(value >> 8 * i));
}

/* ---- everything ---- */

static uint32_t read_word(struct scs *scs, uint32_t offset, uint64_t now)
{
	const struct nvic *nvic = &scs->nvic;
	unsigned word = 1 + (offset & 0x7f) / 4; /* of the NVIC's bits */

	if (offset >= REG_SYSTICK && offset < REG_SYSTICK + SYSTICK_END)
		return systick_read(&scs->systick, offset - REG_SYSTICK, now);
	if (offset >= REG_IPR && offset < REG_IPR_END)
		return scs_read_priorities(nvic, offset - REG_IPR + EXC_LINE0);
	if (offset < REG_ISER || offset >= REG_IPR)
		return scb_read(scs, offset);
	if (word > NVIC_WORDS)
		return 0;
	switch (offset & ~0x7fu) {
	case REG_ISER:
	case REG_ICER:
		return nvic->enabled.word[word];
	case REG_ISPR:
	case REG_ICPR:
		return nvic->pending.word[word];
	case REG_IABR: /* an Armv6-M has not got it */
		return scs->kind == CORTEX_M0 ? 0 : nvic->active.word[word];
	}
	return 0;
}

static void write_word(
	struct scs *scs, uint32_t offset, uint32_t value, uint32_t lanes, uint64_t now)
{
	struct nvic *nvic = &scs->nvic;
	unsigned word = (offset & 0x7f) / 4;

	if (offset >= REG_SYSTICK && offset < REG_SYSTICK + SYSTICK_END)
		systick_write(&scs->systick, offset - REG_SYSTICK, value, now);
	else if (offset >= REG_IPR && offset < REG_IPR_END)
		scs_write_priorities(scs, offset - REG_IPR + EXC_LINE0, value, lanes);
	else if (offset < REG_ISER || offset >= REG_IPR)
		scb_write(scs, offset, value, lanes);
	else if (word >= NVIC_WORDS)
		return;
	else if (offset < REG_ICER)
		nvic_enable(nvic, word, value);
	else if (offset < REG_ISPR)
		nvic_disable(nvic, word, value);
	else if (offset < REG_ICPR)
		nvic_pend_lines(nvic, word, value);
	else if (offset < REG_IABR)
		nvic_unpend_lines(nvic, word, value);
}

/* The bits of a register that an access of `size` bytes has to do with. */
static uint32_t lanes_of(uint32_t offset, unsigned size)
{
	return (size == 4 ? UINT32_MAX : (1u << 8 * size) - 1) << 8 * (offset & 3);
}

uint32_t scs_read(struct scs *scs, uint32_t offset, unsigned size, uint64_t now)
{
	scs_advance(scs, now);
	return (read_word(scs, offset & ~3u, now) & lanes_of(offset, size)) >> 8 * (offset & 3);
}

void scs_write(struct scs *scs, uint32_t offset, unsigned size, uint32_t value, uint64_t now)
{
	uint32_t lanes = lanes_of(offset, size);

	scs_advance(scs, now);
	write_word(scs, offset & ~3u, value << 8 * (offset & 3) & lanes, lanes, now);
}
