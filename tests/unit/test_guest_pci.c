/* SPDX-License-Identifier: MIT */
/* src/guest/pci.c: ivshmem devices in sysfs, and what else may be there. */
#include "guest/pci.h"

#include "../common/guesttree.h"

static struct pci_function read_ok(void)
{
	struct pci_function function;
	assert_int_equal(pci_read(&tree, TREE_BDF, &function), 0);
	return function;
}

/* ---- addresses ---- */

/* An address becomes part of a path. */
static void test_addresses(void **state)
{
	static const struct {
		const char *text, *address; /* NULL: it is none */
	} cases[] = {
		{"0000:00:04.0", "0000:00:04.0"},
		{"00:04.0", "0000:00:04.0"},
		{"abcd:ef:1f.7", "abcd:ef:1f.7"},
		{"ff:1f.7", "0000:ff:1f.7"},
		{"", NULL},
		{"0", NULL},
		{"0000:00:04.", NULL},
		{"0000:00:04.00", NULL},
		{"0000:00:04:0", NULL},
		{"0000-00:04.0", NULL},
		{"0000:00:04.0\n", NULL},
		{" 0000:00:04.0", NULL},
		{" 00:04.0", NULL},
		{"000g:00:04.0", NULL},
		{"-000:00:04.0", NULL},
		{"../../../etc", NULL},
		{"../../x", NULL},
		{"0000:00:04.0/../../../../../../etc/passwd", NULL},
	};
	char address[PCI_ADDRESS_SIZE];
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(pci_address(cases[i].text, address), cases[i].address != NULL);
		if (cases[i].address)
			assert_string_equal(address, cases[i].address);
	}
}

/* ---- one device ---- */

static void test_device(void **state)
{
	(void)state;
	tree_device(TREE_BDF, "uio_ivshmem");

	struct pci_function function = read_ok();
	assert_string_equal(function.address, TREE_BDF);
	assert_string_equal(function.driver, "uio_ivshmem");
	assert_int_equal(function.revision, 1);
	assert_int_equal(function.registers, 0xfebf1000);
	assert_int_equal(function.registers_size, 256);
	assert_int_equal(function.region, 0x380000000000);
	assert_int_equal(function.region_size, TREE_REGION);
	assert_true(function.memory_enabled);
	assert_true(function.bus_master);
	assert_int_equal(function.msix_vectors, TREE_VECTORS);
	assert_true(function.msix_enabled);
	assert_false(function.intx);

	struct pci_function again;
	assert_int_equal(pci_read(&tree, "00:04.0", &again), 0);
	assert_string_equal(again.address, TREE_BDF);
}

static void test_no_device(void **state)
{
	struct pci_function function;
	(void)state;

	assert_int_equal(pci_read(&tree, TREE_BDF, &function), -ENODEV);
	tree_device(TREE_BDF, NULL);
	assert_int_equal(pci_read(&tree, "0000:00:04.1", &function), -ENODEV);
	assert_int_equal(pci_read(&tree, "../../../etc", &function), -ENODEV);

	tree_text(tree_file(TREE_BDF, "device"), "0x1111\n");
	assert_int_equal(pci_read(&tree, TREE_BDF, &function), -EMEDIUMTYPE);
	tree_text(tree_file(TREE_BDF, "device"), "0x1110\n");
	tree_text(tree_file(TREE_BDF, "vendor"), "0x8086\n");
	assert_int_equal(pci_read(&tree, TREE_BDF, &function), -EMEDIUMTYPE);
	tree_text(tree_file(TREE_BDF, "vendor"), "");
	assert_true(pci_read(&tree, TREE_BDF, &function) < 0);
	tree_huge(tree_file(TREE_BDF, "vendor"), '1');
	assert_true(pci_read(&tree, TREE_BDF, &function) < 0);
}

static void assert_bars(const char *resource, uint64_t registers_size, uint64_t region_size)
{
	tree_text(tree_file(TREE_BDF, "resource"), resource);
	struct pci_function function = read_ok();
	assert_int_equal(function.registers_size, registers_size);
	assert_int_equal(function.region_size, region_size);
}

static void test_bars(void **state)
{
	(void)state;
	tree_device(TREE_BDF, NULL);

	/* More than 4 GiB, and more than 2^63: the size is for others to judge. */
	assert_bars("0x0 0xfff 0x0\n0x0 0x0 0x0\n0x0000380000000000 0x00003803ffffffff 0x14220c\n",
		4096, 16ull << 30);
	assert_int_equal(read_ok().region, 0x380000000000);
	assert_bars("0x0 0xff 0x0\n0x0 0x0 0x0\n0x1000 0xffffffffffffffff 0x0\n", 256,
		UINT64_MAX - 0xfff);

	/* No room was found for them, or they are not there to be read. */
	assert_bars("0x0 0x0 0x0\n0x0 0x0 0x0\n0x0 0x0 0x0\n", 0, 0);
	assert_bars("0x1000 0x10ff 0x0\n0x0 0x0 0x0\n", 256, 0);
	assert_bars("0x1000 0x10ff 0x0\n0x0 0x0 0x0\n0x1000 0xfff 0x0\n", 256, 0);
	assert_bars("", 0, 0);
	assert_bars("\n\n\n", 0, 0);
	assert_bars("0x1000 0x10ff", 0, 0);
	assert_bars("BAR0 BAR1 BAR2\n", 0, 0);
	assert_bars("0x1000 0x10ff 0x0\nnothing\n0x1000 0x10ff 0x0\n", 256, 0);

	tree_huge(tree_file(TREE_BDF, "resource"), 'x');
	assert_int_equal(read_ok().region_size, 0);
	tree_huge(tree_file(TREE_BDF, "resource"), '7');
	assert_int_equal(read_ok().region_size, 0);
	tree_drop(tree_file(TREE_BDF, "resource"));
	assert_int_equal(read_ok().region_size, 0);
}

