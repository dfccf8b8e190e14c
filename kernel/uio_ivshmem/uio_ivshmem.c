// SPDX-License-Identifier: GPL-2.0-only
/*
 * Userspace I/O driver for ivshmem, the inter-VM shared memory device (PCI 1af4:1110)
 *
 * The device has a few registers in BAR0, an MSI-X table in BAR1 and memory that it shares with
 * other machines and host processes in BAR2. A write to its doorbell register interrupts another
 * peer; each of its own interrupt vectors is a doorbell that others can ring.
 *
 * Each vector becomes a UIO device of its own. One device for all vectors would need a way to hand
 * in eventfds, which UIO does not have; and in this way each vector has an owner and permissions,
 * several processes can share the device by vector, and everyone who opens a vector has a counter
 * of its own. All of them have the same two maps: the registers, uncached, and the memory, which is
 * ordinary memory of the host and therefore mapped write-back.
 *
 * A doorbell can be rung while the machine sleeps or the device is being reset, when no interrupt
 * can be delivered. After both, every vector is therefore reported as rung: looking at the memory
 * in vain costs little, a doorbell that nobody hears can stop a conversation for good.
 */

#include <linux/device.h>
#include <linux/interrupt.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/pm.h>
#include <linux/slab.h>
#include <linux/sysfs.h>
#include <linux/uio_driver.h>

#define IVSHMEM_VENDOR_ID	0x1af4
#define IVSHMEM_DEVICE_ID	0x1110

#define IVSHMEM_BAR_REGISTERS	0
#define IVSHMEM_BAR_MEMORY	2

/* Registers. Mask and status do something only on a device without MSI-X. */
#define IVSHMEM_INTRMASK	0x00
#define IVSHMEM_INTRSTATUS	0x04	/* reading clears it */
#define IVSHMEM_IVPOSITION	0x08
#define IVSHMEM_REGISTERS_SIZE	0x10

static unsigned int max_vectors = 64;
module_param(max_vectors, uint, 0444);
MODULE_PARM_DESC(max_vectors, "most interrupt vectors to use of a device (default: 64)");

struct ivshmem {
	struct pci_dev *pdev;
	void __iomem *registers;
	struct resource tails[2];	/* of the last pages of registers and memory */
	unsigned int vectors;	/* that can interrupt: 0 for ivshmem-plain */
	bool intx;
	struct uio_info **uio;	/* one for each vector, at least one */
};

/*
 * The own ID, or -1 where there is none: a device without interrupts is either ivshmem-plain, which
 * knows no server and reads 0, or has an ID that the server gave it.
 */
static int ivshmem_id(const struct ivshmem *ivshmem)
{
	int id = readl(ivshmem->registers + IVSHMEM_IVPOSITION);

	return ivshmem->vectors || id > 0 ? id : -1;
}

static ssize_t id_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%d\n", ivshmem_id(dev_get_drvdata(dev)));
}
static DEVICE_ATTR_RO(id);

static ssize_t vectors_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	const struct ivshmem *ivshmem = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%u\n", ivshmem->vectors);
}
static DEVICE_ATTR_RO(vectors);

static ssize_t region_size_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	u64 size = pci_resource_len(to_pci_dev(dev), IVSHMEM_BAR_MEMORY);

	return sysfs_emit(buf, "%llu\n", size);
}
static DEVICE_ATTR_RO(region_size);

static struct attribute *ivshmem_attributes[] = {
	&dev_attr_id.attr,
	&dev_attr_vectors.attr,
	&dev_attr_region_size.attr,
	NULL
};

static const struct attribute_group ivshmem_group = {
	.name = "ivshmem",
	.attrs = ivshmem_attributes,
};

static const struct attribute_group *ivshmem_groups[] = {
	&ivshmem_group,
	NULL
};

static irqreturn_t ivshmem_msix(int irq, struct uio_info *info)
{
	return IRQ_HANDLED;
}

/* The line may be shared; ours is let go when the status is read. */
static irqreturn_t ivshmem_intx(int irq, struct uio_info *info)
{
	const struct ivshmem *ivshmem = info->priv;
	u32 status = readl(ivshmem->registers + IVSHMEM_INTRSTATUS);

	return status && !PCI_POSSIBLE_ERROR(status) ? IRQ_HANDLED : IRQ_NONE;
}

static void ivshmem_intx_disable(void *data)
{
	struct ivshmem *ivshmem = data;

	writel(0, ivshmem->registers + IVSHMEM_INTRMASK);
}

