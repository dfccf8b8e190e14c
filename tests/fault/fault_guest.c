/* SPDX-License-Identifier: MIT */
/* Every system call and allocation of a guest's life fails once: nothing leaks, the application is
 * told, and the next time works. Over ordinary files: vfio-pci would need a device. */
#include "../common/guesttree.h"
#include "fault.h"

#include "guest/checkup.h"

static int open_any(struct guest *guest)
{
	struct guest_error error = {""};
	char address[PCI_ADDRESS_SIZE];
	enum guest_way way;

	*guest = (struct guest){0};
	int err = guest_choose(&tree, "", &way, address, &error);
	if (err == 0)
		err = guest_open(guest, &tree, way, address, &tree_params, &error);
	if (err < 0)
		assert_int_not_equal(error.text[0], '\0');
	return err;
}

/* Vector 0 has been rung seven times before. */
static int uio_life(void *data)
{
	struct guest guest;
	uint64_t rings = 0;
	(void)data;

	if (open_any(&guest) < 0)
		return -1;
	int rung = guest_notify(&guest, 7, 1);
	int taken = guest_wait(&guest, 0, 0, &rings);
	guest_close(&guest);
	return rung == 0 && taken == 1 && rings == 7 ? 0 : -1;
}

static int sysfs_life(void *data)
{
	struct guest guest;
	(void)data;

	if (open_any(&guest) < 0)
		return -1;
	int woken = guest_wait(&guest, 0, 1, NULL);
	guest_close(&guest);
	return woken;
}

static int checkup_life(void *data)
{
	static checkup_function *const all[] = {checkup_device, checkup_driver, checkup_permissions,
		checkup_id, checkup_cache, checkup_bus_master, checkup_msix, checkup_vectors};
	struct checkup checkup = {.system = &tree,
		.automatic = true,
		.rest = "",
		.vector = -1,
		.opened_vectors = TREE_VECTORS};
	(void)data;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		struct checkup_result result = all[i](&checkup);
		assert_int_not_equal(result.found[0], '\0');
		if (result.status == CHECKUP_FAILED) {
			assert_int_not_equal(result.remedy[0], '\0');
			return -1;
		}
	}
	return 0;
}

static void test_uio(void **state)
{
	(void)state;
	tree_uio_device();
	tree_set_word(tree_path("dev/uio%u", TREE_UIO), 0, 7); /* what read() gives */
	assert_true(fault_sweep(uio_life, NULL) > 40);
}

static void test_sysfs(void **state)
{
	(void)state;
	tree_device(TREE_BDF, NULL);
	assert_true(fault_sweep(sysfs_life, NULL) > 15);
}

static void test_checkup(void **state)
{
	(void)state;
	tree_uio_device();
	tree_text(tree_path(TREE_ATTR "/id"), "5\n");
	assert_true(fault_sweep(checkup_life, NULL) > 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TREE_TEST(test_uio), TREE_TEST(test_sysfs), TREE_TEST(test_checkup)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
