/* SPDX-License-Identifier: MIT */
/* src/guest/checkup: what is found in trees that look like a guest's /sys, /dev and /proc, and the
 * remedy. */
#include "guest/checkup.h"

#include "guest/cache.h"

#include "../common/guesttree.h"
#include "../common/headerpage.h"

#define ADDRESS TREE_BDF
#define DEVICE  TREE_DEVICES "/" ADDRESS
#define NOBODY  65534

/* ---- a tree ---- */

static struct checkup checkup;

static void put(const char *name, const char *text)
{
	tree_text(tree_path("%s", name), text);
}

static void put_link(const char *name, const char *target)
{
	struct tree_path path = tree_path("%s", name);
	unlink(path.text);
	tree_link(path, target);
}

static void set_mode(const char *name, mode_t mode, gid_t group)
{
	struct tree_path path = tree_path("%s", name);
	assert_int_equal(chmod(path.text, mode), 0);
	if (geteuid() == 0)
		assert_int_equal(chown(path.text, 0, group), 0);
}

/* MSI-X that is switched off, or none; with the pin for INTx. */
static void put_interrupts_off(int vectors)
{
	struct tree_path config = tree_file(ADDRESS, "config");

	tree_config(ADDRESS, vectors);
	tree_set_word(config, 0x3c, 1 << 8);
	if (vectors > 0)
		tree_set_word(config, 0x50, 0x11 | (uint32_t)(vectors - 1) << 16);
}

static void put_driver(const char *name)
{
	char target[64];
	snprintf(target, sizeof(target), "../../../bus/pci/drivers/%s", name);
	put_link(DEVICE "/driver", target);
}

/* As the module makes it, with two vectors. */
static void put_uio(void)
{
	put_driver("uio_ivshmem");
	put(DEVICE "/ivshmem/id", "3\n");
	put(DEVICE "/ivshmem/vectors", "4\n");
	put(DEVICE "/uio/uio5/name", "ivshmem-" ADDRESS ".0\n");
	put(DEVICE "/uio/uio6/name", "ivshmem-" ADDRESS ".1\n");
	put("sys/class/uio/uio5/name", "ivshmem-" ADDRESS ".0\n");
	put("sys/class/uio/uio6/name", "ivshmem-" ADDRESS ".1\n");
	put("dev/uio5", "");
	put("dev/uio6", "");
	checkup.way = GUEST_UIO;
}

static int setup(void **state)
{
	tree_plant();
	assert_int_equal(chmod(tree_folder, 0755), 0);
	checkup = (struct checkup){
		.system = &tree, .rest = "", .automatic = true, .vector = -1, .opened_vectors = -1};
	tree_device(ADDRESS, NULL);
	return fdcheck_setup(state);
}

static int teardown(void **state)
{
	tree_fell();
	return fdcheck_teardown(state);
}

#define CHECKUP_TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)

/* ---- results ---- */

static void assert_has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in '%s'", part, text);
}

/* `remedy` is a part of it; NULL: there must be none. */
static void expect(struct checkup_result result, enum checkup_status status, const char *found,
	const char *remedy)
{
	if (result.status != status)
		fail_msg("status %d, not %d: %s", (int)result.status, (int)status, result.found);
	assert_has(result.found, found);
	if (remedy)
		assert_has(result.remedy, remedy);
	else
		assert_string_equal(result.remedy, "");
}

/* What any user gets. */
static struct checkup_result as_nobody(checkup_function *function)
{
	bool root = geteuid() == 0;
	if (root)
		assert_int_equal(seteuid(NOBODY), 0);
	struct checkup_result result = function(&checkup);
	if (root)
		assert_int_equal(seteuid(0), 0);
	return result;
}

static void find_device(void)
{
	expect(checkup_device(&checkup), CHECKUP_OK, ADDRESS, NULL);
}

/* ---- device ---- */

