/* SPDX-License-Identifier: MIT */
/*
 * Theory of operation
 *
 * Most registers only keep what is written to some of their bits, and others look at it there:
 * plain_register() knows them. The rest is a view of the NVIC.
 *
 * There is no MPU (MPU_TYPE is 0) and no debugger.
 */
#include "scb.h"

#include <stddef.h>

/* Offsets. */
enum {
	REG_ICTR = 0x004,
	REG_CPUID = 0xd00,
	REG_ICSR = 0xd04,
	REG_VTOR = 0xd08,
	REG_AIRCR = 0xd0c,
	REG_SCR = 0xd10,
	REG_CCR = 0xd14,
	REG_SHPR1 = 0xd18,
	REG_SHPR2 = 0xd1c,
	REG_SHPR3 = 0xd20,
	REG_SHCSR = 0xd24,
	REG_CFSR = 0xd28,
	REG_HFSR = 0xd2c,
	REG_MMFAR = 0xd34,
	REG_BFAR = 0xd38,
	REG_CPACR = 0xd88,
	REG_FPCCR = 0xf34,
	REG_FPCAR = 0xf38,
	REG_FPDSCR = 0xf3c,
	REG_MVFR0 = 0xf40,
	REG_MVFR1 = 0xf44,
};

#define ICSR_NMIPENDSET  0x80000000u
#define ICSR_PENDSVSET   0x10000000u
#define ICSR_PENDSVCLR   0x08000000u
#define ICSR_PENDSTSET   0x04000000u
#define ICSR_PENDSTCLR   0x02000000u
#define ICSR_ISRPENDING  0x00400000u
#define ICSR_RETTOBASE   0x00000800u
#define AIRCR_KEY        0x05fa0000u /* what a write must begin with */
#define AIRCR_KEY_READ   0xfa050000u
#define AIRCR_SYSRESET   0x4u
#define AIRCR_CLRACTIVE  0x2u
#define AIRCR_LOCALRESET 0x1u
#define CCR_WRITABLE                                                                               \
	(CCR_NONBASETHRDENA | CCR_USERSETMPEND | CCR_UNALIGN_TRP | CCR_DIV_0_TRP | CCR_BFHFNMIGN | \
		CCR_STKALIGN)

void scb_reset(struct scs *scs)
{
	scs->vtor = scs->scr = scs->cfsr = scs->hfsr = scs->mmfar = scs->bfar = 0;
	scs->ccr = CCR_STKALIGN | (scs->kind == CORTEX_M0 ? CCR_UNALIGN_TRP : 0);
	scs->cpacr = scs->fpcar = scs->fpdscr = 0;
	scs->fpccr = scs->kind == CORTEX_M4 ? FPCCR_ASPEN | FPCCR_LSPEN : 0;
	scs->reset = false;
}

/* ---- exceptions ---- */

static uint32_t read_icsr(const struct scs *scs)
{
	const struct nvic *nvic = &scs->nvic;
	uint32_t value = nvic->current | nvic_candidate(nvic) << 12;

	for (unsigned i = 0; i < NVIC_WORDS; i++)
		value |= nvic->pending.word[1 + i] != 0 ? ICSR_ISRPENDING : 0;
	if (scs->kind != CORTEX_M0 && nvic_active_count(nvic) <= 1)
		value |= ICSR_RETTOBASE;
	if (nvic_bit(&nvic->pending, EXC_NMI))
		value |= ICSR_NMIPENDSET;
	if (nvic_bit(&nvic->pending, EXC_PENDSV))
		value |= ICSR_PENDSVSET;
	if (nvic_bit(&nvic->pending, EXC_SYSTICK))
		value |= ICSR_PENDSTSET;
	return value;
}

static void write_icsr(struct nvic *nvic, uint32_t value)
{
	if (value & ICSR_NMIPENDSET)
		nvic_bit_put(&nvic->pending, EXC_NMI, true);
	if (value & (ICSR_PENDSVSET | ICSR_PENDSVCLR))
		nvic_bit_put(&nvic->pending, EXC_PENDSV, value & ICSR_PENDSVSET);
	if (value & (ICSR_PENDSTSET | ICSR_PENDSTCLR))
		nvic_bit_put(&nvic->pending, EXC_SYSTICK, value & ICSR_PENDSTSET);
}

static void write_aircr(struct scs *scs, uint32_t value)
{
	if ((value & 0xffff0000) != AIRCR_KEY)
		return;
	if (value & (AIRCR_SYSRESET | AIRCR_LOCALRESET))
		scs->reset = true;
	if (value & AIRCR_CLRACTIVE)
		scs->nvic.active = (struct nvic_bits){0};
	if (scs->kind != CORTEX_M0)
		scs->nvic.prigroup = value >> 8 & 7;
}

/* Which of the system's exceptions have a priority: those that there are. */
static uint32_t shpr_lanes(const struct scs *scs, uint32_t offset)
{
	if (offset == REG_SHPR1)
		return scs->kind == CORTEX_M0 ? 0 : 0x00ffffff;
	return offset == REG_SHPR2 ? 0xff000000 : 0xffff0000;
}

/* The bits of SHCSR, each a bit of one of the NVIC's sets. */
enum shcsr_set { ACTIVE, PENDING, ENABLED };

static const struct {
	uint8_t bit, number;
	enum shcsr_set set;
} shcsr[] = {
	{0, EXC_MEM, ACTIVE},
	{1, EXC_BUS, ACTIVE},
	{3, EXC_USAGE, ACTIVE},
	{7, EXC_SVC, ACTIVE},
	{10, EXC_PENDSV, ACTIVE},
	{11, EXC_SYSTICK, ACTIVE},
	{12, EXC_USAGE, PENDING},
	{13, EXC_MEM, PENDING},
	{14, EXC_BUS, PENDING},
	{15, EXC_SVC, PENDING},
	{16, EXC_MEM, ENABLED},
	{17, EXC_BUS, ENABLED},
	{18, EXC_USAGE, ENABLED},
};

