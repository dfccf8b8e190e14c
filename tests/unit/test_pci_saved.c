/* SPDX-License-Identifier: MIT */
/* The device's state as bytes: docs/device.md, section 11. */
#include "../common/pcibox.h"

static size_t save(const struct vmm *vmm, uint8_t bytes[4096])
{
	size_t size = ivshmem_pci_saved_size(ivshmem_pci_vectors(vmm->pci));

	assert_in_range(size, 1, 4096);
	ivshmem_pci_save(vmm->pci, bytes);
	return size;
}

/* Another device of the same configuration, with the state of the first. */
static void make_copy(struct vmm *copy, const struct vmm *vmm, unsigned revision, unsigned vectors)
{
	uint8_t bytes[4096];
	size_t size = save(vmm, bytes);

	*copy = (struct vmm){.pci = NULL};
	make_plainly(copy, revision, vectors);
	assert_null(ivshmem_pci_load(copy->pci, bytes, size));
}

static void test_a_guest_finds_its_device_again(void **state)
{
	(void)state;
	struct vmm vmm = {0}, copy;
	uint8_t before[4096], after[4096];

	make_plainly(&vmm, 1, 2);
	set_config(&vmm, BAR0, 4, 0xfe001000);
	set_config(&vmm, BAR1, 4, 0xfe002000);
	set_config(&vmm, BAR2, 8, 0x800000000);
	set_config(&vmm, COMMAND, 2, MEMORY | MASTER);
	set_config(&vmm, CONTROL, 2, ENABLE);
	set(&vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 4, 0x12345678);
	set(&vmm, IVSHMEM_BAR_MSIX, 16, 8, 0xfee01000);
	set(&vmm, IVSHMEM_BAR_MSIX, 24, 4, 0x4041);
	set(&vmm, IVSHMEM_BAR_MSIX, 28, 4, 0);
	ivshmem_pci_interrupt(vmm.pci, 0); /* stays pending: its vector is masked */

	make_copy(&copy, &vmm, 1, 2);
	assert_told(&copy, "place 0 fe001000;place 1 fe002000;place 2 800000000;");
	assert_int_equal(save(&copy, after), save(&vmm, before));
	assert_memory_equal(before, after, ivshmem_pci_saved_size(2));
	assert_int_equal(get_config(&copy, COMMAND, 2), MEMORY | MASTER);
	assert_int_equal(get(&copy, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 4), 0x12345678);
	assert_int_equal(get(&copy, IVSHMEM_BAR_MSIX, PBA, 4), 1);
	ivshmem_pci_interrupt(copy.pci, 1);
	assert_told(&copy, "message 1 fee01000 4041;");
	set(&copy, IVSHMEM_BAR_MSIX, 12, 4, 0);
	assert_told(&copy, "message 0 0 0;");
	drop(&copy);
	drop(&vmm);
}

static void test_intx_is_asserted_again(void **state)
{
	(void)state;
	struct vmm vmm = {0}, copy;

	make_plainly(&vmm, 0, 0);
	set(&vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 4, 1);
	ivshmem_pci_interrupt(vmm.pci, 0);
	make_copy(&copy, &vmm, 0, 0);
	assert_told(&copy, "line 1;");
	assert_int_equal(get_config(&copy, STATUS, 2) & 8, 8);
	assert_int_equal(get(&copy, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4), 1);
	assert_told(&copy, "line 0;");
	assert_int_equal(get(&vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4), 1);
	drop(&copy);
	drop(&vmm);
}

/* Both belong to the host on which the device is now. */
static void test_position_and_readiness_are_not_saved(void **state)
{
	(void)state;
	struct vmm vmm = {0}, copy = {0};
	uint8_t bytes[4096];

	struct ivshmem_pci_config config = config_of(&vmm, 1, 2);
	config.external_table = 1;
	make(&vmm, &config);
	set_config(&vmm, CONTROL, 2, ENABLE);
	ivshmem_pci_interrupt(vmm.pci, 1);
	size_t size = save(&vmm, bytes);

	config.position = 9;
	config.data = &copy;
	make(&copy, &config);
	ivshmem_pci_vector_ready(copy.pci, 1, 1);
	assert_null(ivshmem_pci_load(copy.pci, bytes, size));
	assert_told(&copy, "message 1 0 0;"); /* what was pending */
	assert_int_equal(get(&copy, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION, 4), 9);
	drop(&copy);
	drop(&vmm);
}

/* A device that is in use, to be left alone. */
static void refuse(const uint8_t *bytes, size_t size, const char *field)
{
	struct vmm vmm = {0};
	uint8_t before[4096], after[4096];

	make_plainly(&vmm, 1, 3);
	set_config(&vmm, COMMAND, 2, MEMORY);
	size_t saved = save(&vmm, before);
	const char *wrong = ivshmem_pci_load(vmm.pci, bytes, size);
	assert_non_null(wrong);
	assert_string_equal(wrong, field);
	assert_told(&vmm, "");
	save(&vmm, after);
	assert_memory_equal(before, after, saved);
	drop(&vmm);
}

