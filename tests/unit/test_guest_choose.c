/* SPDX-License-Identifier: MIT */
/* src/guest/guest.c before a device is opened: which device, which way, and what to do where it is
 * none or the wrong one. */
#include "../common/guesttree.h"
#include "../common/headerpage.h"

#define OTHER_BDF "0000:00:05.0"

/* ---- auto: ---- */

static void assert_chosen(const char *rest, enum guest_way expected, const char *expected_address)
{
	struct guest_error error = {""};
	char address[PCI_ADDRESS_SIZE] = "";
	enum guest_way way = GUEST_UIO;

	if (guest_choose(&tree, rest, &way, address, &error) < 0)
		fail_msg("%s", error.text);
	assert_int_equal(way, expected);
	assert_string_equal(address, expected_address);
}

static void assert_not_chosen(const char *rest, int expected, const char *hint)
{
	struct guest_error error = {""};
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;

	assert_int_equal(guest_choose(&tree, rest, &way, address, &error), expected);
	tree_assert_says(&error, hint);
}

static void test_choose_by_driver(void **state)
{
	static const struct {
		const char *driver;
		enum guest_way way;
	} cases[] = {{NULL, GUEST_PCI}, {"uio_ivshmem", GUEST_UIO}, {"vfio-pci", GUEST_VFIO}};
	(void)state;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tree_device(TREE_BDF, cases[i].driver);
		assert_chosen("", cases[i].way, TREE_BDF);
		assert_chosen("00:04.0", cases[i].way, TREE_BDF);
		if (cases[i].driver)
			tree_drop(tree_file(TREE_BDF, "driver"));
	}
}