static void ivshmem_release_tail(void *data)
{
	release_resource(data);
}

/*
 * A process maps whole pages, of which a BAR may take only a part: nothing of another device may be
 * there as long as the driver is bound.
 */
static int ivshmem_claim_pages(struct ivshmem *ivshmem, int bar, struct resource *tail)
{
	struct pci_dev *pdev = ivshmem->pdev;
	struct resource *res = &pdev->resource[bar];

	if (!devm_request_mem_region(&pdev->dev, res->start, resource_size(res), "uio_ivshmem"))
		return -EBUSY;
	if (!PAGE_ALIGNED(res->start))
		return -EBUSY;
	if (PAGE_ALIGNED(res->end + 1))
		return 0;

	*tail = (struct resource) {
		.name = pci_name(pdev),
		.start = res->end + 1,
		.end = ALIGN(res->end, PAGE_SIZE) - 1,
		.flags = res->flags,
	};
	if (request_resource(res->parent, tail))
		return -EBUSY;
	return devm_add_action_or_reset(&pdev->dev, ivshmem_release_tail, tail);
}

static int ivshmem_map_registers(struct ivshmem *ivshmem)
{
	struct pci_dev *pdev = ivshmem->pdev;
	int err;

	if (!(pci_resource_flags(pdev, IVSHMEM_BAR_REGISTERS) & IORESOURCE_MEM) ||
	    pci_resource_len(pdev, IVSHMEM_BAR_REGISTERS) < IVSHMEM_REGISTERS_SIZE ||
	    !(pci_resource_flags(pdev, IVSHMEM_BAR_MEMORY) & IORESOURCE_MEM) ||
	    !pci_resource_len(pdev, IVSHMEM_BAR_MEMORY))
		return dev_err_probe(&pdev->dev, -ENODEV, "no registers or no memory\n");

	err = ivshmem_claim_pages(ivshmem, IVSHMEM_BAR_REGISTERS, &ivshmem->tails[0]);
	if (!err)
		err = ivshmem_claim_pages(ivshmem, IVSHMEM_BAR_MEMORY, &ivshmem->tails[1]);
	if (err)
		return dev_err_probe(&pdev->dev, err,
				     "registers or memory share a page with another device: boot with pci=resource_alignment=pci:%04x:%04x\n",
				     IVSHMEM_VENDOR_ID, IVSHMEM_DEVICE_ID);

	ivshmem->registers = pcim_iomap(pdev, IVSHMEM_BAR_REGISTERS, 0);
	return ivshmem->registers ? 0 : -ENOMEM;
}

static int ivshmem_allocate_vectors(struct ivshmem *ivshmem)
{
	struct pci_dev *pdev = ivshmem->pdev;
	int count = pci_msix_vec_count(pdev);

	if (count > 0) {
		count = pci_alloc_irq_vectors(pdev, 1, clamp(max_vectors, 1U, (unsigned int)count),
					      PCI_IRQ_MSIX);
		if (count < 0)
			return dev_err_probe(&pdev->dev, count, "no MSI-X vectors\n");
		ivshmem->vectors = count;
	} else if (pdev->pin && pdev->irq) {
		ivshmem->vectors = 1;
		ivshmem->intx = true;
	}
	return 0;
}

static void ivshmem_describe_interrupt(struct ivshmem *ivshmem, struct uio_info *info,
				       unsigned int vector)
{
	if (!ivshmem->vectors) {
		info->irq = UIO_IRQ_NONE;
	} else if (ivshmem->intx) {
		info->irq = ivshmem->pdev->irq;
		info->irq_flags = IRQF_SHARED;
		info->handler = ivshmem_intx;
	} else {
		info->irq = pci_irq_vector(ivshmem->pdev, vector);
		info->handler = ivshmem_msix;
	}
}

/* UIO maps whole pages, and of each map no more than its size. */
static void ivshmem_describe_map(const struct pci_dev *pdev, int bar, struct uio_mem *mem)
{
	mem->name = bar == IVSHMEM_BAR_MEMORY ? "region" : "registers";
	mem->addr = pci_resource_start(pdev, bar);
	mem->size = PAGE_ALIGN(pci_resource_len(pdev, bar));
	/* What UIO calls physical it maps uncached, and this one cached. */
	mem->memtype = bar == IVSHMEM_BAR_MEMORY ? UIO_MEM_IOVA : UIO_MEM_PHYS;
}

