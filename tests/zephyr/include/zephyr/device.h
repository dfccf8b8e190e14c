/* SPDX-License-Identifier: MIT */
/* See kernel.h. Registers are where the devicetree says, as without an MMU. */
#ifndef STUB_ZEPHYR_DEVICE_H
#define STUB_ZEPHYR_DEVICE_H

#include <stdbool.h>
#include <zephyr/devicetree.h>
#include <zephyr/kernel.h>

struct device {
	const void *config;
	void *data;
	const void *api;
	int (*init)(const struct device *dev);
};

extern const struct device stub_device;
bool device_is_ready(const struct device *dev);
#define DEVICE_DT_GET(node) (&stub_device)

enum { POST_KERNEL };
#define CONFIG_KERNEL_INIT_PRIORITY_DEVICE 50
#define DEVICE_DT_INST_DEFINE(n, init, pm, data, config, level, priority, api)                     \
	const struct device stub_device = {config, data, api, init};                               \
	_Static_assert((level) == POST_KERNEL && (priority) < 100, "");

struct stub_mmio {
	uintptr_t address;
};
#define DEVICE_MMIO_NAMED_ROM(name) struct stub_mmio name
#define DEVICE_MMIO_NAMED_RAM(name)
#define DEVICE_MMIO_NAMED_ROM_INIT_BY_NAME(name, node) .name = {DT_REG_ADDR_BY_NAME(node, name)}
#define DEVICE_MMIO_NAMED_MAP(dev, name, flags)        ((void)(dev))
#define DEVICE_MMIO_NAMED_GET(dev, name)               (DEV_CFG(dev)->name.address)

#endif