static void test_choose_none(void **state)
{
	(void)state;
	assert_not_chosen("", -ENODEV, "-device ivshmem-doorbell");
	assert_not_chosen(TREE_BDF, -ENODEV, "lspci -d 1af4:1110");
	tree_path(TREE_DEVICES "/");
	assert_not_chosen("", -ENODEV, "-device ivshmem-doorbell");
	tree_device(TREE_BDF, NULL);
	tree_text(tree_file(TREE_BDF, "device"), "0x1000\n");
	assert_not_chosen("", -ENODEV, "-device ivshmem-doorbell");
	assert_not_chosen(TREE_BDF, -ENODEV, "0000:00:04.0 is not an ivshmem device");
	assert_not_chosen("uio0", -EINVAL, "'uio0' is no PCI address: write it like 0000:00:04.0");
	assert_not_chosen("../../../etc", -EINVAL, "no PCI address");
	char longest[4096];
	memset(longest, '0', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_not_chosen(longest, -EINVAL, "write it like 0000:00:04.0");
}

/* There are 32, and the message is cut off at a proper end. */
static void assert_many(void)
{
	struct guest_error error;
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;

	memset(&error, 'x', sizeof(error));
	assert_int_equal(guest_choose(&tree, "", &way, address, &error), -ENOTUNIQ);
	assert_non_null(memchr(error.text, '\0', sizeof(error.text)));
	assert_non_null(strstr(error.text, "32 ivshmem devices: choose one, as in auto:0000:0"));
}

static void test_choose_among_several(void **state)
{
	char address[PCI_ADDRESS_SIZE];
	(void)state;
	tree_device(TREE_BDF, NULL);
	tree_device(OTHER_BDF, "uio_ivshmem");

	assert_not_chosen("", -ENOTUNIQ,
		"2 ivshmem devices: choose one, as in auto:0000:00:04.0, of: 0000:00:04.0 (64 KiB, "
		"no driver), 0000:00:05.0 (64 KiB, uio_ivshmem)");
	assert_chosen(OTHER_BDF, GUEST_UIO, OTHER_BDF);
	assert_chosen(TREE_BDF, GUEST_PCI, TREE_BDF);

	/* More than are listed, and more than a message has room for. */
	for (int i = 1; i <= 30; i++) {
		snprintf(address, sizeof(address), "0000:01:%02d.0", i);
		tree_device(address, NULL);
	}
	assert_many();
	for (int i = 1; i <= 30; i++) {
		snprintf(address, sizeof(address), "0000:01:%02d.0", i);
		tree_link(tree_file(address, "driver"), "a_driver_with_quite_a_long_name");
	}
	assert_many();
}

/* ---- region: ---- */

static int choose_region(
	const char *name, char address[PCI_ADDRESS_SIZE], struct guest_error *error)
{
	enum guest_way way;

	error->text[0] = '\0';
	int err = guest_choose_region(&tree, name, 0, &way, address, error);
	if (err == 0)
		assert_int_equal(way, GUEST_PCI);
	return err;
}

static void assert_region(const char *name, const char *expected)
{
	struct guest_error error;
	char address[PCI_ADDRESS_SIZE] = "";

	if (choose_region(name, address, &error) < 0)
		fail_msg("%s", error.text);
	assert_string_equal(address, expected);
}

static void assert_no_region(const char *name, int expected, const char *hint)
{
	struct guest_error error;
	char address[PCI_ADDRESS_SIZE];

	assert_int_equal(choose_region(name, address, &error), expected);
	tree_assert_says(&error, hint);
}

/* A device without a driver, whose region has that name. */
static void named_device(const char *address, const char *name)
{
	uint8_t region[TREE_REGION] = {0};

	tree_device(address, NULL);
	header_page(region, name, 1);
	tree_bytes(tree_file(address, SYSFS_MEMORY), region, sizeof(region));
}

static void test_choose_by_region(void **state)
{
	struct guest_error error;
	char address[PCI_ADDRESS_SIZE];
	(void)state;

	assert_no_region("frames", -ENOENT, "no ivshmem device");
	named_device("0000:00:06.0", "frames");
	named_device(TREE_BDF, "sounds");
	tree_device(OTHER_BDF, NULL);
	assert_region("frames", "0000:00:06.0");
	assert_region("sounds", TREE_BDF);
	assert_no_region("frame", -ENODEV,
		"no ivshmem device here has the region 'frame': 0000:00:04.0 (sounds), "
		"0000:00:05.0 (no header), 0000:00:06.0 (frames)");

	/* Those that cannot be looked at are in nobody's way. */
	tree_device("0000:00:07.0", "mine");
	tree_device("0000:00:08.0", "uio_ivshmem");
	tree_drop(tree_file(OTHER_BDF, SYSFS_MEMORY));
	assert_region("frames", "0000:00:06.0");
	assert_no_region("none", -ENODEV, "0000:00:07.0 (a driver that is not ours), ");
	assert_no_region("none", -ENODEV, "0000:00:05.0 (No such file or directory), ");

	/* Who says that it is another is not taken for it, and nor is the other any more. */
	named_device("0000:00:03.0", "frames");
	assert_no_region("frames", -ENOTUNIQ,
		"both 0000:00:03.0 and 0000:00:06.0 say that they have the region 'frames'");
	assert_region("sounds", TREE_BDF);

	/* More than a message has room for. */
	for (int i = 1; i <= 30; i++) {
		snprintf(address, sizeof(address), "0000:01:%02d.0", i);
		named_device(
			address, "a-name-of-many-characters-that-takes-a-lot-of-room-in-a-line");
	}
	memset(&error, 'x', sizeof(error));
	assert_int_equal(choose_region("none", address, &error), -ENODEV);
	assert_non_null(memchr(error.text, '\0', sizeof(error.text)));
	assert_region("sounds", TREE_BDF);
}

/* Through a driver the same. */
static void test_choose_region_by_uio(void **state)
{
	uint8_t page[HEADER_PAGE];
	struct guest_error error = {""};
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;
	(void)state;

	tree_uio_device();
	header_page(page, "frames", 1);
	int fd = open(tree_path("dev/uio%d", TREE_UIO).text, O_WRONLY | O_CLOEXEC);
	assert_int_equal(pwrite(fd, page, sizeof(page), sysconf(_SC_PAGESIZE)), sizeof(page));
	close(fd);
	if (guest_choose_region(&tree, "frames", 0, &way, address, &error) < 0)
		fail_msg("%s", error.text);
	assert_int_equal(way, GUEST_UIO);
	assert_string_equal(address, TREE_BDF);
}

static void test_several_are_named(void **state)
{
	(void)state;
	named_device(TREE_BDF, "sounds");
	tree_device(OTHER_BDF, NULL);
	assert_not_chosen("", -ENOTUNIQ,
		"of: 0000:00:04.0 (sounds, 64 KiB, no driver), 0000:00:05.0 (64 KiB, no driver)");
}

/* ---- drivers ---- */

/* Each step of the way there is in the message. */
static void assert_other_driver(enum guest_way way, const char *address, const char *found,
	const char *const *steps, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		tree_assert_fails(way, address, &tree_params, -ENXIO, found);
		tree_assert_fails(way, address, &tree_params, -ENXIO, steps[i]);
	}
}