static int ivshmem_register(struct ivshmem *ivshmem, unsigned int vector)
{
	struct pci_dev *pdev = ivshmem->pdev;
	struct uio_info *info;

	info = devm_kzalloc(&pdev->dev, sizeof(*info), GFP_KERNEL);
	if (!info)
		return -ENOMEM;
	info->name = devm_kasprintf(&pdev->dev, GFP_KERNEL, "ivshmem-%s.%u", pci_name(pdev),
				    vector);
	if (!info->name)
		return -ENOMEM;
	info->version = "1";
	info->priv = ivshmem;
	ivshmem_describe_interrupt(ivshmem, info, vector);
	ivshmem_describe_map(pdev, IVSHMEM_BAR_REGISTERS, &info->mem[0]);
	ivshmem_describe_map(pdev, IVSHMEM_BAR_MEMORY, &info->mem[1]);
	ivshmem->uio[vector] = info;
	return devm_uio_register_device(&pdev->dev, info);
}

static int ivshmem_register_all(struct ivshmem *ivshmem)
{
	struct device *dev = &ivshmem->pdev->dev;
	unsigned int count = max(ivshmem->vectors, 1U);
	unsigned int vector;
	int err;

	ivshmem->uio = devm_kcalloc(dev, count, sizeof(*ivshmem->uio), GFP_KERNEL);
	if (!ivshmem->uio)
		return -ENOMEM;
	for (vector = 0; vector < count; vector++) {
		err = ivshmem_register(ivshmem, vector);
		if (err)
			return dev_err_probe(dev, err, "cannot register vector %u\n", vector);
	}
	if (!ivshmem->intx)
		return 0;
	writel(1, ivshmem->registers + IVSHMEM_INTRMASK);
	return devm_add_action_or_reset(dev, ivshmem_intx_disable, ivshmem);
}

static int ivshmem_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct ivshmem *ivshmem;
	int err;

	ivshmem = devm_kzalloc(&pdev->dev, sizeof(*ivshmem), GFP_KERNEL);
	if (!ivshmem)
		return -ENOMEM;
	ivshmem->pdev = pdev;
	pci_set_drvdata(pdev, ivshmem);

	err = pcim_enable_device(pdev);
	if (err)
		return err;
	err = ivshmem_map_registers(ivshmem);
	if (err)
		return err;
	pci_set_master(pdev);
	err = ivshmem_allocate_vectors(ivshmem);
	if (err)
		return err;
	err = ivshmem_register_all(ivshmem);
	if (err)
		return err;

	pci_info(pdev, "ID %d, %llu bytes, %u vectors%s\n", ivshmem_id(ivshmem),
		 (u64)pci_resource_len(pdev, IVSHMEM_BAR_MEMORY), ivshmem->vectors,
		 ivshmem->intx ? " (INTx)" : "");
	return 0;
}

/* Everything works again, but what was rung meanwhile was not heard. */
static void ivshmem_recover(struct ivshmem *ivshmem)
{
	unsigned int vector;

	if (ivshmem->intx)
		writel(1, ivshmem->registers + IVSHMEM_INTRMASK);
	for (vector = 0; vector < ivshmem->vectors; vector++)
		uio_event_notify(ivshmem->uio[vector]);
}

static void ivshmem_reset_done(struct pci_dev *pdev)
{
	ivshmem_recover(pci_get_drvdata(pdev));
}

static const struct pci_error_handlers ivshmem_error_handlers = {
	.reset_done = ivshmem_reset_done,
};

/* Configuration space, bus mastering and MSI-X are the PCI core's to save and restore. */
static int ivshmem_resume(struct device *dev)
{
	ivshmem_recover(dev_get_drvdata(dev));
	return 0;
}

static DEFINE_SIMPLE_DEV_PM_OPS(ivshmem_pm_ops, NULL, ivshmem_resume);

static const struct pci_device_id ivshmem_ids[] = {
	{ PCI_DEVICE(IVSHMEM_VENDOR_ID, IVSHMEM_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, ivshmem_ids);

static struct pci_driver ivshmem_driver = {
	.name = "uio_ivshmem",
	.id_table = ivshmem_ids,
	.probe = ivshmem_probe,
	.err_handler = &ivshmem_error_handlers,
	.dev_groups = ivshmem_groups,
	.driver.pm = pm_sleep_ptr(&ivshmem_pm_ops),
};
module_pci_driver(ivshmem_driver);

MODULE_DESCRIPTION("UIO driver for ivshmem, inter-VM shared memory");
MODULE_AUTHOR("The ivshmem stack's contributors");
MODULE_VERSION("1");
MODULE_LICENSE("GPL");
