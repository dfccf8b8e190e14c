/* SPDX-License-Identifier: MIT */
/* src/guest/uio.c: opening a device that uio_ivshmem drives. Ordinary files can be mapped as UIO
 * devices are. What cannot be done with them: test_guest_vectors.c. */
#include "../common/guesttree.h"

static void set_id(unsigned uio, uint32_t id)
{
	tree_set_word(tree_path("dev/uio%u", uio), IVSHMEM_REG_IVPOSITION, id);
}

/* ---- names ---- */

static void test_names_refused(void **state)
{
	static const char *const names[] = {"", "uio", "uio.", "uiox", "uio3x", "uio-3", "uio 3",
		"uio../x", "uio/../../x", "../dev/uio3", "/dev/uio3", "uio3/", "UIO3",
		"uio1234567890123", "ivshmem-", TREE_NAME, TREE_NAME ".", TREE_NAME ".x",
		TREE_NAME ".-1", TREE_NAME ".+1", TREE_NAME ". 1", TREE_NAME ".1x",
		TREE_NAME ".4294967296", TREE_NAME ".99999999999999999999", TREE_NAME ",1",
		"ivshmem-../../../etc.1", "ivshmem-00:04.0.1", TREE_BDF ".1"};
	(void)state;
	tree_uio_device();
	/* That is where one of them would lead. */
	tree_text(tree_path(TREE_CLASS "/uio../x/name"), TREE_NAME ".0\n");

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		tree_assert_fails(GUEST_UIO, names[i], &tree_params, -EINVAL,
			"use a PCI address (0000:00:04.0), a UIO device (uio3) or its name");
	char longest[4096] = "uio";
	memset(longest + 3, '3', sizeof(longest) - 4);
	longest[sizeof(longest) - 1] = '\0';
	tree_assert_fails(GUEST_UIO, longest, &tree_params, -EINVAL, "use a PCI address");
}

/* UIO devices of others, and names that the driver does not give. */
static void test_foreign_devices(void **state)
{
	static const char *const names[] = {"", "uio_pci_generic", "ivshmem-", TREE_NAME ".x",
		TREE_NAME ".0 or 1", "ivshmem-../../../etc.0", TREE_NAME ".4294967295"};
	struct guest guest;
	(void)state;
	tree_uio_device();

	tree_assert_fails(GUEST_UIO, "uio9", &tree_params, -ENODEV, "modprobe uio_ivshmem");
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		tree_uio(9, names[i], 0);
		tree_assert_fails(GUEST_UIO, "uio9", &tree_params, -ENODEV,
			"uio9 is no device of uio_ivshmem");
		tree_open(&guest, GUEST_UIO, TREE_BDF, &tree_params);
		guest_close(&guest);
	}
	tree_huge(tree_path(TREE_CLASS "/uio9/name"), 'i');
	tree_assert_fails(GUEST_UIO, "uio9", &tree_params, -ENODEV, "uio9 is no device of");
	/* The name of another device leads there. */
	tree_uio(9, "ivshmem-0000:00:05.0.0", 0);
	tree_assert_fails(
		GUEST_UIO, "uio9", &tree_params, -ENODEV, "there is no PCI device 0000:00:05.0");
	/* And it is none of this one's vectors. */
	tree_drop(tree_path(TREE_CLASS "/uio3/name"));
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENODEV, "only 3 of 4 vectors");
}

/* ---- opening ---- */

