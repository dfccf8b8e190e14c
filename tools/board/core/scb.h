/* SPDX-License-Identifier: MIT */
/* scb - the registers of the System Control Space that do not belong to SysTick or the NVIC. */
#ifndef CORE_SCB_H
#define CORE_SCB_H

#include "scs.h"

void scb_reset(struct scs *scs);

/* Whole registers; `lanes` has the bits that are written. What is not there reads as 0. */
uint32_t scb_read(struct scs *scs, uint32_t offset);
void scb_write(struct scs *scs, uint32_t offset, uint32_t value, uint32_t lanes);

/* ---- scs.c ---- */

/* Four priorities, from that of exception `number` upwards. */
uint32_t scs_read_priorities(const struct nvic *nvic, unsigned number);
void scs_write_priorities(struct scs *scs, unsigned number, uint32_t value, uint32_t lanes);

#endif