static void test_what_cannot_be_is_refused_whole(void **state)
{
	(void)state;
	static const struct {
		unsigned at;
		uint8_t change;
		const char *field;
	} damages[] = {
		{0, 3, "version"}, {3, 1, "version"}, {4, 1, "vectors"}, {8, 1, "memory size"},
		{24, 1, "configuration space"},          /* vendor */
		{24 + 6, 8, "configuration space"},      /* status: the level of INTx */
		{24 + 8, 1, "configuration space"},      /* revision */
		{24 + 0x10, 1, "configuration space"},   /* kind of BAR0 */
		{24 + 0x42, 1, "configuration space"},   /* vectors */
		{24 + 255, 0x80, "configuration space"}, /* nothing */
		{280 + 3 * 16, 0x08, "pending bits"},    /* of a vector that it has not */
	};
	struct vmm vmm = {0};
	uint8_t bytes[4096];

	make_plainly(&vmm, 1, 3);
	size_t size = save(&vmm, bytes);
	drop(&vmm);
	for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
		bytes[damages[i].at] ^= damages[i].change;
		refuse(bytes, size, damages[i].field);
		bytes[damages[i].at] ^= damages[i].change;
	}
	refuse(bytes, 0, "version");
	refuse(bytes, size - 1, "size");
	refuse(bytes, size + 1, "size");
}

static void test_the_state_of_another_device_is_refused(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	uint8_t bytes[4096];

	make_plainly(&vmm, 1, 2);
	refuse(bytes, save(&vmm, bytes), "size");
	drop(&vmm);
	make_plainly(&vmm, 0, 3);
	refuse(bytes, save(&vmm, bytes), "configuration space");
	drop(&vmm);
	struct ivshmem_pci_config config = config_of(&vmm, 1, 3);
	config.memory_size = 2 * MIB;
	make(&vmm, &config);
	refuse(bytes, save(&vmm, bytes), "memory size");
	drop(&vmm);
	assert_int_equal(ivshmem_pci_saved_size(2049), 0);
}

static bool changes(struct vmm *vmm, void (*act)(struct vmm *vmm))
{
	static uint64_t last;
	uint8_t before[4096], after[4096];

	last = ivshmem_pci_changes(vmm->pci);
	size_t size = save(vmm, before);
	act(vmm);
	save(vmm, after);
	bool counted = ivshmem_pci_changes(vmm->pci) != last;
	assert_true(counted || memcmp(before, after, size) == 0);
	return counted;
}

static void read_position(struct vmm *vmm)
{
	(void)get(vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_IVPOSITION, 4);
}

static void read_status(struct vmm *vmm)
{
	(void)get(vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4);
}

static void write_status(struct vmm *vmm)
{
	set(vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRSTATUS, 4, 1);
}

static void write_mask(struct vmm *vmm)
{
	set(vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_INTRMASK, 4, 1);
}

static void ring_doorbell(struct vmm *vmm)
{
	set(vmm, IVSHMEM_BAR_REGISTERS, IVSHMEM_REG_DOORBELL, 4, 0x10000);
}

static void write_table(struct vmm *vmm)
{
	set(vmm, IVSHMEM_BAR_MSIX, 12, 4, 0);
}

static void write_command(struct vmm *vmm)
{
	set_config(vmm, COMMAND, 2, MASTER);
}

static void enable_msix(struct vmm *vmm)
{
	set_config(vmm, CONTROL, 2, ENABLE);
}

static void interrupt(struct vmm *vmm)
{
	ivshmem_pci_interrupt(vmm->pci, 0);
}

static void reset(struct vmm *vmm)
{
	ivshmem_pci_reset(vmm->pci);
}

/* What is done all the time changes nothing, so that nobody need save it. */
static void test_changes_are_counted(void **state)
{
	(void)state;
	struct vmm vmm = {0};

	make_plainly(&vmm, 1, 1);
	assert_false(changes(&vmm, read_position));
	assert_false(changes(&vmm, read_status));
	assert_false(changes(&vmm, ring_doorbell));
	assert_true(changes(&vmm, write_mask));
	assert_false(changes(&vmm, write_mask));
	assert_true(changes(&vmm, write_status));
	assert_true(changes(&vmm, read_status));
	assert_true(changes(&vmm, interrupt));  /* pending */
	assert_false(changes(&vmm, interrupt)); /* still */
	assert_true(changes(&vmm, write_command));
	assert_true(changes(&vmm, enable_msix));
	assert_true(changes(&vmm, write_table)); /* sends what was pending */
	assert_false(changes(&vmm, interrupt));  /* sent at once */
	assert_true(changes(&vmm, reset));
	drop(&vmm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_guest_finds_its_device_again),
		TEST(test_intx_is_asserted_again),
		TEST(test_position_and_readiness_are_not_saved),
		TEST(test_what_cannot_be_is_refused_whole),
		TEST(test_the_state_of_another_device_is_refused),
		TEST(test_changes_are_counted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
