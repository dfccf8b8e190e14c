/* SPDX-License-Identifier: MIT */
/* Interrupts of the PCI device: MSI-X, INTx, reset, callbacks that come back. docs/device.md,
 * sections 4 and 5. */
#include "../common/pcibox.h"

enum { VECTORS = 3, VECTOR = 1 };

#define MESSAGE "message 1 fee01000 4041;"

/* ---- MSI-X ---- */

/* What can be in the way of a message. */
enum obstacle { DISABLED, FUNCTION_MASKED, VECTOR_MASKED, NO_MASTER, NOT_READY, OBSTACLES };

static const char *const obstacle_names[OBSTACLES] = {
	"disabled", "function masked", "vector masked", "no bus master", "not ready"};

static const unsigned embedded_obstacles =
	1 << DISABLED | 1 << FUNCTION_MASKED | 1 << VECTOR_MASKED | 1 << NO_MASTER;
static const unsigned external_obstacles = 1 << DISABLED | 1 << FUNCTION_MASKED | 1 << NOT_READY;

static void put(struct vmm *vmm, enum obstacle obstacle, bool on)
{
	uint64_t control = get_config(vmm, CONTROL, 2);
	switch (obstacle) {
	case DISABLED:
		set_config(vmm, CONTROL, 2, on ? control & ~ENABLE : control | ENABLE);
		break;
	case FUNCTION_MASKED:
		set_config(vmm, CONTROL, 2,
			on ? control | FUNCTION_MASK : control & ~(uint64_t)FUNCTION_MASK);
		break;
	case VECTOR_MASKED:
		set(vmm, 1, 16 * VECTOR + 12, 4, on);
		break;
	case NO_MASTER:
		set_config(vmm, COMMAND, 2, on ? 0 : MASTER);
		break;
	case NOT_READY:
		ivshmem_pci_vector_ready(vmm->pci, VECTOR, !on);
		break;
	case OBSTACLES:
		break;
	}
}

/* A device that could send messages of VECTOR but for the obstacles of a set. */
static void make_obstructed(struct vmm *vmm, bool external, unsigned obstacles)
{
	struct ivshmem_pci_config config = config_of(vmm, 1, VECTORS);
	config.external_table = external;
	make(vmm, &config);
	set(vmm, 1, 16 * VECTOR, 8, 0xfee01000);
	set(vmm, 1, 16 * VECTOR + 8, 4, 0x4041);
	for (enum obstacle o = 0; o < OBSTACLES; o++)
		if ((external ? external_obstacles : embedded_obstacles) >> o & 1)
			put(vmm, o, obstacles >> o & 1);
	assert_told(vmm, "");
}

/* Rung twice while `obstacles` are in the way, the message is sent once, as the last of them goes.
 */
static void check_obstructed(bool external, unsigned obstacles)
{
	struct vmm vmm = {0};
	const char *message = external ? "message 1 0 0;" : MESSAGE;

	make_obstructed(&vmm, external, obstacles);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	assert_told(&vmm, "");
	assert_int_equal(get(&vmm, 1, PBA, 8), 1 << VECTOR);
	for (enum obstacle o = 0; o < OBSTACLES; o++) {
		if (!(obstacles >> o & 1))
			continue;
		obstacles &= ~(1u << o);
		put(&vmm, o, false);
		const char *got = told(&vmm);
		if (strcmp(got, obstacles ? "" : message) != 0)
			fail_msg("'%s' after: %s, left: %#x", got, obstacle_names[o], obstacles);
		assert_int_equal(get(&vmm, 1, PBA, 8), obstacles ? 1 << VECTOR : 0);
	}
	/* Nothing is left to be sent. */
	for (enum obstacle o = 0; o < OBSTACLES; o++) {
		put(&vmm, o, true);
		put(&vmm, o, false);
	}
	assert_told(&vmm, "");
	drop(&vmm);
}

static void test_pending_until_nothing_is_in_the_way(void **state)
{
	(void)state;
	for (unsigned set = 1; set < 1 << OBSTACLES; set++) {
		if (!(set & ~embedded_obstacles))
			check_obstructed(false, set);
		if (!(set & ~external_obstacles))
			check_obstructed(true, set);
	}
}