static void test_driver(void **state)
{
	char target[200];
	(void)state;
	tree_device(TREE_BDF, NULL);
	struct tree_path driver = tree_file(TREE_BDF, "driver");

	assert_string_equal(read_ok().driver, "");
	tree_link(driver, "vfio-pci");
	assert_string_equal(read_ok().driver, "vfio-pci");
	tree_drop(driver);
	tree_link(driver, "../drivers/");
	assert_string_equal(read_ok().driver, "");
	tree_drop(driver);
	memset(target, 'd', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	tree_link(driver, target);
	assert_int_equal(strlen(read_ok().driver), sizeof(((struct pci_function *)0)->driver) - 1);
	tree_drop(driver);
	tree_text(driver, "vfio-pci");
	assert_string_equal(read_ok().driver, "");
}

/* ---- configuration space ---- */

/* Any user sees the first 64 bytes, and how many interrupts the kernel has made. */
static void test_unprivileged(void **state)
{
	(void)state;
	tree_device(TREE_BDF, "uio_ivshmem");
	assert_int_equal(truncate(tree_file(TREE_BDF, "config").text, 64), 0);

	struct pci_function function = read_ok();
	assert_int_equal(function.msix_vectors, -1);
	assert_false(function.msix_enabled);
	assert_true(function.memory_enabled);
	assert_true(function.bus_master);
	tree_path(TREE_DEVICES "/" TREE_BDF "/msi_irqs/");
	assert_false(read_ok().msix_enabled);
	tree_text(tree_file(TREE_BDF, "msi_irqs/26"), "msix\n");
	assert_true(read_ok().msix_enabled);
	assert_int_equal(read_ok().msix_vectors, -1);
}

static void set_config(const uint8_t config[256], size_t size)
{
	tree_bytes(tree_file(TREE_BDF, "config"), config, size);
}

static void test_config(void **state)
{
	uint8_t config[256] = {0};
	(void)state;
	tree_device(TREE_BDF, NULL);

	/* Without interrupts; with a pin, and a list of capabilities that is not announced. */
	tree_config(TREE_BDF, 0);
	assert_int_equal(read_ok().msix_vectors, 0);
	assert_false(read_ok().msix_enabled);
	assert_false(read_ok().intx);
	config[0x34] = 0x40;
	config[0x3d] = 1;
	config[0x40] = 0x11;
	set_config(config, sizeof(config));
	assert_int_equal(read_ok().msix_vectors, 0);
	assert_true(read_ok().intx);
	assert_false(read_ok().memory_enabled);
	assert_false(read_ok().bus_master);
	config[0x06] = 0x10;
	set_config(config, sizeof(config));
	assert_int_equal(read_ok().msix_vectors, 1);
	assert_false(read_ok().msix_enabled);

	tree_config(TREE_BDF, 2048);
	assert_int_equal(read_ok().msix_vectors, 2048);
}

/* A list of capabilities with one entry at `at`, which leads to `next`. */
static struct pci_function read_capabilities(uint8_t first, uint8_t at, uint8_t id, uint8_t next)
{
	uint8_t config[256] = {[0x06] = 0x10};

	config[0x34] = first;
	config[at] = id;
	config[at + 1] = next;
	set_config(config, sizeof(config));
	return read_ok();
}

static void test_hostile_config(void **state)
{
	uint8_t config[256];
	(void)state;
	tree_device(TREE_BDF, NULL);
	alarm(20); /* lists that go round for ever */

	assert_int_equal(read_capabilities(0x40, 0x40, 0x05, 0x40).msix_vectors, 0);
	assert_int_equal(read_capabilities(0x43, 0x40, 0x05, 0x04).msix_vectors, 0);
	assert_int_equal(read_capabilities(0x08, 0x08, 0x11, 0x00).msix_vectors, 0);
	assert_int_equal(read_capabilities(0x43, 0x40, 0x11, 0x00).msix_vectors, 1);
	assert_int_equal(read_capabilities(0xff, 0xfc, 0x11, 0xff).msix_vectors, 1);

	/* An unplugged device reads as ones. */
	memset(config, 0xff, sizeof(config));
	set_config(config, sizeof(config));
	assert_int_equal(read_ok().msix_vectors, 0);
	set_config(config, 255);
	assert_int_equal(read_ok().msix_vectors, -1);
	set_config(config, 63);
	assert_false(read_ok().memory_enabled);
	set_config(config, 0);
	assert_int_equal(read_ok().msix_vectors, -1);
	tree_huge(tree_file(TREE_BDF, "config"), 0x11);
	assert_int_equal(read_ok().msix_vectors, 0);
	tree_drop(tree_file(TREE_BDF, "config"));
	assert_int_equal(read_ok().msix_vectors, -1);
	tree_path(TREE_DEVICES "/" TREE_BDF "/config/");
	assert_int_equal(read_ok().msix_vectors, -1);
	alarm(0);
}

/* ---- numbers and lines ---- */

static int number_in(const char *text, uint64_t *value)
{
	tree_text(tree_path("number"), text);
	return sysfs_number(value, "%s/%s", tree_folder, "number");
}

static void test_numbers(void **state)
{
	static const char *const none[] = {"", "\n", "x", "0x", "0x\n", "1x", "1 2\n", "\n1\n", "-",
		"-1\n", "+1\n", " 1\n", "18446744073709551616\n", "1\t"};
	uint64_t value;
	(void)state;

	assert_int_equal(number_in("0\n", &value), 0);
	assert_int_equal(value, 0);
	assert_int_equal(number_in("4294967295", &value), 0);
	assert_int_equal(value, UINT32_MAX);
	assert_int_equal(number_in("0x1af4\nmore\n", &value), 0);
	assert_int_equal(value, 0x1af4);
	assert_int_equal(number_in("18446744073709551615\n", &value), 0);
	assert_true(value == UINT64_MAX);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		if (number_in(none[i], &value) != -EIO)
			fail_msg("\"%s\" is taken for a number", none[i]);

	tree_huge(tree_path("number"), '7');
	assert_int_equal(sysfs_number(&value, "%s/number", tree_folder), -EIO);
	assert_int_equal(sysfs_number(&value, "%s/nothing", tree_folder), -ENOENT);
	assert_int_equal(sysfs_number(&value, "%s", tree_folder), -EISDIR);
}

static void test_lines(void **state)
{
	char line[8];
	(void)state;

	tree_text(tree_path("line"), "one\ntwo\n");
	assert_int_equal(sysfs_line(line, sizeof(line), "%s/line", tree_folder), 0);
	assert_string_equal(line, "one");
	tree_text(tree_path("line"), "");
	assert_int_equal(sysfs_line(line, sizeof(line), "%s/line", tree_folder), 0);
	assert_string_equal(line, "");
	tree_huge(tree_path("line"), 'l');
	assert_int_equal(sysfs_line(line, sizeof(line), "%s/line", tree_folder), 0);
	assert_string_equal(line, "lllllll");
	assert_int_equal(sysfs_line(line, sizeof(line), "%s/nothing", tree_folder), -ENOENT);
}

/* ---- all devices ---- */

static void test_list(void **state)
{
	struct pci_function list[4];
	(void)state;

	assert_int_equal(pci_list(&tree, list, 4), -ENOENT);
	tree_path(TREE_DEVICES "/");
	assert_int_equal(pci_list(&tree, list, 4), 0);

	tree_device("0000:02:00.0", "vfio-pci");
	tree_device("0001:00:00.0", NULL);
	tree_device("0000:00:1f.7", "uio_ivshmem");
	tree_text(tree_file("0000:00:00.0", "vendor"), "0x8086\n");
	tree_text(tree_file("0000:00:00.0", "device"), "0x1110\n");
	tree_text(tree_file("0000:00:01.0", "vendor"), "");
	tree_text(tree_path(TREE_DEVICES "/0000:00:02.0"), "no folder\n");
	tree_device("hidden", NULL);

	assert_int_equal(pci_list(&tree, list, 4), 3);
	assert_string_equal(list[0].address, "0000:00:1f.7");
	assert_string_equal(list[0].driver, "uio_ivshmem");
	assert_string_equal(list[1].address, "0000:02:00.0");
	assert_string_equal(list[2].address, "0001:00:00.0");
	assert_string_equal(list[2].driver, "");
}

static void test_list_without_room(void **state)
{
	struct pci_function list[3];
	(void)state;
	for (int i = 0; i < 8; i++) {
		char address[PCI_ADDRESS_SIZE];
		snprintf(address, sizeof(address), "0000:00:%02d.0", 8 - i);
		tree_device(address, NULL);
	}

	memset(list, 0x5a, sizeof(list));
	const struct pci_function untouched = list[2];
	assert_int_equal(pci_list(&tree, list, 2), 8);
	assert_true(strcmp(list[0].address, list[1].address) < 0);
	assert_memory_equal(&list[2], &untouched, sizeof(untouched));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_addresses),
		TREE_TEST(test_device),
		TREE_TEST(test_no_device),
		TREE_TEST(test_bars),
		TREE_TEST(test_driver),
		TREE_TEST(test_unprivileged),
		TREE_TEST(test_config),
		TREE_TEST(test_hostile_config),
		TREE_TEST(test_numbers),
		TREE_TEST(test_lines),
		TREE_TEST(test_list),
		TREE_TEST(test_list_without_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