static uint32_t access_shcsr(struct scs *scs, const uint32_t *value)
{
	struct nvic *nvic = &scs->nvic;
	struct nvic_bits *const sets[] = {
		[ACTIVE] = &nvic->active, [PENDING] = &nvic->pending, [ENABLED] = &nvic->enabled};
	uint32_t now = 0;

	for (unsigned i = 0; i < sizeof(shcsr) / sizeof(shcsr[0]); i++) {
		/* A Cortex-M0 has only this one of them. */
		if (scs->kind == CORTEX_M0 && shcsr[i].bit != 15)
			continue;
		struct nvic_bits *set = sets[shcsr[i].set];
		if (value != NULL)
			nvic_bit_put(set, shcsr[i].number, *value >> shcsr[i].bit & 1);
		now |= (uint32_t)nvic_bit(set, shcsr[i].number) << shcsr[i].bit;
	}
	return now;
}

/* ---- registers ---- */

/* Where a register is kept that reads back what has been written to some bits of it. */
static uint32_t *plain_register(struct scs *scs, uint32_t offset, uint32_t *writable)
{
	*writable = UINT32_MAX;
	switch (offset) {
	case REG_VTOR:
		*writable = 0xffffff80;
		return &scs->vtor;
	case REG_SCR:
		*writable = SCR_SLEEPONEXIT | SCR_SLEEPDEEP | SCR_SEVONPEND;
		return &scs->scr;
	case REG_CCR:
		*writable = scs->kind == CORTEX_M0 ? 0 : CCR_WRITABLE;
		return &scs->ccr;
	case REG_MMFAR:
		return &scs->mmfar;
	case REG_BFAR:
		return &scs->bfar;
	case REG_CPACR:
		*writable = scs->kind == CORTEX_M4 ? 0x00f00000 : 0;
		return &scs->cpacr;
	case REG_FPCCR:
		*writable = FPCCR_ASPEN | FPCCR_LSPEN | FPCCR_LSPACT;
		return &scs->fpccr;
	case REG_FPCAR:
		*writable = ~7u;
		return &scs->fpcar;
	case REG_FPDSCR:
		*writable = 0x07c00000;
		return &scs->fpdscr;
	}
	return NULL;
}

/* What an Armv6-M, or a processor without FPU, lacks. */
static bool is_missing(const struct scs *scs, uint32_t offset)
{
	if (offset >= REG_FPCCR && offset <= REG_MVFR1)
		return scs->kind != CORTEX_M4;
	if (scs->kind != CORTEX_M0)
		return false;
	switch (offset) {
	case REG_ICTR:
	case REG_VTOR:
	case REG_CFSR:
	case REG_HFSR:
	case REG_MMFAR:
	case REG_BFAR:
	case REG_CPACR:
	case SCS_STIR:
		return true;
	}
	return false;
}

uint32_t scb_read(struct scs *scs, uint32_t offset)
{
	static const uint32_t cpuid[] = {
		[CORTEX_M0] = 0x410cc200, [CORTEX_M3] = 0x410fc231, [CORTEX_M4] = 0x410fc240};
	uint32_t writable;
	const uint32_t *plain = plain_register(scs, offset, &writable);

	if (is_missing(scs, offset))
		return 0;
	if (plain != NULL)
		return *plain;
	switch (offset) {
	case REG_ICTR:
		return (scs->nvic.lines - 1) / 32;
	case REG_CPUID:
		return cpuid[scs->kind];
	case REG_ICSR:
		return read_icsr(scs);
	case REG_AIRCR:
		return AIRCR_KEY_READ | scs->nvic.prigroup << 8;
	case REG_SHPR1:
	case REG_SHPR2:
	case REG_SHPR3:
		return scs_read_priorities(&scs->nvic, offset - REG_SHPR1 + EXC_MEM);
	case REG_SHCSR:
		return access_shcsr(scs, NULL);
	case REG_CFSR:
		return scs->cfsr;
	case REG_HFSR:
		return scs->hfsr;
	case REG_MVFR0:
		return 0x10110021;
	case REG_MVFR1:
		return 0x11000011;
	}
	return 0;
}

void scb_write(struct scs *scs, uint32_t offset, uint32_t value, uint32_t lanes)
{
	uint32_t writable;
	uint32_t *plain = plain_register(scs, offset, &writable);

	if (is_missing(scs, offset))
		return;
	if (plain != NULL)
		*plain = (*plain & ~(writable & lanes)) | (value & writable & lanes);
	switch (offset) {
	case REG_ICSR:
		write_icsr(&scs->nvic, value);
		break;
	case REG_AIRCR:
		write_aircr(scs, value);
		break;
	case REG_SHPR1:
	case REG_SHPR2:
	case REG_SHPR3:
		scs_write_priorities(
			scs, offset - REG_SHPR1 + EXC_MEM, value, lanes & shpr_lanes(scs, offset));
		break;
	case REG_SHCSR:
		value |= access_shcsr(scs, NULL) & ~lanes;
		access_shcsr(scs, &value);
		break;
	case REG_CFSR: /* ones clear */
		scs->cfsr &= ~value;
		break;
	case REG_HFSR:
		scs->hfsr &= ~value;
		break;
	case SCS_STIR:
		nvic_pend(&scs->nvic, EXC_LINE0 + (value & 0x1ff));
		break;
	}
}