static void test_a_free_vector_is_sent_each_time(void **state)
{
	(void)state;
	for (int external = 0; external < 2; external++) {
		struct vmm vmm = {0};
		make_obstructed(&vmm, external, 0);
		for (int i = 0; i < 3; i++) {
			ivshmem_pci_interrupt(vmm.pci, VECTOR);
			assert_told(&vmm, external ? "message 1 0 0;" : MESSAGE);
			assert_int_equal(get(&vmm, 1, PBA, 8), 0);
		}
		drop(&vmm);
	}
}

/* With the VMM's own table, ours and bus mastering don't count; with ours, readiness does not. */
static void test_each_kind_of_table_has_its_own_obstacles(void **state)
{
	(void)state;
	struct vmm vmm = {0};

	make_obstructed(&vmm, true, 0);
	assert_int_equal(get_config(&vmm, COMMAND, 2), 0);
	assert_int_equal(get(&vmm, 1, 16 * VECTOR + 12, 4), 1);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	assert_told(&vmm, "message 1 0 0;");
	drop(&vmm);

	make_obstructed(&vmm, false, 1 << VECTOR_MASKED);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	ivshmem_pci_vector_ready(vmm.pci, VECTOR, 1);
	assert_told(&vmm, "");
	drop(&vmm);
}

static void test_other_vectors_are_not_concerned(void **state)
{
	(void)state;
	static const unsigned absent[] = {VECTORS, 64, 255, 256 + VECTOR, 2047, 2048, 0xffffffff};
	struct vmm vmm = {0};

	make_obstructed(&vmm, true, 1 << NOT_READY);
	for (size_t i = 0; i < sizeof(absent) / sizeof(absent[0]); i++) {
		ivshmem_pci_vector_ready(vmm.pci, absent[i], 1);
		ivshmem_pci_interrupt(vmm.pci, absent[i]);
	}
	assert_told(&vmm, "");
	assert_int_equal(get(&vmm, 1, PBA, 8), 0);
	ivshmem_pci_interrupt(vmm.pci, 0);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	ivshmem_pci_vector_ready(vmm.pci, VECTOR, 1);
	assert_told(&vmm, "message 1 0 0;");
	assert_int_equal(get(&vmm, 1, PBA, 8), 1);
	drop(&vmm);
}

static void test_the_function_s_mask_holds_all(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 1, 2048);

	set_config(&vmm, COMMAND, 2, MASTER);
	set_config(&vmm, CONTROL, 2, ENABLE | FUNCTION_MASK);
	for (unsigned v = 0; v < 2048; v++) {
		set(&vmm, 1, 16 * v + 8, 8, v); /* value, and unmasked */
		ivshmem_pci_interrupt(vmm.pci, v);
	}
	assert_told(&vmm, "");
	for (unsigned v = 8; v < 2046; v++) /* but for a few, masked again */
		set(&vmm, 1, 16 * v + 12, 4, 1);
	set_config(&vmm, CONTROL, 2, ENABLE);
	assert_told(&vmm,
		"message 0 0 0;message 1 0 1;message 2 0 2;message 3 0 3;message 4 0 4;"
		"message 5 0 5;message 6 0 6;message 7 0 7;message 2046 0 7fe;"
		"message 2047 0 7ff;");
	drop(&vmm);
}

