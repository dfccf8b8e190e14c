/* SPDX-License-Identifier: MIT */
/* The node of zephyr/samples/hello/boards/qemu_cortex_m3.overlay. See kernel.h. */
#ifndef STUB_ZEPHYR_DEVICETREE_H
#define STUB_ZEPHYR_DEVICETREE_H

/* By what other boards have: no interrupts, or interrupts with flags. */
#ifndef STUB_IRQS
#define STUB_IRQS 2
#endif
#ifndef STUB_HAS_FLAGS
#define STUB_HAS_FLAGS 0
#endif

/* A test has its own memory there. */
#ifdef STUB_MEMORY
extern uint32_t stub_registers[4], stub_memory[16];
#define STUB_registers ((uintptr_t)stub_registers)
#define STUB_memory    ((uintptr_t)stub_memory)
#else
#define STUB_registers 0x400ff000u
#define STUB_memory    0x40100000u
#endif
#define STUB_SIZE_registers 0x10u
#define STUB_SIZE_memory    0x400000u

#define DT_DRV_INST(n)                  ivshmem0
#define DT_NODELABEL(label)             label
#define DT_NUM_IRQS(node)               STUB_IRQS
#define DT_REG_ADDR_BY_NAME(node, name) STUB_##name

#define DT_INST_REG_SIZE_BY_NAME(n, name)       STUB_SIZE_##name
#define DT_INST_IRQN_BY_IDX(n, i)               (40 + (i))
#define DT_INST_IRQ_BY_IDX(n, i, cell)          STUB_IRQ_##cell
#define STUB_IRQ_priority                       2
#define STUB_IRQ_flags                          1
#define DT_INST_IRQ_HAS_CELL_AT_IDX(n, i, cell) STUB_HAS_FLAGS
#define DT_INST_FOREACH_STATUS_OKAY(f)          f(0)

#endif