static void test_device(void **state)
{
	(void)state;
	expect(checkup_device(&checkup), CHECKUP_OK,
		ADDRESS ", revision 1, 64 KiB of memory at 0x380000000000", NULL);
	checkup.rest = "00:04.0";
	expect(checkup_device(&checkup), CHECKUP_OK, ADDRESS, NULL);
	checkup.rest = "00:05.0";
	expect(checkup_device(&checkup), CHECKUP_FAILED, "0000:00:05.0 is not there",
		"--uri auto:");
	checkup.rest = "../..";
	expect(checkup_device(&checkup), CHECKUP_FAILED, "no PCI address", ADDRESS);
	put("sys/bus/pci/devices/0000:00:05.0/vendor", "0x8086\n");
	put("sys/bus/pci/devices/0000:00:05.0/device", "0x1110\n");
	checkup.rest = "00:05.0";
	expect(checkup_device(&checkup), CHECKUP_FAILED, "not an ivshmem device", "--uri auto:");

	checkup.rest = "";
	tree_device("0000:00:06.0", NULL);
	expect(checkup_device(&checkup), CHECKUP_FAILED,
		"2 ivshmem devices: " ADDRESS " 0000:00:06.0", "--uri auto:" ADDRESS " doctor");
}

static void test_device_by_region(void **state)
{
	static uint8_t region[TREE_REGION];
	(void)state;

	checkup.by_region = checkup.automatic = true;
	checkup.rest = "frames";
	expect(checkup_device(&checkup), CHECKUP_FAILED, "not found by region:frames",
		ADDRESS " (no header)");
	tree_device("0000:00:06.0", NULL);
	header_page(region, "frames", 1);
	tree_bytes(tree_file("0000:00:06.0", SYSFS_MEMORY), region, sizeof(region));
	expect(checkup_device(&checkup), CHECKUP_OK, "0000:00:06.0, revision 1", NULL);

	checkup.by_region = false;
	checkup.rest = "";
	expect(checkup_device(&checkup), CHECKUP_FAILED,
		"2 ivshmem devices: " ADDRESS " 0000:00:06.0 (frames)", "doctor");
}

static void test_no_device(void **state)
{
	(void)state;
	put(DEVICE "/vendor", "0x8086\n");
	expect(checkup_device(&checkup), CHECKUP_FAILED, "no ivshmem device in this machine",
		"-device ivshmem-doorbell,vectors=2,chardev=iv");
	checkup.system = &(struct guest_system){.sys = "/nowhere"};
	expect(checkup_device(&checkup), CHECKUP_FAILED, "no ivshmem device", "-device");
}

static void test_device_without_memory(void **state)
{
	(void)state;
	put(DEVICE "/resource",
		"0x00000000febf1000 0x00000000febf10ff 0x0000000000040200\n"
		"0x00000000febf2000 0x00000000febf2fff 0x0000000000040200\n"
		"0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	expect(checkup_device(&checkup), CHECKUP_FAILED, "no room for its BARs",
		"pci-hole64-size=64G");
}

static void test_device_of_a_uio_device(void **state)
{
	(void)state;
	put_uio();
	checkup.automatic = false;
	checkup.rest = "uio6";
	expect(checkup_device(&checkup), CHECKUP_OK, ADDRESS, NULL);
	assert_int_equal(checkup.vector, 1);
	expect(checkup_permissions(&checkup), CHECKUP_OK, "/dev/uio6", NULL);
	checkup.rest = "uio7";
	expect(checkup_device(&checkup), CHECKUP_FAILED, "uio:uio7", "modprobe uio_ivshmem");
}

/* ---- driver ---- */

static void test_driver(void **state)
{
	(void)state;
	find_device();
	expect(checkup_driver(&checkup), CHECKUP_NOTE, "nobody gets interrupts",
		"modprobe uio_ivshmem; cd /sys/bus/pci/devices/" ADDRESS "; echo uio_ivshmem "
		">driver_override; echo " ADDRESS " >/sys/bus/pci/drivers_probe");
	assert_int_equal(checkup.way, GUEST_PCI);

	put_driver("vfio-pci");
	find_device();
	expect(checkup_driver(&checkup), CHECKUP_OK, "vfio-pci", NULL);
	assert_int_equal(checkup.way, GUEST_VFIO);

	put_driver("uio_ivshmem");
	find_device();
	expect(checkup_driver(&checkup), CHECKUP_OK, "uio_ivshmem", NULL);
	assert_int_equal(checkup.way, GUEST_UIO);

	put_driver("uio_pci_generic");
	put("sys/bus/pci/drivers/uio_ivshmem/module", ""); /* is loaded */
	find_device();
	struct checkup_result result = checkup_driver(&checkup);
	expect(result, CHECKUP_FAILED, "uio_pci_generic: no way to",
		"as root: cd /sys/bus/pci/devices/" ADDRESS "; echo uio_ivshmem >driver_override; "
		"echo " ADDRESS " >driver/unbind; ");
	assert_null(strstr(result.remedy, "modprobe"));
}