static void test_the_table_takes_4_and_8_byte_accesses(void **state)
{
	(void)state;
	static const struct {
		uint32_t offset, size;
		uint64_t value, low, high; /* what the entry's halves are then */
	} cases[] = {
		{0, 4, 0x11223344, 0x11223344, UINT64_C(1) << 32},
		{4, 4, 0x11223344, UINT64_C(0x1122334400000000), UINT64_C(1) << 32},
		{8, 4, 0x11223344, 0, UINT64_C(0x111223344)},
		{12, 4, 0xfffffffe, 0, UINT64_C(0xfffffffe00000000)},
		{0, 8, 0x1122334455667788, 0x1122334455667788, UINT64_C(1) << 32},
		{8, 8, 0x1122334455667788, 0, 0x1122334455667788},
		{4, 8, 0x1122334455667788, UINT64_C(0x5566778800000000), UINT64_C(0x111223344)},
		/* Others change nothing but the fields they bring as a whole. */
		{0, 1, 0xff, 0, UINT64_C(1) << 32},
		{0, 2, 0xffff, 0, UINT64_C(1) << 32},
		{12, 1, 0, 0, UINT64_C(1) << 32},
		{12, 2, 0, 0, UINT64_C(1) << 32},
		{13, 3, 0xffffff, 0, UINT64_C(1) << 32},
		{2, 4, 0xffffffff, 0, UINT64_C(1) << 32},
		{1, 8, 0x1122334455667788, UINT64_C(0x2233445500000000), UINT64_C(1) << 32},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmm vmm = {0};
		make_plainly(&vmm, 1, VECTORS);
		set(&vmm, 1, 16 * VECTOR + cases[i].offset, cases[i].size, cases[i].value);
		assert_true(get(&vmm, 1, 16 * VECTOR, 8) == cases[i].low);
		assert_true(get(&vmm, 1, 16 * VECTOR + 8, 8) == cases[i].high);
		for (unsigned at = 0; at < 16; at++) /* any lane of it */
			assert_int_equal(get(&vmm, 1, 16 * VECTOR + at, 1),
				(uint8_t)((at < 8 ? cases[i].low : cases[i].high) >> at % 8 * 8));
		assert_true(get(&vmm, 1, 16 * VECTOR - 8, 8) == UINT64_C(1) << 32);
		assert_int_equal(get(&vmm, 1, 16 * VECTOR + 16, 8), 0);
		drop(&vmm);
	}
}

/* An 8-byte write of value and mask bit, and one access over a whole entry: the message is new. */
static void test_unmasking_sends_what_the_entry_says_then(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	uint8_t entry[16] = {[1] = 0x20, [2] = 0xe0, [3] = 0xfe, [8] = 0x77};

	make_obstructed(&vmm, false, 1 << VECTOR_MASKED);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	set(&vmm, 1, 16 * VECTOR + 8, 8, 0x99);
	assert_told(&vmm, "message 1 fee01000 99;");
	put(&vmm, VECTOR_MASKED, true);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	ivshmem_pci_write(vmm.pci, 1, 16 * VECTOR, entry, sizeof(entry));
	assert_told(&vmm, "message 1 fee02000 77;");
	drop(&vmm);
}

static void test_pending_bits_are_read_only(void **state)
{
	(void)state;
	struct vmm vmm = {0};

	make_obstructed(&vmm, false, 1 << VECTOR_MASKED);
	for (unsigned size = 1; size <= 8; size *= 2) {
		set(&vmm, 1, PBA, size, UINT64_MAX);
		assert_int_equal(get(&vmm, 1, PBA, 8), 0);
	}
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	set(&vmm, 1, PBA, 8, 0);
	assert_int_equal(get(&vmm, 1, PBA, 1), 1 << VECTOR);
	assert_int_equal(get(&vmm, 1, PBA, 8), 1 << VECTOR); /* reading does not clear */
	put(&vmm, VECTOR_MASKED, false);
	assert_told(&vmm, MESSAGE);
	drop(&vmm);
}

/* ---- INTx ---- */

static void test_intx_follows_status_and_mask(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 0, 0);
	assert_true(ivshmem_pci_has_intx(vmm.pci));

	ivshmem_pci_interrupt(vmm.pci, 0); /* masked: shows in the register only */
	assert_told(&vmm, "");
	assert_int_equal(get_config(&vmm, STATUS, 2), 0);
	set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 0xffffffff);
	assert_told(&vmm, "line 1;");
	assert_int_equal(ivshmem_pci_line(vmm.pci), 1);
	assert_int_equal(get_config(&vmm, STATUS, 2), 8);
	ivshmem_pci_interrupt(vmm.pci, 99); /* a level: it is high already */
	set_config(&vmm, STATUS, 2, 0xffff);
	assert_int_equal(get_config(&vmm, STATUS, 2), 8);
	assert_told(&vmm, "");

	assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
	assert_told(&vmm, "line 0;");
	assert_int_equal(get_config(&vmm, STATUS, 2), 0);
	assert_int_equal(ivshmem_pci_line(vmm.pci), 0);

	set(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4, 0x80000000); /* the guest may do it itself */
	assert_told(&vmm, "line 1;");
	set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 0x7fffffff);
	assert_told(&vmm, "line 0;");
	set(&vmm, 0, 0, 8, UINT64_C(0x0000000200000002));
	assert_told(&vmm, "line 1;");
	set(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4, 0);
	assert_told(&vmm, "line 0;");
	drop(&vmm);
}