static void test_open(void **state)
{
	const unsigned caps =
		IVSHMEM_CAP_NOTIFY | IVSHMEM_CAP_ID | IVSHMEM_CAP_WRITE | IVSHMEM_CAP_INTERRUPT;
	const off_t page = sysconf(_SC_PAGESIZE);
	struct guest guest;
	(void)state;
	tree_uio_device();

	tree_open(&guest, GUEST_UIO, "00:04.0", &tree_params);
	assert_int_equal(guest.id, 5);
	assert_int_equal(guest_capabilities(&guest) & ~IVSHMEM_CAP_FAST_REGION, caps);
	assert_int_equal(guest_vectors(&guest, 5), TREE_VECTORS);
	assert_int_equal(guest_vectors(&guest, 4), -ENOTSUP);
	assert_int_equal(guest_region_fd(&guest), -ENOTSUP);
	for (unsigned i = 0; i < TREE_VECTORS; i++) {
		int fd = guest_vector_fd(&guest, i);
		assert_true(fd >= 0);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	}
	assert_int_equal(guest_vector_fd(&guest, TREE_VECTORS), -EINVAL);
	assert_int_equal(guest_wait(&guest, TREE_VECTORS, -1, NULL), -EINVAL);

	/* The registers are a page, the memory follows it; each vector's file has both. */
	assert_int_equal(guest.size, TREE_REGION);
	((uint32_t *)guest.region)[TREE_REGION / 4 - 1] = htole32(0x12345678);
	assert_int_equal(guest_notify(&guest, 7, 3), 0);
	unsigned changed = 0;
	for (unsigned i = TREE_UIO; i < TREE_UIO + TREE_VECTORS; i++)
		changed +=
			tree_word(tree_path("dev/uio%u", i), IVSHMEM_REG_DOORBELL) == 0x00070003 &&
			tree_word(tree_path("dev/uio%u", i), page + TREE_REGION - 4) == 0x12345678;
	assert_int_equal(changed, 1);
	guest_close(&guest);
}

/* A vector alone, so that processes can share a device. The others are left alone. */
static void test_open_one(void **state)
{
	static const char *const names[] = {"uio5", TREE_NAME ".2"};
	struct guest guest;
	(void)state;
	tree_uio_device();
	for (unsigned i = 0; i < TREE_VECTORS; i++)
		if (i != 2)
			tree_drop(tree_path("dev/uio%u", TREE_UIO + i));

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		tree_open(&guest, GUEST_UIO, names[i], &tree_params);
		assert_true(guest_vector_fd(&guest, 2) >= 0);
		assert_int_equal(guest_vector_fd(&guest, 1), -EINVAL);
		assert_int_equal(guest_wait(&guest, 3, 0, NULL), -EINVAL);
		assert_int_equal(guest_notify(&guest, 1, 1), 0);
		assert_int_equal(
			tree_word(tree_path("dev/uio5"), IVSHMEM_REG_DOORBELL), 0x00010001);
		guest_close(&guest);
	}
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENOENT, "start udev");
}

static void test_limits(void **state)
{
	struct ivshmem_params params = tree_params;
	struct guest guest;
	(void)state;
	tree_uio_device();

	tree_assert_fails(
		GUEST_UIO, TREE_NAME ".4", &params, -ENODEV, "4 vectors, numbered from 0");
	tree_assert_fails(GUEST_UIO, TREE_NAME ".2147483647", &params, -ENODEV, "has 4 vectors");
	params.max_vectors = 2;
	tree_assert_fails(GUEST_UIO, TREE_NAME ".2", &params, -EINVAL, "max_vectors");
	tree_open(&guest, GUEST_UIO, TREE_BDF, &params);
	assert_true(guest_vector_fd(&guest, 1) >= 0);
	assert_int_equal(guest_vector_fd(&guest, 2), -EINVAL);
	assert_int_equal(guest_vectors(&guest, 5), 2);
	guest_close(&guest);
	params.map_limit = TREE_REGION - 1;
	tree_assert_fails(GUEST_UIO, TREE_BDF, &params, -EFBIG, "map_limit");
}

static void test_bad_id(void **state)
{
	(void)state;
	tree_uio_device();
	for (unsigned i = TREE_UIO; i < TREE_UIO + TREE_VECTORS; i++)
		set_id(i, UINT32_MAX);
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -EAGAIN, "start the server");
	set_id(TREE_UIO, 65536);
	tree_assert_fails(GUEST_UIO, "uio3", &tree_params, -EPROTO, "its VMM is broken");
}

/* The first peer of a server, whose ID is that of a device without one. */
static void test_first_peer(void **state)
{
	struct guest guest;
	(void)state;
	tree_uio_device();
	set_id(TREE_UIO, 0);
	tree_open(&guest, GUEST_UIO, "uio3", &tree_params);
	assert_int_equal(guest.id, 0);
	assert_int_equal(guest_notify(&guest, 1, 1), 0);
	guest_close(&guest);
}