static void test_driver_that_the_uri_asks_for(void **state)
{
	(void)state;
	checkup.automatic = false;
	checkup.rest = ADDRESS;
	for (int way = GUEST_UIO; way <= GUEST_PCI; way++) {
		static const char *const remedies[] = {
			[GUEST_UIO] = "modprobe uio_ivshmem",
			[GUEST_VFIO] = "modprobe vfio-pci",
			[GUEST_PCI] = "--uri auto:0000:00:04.0",
		};
		checkup.way = (enum guest_way)way;
		put_driver(way == GUEST_VFIO ? "uio_ivshmem" : "vfio-pci");
		find_device();
		expect(checkup_driver(&checkup), CHECKUP_FAILED, ", and ", remedies[way]);
		assert_int_equal(checkup.way, way);
	}
}

/* ---- permissions ---- */

static void test_permissions_of_uio(void **state)
{
	(void)state;
	put_uio();
	find_device();
	expect(checkup_permissions(&checkup), CHECKUP_OK, "2 UIO devices", NULL);

	set_mode("dev/uio5", 0666, 0);
	set_mode("dev/uio6", 0400, 0);
	expect(as_nobody(checkup_permissions), CHECKUP_FAILED, "/dev/uio6: Permission denied",
		"sudo chown $USER");
	if (geteuid() == 0) {
		set_mode("dev/uio6", 0660, 1);
		expect(as_nobody(checkup_permissions), CHECKUP_FAILED, "/dev/uio6",
			"usermod -aG ivshmem $USER");
	}
	tree_drop(tree_path("dev/uio6"));
	expect(checkup_permissions(&checkup), CHECKUP_FAILED, "/dev/uio6: No such file",
		"mount -t devtmpfs devtmpfs");
}

static void test_uio_devices_that_are_not_there(void **state)
{
	(void)state;
	put_driver("uio_ivshmem");
	find_device();
	expect(checkup_permissions(&checkup), CHECKUP_FAILED, "no UIO device", "drivers_probe");
}

static void test_permissions_of_vfio(void **state)
{
	(void)state;
	checkup.way = GUEST_VFIO;
	find_device();
	expect(checkup_permissions(&checkup), CHECKUP_FAILED, "no IOMMU",
		"-device intel-iommu,intremap=on");
	put_link(DEVICE "/iommu_group", "../../../kernel/iommu_groups/12");
	expect(checkup_permissions(&checkup), CHECKUP_FAILED, "/dev/vfio/vfio",
		"modprobe vfio_iommu_type1");
	put("dev/vfio/vfio", "");
	put("dev/vfio/12", "");
	expect(checkup_permissions(&checkup), CHECKUP_OK, "/dev/vfio/12", NULL);
	set_mode("dev/vfio/vfio", 0666, 0);
	set_mode("dev/vfio/12", 0400, 0);
	expect(as_nobody(checkup_permissions), CHECKUP_FAILED, "/dev/vfio/12: Permission denied",
		"sudo chown $USER /tmp");
}

static void test_permissions_of_sysfs(void **state)
{
	(void)state;
	checkup.way = GUEST_PCI;
	find_device();
	expect(checkup_permissions(&checkup), CHECKUP_OK, SYSFS_MEMORY, NULL);
	set_mode(DEVICE "/enable", 0444, 0);
	expect(as_nobody(checkup_permissions), CHECKUP_FAILED, "enable: Permission denied",
		"be root, or use the driver uio_ivshmem");
}

/* ---- what the driver has made of it ---- */