static void test_intx_can_be_disabled_in_the_command_register(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 0, 0);

	set_config(&vmm, COMMAND, 2, INTX_DISABLE);
	set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 1);
	ivshmem_pci_interrupt(vmm.pci, 0);
	assert_told(&vmm, "");
	assert_int_equal(get_config(&vmm, STATUS, 2), 8); /* what is pending shows nevertheless */
	set_config(&vmm, COMMAND, 2, 0);
	assert_told(&vmm, "line 1;");
	set_config(&vmm, COMMAND + 1, 1, INTX_DISABLE >> 8);
	assert_told(&vmm, "line 0;");
	assert_int_equal(get_config(&vmm, STATUS, 2), 8);
	assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
	assert_int_equal(get_config(&vmm, STATUS, 2), 0);
	set_config(&vmm, COMMAND, 2, 0);
	assert_told(&vmm, "");
	drop(&vmm);
}

static void test_other_devices_have_no_intx(void **state)
{
	(void)state;
	static const struct {
		unsigned revision, vectors;
	} cases[] = {{1, 0}, {1, 2}, {0, 2}};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmm vmm = {0};
		make_plainly(&vmm, cases[i].revision, cases[i].vectors);
		assert_false(ivshmem_pci_has_intx(vmm.pci));
		set(&vmm, 0, 0, 8, UINT64_MAX);
		assert_int_equal(get_config(&vmm, STATUS, 2), cases[i].vectors ? 0x10 : 0);
		get(&vmm, 0, 0, 8);
		ivshmem_pci_interrupt(vmm.pci, 0);
		assert_int_equal(get(&vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 0);
		assert_told(&vmm, "");
		drop(&vmm);
	}
}

/* ---- section 5: reset ---- */

static void test_reset_forgets_what_is_pending(void **state)
{
	(void)state;
	struct vmm vmm = {0};

	make_obstructed(&vmm, true, 1 << DISABLED);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	set(&vmm, 0, 0, 8, UINT64_MAX);
	set(&vmm, 1, 16 * VECTOR + 12, 4, 0);
	ivshmem_pci_reset(vmm.pci);
	assert_int_equal(get(&vmm, 1, PBA, 8), 0);
	assert_int_equal(get(&vmm, 1, 16 * VECTOR, 8), 0);
	assert_true(get(&vmm, 1, 16 * VECTOR + 8, 8) == UINT64_C(1) << 32);
	assert_int_equal(get(&vmm, 0, 0, 8), 0);
	assert_int_equal(get(&vmm, 0, IVSHMEM_REG_IVPOSITION, 4), 7);
	set_config(&vmm, CONTROL, 2, ENABLE);
	assert_told(&vmm, "");
	ivshmem_pci_interrupt(vmm.pci, VECTOR); /* it is still ready */
	assert_told(&vmm, "message 1 0 0;");
	drop(&vmm);
}

static void test_reset_lowers_the_line(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 0, 0);

	set(&vmm, 0, 0, 8, UINT64_MAX);
	assert_told(&vmm, "line 1;");
	ivshmem_pci_reset(vmm.pci);
	assert_told(&vmm, "line 0;");
	assert_int_equal(get_config(&vmm, STATUS, 2), 0);
	set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 1);
	assert_told(&vmm, "");
	drop(&vmm);
}

/* ---- callbacks that come back into the device ---- */

static void ring_myself(struct vmm *vmm)
{
	ivshmem_pci_interrupt(vmm->pci, VECTOR);
}

static void mask_function(struct vmm *vmm)
{
	put(vmm, FUNCTION_MASKED, true);
}

static void mask_function_and_ring_myself(struct vmm *vmm)
{
	assert_int_equal(get(vmm, 1, PBA, 8), 0);
	mask_function(vmm);
	ring_myself(vmm);
}

static void read_status(struct vmm *vmm)
{
	assert_int_equal(get(vmm, 0, IVSHMEM_REG_INTRSTATUS, 4), 1);
}