static void test_wrong_driver(void **state)
{
	static const char *const uio[] = {"as root, ", "modprobe uio_ivshmem; ",
		"echo uio_ivshmem >", "driver_override; ", "drivers_probe", "unbind; "};
	static const char *const vfio[] = {"as root, ", "modprobe vfio-pci; ", "echo vfio-pci >",
		"driver_override; ", "drivers_probe", "unbind; "};
	const size_t n = sizeof(uio) / sizeof(uio[0]);
	(void)state;

	/* With nothing to unbind. */
	tree_device(TREE_BDF, NULL);
	assert_other_driver(GUEST_UIO, TREE_BDF, "0000:00:04.0: no driver is bound", uio, n - 1);
	assert_other_driver(GUEST_VFIO, TREE_BDF, "no driver is bound", vfio, n - 1);
	tree_device(OTHER_BDF, "uio_pci_generic");
	assert_other_driver(GUEST_UIO, OTHER_BDF, "uio_pci_generic is bound", uio, n);
	assert_other_driver(GUEST_VFIO, OTHER_BDF, "uio_pci_generic is bound", vfio, n);
	assert_not_chosen(OTHER_BDF, -ENXIO, "unbind; ");
	tree_device("0000:00:06.0", "vfio-pci");
	assert_other_driver(GUEST_UIO, "0000:00:06.0", "vfio-pci is bound", uio, n);
}

/* Mapping a device behind its driver's back is refused, and the device is left alone. */
static void test_busy(void **state)
{
	static const struct {
		const char *driver, *hint;
	} cases[] = {
		{"uio_ivshmem", "use uio:0000:00:04.0"},
		{"vfio-pci", "use vfio:0000:00:04.0"},
		{"mine", "echo 0000:00:04.0 > /sys/bus/pci/drivers/mine/unbind"},
	};
	char enabled[8];
	(void)state;
	struct tree_path enable = tree_file(TREE_BDF, "enable");

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		tree_device(TREE_BDF, cases[i].driver);
		tree_assert_fails(GUEST_PCI, TREE_BDF, &tree_params, -EBUSY, cases[i].hint);
		assert_int_equal(sysfs_line(enabled, sizeof(enabled), "%s", enable.text), 0);
		assert_string_equal(enabled, "0");
		tree_drop(tree_file(TREE_BDF, "driver"));
	}
}

static void test_vfio_files(void **state)
{
	(void)state;
	tree_device(TREE_BDF, "vfio-pci");
	tree_assert_fails(GUEST_VFIO, TREE_BDF, &tree_params, -ENOENT, "modprobe vfio_iommu_type1");
	tree_text(tree_path("dev/vfio/vfio"), "");
	tree_assert_fails(GUEST_VFIO, TREE_BDF, &tree_params, -ENOENT, "intel-iommu");
	tree_link(tree_file(TREE_BDF, "iommu_group"), "../../../../kernel/iommu_groups/7");
	tree_assert_fails(GUEST_VFIO, TREE_BDF, &tree_params, -ENOENT, "/dev/vfio/7: No such");
	tree_text(tree_path("dev/vfio/7"), "");
	/* No group of the kernel's; the errno is the emulator's own where there is one. */
	struct guest guest = {0};
	struct guest_error error = {""};
	assert_true(guest_open(&guest, &tree, GUEST_VFIO, TREE_BDF, &tree_params, &error) < 0);
	tree_assert_says(&error, "IOMMU group 7: ");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_choose_by_driver),
		TREE_TEST(test_choose_none),
		TREE_TEST(test_choose_among_several),
		TREE_TEST(test_choose_by_region),
		TREE_TEST(test_choose_region_by_uio),
		TREE_TEST(test_several_are_named),
		TREE_TEST(test_wrong_driver),
		TREE_TEST(test_busy),
		TREE_TEST(test_vfio_files),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