static void test_id(void **state)
{
	(void)state;
	put_uio();
	find_device();
	expect(checkup_id(&checkup), CHECKUP_OK, "3", NULL);
	put(DEVICE "/ivshmem/id", "-1\n");
	expect(checkup_id(&checkup), CHECKUP_FAILED, "not connected to a server",
		"ivshmem-server -S PATH");
	put(DEVICE "/ivshmem/vectors", "0\n");
	expect(checkup_id(&checkup), CHECKUP_NOTE, "ivshmem-plain", "-device ivshmem-doorbell");
	set_mode(DEVICE "/ivshmem/id", 0, 0);
	expect(as_nobody(checkup_id), CHECKUP_FAILED, "Permission denied", "uio_ivshmem");
}

static void test_bus_master(void **state)
{
	(void)state;
	put_uio();
	find_device();
	expect(checkup_bus_master(&checkup), CHECKUP_OK, "on", NULL);
	tree_set_word(tree_file(ADDRESS, "config"), 4, 0x100002);
	expect(checkup_bus_master(&checkup), CHECKUP_FAILED, "off", "setpci -s " ADDRESS);
	put(DEVICE "/vendor", "0xffff\n");
	expect(checkup_bus_master(&checkup), CHECKUP_FAILED, "has gone", "device_add");
}

static void test_msix(void **state)
{
	(void)state;
	put_uio();
	find_device();
	expect(checkup_msix(&checkup), CHECKUP_OK, "on", NULL);
	put_interrupts_off(TREE_VECTORS);
	expect(checkup_msix(&checkup), CHECKUP_FAILED, "off", ">driver/unbind; ");
	put_interrupts_off(0);
	expect(checkup_msix(&checkup), CHECKUP_OK, "INTx", NULL);
	put(DEVICE "/ivshmem/vectors", "0\n");
	expect(checkup_msix(&checkup), CHECKUP_SKIPPED, "no interrupts", NULL);
}

static void test_vectors(void **state)
{
	(void)state;
	put_uio();
	find_device();
	expect(checkup_vectors(&checkup), CHECKUP_OK, "4, all that the device has", NULL);

	put(DEVICE "/ivshmem/vectors", "3\n");
	expect(checkup_vectors(&checkup), CHECKUP_FAILED, "uses 3 of the device's 4",
		"vectors=3, ivshmem-server --vectors 3");
	put("sys/module/uio_ivshmem/parameters/max_vectors", "3\n");
	expect(checkup_vectors(&checkup), CHECKUP_FAILED, "uses 3 of the device's 4",
		"modprobe uio_ivshmem max_vectors=4");

	put(DEVICE "/ivshmem/vectors", "0\n");
	expect(checkup_vectors(&checkup), CHECKUP_NOTE, "ivshmem-plain", "ivshmem-doorbell");
	put(DEVICE "/ivshmem/vectors", "1\n");
	put_interrupts_off(0);
	find_device();
	expect(checkup_vectors(&checkup), CHECKUP_OK, "INTx", NULL);
}

static void test_vectors_that_cannot_be_compared(void **state)
{
	(void)state;
	put_uio();
	tree_bytes(tree_file(ADDRESS, "config"), (char[64]){0}, 64); /* what any user can read */
	put(DEVICE "/msi_irqs/24", "msix\n");
	find_device();
	expect(checkup_vectors(&checkup), CHECKUP_SKIPPED, "only root", NULL);
	checkup.way = GUEST_VFIO;
	expect(checkup_vectors(&checkup), CHECKUP_SKIPPED, "nobody tells", NULL);
}

static void test_vectors_of_vfio(void **state)
{
	(void)state;
	find_device();
	checkup.way = GUEST_VFIO;
	checkup.opened_vectors = 4;
	expect(checkup_vectors(&checkup), CHECKUP_OK, "4, all", NULL);
	checkup.opened_vectors = 2;
	expect(checkup_vectors(&checkup), CHECKUP_FAILED, "2 of the device's 4", "-smp");
}

/* ---- memory ---- */

static const char mtrr[] =
	"reg00: base=0x000000000 (    0MB), size= 1024MB, count=1: write-back\n"
	"reg01: base=0x380000000000 (58720256MB), size= 2048MB, count=1: uncachable\n";