static void reset(struct vmm *vmm)
{
	ivshmem_pci_reset(vmm->pci);
}

static void test_a_doorbell_to_oneself(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_obstructed(&vmm, false, 0);
	vmm.react = ring_myself;
	set(&vmm, 0, IVSHMEM_REG_DOORBELL, 4, IVSHMEM_DOORBELL(7, VECTOR));
	assert_told(&vmm, "ring 7 1;" MESSAGE);
	drop(&vmm);
}

static void test_a_message_that_rings_again(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_obstructed(&vmm, false, 1 << FUNCTION_MASKED);
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	vmm.react = ring_myself;
	put(&vmm, FUNCTION_MASKED, false);
	assert_told(&vmm, MESSAGE MESSAGE);
	assert_int_equal(get(&vmm, 1, PBA, 8), 0);
	drop(&vmm);
}

static void test_a_message_that_leaves_another_pending(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_obstructed(&vmm, false, 0);
	vmm.react = mask_function_and_ring_myself;
	ivshmem_pci_interrupt(vmm.pci, VECTOR);
	assert_told(&vmm, MESSAGE);
	assert_int_equal(get(&vmm, 1, PBA, 8), 1 << VECTOR);
	put(&vmm, FUNCTION_MASKED, false);
	assert_told(&vmm, MESSAGE);
	drop(&vmm);
}

static void test_a_message_that_stops_the_next(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_obstructed(&vmm, true, 1 << DISABLED);
	for (unsigned v = 0; v < VECTORS; v++) {
		ivshmem_pci_vector_ready(vmm.pci, v, 1);
		ivshmem_pci_interrupt(vmm.pci, v);
	}
	vmm.react = mask_function;
	put(&vmm, DISABLED, false);
	assert_told(&vmm, "message 0 0 0;");
	assert_int_equal(get(&vmm, 1, PBA, 8), 6);
	vmm.react = reset;
	put(&vmm, FUNCTION_MASKED, false);
	assert_told(&vmm, "message 1 0 0;");
	assert_int_equal(get(&vmm, 1, PBA, 8), 0);
	drop(&vmm);
}

static void test_a_line_that_is_answered_at_once(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 0, 0);
	set(&vmm, 0, IVSHMEM_REG_INTRMASK, 4, 1);
	vmm.react = read_status;
	ivshmem_pci_interrupt(vmm.pci, 0);
	assert_told(&vmm, "line 1;line 0;");
	assert_int_equal(ivshmem_pci_line(vmm.pci), 0);
	drop(&vmm);
}

static void test_a_reset_while_bars_are_placed(void **state)
{
	(void)state;
	struct vmm vmm = {0};
	make_plainly(&vmm, 1, 1);
	set_config(&vmm, BAR0, 8, UINT64_C(0xfebd1000febd0000));
	vmm.react = reset;
	set_config(&vmm, COMMAND, 2, MEMORY);
	assert_told(&vmm, "place 0 febd0000;place 0 ffffffffffffffff;");
	assert_int_equal(get_config(&vmm, COMMAND, 2), 0);
	drop(&vmm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pending_until_nothing_is_in_the_way),
		TEST(test_a_free_vector_is_sent_each_time),
		TEST(test_each_kind_of_table_has_its_own_obstacles),
		TEST(test_other_vectors_are_not_concerned),
		TEST(test_the_function_s_mask_holds_all),
		TEST(test_the_table_takes_4_and_8_byte_accesses),
		TEST(test_unmasking_sends_what_the_entry_says_then),
		TEST(test_pending_bits_are_read_only),
		TEST(test_intx_follows_status_and_mask),
		TEST(test_intx_can_be_disabled_in_the_command_register),
		TEST(test_other_devices_have_no_intx),
		TEST(test_reset_forgets_what_is_pending),
		TEST(test_reset_lowers_the_line),
		TEST(test_a_doorbell_to_oneself),
		TEST(test_a_message_that_rings_again),
		TEST(test_a_message_that_leaves_another_pending),
		TEST(test_a_message_that_stops_the_next),
		TEST(test_a_line_that_is_answered_at_once),
		TEST(test_a_reset_while_bars_are_placed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