static void test_plain(void **state)
{
	static const char *const names[] = {TREE_BDF, "uio0", TREE_NAME ".0"};
	struct guest guest;
	uint64_t count = 77;
	(void)state;
	tree_device(TREE_BDF, "uio_ivshmem");
	tree_config(TREE_BDF, 0);
	tree_text(tree_path(TREE_ATTR "/vectors"), "0\n");
	tree_uio(0, TREE_NAME ".0", 0);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		tree_open(&guest, GUEST_UIO, names[i], &tree_params);
		assert_int_equal(guest.id, -1);
		assert_int_equal(guest_capabilities(&guest) & ~IVSHMEM_CAP_FAST_REGION,
			IVSHMEM_CAP_WRITE | IVSHMEM_CAP_TIMED_WAIT);
		assert_int_equal(guest_notify(&guest, 0, 0), -ENOTSUP);
		assert_int_equal(guest_vector_fd(&guest, 0), -ENOTSUP);
		assert_int_equal(guest_wait(&guest, 0, 60000, &count), 1);
		assert_int_equal(count, 0);
		assert_int_equal(guest_wait(&guest, 0, 0, NULL), 0);
		guest_close(&guest);
	}
	tree_assert_fails(GUEST_UIO, TREE_NAME ".1", &tree_params, -ENODEV, "numbered from 0");
}

/* The driver is being bound or unbound: its files come and go one by one. */
static void test_incomplete(void **state)
{
	(void)state;
	tree_uio_device();

	tree_drop(tree_path(TREE_CLASS "/uio4/event"));
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENOENT, "uio4/event: No such file");
	tree_text(tree_path(TREE_CLASS "/uio4/event"), "many\n");
	tree_assert_fails(GUEST_UIO, TREE_NAME ".1", &tree_params, -EIO, "uio4/event");
	tree_drop(tree_path(TREE_CLASS "/uio4/name"));
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENODEV, "only 3 of 4 vectors");
	tree_assert_fails(GUEST_UIO, TREE_NAME ".1", &tree_params, -ENODEV, "only 0 of 1 vectors");
	/* A vector's old UIO device and its new one are no two vectors. */
	tree_text(tree_path(TREE_CLASS "/uio4/name"), TREE_NAME ".0\n");
	tree_text(tree_path(TREE_CLASS "/uio4/event"), "0\n");
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENODEV, "only 3 of 4 vectors");
}

/* Something else in the UIO device's place does not hang us. */
static void test_no_uio_device(void **state)
{
	(void)state;
	tree_uio_device();
	struct tree_path node = tree_path("dev/uio3");
	tree_drop(node);
	assert_int_equal(mkfifo(node.text, 0600), 0);
	tree_assert_fails(GUEST_UIO, "uio3", &tree_params, -ENODEV, "mapping the registers from");
	tree_drop(node);
	assert_int_equal(mkdir(node.text, 0700), 0);
	tree_assert_fails(GUEST_UIO, "uio3", &tree_params, -EISDIR, "/dev/uio3: Is a directory");
}

static void test_bad_count(void **state)
{
	static const char *const counts_of_vectors[] = {"", "\n", "x\n", "99999999999999999999\n"};
	(void)state;
	tree_uio_device();

	for (size_t i = 0; i < sizeof(counts_of_vectors) / sizeof(counts_of_vectors[0]); i++) {
		tree_text(tree_path(TREE_ATTR "/vectors"), counts_of_vectors[i]);
		tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -EIO, "ivshmem/vectors");
	}
	tree_huge(tree_path(TREE_ATTR "/vectors"), '9');
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -EIO, "ivshmem/vectors");
	tree_text(tree_path(TREE_ATTR "/vectors"), "18446744073709551615\n");
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENODEV, "only 4 of 2048 vectors");
	tree_drop(tree_path(TREE_ATTR "/vectors"));
	tree_assert_fails(GUEST_UIO, TREE_BDF, &tree_params, -ENOENT, "ivshmem/vectors");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_names_refused),
		TREE_TEST(test_foreign_devices),
		TREE_TEST(test_open),
		TREE_TEST(test_open_one),
		TREE_TEST(test_limits),
		TREE_TEST(test_bad_id),
		TREE_TEST(test_first_peer),
		TREE_TEST(test_plain),
		TREE_TEST(test_incomplete),
		TREE_TEST(test_no_uio_device),
		TREE_TEST(test_bad_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