static void test_cache(void **state)
{
	(void)state;
	find_device();
	checkup.way = GUEST_UIO; /* not x86: no /proc/mtrr */
	expect(checkup_cache(&checkup), CHECKUP_OK, "write-back", NULL);

	put("proc/mtrr", mtrr);
	expect(checkup_cache(&checkup), CHECKUP_NOTE, "uncached", "echo \"disable=1\" >/proc/mtrr");
	set_mode("proc/mtrr", 0, 0);
	expect(as_nobody(checkup_cache), CHECKUP_SKIPPED, "only root", NULL);
	set_mode("proc/mtrr", 0644, 0);

	checkup.way = GUEST_VFIO;
	expect(checkup_cache(&checkup), CHECKUP_NOTE, "uncached", "modprobe uio_ivshmem");
	checkup.way = GUEST_PCI;
	expect(checkup_cache(&checkup), CHECKUP_NOTE,
		SYSFS_CACHE == IVSHMEM_CACHE_UNCACHED ? "uncached" : "write-combining",
		"modprobe uio_ivshmem");
}

static void test_cache_as_others_map_it(void **state)
{
	(void)state;
	put("sys/kernel/debug/x86/pat_memtype_list",
		"PAT: [mem 0x0000380000000000-0x0000380000010000] uncached-minus\n");
	find_device();
	checkup.way = GUEST_UIO;
	expect(checkup_cache(&checkup), CHECKUP_NOTE, "uncached", "pat_memtype_list");
}

static void test_bandwidth(void **state)
{
	(void)state;
	struct ivshmem_memory memory = {
		.cache = IVSHMEM_CACHE_UNCACHED,
		.read_bandwidth = 5ull << 30,
		.write_bandwidth = 2ull << 30,
		.ram_read_bandwidth = 8ull << 30,
		.ram_write_bandwidth = 8ull << 30,
	};
	put("proc/mtrr", mtrr);
	find_device();
	checkup.way = GUEST_UIO;
	expect(checkup_bandwidth(&checkup, &memory), CHECKUP_OK,
		"read 5 GiB/s, write 2 GiB/s; ordinary memory: 8 GiB/s, 8 GiB/s", NULL);
	expect(checkup_bandwidth(NULL, &memory), CHECKUP_OK, "read 5 GiB/s", NULL);

	memory.write_bandwidth--;
	expect(checkup_bandwidth(&checkup, &memory), CHECKUP_FAILED, "write 1.9 GiB/s",
		"echo \"disable=1\" >/proc/mtrr");
	memory.read_bandwidth = 64 << 20;
	memory.write_bandwidth = 8ull << 30;
	expect(checkup_bandwidth(NULL, &memory), CHECKUP_FAILED, "read 64 MiB/s", "numa-node");
	memory.cache = IVSHMEM_CACHE_WRITE_BACK;
	expect(checkup_bandwidth(&checkup, &memory), CHECKUP_FAILED, "read 64 MiB/s", "-accel kvm");
	checkup.way = GUEST_PCI;
	expect(checkup_bandwidth(&checkup, &memory), CHECKUP_FAILED, "read 64 MiB/s",
		"modprobe uio_ivshmem");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		CHECKUP_TEST(test_device),
		CHECKUP_TEST(test_device_by_region),
		CHECKUP_TEST(test_no_device),
		CHECKUP_TEST(test_device_without_memory),
		CHECKUP_TEST(test_device_of_a_uio_device),
		CHECKUP_TEST(test_driver),
		CHECKUP_TEST(test_driver_that_the_uri_asks_for),
		CHECKUP_TEST(test_permissions_of_uio),
		CHECKUP_TEST(test_uio_devices_that_are_not_there),
		CHECKUP_TEST(test_permissions_of_vfio),
		CHECKUP_TEST(test_permissions_of_sysfs),
		CHECKUP_TEST(test_id),
		CHECKUP_TEST(test_bus_master),
		CHECKUP_TEST(test_msix),
		CHECKUP_TEST(test_vectors),
		CHECKUP_TEST(test_vectors_that_cannot_be_compared),
		CHECKUP_TEST(test_vectors_of_vfio),
		CHECKUP_TEST(test_cache),
		CHECKUP_TEST(test_cache_as_others_map_it),
		CHECKUP_TEST(test_bandwidth),
	};
	return cmocka_run_group_tests_name("checkup", tests, NULL, NULL);
}
