/* SPDX-License-Identifier: MIT */
/*
 * scs - the System Control Space: the registers of SysTick, NVIC and system control block in the
 * page at 0xe000e000. Pure, as what it stands on.
 */
#ifndef CORE_SCS_H
#define CORE_SCS_H

#include "core.h"
#include "nvic.h"
#include "systick.h"

#include <stdbool.h>
#include <stdint.h>

#define SCS_BASE 0xe000e000u
#define SCS_SIZE 0x1000u

/* The one register of it that unprivileged code may write, if USERSETMPEND is set. */
#define SCS_STIR 0xf00u

struct scs {
	enum core_kind kind;
	struct nvic nvic;
	struct systick systick;
	uint32_t vtor, scr, ccr, cfsr, hfsr, mmfar, bfar, cpacr, fpccr, fpcar, fpdscr;
	bool reset; /* the firmware asks for it; the owner takes it back */
};

/* Bits of SCR, CCR, CFSR, HFSR, FPCCR. */
#define SCR_SLEEPONEXIT    0x2u
#define SCR_SLEEPDEEP      0x4u
#define SCR_SEVONPEND      0x10u
#define CCR_NONBASETHRDENA 0x1u
#define CCR_USERSETMPEND   0x2u
#define CCR_UNALIGN_TRP    0x8u
#define CCR_DIV_0_TRP      0x10u
#define CCR_BFHFNMIGN      0x100u
#define CCR_STKALIGN       0x200u
#define CFSR_IACCVIOL      0x1u
#define CFSR_IBUSERR       0x100u
#define CFSR_PRECISERR     0x200u
#define CFSR_UNSTKERR      0x800u
#define CFSR_STKERR        0x1000u
#define CFSR_LSPERR        0x2000u
#define CFSR_BFARVALID     0x8000u
#define CFSR_UNDEFINSTR    0x10000u
#define CFSR_INVSTATE      0x20000u
#define CFSR_INVPC         0x40000u
#define CFSR_NOCP          0x80000u
#define CFSR_UNALIGNED     0x1000000u
#define CFSR_DIVBYZERO     0x2000000u
#define HFSR_VECTTBL       0x2u
#define HFSR_FORCED        0x40000000u
#define HFSR_DEBUGEVT      0x80000000u
#define FPCCR_ASPEN        0x80000000u
#define FPCCR_LSPEN        0x40000000u
#define FPCCR_LSPACT       0x1u

void scs_init(struct scs *scs, const struct core_config *config);
void scs_reset(struct scs *scs);

/* SysTick's exception becomes pending if it is due. */
void scs_advance(struct scs *scs, uint64_t now);

/* An access of 1, 2 or 4 bytes, aligned. What is not there reads as 0 and ignores writes. */
uint32_t scs_read(struct scs *scs, uint32_t offset, unsigned size, uint64_t now);
void scs_write(struct scs *scs, uint32_t offset, unsigned size, uint32_t value, uint64_t now);

#endif
